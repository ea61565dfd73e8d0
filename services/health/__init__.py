"""The health monitor: judges providers on evidence and tells routers."""
