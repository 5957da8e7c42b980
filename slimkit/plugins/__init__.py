"""Existing projects, unchanged: the ``paddleslim`` alias, ``slimkit run``, and small repairs of third-party code.

Nothing here is switched on by ``import slimkit``: ``slimkit run`` and ``SLIMKIT_AS_PADDLESLIM=1`` do it for a process
(``startup.install``), ``startup.uninstall`` undoes it.
"""
