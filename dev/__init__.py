"""What a development machine needs: the one-command stack, embedded engines, the provider simulator."""
