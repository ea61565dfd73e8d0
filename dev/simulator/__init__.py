"""A process that plays many AI providers: real wire formats, deterministic answers, faults on demand.

`python -m dev.simulator --listen 127.0.0.1:7790`. The first path segment names a *virtual provider*; each has its own
behaviour, faults, limits and counters, set through `/_control/<name>`. See `behaviour.py` for everything that can be
asked of one, `app.py` for the routes, `answers.py` for what it answers, and `strict/` for what it refuses: what the
vendor it plays is documented to refuse, unless strict mode is off.
"""
