"""A request that can be served, a provider's answer, and the estimates of their tokens: values of all rooms."""
