"""Rollups: sums of attempts by five minutes, hour, and day and month of the owner's zone; they answer in
milliseconds.

Why: 30 days of a ledger with 10 million attempts take a second to read, a row for each day and group 30 ms.

What is kept (`tables`): narrow tables, because one over all dimensions is as large as the ledger. Each has a
partition for every `Width`. A request is counted where its first attempt of a group began (`contributions_sql`), so
that numbers of requests add up over buckets.

When: with every commit, in its transaction. `PostgresRollups.follow` subtracts what the commit's requests contributed
before, and adds what they contribute now; that is right for new, late, repeated and replaced records alike. One row,
`rollup_state`, is locked first, so that commits of several replicas stand in one line and never in a circle. Recent
attempts are counted by five minutes only. `PostgresRollups.fold` adds hours that are over to the rows of hours, and
these to days and months, each step one transaction that also moves a mark (`RollupState`); before the mark a commit
counts in the wider rows too. Read together, at any moment, every attempt is counted once.

First start: a ledger that was there before is counted by `rebuild` in the background, a day a step or less; questions
about hours that it has not reached are answered from attempts. A change of the owner's zone drops the days and folds
them again from hours. Killed in the midst: each step is one transaction, the next one goes on from its mark.
`check` recounts an hour chosen at random, time and again, and tells the difference by a metric.
"""
