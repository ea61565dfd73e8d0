"""Providers, models, prices, content types, policies and tenants: one validated YAML, reloaded on change."""
