"""Providers: a wire for each format (`wires`), one transport for all bytes, limits for every silence and size.

A provider may answer slowly, not at all, without end, or with anything; none of that may hurt other calls. So
`provider_client` puts three things together for each call: the wire, which translates and does no I/O; the transport
(`http_transport`), which moves bytes and knows no prompts; and the bounds, how long each wait may take (`timeouts`)
and how much may come (`answer_limit`). A failure leaves as a `ProviderFailure`: classified by the wire, without keys,
and without a class read from words that the request holds itself.

Each call teaches: how long a model takes, for its tenant and for all (`time_learner`), and which limits its answers
and refusals show (`learned_limits`). First start: nothing is learned, and the catalog's timeouts hold alone; a model
that was never called is guessed from the others. A provider without a key or a wire is left out of plans. Recovery: a
replaced key is found within half a second (`USABLE_FOR`), and what is learned decays, so a model that has become
slower or faster is measured anew."""
