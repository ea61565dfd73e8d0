"""Recommendations: what would save money, failed calls or refused requests, and what became of those accepted.

`evidence` holds daily figures of the last four weeks, gathered from reports and, where these have no sums, from
attempts and requests (`gather`, `postgres_details`). Each rule of `money_rules` and `reliability_rules` turns them
into a series of daily savings, and `saving` into an interval, or into nothing where it does not stand out of the
noise. `adviser`, the use case, looks again when the last look is old, keeps the findings and answers; `decision`
holds what operators may decide; `measurement` compares requests since an acceptance with the share of them that was
to be left as it was. All is pure but `postgres_*`, and the waiting in `adviser` and `gather`.
"""
