"""The commands of ``hhmnet``, one module each; :mod:`hhmnet.cli` imports the one that is chosen."""
