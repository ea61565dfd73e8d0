"""The least a gRPC gateway can do: a bare grpc.aio server that hands each call to an HTTP provider on the router's
own transport. No limits, no ledger, no tracing, no failover. What the router costs is measured against it.

python -m bench.support.passthrough --provider http://127.0.0.1:7790/openai/v1
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import msgspec
import uvloop
from pointsman.router.v1 import router_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc

from services.router.providers.answer_limit import MAX_WHOLE_BYTES
from services.router.providers.http_transport import HttpTransport
from services.router.providers.wires.wire import HttpRequest

HEADERS = {"content-type": "application/json"}


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Answer(msgspec.Struct):
    choices: list[_Choice]


class _Delta(msgspec.Struct):
    content: str | None = None


class _ChunkChoice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice]


class PassThrough(router_pb2_grpc.RouterServicer):
    """One provider, no questions."""

    def __init__(self, transport: HttpTransport, url: str) -> None:
        self._transport = transport
        self._url = f"{url}/chat/completions"
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(_Answer).decode
        self._decode_chunk = msgspec.json.Decoder(_Chunk).decode

    def _request(self, generation: pb.Generation, *, stream: bool) -> HttpRequest:
        body = {
            "model": "gpt-4.1-mini",
            "messages": [{"role": "user", "content": m.text} for m in generation.messages],
            "max_tokens": generation.max_output_tokens,
            "stream": stream,
        }
        return HttpRequest("POST", self._url, HEADERS, self._encode(body))

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> pb.GenerateResponse:
        _, _, body = await self._transport.fetch(
            self._request(request.generation, stream=False), 60, MAX_WHOLE_BYTES
        )
        return pb.GenerateResponse(result=pb.Result(text=self._decode(body).choices[0].message.content))

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: Any
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        async with self._transport.open(self._request(request.generation, stream=True)) as response:
            buffer = b""
            while chunk := await response.chunk():
                buffer += chunk
                *events, buffer = buffer.split(b"\n\n")
                text = ""
                for event in events:
                    if event == b"data: [DONE]":
                        break
                    choices = self._decode_chunk(event[6:]).choices
                    text += (choices[0].delta.content or "") if choices else ""
                if text:
                    yield pb.StreamGenerateResponse(delta=pb.Delta(text=text))


async def serve(provider: str) -> None:
    """Serves until SIGTERM; prints the port."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with HttpTransport() as transport:
        server = grpc.aio.server()
        servicer = PassThrough(transport, provider)  # type: ignore[abstract]  # nobody calls the other methods
        router_pb2_grpc.add_RouterServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await stop.wait()
        await server.stop(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", required=True, help="an OpenAI-compatible base URL")
    uvloop.run(serve(parser.parse_args().provider))
