"""Planning: which models may serve a request, in what order, and why.

A plan is made once per request, purely, so that it can be explained, repeated and tried dry (`SelectProvider`).
`entries` lists the models that the caller or the policy names. Then three parts, each of which can be changed alone:
`constraints` exclude a model whatever its score, a `scoring.Scorer` rates those that are left, and `order` puts them
in the order in which they are tried: healthy before degraded, tier before tier, then by weight or score, and what
`recent_calls` show to fail behind the rest. `chance` tells how likely the choice was, where lots were drawn.
`plan.make_plan` joins them; `planner.Planner` gives it the present catalog, health, budgets and set-aside
combinations.

First start: a model without evidence counts as healthy and as fast as the fastest, otherwise it would never be
called. Everything down: those that are due for a trial are tried, so that the first to recover is found at once; the
plan is empty where none is, and says when to come back. A budget's threshold: dear models are left out, and the
cheapest come first. Recovery: the next plan sees it; a recovering model gets its share of first places by `ramp`.
"""
