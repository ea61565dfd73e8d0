"""Planning: which models may serve a request, in what order, and why.

Three named parts: `constraints` leave out who may not serve, a `scoring.Scorer` says how good each of the others is,
and `order` makes an order of tiers, health, weights and scores. `plan.make_plan` joins them; `Planner` gives it what
the catalog, health, budgets and set-aside combinations say now.
"""
