"""Admission: takes from limits what an attempt needs, or lets it wait for room.

Limits belong to the limiter, which counts them for all routers. This room holds slices of them (`leases`, `slices`),
asks for as much as calls use (`demand`) over one long-lived stream (`lease_stream`), and admits from what it holds
without a call (`leased_admission`). In front of that stands the queue in which requests wait their turn
(`queued_admission`, `fair_queue`).

First start: nothing is held, so the first call of a scope asks the limiter. The limiter gone: what is held is lived
off, then rates get this router's share (`local_share`), and quotas and money are closed. Recovery: the stream opens
again, reports what was used meanwhile, and slices of a dead epoch are forgotten.
"""
