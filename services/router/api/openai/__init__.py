"""OpenAI's JSON to drafts, and answers to OpenAI's JSON: chat completions, responses, models and errors. Pure.

Bounds hold before anything is built: `decode.decode` refuses bodies with too many strings, which bound all that is
built, and fields that need no structure stay as they were written (`msgspec.Raw`).
"""
