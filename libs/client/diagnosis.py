"""The client for what services say about themselves. `key` is the service token."""

from __future__ import annotations

import grpc
from pointsman.diagnosis.v1 import diagnosis_pb2, diagnosis_pb2_grpc

from libs.client.connection import ServiceClient
from libs.diagnosis import ServiceDiagnosis
from libs.rpc.diagnosis import SERVICE, diagnosis_from_proto


class DiagnosisClient(ServiceClient):
    """Calls any service."""

    service = SERVICE
    _stub: diagnosis_pb2_grpc.DiagnosisAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = diagnosis_pb2_grpc.DiagnosisStub(channel)

    async def diagnose(self, *, timeout: float | None = None) -> ServiceDiagnosis:
        """Returns what the process says about itself."""
        self._open()
        response = await self._unary(self._stub.Diagnose, diagnosis_pb2.DiagnoseRequest(), timeout)
        return diagnosis_from_proto(response)
