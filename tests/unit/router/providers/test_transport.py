"""The transport against a server of its own: what cannot be sent."""

from __future__ import annotations

import asyncio

import pytest

from libs.types import ErrorClass
from services.router.providers.http_transport import HttpTransport
from services.router.providers.wires.wire import HttpRequest
from services.router.request.generation import ProviderFailure


@pytest.mark.parametrize("key", ["sk-1\nx-evil: 1", "sk-1\r\n", "sk\x00-1"])
async def test_a_key_that_no_header_can_hold_is_a_failure_and_not_shown(key: str) -> None:
    """A bad key, not a crash; neither the message nor what caused it repeats the key."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    request = HttpRequest("POST", url, {"authorization": f"Bearer {key}"}, b"{}")
    async with server, HttpTransport() as transport:
        with pytest.raises(ProviderFailure) as caught:
            await transport.fetch(request, 5.0, 1000)
        with pytest.raises(ProviderFailure):
            async with transport.open(request):
                pass
    assert (caught.value.error_class, caught.value.retry_same) == (ErrorClass.AUTHENTICATION, False)
    assert caught.value.__cause__ is None
    assert "sk" not in str(caught.value)
