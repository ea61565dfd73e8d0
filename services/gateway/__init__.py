"""The OpenAI-compatible HTTP edge: a thin client of the router."""
