"""Set aside: combinations that keep failing where no breaker sees it, left out of plans for a growing time.

Why: a breaker judges a provider or a model by the share of its calls that fail. Five things escape it: a key that
stopped working, for one model or for all of a provider; a model that is gone (nothing is wrong with its provider); a
feature that a model says it does not support (`features`); a kind of request that one model always refuses while all
others work there; and a region whose providers fail together.

When it acts: after so many failures in a row, without an answer between them, as the combination's rule asks for
(`combinations`), and enough evidence that they are not one caller's own doing (`suspicion`). Then the combination is
left out of plans for its base time, doubled each time in a row up to a cap, with jitter (`patterns`). Where no
other candidate is left, features, shapes, regions and what words alone have blamed are called after all.

First start: nothing is set aside; each router process learns by itself, from its own attempts (`set_aside`).

Recovery: when the time is over, one call tries. An answer puts the combination back; another such failure sets it
aside for longer; a trial without an end gives way to the next after 30 s. A key that was replaced by another is back
at the next request, a new catalog lets everything but regions be tried at once, and an operator can put back any of
them. The growth is forgotten an hour after it was put back. Memory is bounded; the oldest are forgotten first.
"""
