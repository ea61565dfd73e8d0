"""Reflection that finds methods too: the library asks its pool for the file of a symbol, and protobuf's pool knows
those of messages, fields, enums, values and services alone."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha.reflection import aio

_POOL = descriptor_pool.Default()
_Library: Any = aio.ReflectionServicer


class ReflectionServicer(_Library):  # type: ignore[misc]  # the library has no types
    """The library's, with `describe <method>` of grpcurl and its like."""

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        try:
            method = _POOL.FindMethodByName(fully_qualified_name)
        except KeyError:
            return super()._file_containing_symbol(request, fully_qualified_name)
        return super()._file_containing_symbol(request, method.containing_service.full_name)
