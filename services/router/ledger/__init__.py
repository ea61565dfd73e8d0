"""The ledger's doorstep: a record of each attempt, on disk before the provider is called, sent until acknowledged.

`usage_record` is what is kept, `file_spool` the files (`file_segment`, `file_frames`), `analytics_client` the stream.
First start: files of an earlier life are sent first, attempts without an end as they began. Analytics gone: records
stay on disk up to a bound, loudly. A full disk: records are dropped and counted until there is room.
"""
