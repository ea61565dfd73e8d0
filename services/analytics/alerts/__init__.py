"""Alerts on quotas, as limiters raise and clear them."""
