"""Adapters: the ports on Redis, the catalog and analytics."""
