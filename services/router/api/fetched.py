"""Puts the bytes of images and files in the place of addresses whose hosts the operator allows (docs/adr/0032), so
that models whose providers fetch none get them too.

It happens after the caller is known and its request was found good, and before anything is planned: bytes decide
which models may see them. They count as bytes in flight of the caller as they come, until the answer has been sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from msgspec import structs

from libs.conversation import File, Image, Message, Part
from libs.errors import FieldViolation, InvalidArgument
from libs.intake import BytesInFlight
from services.router.api.accept import MAX_PROMPT_BYTES, Draft
from services.router.request.generation import Prompt

#: Seconds for all addresses of a request.
MOST_SECONDS = 10.0
#: Addresses of a request that are fetched at a time.
_AT_A_TIME = 4


class FetchError(Exception):
    """An address could not be fetched. Its text is fit for callers: it names nothing of the address."""


class Fetcher(Protocol):
    """Fetches addresses."""

    def allows(self, url: str) -> bool:
        """Returns True if the address may be fetched."""
        ...

    async def fetch(self, url: str, count: Callable[[int], None]) -> bytes:
        """Returns what an allowed address holds. `count` is given the size of each piece as it comes, and may raise
        to end the call. Raises FetchError."""
        ...


class FetchedAddresses:
    """Fetches the allowed addresses of requests."""

    def __init__(self, fetcher: Fetcher, held: BytesInFlight) -> None:
        self._fetcher = fetcher
        self._held = held

    def wanted(self, prompt: Prompt) -> bool:
        """Returns True if there is anything to fetch."""
        return bool(self._places(prompt))

    @asynccontextmanager
    async def fetched(self, caller: str, draft: Draft, seconds: float) -> AsyncIterator[Draft]:
        """Gives the draft with bytes in the place of its allowed addresses, and holds them for the caller until it is
        left. `seconds`: the most that it may take. Raises InvalidArgument naming each that could not be fetched,
        ResourceExhausted."""
        places, size = self._places(draft.prompt), 0

        def count(more: int) -> None:
            nonlocal size
            if size + more > MAX_PROMPT_BYTES:
                raise FetchError(f"all addresses together hold more than {MAX_PROMPT_BYTES} bytes")
            self._held.take(caller, more)
            size += more

        try:
            urls = list(dict.fromkeys(places.values()))
            found = await self._fetch_all(urls, min(seconds, MOST_SECONDS), count)
            failed = [
                FieldViolation(f"generation.messages[{at[0]}].parts[{at[1]}]", f"was not fetched: {why}")
                for at, url in places.items()
                if isinstance(why := found[url], FetchError)
            ]
            if failed:
                raise InvalidArgument(failed)
            data = {at: found[url] for at, url in places.items()}
            messages = tuple(
                [_fill(message, index, data) for index, message in enumerate(draft.prompt.messages)]
            )
            yield structs.replace(draft, prompt=structs.replace(draft.prompt, messages=messages))
        finally:
            if size:
                self._held.give_back(caller, size)

    def _places(self, prompt: Prompt) -> dict[tuple[int, int], str]:
        """Returns the places of allowed addresses, by message and part."""
        return {
            (index, place): part.url
            for index, message in enumerate(prompt.messages)
            for place, part in enumerate(message.parts)
            if isinstance(part, Image | File) and part.url and self._fetcher.allows(part.url)
        }

    async def _fetch_all(
        self, urls: list[str], seconds: float, count: Callable[[int], None]
    ) -> dict[str, bytes | FetchError]:
        turn = asyncio.Semaphore(_AT_A_TIME)

        async def fetch(url: str) -> bytes | FetchError:
            try:
                async with turn:
                    return await self._fetcher.fetch(url, count)
            except FetchError as error:
                return error

        tasks = [asyncio.create_task(fetch(url)) for url in urls]
        try:
            done = await asyncio.wait_for(asyncio.gather(*tasks), seconds)
        except TimeoutError:
            late = FetchError("it took too long")
            return {
                url: task.result() if task.done() and not task.cancelled() else late
                for url, task in zip(urls, tasks, strict=True)
            }
        finally:
            # Nothing may count after the caller has been given its bytes back.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return dict(zip(urls, done, strict=True))


def _fill(message: Message, index: int, data: dict[tuple[int, int], bytes | FetchError]) -> Message:
    """Returns the message with the bytes that were found for its parts."""
    if not message.parts:
        return message
    parts = [_fill_part(part, data.get((index, place))) for place, part in enumerate(message.parts)]
    return structs.replace(message, parts=tuple(parts))


def _fill_part(part: Part, found: bytes | FetchError | None) -> Part:
    if not isinstance(part, Image | File) or not isinstance(found, bytes):
        return part
    # The type that was declared may be that of another rendering.
    return structs.replace(part, data=found, url="", media_type="")
