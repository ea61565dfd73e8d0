"""The life of a Generate: plan, begin, call, and again until an answer or nothing more can be done.

`generate` is the loop; `next_step` decides, purely, what comes next from what happened so far; `begin` takes a
candidate through budgets, limits and the breaker; `call` makes the call, in a race (`hedge`) where needed; `relay`
decides what a stream's caller is sent; `attempt` accounts for each attempt, whose end (`attempt_end`) `observers`
learn from; `degradation` decides what may be had where no attempt can begin; `failure` is the error at the end.
`request_log` records each request at its end for the ledger."""
