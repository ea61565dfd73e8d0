"""Health: the router's picture of its targets, the health service's judgements merged with evidence of its own.

A target is a model on a provider, or a provider. A call to one that fails costs the caller its time, so planning asks
this room which targets may be called (`targets`, by the Protocol in `view`), and answers from memory: it never waits
for the health service but with a call that is about to probe. `health_client` holds the streams: judgements come in,
evidence goes out in sums (`exchanged`).

When it acts: a circuit opens by the service's judgement, or by this router's own breaker of the model; the two are
merged. Open, a target is left out of plans; in a total outage each is tried once a second all the same, so that the
first to recover is found at once. Half-open, one call of the fleet takes the permit to try it, as it begins
(`probes`). Recovered, a target gets a growing share of its traffic, and one that the service calls degraded a small
one (`ramp`). Only faults of a target count, and waits that it asks for. Such a failure that one tenant alone meets is
held back while others are answered (`held_failures`, `answer_times`), since it may be what that tenant sends that its
provider fails at.

First start: every target counts as healthy. The service gone: its last judgements stay, this router's breakers go on,
and it grants itself the permits that it would ask for. Recovery: the watch begins with a snapshot or with the changes
since, and circuits merge by their order, so a late message undoes nothing.
"""
