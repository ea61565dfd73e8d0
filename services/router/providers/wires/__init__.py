"""Wires: one file for each provider's format, whose quirks never leave it. Pure: bytes in, values out, and no state.

`wire` is the Protocol. A wire makes the HTTP request of a prompt, reads a whole answer, and gives a decoder for a
stream; `wires` maps kinds of provider to them. All wires share: `fields` (reading JSON that may hold anything),
`chat_format` (parts of requests), `sse` and `eventstream` (framing), `stream` (the rules of every decoder) and
`tool_calls`. A failure is classified once, by `errors`: from the body (`error_body`), by codes first (`error_codes`),
then by rules of status, wait and prose (`error_rules`), with the wait that is asked for (`waits`). `limits` reads the
rate limits in headers.
"""
