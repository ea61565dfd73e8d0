"""The health monitor: judges providers and models on evidence, and publishes the judgements to routers."""
