"""Wires: the files of each provider's format, whose quirks never leave them. Pure: bytes in, values out; no state.

`wire` is the Protocol. A wire makes the HTTP request of a prompt, reads a whole answer, and gives a decoder for a
stream; `wires` maps kinds of provider to them. A conversation becomes a vendor's JSON in one place, `<wire>_body`, by
one function for each concern: messages, instructions, tools, response format, sampling, reasoning. The wire's other
file adds address and headers, and reads what comes back.

All wires share: `fields` (reading JSON that may hold anything), `request_parts` and `schemas` (parts of bodies),
`whole_answer`, `sse` and `eventstream` (framing), `stream` (the rules of every decoder) and `tool_calls`. A failure
is classified once, by `errors`: from the body (`error_body`), by codes first (`error_codes`), then by rules of
status, wait and prose (`error_rules`), with the wait that is asked for (`waits`). `limits` reads the rate limits in
headers.
"""
