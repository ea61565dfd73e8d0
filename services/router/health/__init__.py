"""The router's picture of its targets: the health service's judgement merged with what this router sees itself.

`targets` is the picture, `health_client` the streams that feed it and carry evidence away, `doubt` what is held back
because one tenant alone has met it. First start: every target is taken for healthy. The service gone: the last
judgement stays, and this router trips breakers of its own. Recovery: the watch sends a snapshot.
"""
