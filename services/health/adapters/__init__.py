"""Adapters: the ports on Redis and HTTP."""
