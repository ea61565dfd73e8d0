"""The two doors, gRPC (`servicer`) and HTTP (`http_door`, with OpenAI's API in `openai`), and what is behind both.

Whoever comes in is known first (`identity`); what is asked becomes a `Draft`, of which `accept` names every fault or
makes a request that can be served; `Entry` hands it on. No decision is made here.
"""
