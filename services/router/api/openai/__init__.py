"""OpenAI's JSON to what the router is asked and back: chat completions, responses, models and errors. Pure.

Bounds hold before anything is built: `decode.decode` refuses bodies with too many strings, of which all that is built
is made, and what needs no structure stays as it was written (`msgspec.Raw`).
"""
