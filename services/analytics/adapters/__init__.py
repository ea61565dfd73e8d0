"""Adapters: the ports on PostgreSQL."""
