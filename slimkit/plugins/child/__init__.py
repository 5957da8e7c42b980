"""A folder for ``PYTHONPATH``: its ``sitecustomize`` brings ``SLIMKIT_AS_PADDLESLIM=1`` to the processes that a script
starts, where slimkit is not installed but run from its source tree."""
