"""The rate limiter: limits, quotas, reservations, leases."""
