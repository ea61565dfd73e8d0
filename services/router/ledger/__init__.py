"""Ledger: a usage record of each attempt, on disk before the provider is called, and one of each request at its end,
sent until analytics has them.

An attempt may cost money, so it must not be forgotten, whatever dies. `usage_record` is the record. The spool
(`spool` is the Protocol, `file_spool` the files, of `file_segment`s of `file_frames`) holds a begin before each call
and an end after it; what reaches the kernel survives the death of this process, not of the machine.
`analytics_client` sends records once a second and deletes what is acknowledged. The ledger keys by attempt id and
keeps the better of two records, so sending again is free. A request's record is passed on as it was written
(`libs.request_record`); a request of which the router dies has none.

First start: records of an earlier process are sent first; an attempt that began and never ended is sent as it began,
outcome unknown and usage uncertain. A damaged file costs the damaged frames alone, counted. Analytics gone: records
stay on disk up to a bound; beyond it, or on a full disk, new ones are dropped, counted and logged, because refusing
work would turn a broken dashboard into an outage. Recovery: the stream opens again and sends from the last
acknowledgement; a full disk is tried once a second.
"""
