"""The record of one request, as its router sends it to the ledger: what its caller saw, and what was decided.

It travels as MessagePack, made once at the request's end and read once by the ledger: the fields of a protobuf
message would be touched one by one in Python on either side, for each request, which costs the router a percent of a
call and the ledger more than the commit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from libs.selection import Degradation, Scores, Strategy

#: The ends of a request as its caller saw them.
RequestOutcome = Literal["success", "failure", "cancelled"]


class ConsideredModel(Struct, array_like=True, frozen=True):
    """A model that was considered; `passed_over`: the reason, empty where it was a candidate."""

    model: str
    passed_over: str
    tier: int
    scores: Scores
    estimated_micro_usd: int


class RequestRecord(Struct, array_like=True):
    """One request for the ledger. `started` is epoch seconds, durations are seconds. Plain values only, and nothing
    of the prompt: it is written to disk and sent as it is, in this order: add fields at the end, with defaults."""

    record_id: str
    request_id: str
    tenant: str
    campaign: str
    content_type: str
    labels: Mapping[str, str]
    started: float
    latency: float
    time_to_first_token: float | None
    outcome: RequestOutcome
    error_reason: str
    attempts: int
    failed_over: bool
    degradation: Degradation | None
    strategy: Strategy
    policy: str
    policy_version: str
    estimated_input_tokens: int
    max_output_tokens: int
    capabilities: Collection[str]
    #: In the order in which they were to be tried, then those passed over.
    candidates: list[ConsideredModel]
    #: Of the answer; empty: there is none.
    provider: str
    model: str
    #: None: not known, or there was no candidate.
    probability: float | None
    queued: float
    paused: float
    cost_micro_usd: int
    streamed: bool
    cached: bool
    trace_id: str


#: Returns the bytes of a record.
encode_request = msgspec.msgpack.Encoder().encode
#: Returns the record of bytes. Raises msgspec.DecodeError (ValidationError where the types are others).
decode_request = msgspec.msgpack.Decoder(RequestRecord).decode
