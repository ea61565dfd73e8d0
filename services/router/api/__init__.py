"""API: the two doors, gRPC (`servicer`) and HTTP (`http_door`, with OpenAI's API in `openai`), and `entry` behind
both.

Callers may send anything, so the order is fixed. The caller is identified first (`identity`): a tenant by its key, an
operator by the service token. Then counts and bytes are bounded, before anything loops over them or is built from
them (`decode`, `json_text`). Then either wire becomes the same `Draft`, and `accept` names every wrong field of it or
makes a `Generation` that can be served, with the defaults of content type, policy and tenant. `entry.Entry` hands it
to `generate`, and the door translates the answer, or the typed error, back. No decision is made here, and nothing is
kept between calls: a new catalog counts from the next call on.
"""
