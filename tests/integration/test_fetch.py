"""Images and files from allowed hosts: what is fetched, over real TLS, and what never is."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from opentelemetry.trace import SpanKind

from libs.conversation import File, Image, Message, Role
from libs.errors import InvalidArgument, ResourceExhausted
from libs.http.public_addresses import PublicResolver, is_public
from libs.intake import BytesInFlight
from libs.tracing import Span, current
from services.router.api.accept import Draft
from services.router.api.entry import Entry
from services.router.api.fetched import FetchedAddresses, FetchError
from services.router.api.http_fetch import HttpFetcher
from services.router.request.generation import Prompt
from tests.support.pictures import pdf, png
from tests.support.routing import TENANT, Harness, catalog, model, new_id

SUPPORT = Path(__file__).parents[1] / "support"
CERTIFICATE = SUPPORT / "localhost_cert.pem"
TRUST = ssl.create_default_context(cafile=str(CERTIFICATE))
PICTURE, OTHER = png(), png(9, 9)
LARGE = b"\x89PNG" + bytes(9 * 1024 * 1024)


class Pictures:
    """A host on this machine, over TLS."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0
        self.released = asyncio.Event()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        match request.path:
            case "/picture.png":
                return web.Response(body=PICTURE, content_type="text/plain")
            case "/other.png":
                return web.Response(body=OTHER)
            case "/sheet.pdf":
                return web.Response(body=pdf())
            case "/text.png":
                return web.Response(body=b"<html>")
            case "/away.png":
                raise web.HTTPFound(f"https://localhost:{self.port}/picture.png")
            case "/silent.png":
                await self.released.wait()
                return web.Response()
            case "/large.png":
                return web.Response(body=LARGE)
            case "/endless.png":
                response = web.StreamResponse()
                await response.prepare(request)
                for at in range(0, len(LARGE), 65536):
                    await response.write(LARGE[at : at + 65536])
                return response
            case _:
                raise web.HTTPNotFound

    def url(self, name: str) -> str:
        return f"https://localhost:{self.port}/{name}"


@pytest.fixture
async def pictures() -> AsyncIterator[Pictures]:
    host = Pictures()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE, SUPPORT / "localhost_key.pem")
    runner = web.ServerRunner(web.Server(host.answer))
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener, ssl_context=tls).start()
    host.port = listener.getsockname()[1]
    yield host
    host.released.set()
    await runner.cleanup()


class Here(AbstractResolver):
    """Resolves every name to the addresses given."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses or ("127.0.0.1",)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None: ...


def fetcher(pictures: Pictures, resolver: AbstractResolver | None = None) -> HttpFetcher:
    return HttpFetcher(frozenset({"localhost"}), port=pictures.port, tls=TRUST, resolver=resolver or Here())


class Router:
    """A router's entry with fake providers and a real fetcher."""

    def __init__(self, pictures: HttpFetcher, held: BytesInFlight) -> None:
        seeing = model("a/m")
        seeing = replace(seeing, capabilities=seeing.capabilities | {"image", "pdf"})
        self.harness = Harness(catalog([seeing]), {"a/m": ["seen"]})
        self.held = held
        h = self.harness
        addresses = FetchedAddresses(pictures, held)
        self.entry = Entry(lambda: h.catalog, h.generate, h.dry_run, h.clock, new_id, addresses)

    async def ask(self, *parts: Image | File, stream: bool = False) -> Prompt:
        """Returns the prompt that the provider got."""
        draft = Draft(Prompt((Message(Role.USER, parts=parts),), 0))
        if stream:
            self.harness.providers.script["a/m"] = [["seen"]]
            async for _ in self.entry.stream(TENANT.name, draft, 60.0):
                pass
        else:
            await self.entry.generate(TENANT.name, draft, 60.0)
        return self.harness.providers.prompts[-1]


