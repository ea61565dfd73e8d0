"""Diagnosis over gRPC, the same in every service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import grpc
from pointsman.diagnosis.v1 import diagnosis_pb2 as pb
from pointsman.diagnosis.v1 import diagnosis_pb2_grpc

from libs.clock import Clock
from libs.diagnosis import (
    STORE_SECONDS,
    ServiceDiagnosis,
    SettingRemark,
    Store,
    StoreAnswer,
    StoreDiagnosis,
    StoreKind,
)
from libs.errors import Unavailable
from libs.rpc.convert import (
    duration_from_proto,
    duration_to_proto,
    timestamp_from_proto,
    timestamp_to_proto,
)
from libs.rpc.identity import require_operator
from libs.rpc.receive import MessageBounds
from libs.rpc.server import Registration

SERVICE: str = pb.DESCRIPTOR.services_by_name["Diagnosis"].full_name
#: Bytes of a request, which has no fields.
REQUEST_BYTES = 1024
_REMARK = {item: pb.SettingRemark.Value(f"SETTING_REMARK_{item.name}") for item in SettingRemark}
_REMARK_FROM: dict[int, SettingRemark] = {number: item for item, number in _REMARK.items()}
_KIND = {item: pb.StoreKind.Value(f"STORE_KIND_{item.name}") for item in StoreKind}
_KIND_FROM: dict[int, StoreKind] = {number: item for item, number in _KIND.items()}


class DiagnosisServicer(diagnosis_pb2_grpc.DiagnosisServicer):
    """Answers for one process. `stores` and `catalog_version` are read at each call; `timeout`: of each store, in
    seconds."""

    def __init__(
        self,
        service: str,
        instance_id: str,
        remarks: Sequence[SettingRemark],
        stores: Sequence[Store],
        catalog_version: Callable[[], str],
        clock: Clock,
        timeout: float = STORE_SECONDS,
    ) -> None:
        self._service = service
        self._instance_id = instance_id
        self._remarks = tuple(remarks)
        self._stores = stores
        self._catalog_version = catalog_version
        self._clock = clock
        self._timeout = timeout

    async def Diagnose(
        self, request: pb.DiagnoseRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DiagnoseResponse:
        require_operator()
        began = self._clock.monotonic()
        stores = await asyncio.gather(*map(self._ask, self._stores))
        return diagnosis_to_proto(
            ServiceDiagnosis(
                self._service,
                self._instance_id,
                self._clock.now(),
                max(0.0, self._clock.monotonic() - began),
                self._catalog_version(),
                self._remarks,
                tuple(stores),
            )
        )

    async def _ask(self, store: Store) -> StoreDiagnosis:
        began = self._clock.monotonic()
        answer: StoreAnswer | None = None
        try:
            async with asyncio.timeout(self._timeout):
                answer = await store.ask()
        except (OSError, Unavailable):  # TimeoutError is one of the first
            pass
        seconds = max(0.0, self._clock.monotonic() - began)
        return StoreDiagnosis(store.kind, store.name, seconds, answer, store.schema_wanted)


def diagnosis_registration(servicer: DiagnosisServicer) -> Registration:
    """Returns the registration for the process's server. The request is empty; the longest message of all of a
    server's registrations is what its connections take, so this one must not raise it."""
    bounds = MessageBounds(message_bytes=REQUEST_BYTES, elements=REQUEST_BYTES)
    return Registration(diagnosis_pb2_grpc.add_DiagnosisServicer_to_server, servicer, SERVICE, bounds=bounds)


def diagnosis_to_proto(found: ServiceDiagnosis) -> pb.DiagnoseResponse:
    """Returns the proto of a diagnosis."""
    return pb.DiagnoseResponse(
        service=found.service,
        instance_id=found.instance_id,
        now=timestamp_to_proto(found.now),
        duration=duration_to_proto(found.duration),
        catalog_version=found.catalog_version,
        remarks=[cast("pb.SettingRemark", _REMARK[remark]) for remark in found.remarks],
        stores=map(_store_to_proto, found.stores),
    )


def _store_to_proto(store: StoreDiagnosis) -> pb.StoreDiagnosis:
    proto = pb.StoreDiagnosis(
        name=store.name,
        reachable=store.answer is not None,
        duration=duration_to_proto(store.duration),
        schema_wanted=store.schema_wanted,
    )
    if store.kind is not None:
        proto.kind = cast("pb.StoreKind", _KIND[store.kind])
    if store.answer is not None:
        proto.version = store.answer.version
        proto.clock_offset.FromNanoseconds(round(store.answer.clock_offset * 1e9))
        if store.answer.schema is not None:
            proto.schema = store.answer.schema
    return proto


def diagnosis_from_proto(proto: pb.DiagnoseResponse) -> ServiceDiagnosis:
    """Returns a diagnosis; remarks of later versions are left out."""
    return ServiceDiagnosis(
        proto.service,
        proto.instance_id,
        timestamp_from_proto(proto.now),
        duration_from_proto(proto.duration),
        proto.catalog_version,
        tuple(_REMARK_FROM[number] for number in proto.remarks if number in _REMARK_FROM),
        tuple(map(_store_from_proto, proto.stores)),
    )


def _store_from_proto(proto: pb.StoreDiagnosis) -> StoreDiagnosis:
    answer = None
    if proto.reachable:
        answer = StoreAnswer(
            proto.version,
            proto.clock_offset.ToNanoseconds() / 1e9,
            proto.schema if proto.HasField("schema") else None,
        )
    return StoreDiagnosis(
        _KIND_FROM.get(proto.kind),
        proto.name,
        duration_from_proto(proto.duration),
        answer,
        proto.schema_wanted if proto.HasField("schema_wanted") else None,
    )
