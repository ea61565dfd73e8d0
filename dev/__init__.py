"""The tools of a development machine: the one-command stack, embedded engines, the provider simulator."""
