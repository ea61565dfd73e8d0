"""Lists and describes a server as grpcurl does: by gRPC's own client of reflection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
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


def unknown_symbols(address: str, service: str) -> set[str]:
    """Asks for the file of every symbol of the service's own file; returns those for which no file came. Blocks."""
    file = descriptor_pool.Default().FindFileContainingSymbol(service)
    symbols = list(_symbols(file))
    asked = (reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols)
    with grpc.insecure_channel(address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = list(stub.ServerReflectionInfo(asked))
    assert len(answers) == len(symbols)
    wanted = file.serialized_pb
    return {
        symbol
        for symbol, answer in zip(symbols, answers, strict=True)
        if wanted not in answer.file_descriptor_response.file_descriptor_proto
    }


def _symbols(file: FileDescriptor) -> Iterator[str]:
    for service in file.services_by_name.values():
        yield service.full_name
        yield from (method.full_name for method in service.methods)
    for enum in file.enum_types_by_name.values():
        yield enum.full_name
        yield from (f"{file.package}.{value.name}" for value in enum.values)
    for message in file.message_types_by_name.values():
        yield from _symbols_of_message(message)


def _symbols_of_message(message: Descriptor) -> Iterator[str]:
    yield message.full_name
    yield from (field.full_name for field in message.fields)
    yield from (oneof.full_name for oneof in message.oneofs)
    for enum in message.enum_types:
        yield enum.full_name
        yield from (f"{message.full_name}.{value.name}" for value in enum.values)
    for nested in message.nested_types:
        yield from _symbols_of_message(nested)
