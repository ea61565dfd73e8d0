"""Fixtures for every test: one PostgreSQL and one Valkey per session, started when first asked for."""

from __future__ import annotations

from tests.support.postgres import postgres_server
from tests.support.valkey import valkey_server

__all__ = ["postgres_server", "valkey_server"]
