"""Limits learned from providers: each router observes, all replicas of the limiter agree, and the limits hold.

A router sends all that it has observed on its lease stream: limits that providers state in headers, and rates at
which they refuse. `RedisLearned` keeps the last report of each router, and every replica reads all of them every five
seconds. `merge` makes one limit of them, with a confidence; `apply` decides which limits hold because of it. They
are enforced, counted as shadow limits, or ignored, as POINTSMAN_RATELIMIT_LEARNED says. Evidence ages: a limit that
nobody has seen for an hour (refusals: a quarter of an hour) is dropped. While the store is gone what was learned so
far holds.
"""
