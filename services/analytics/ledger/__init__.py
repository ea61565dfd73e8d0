"""The ledger: one row per provider attempt and one per request, exactly once.

`attempt` and `request` are the records, whose bounds `record_bounds` holds; `recorder` lets the batches of all
routers share commits, `postgres_ledger` writes each in one transaction and tells what it changed, `account` joins a
request with its attempts, and `postgres_lookup` finds it by id. `postgres_retention` keeps the partitions.
"""
