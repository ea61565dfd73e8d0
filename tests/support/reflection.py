"""Lists and describes a server as grpcurl does: by gRPC's own client of reflection."""

from __future__ import annotations

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def described(address: str, service: str) -> set[tuple[str, str, str]]:
    """The service's methods with the types that they take and give, learned over the wire alone and without a key.
    Blocks. Raises KeyError where the server does not know the service."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) >= {service, "grpc.health.v1.Health"}
        return _methods(descriptor_pool.DescriptorPool(database), service)


def known(service: str) -> set[tuple[str, str, str]]:
    """The same from generated code."""
    return _methods(descriptor_pool.Default(), service)


def _methods(pool: descriptor_pool.DescriptorPool, service: str) -> set[tuple[str, str, str]]:
    return {
        (method.name, method.input_type.full_name, method.output_type.full_name)
        for method in pool.FindServiceByName(service).methods
    }
