"""Providers: a wire for each format (`wires`), one transport for all bytes, limits for every silence and size.

`provider_client` puts them together, `timeouts` learns how long a model takes, `answer_limit` ends what is far longer
than was asked for, and `learned_limits` makes limits of what answers and refusals state.
"""