@asynccontextmanager
async def running(
    pictures: Pictures, held: BytesInFlight | None = None, resolver: AbstractResolver | None = None
) -> AsyncIterator[Router]:
    token = current.set(Span("test", SpanKind.SERVER, None))
    async with fetcher(pictures, resolver) as fetching:
        router = Router(fetching, held or BytesInFlight())
        yield router
        assert router.held.total == 0
    current.reset(token)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_model_that_fetches_none_gets_the_bytes(pictures: Pictures, stream: bool) -> None:
    """Of images and files, each address once, whatever type was declared; and they are forgotten at the end."""
    parts = (
        Image(url=pictures.url("picture.png"), media_type="image/jpeg"),
        Image(url=pictures.url("other.png#part")),
        File(url=pictures.url("sheet.pdf"), name="a"),
        Image(url=pictures.url("picture.png")),
    )
    async with running(pictures) as router:
        (message,) = (await router.ask(*parts, stream=stream)).messages
    sent = [part for part in message.parts if isinstance(part, Image | File)]
    assert [part.data for part in sent] == [PICTURE, OTHER, pdf(), PICTURE]
    assert not any(part.url for part in sent)
    assert sorted(pictures.asked) == ["/other.png", "/picture.png", "/sheet.pdf"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing.png", "status 404"),
        ("away.png", "status 302"),
        ("large.png", "more than"),
        ("endless.png", "more than"),
        ("text.png", "none of them"),
    ],
)
async def test_what_cannot_be_fetched_is_named(pictures: Pictures, name: str, why: str) -> None:
    """By its place, and no provider is called: a redirect leads nowhere, and bytes are counted, not believed."""
    async with running(pictures) as router:
        with pytest.raises(InvalidArgument) as caught:
            await router.ask(Image(png()), Image(url=pictures.url(name)))
    (fault,) = caught.value.violations
    assert fault.field == "generation.messages[0].parts[1]"
    assert why in fault.description
    assert "localhost" not in fault.description
    assert not router.harness.providers.calls


async def test_a_silent_host_ends_with_the_call(pictures: Pictures) -> None:
    """A caller that leaves takes its fetches with it."""
    async with running(pictures) as router:
        asking = asyncio.create_task(router.ask(Image(url=pictures.url("silent.png"))))
        async with asyncio.timeout(20):
            while not pictures.asked:
                await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_deadline_bounds_the_fetch(pictures: Pictures) -> None:
    """The late one is named, and not the one that came in time."""
    async with fetcher(pictures) as fetching:
        addresses = FetchedAddresses(fetching, BytesInFlight())
        parts = tuple(Image(url=pictures.url(name)) for name in ("picture.png", "silent.png"))
        draft = Draft(Prompt((Message(Role.USER, parts=parts),), 0))
        with pytest.raises(InvalidArgument, match="too long") as caught:
            async with addresses.fetched("t", draft, 1.0):
                pass
    assert [fault.field for fault in caught.value.violations] == ["generation.messages[0].parts[1]"]


async def test_fetched_bytes_count_as_the_callers(pictures: Pictures) -> None:
    """While they come: beyond the bound the request is refused, and they are given back."""
    async with running(pictures, BytesInFlight(len(PICTURE) + 1, len(PICTURE) + 1)) as router:
        await router.ask(Image(url=pictures.url("picture.png")))
        both = (Image(url=pictures.url(name)) for name in ("picture.png", "other.png"))
        with pytest.raises(ResourceExhausted):
            await router.ask(*both)


async def test_only_allowed_hosts_at_https_are_called(pictures: Pictures) -> None:
    """By their very name and port, without credentials; all else stays an address, for vendors that fetch it."""
    async with fetcher(pictures) as fetching:
        port = pictures.port
        assert fetching.allows(f"https://LOCALHOST:{port}/a")
        for url in (
            f"http://localhost:{port}/a",
            f"https://localhost.:{port}/a",
            "https://localhost/a",
            f"https://127.0.0.1:{port}/a",
            f"https://user:key@localhost:{port}/a",
            f"https://localhost:{port}@evil.example/a",
            f"https://evil.example\\@localhost:{port}/a",
            f"https://localhost.evil.example:{port}/a",
            "https://[::1/a",
            "https://localhost:99999/a",
        ):
            assert not fetching.allows(url), url
            with pytest.raises(FetchError):
                await fetching.fetch(url, lambda size: None)
    assert pictures.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
    ],
)
async def test_a_name_that_leads_inside_is_not_called(pictures: Pictures, address: str) -> None:
    """Nor is what IPv6 wraps: no address of a network's own, of this machine or of many at once."""
    assert not is_public(address)
    async with running(pictures, resolver=PublicResolver(Here(address))) as router:
        with pytest.raises(InvalidArgument, match="public address"):
            await router.ask(Image(url=pictures.url("picture.png")))
    assert pictures.asked == []


def test_addresses_of_the_internet_are_called() -> None:
    """Of both protocols."""
    assert all(map(is_public, ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")))
