"""Routes: the keys and endpoints of a provider that has several, chosen for each call and taken out one by one.

Why: a provider fails as a whole less often than one of its keys is refused or used up, or one of its addresses is
out of order. Then the provider is as good as before by its other keys and addresses, and must neither be opened by
its breaker nor left for another provider.

When it acts: `routes` chooses a key and an endpoint for each attempt, by weight and by the headroom that the limiter
knows of each key (`choice`). A failed call is attributed (`blame`): to the key that was refused, used up or limited,
to the endpoint that could not be reached, or to neither; then it is the provider's as that of any provider. What is
blamed is out of service (`outages`), and the request goes on with the next route at once, in its envelope. The
provider's breaker and set-aside see nothing of that as long as another route serves. Without any key that serves, the
provider is down for these models, and says so; without an endpoint that serves, all are called after all, and the
breaker judges.

First start: all routes serve, and what other routers found comes with the first judgements of the health service.
A provider with one key and one endpoint has no routes, and costs nothing here.

Recovery: when its time is over, one call tries a refused key or a failed endpoint; its answer puts it back, another
fault takes it out for twice as long, with jitter, up to a cap. A key that was limited is simply back. A key that was
replaced is back at once. Where a request has no other way left, neither route nor provider, what is out is tried
before its time, a key every 5 s at most: it may have been mended long ago. A trial without an end gives way to the
next after 30 s. Every change goes to the other routers by way of the health service, so a fleet meets a revoked key
once; without the service each finds out alone.
"""
