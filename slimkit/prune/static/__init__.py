"""PaddleSlim's static pruning API: ``Pruner``, sensitivities, ``save_model`` and ``load_model``."""
