"""The door: the web application that all requests come through.

It asks for the token first, then compares the size of the request with the limits, and reads no more.
A window's frames pass through as they come. Without news, the client hears every few seconds how many
windows are before its own; when it is gone, its window is cancelled. This file needs no Ray.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any

from vmemkit.generation.remote import MEDIA_TYPE, VERSION, WINDOWS, Limits, error_frame, frame

Message = MutableMapping[str, Any]  # of ASGI, the interface between servers and applications
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Make = Callable[
    [bytes], AsyncGenerator[bytes, None]
]  # a window's frame -> the frames of its states

NEWS = 5.0  # seconds after which a client hears that it still waits
SLOWEST = 120.0  # seconds for a request to come in, and for a client to take a part of the answer


class _RefusedError(Exception):
    """A request is refused: status and a sentence."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


@dataclass
class Door:
    """An ASGI application. `GET /` describes the server; `POST /windows` makes a window.

    make: the frames of a window's states, and of its end; closing it cancels. about: what the server
    says of itself besides its limits.
    """

    make: Make
    token: str
    limits: Limits
    about: dict[str, Any]
    news: float = NEWS
    slowest: float = SLOWEST
    _sizes: dict[int, int] = field(default_factory=dict)  # of the windows that are there, in order
    _count: int = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            headers = dict(scope["headers"])
            self._check_token(headers)
            match scope["method"], scope["path"]:
                case "GET", "/":
                    text = json.dumps(self._description()).encode()
                    await _answer(send, HTTPStatus.OK, "application/json", text)
                case "POST", path if path == WINDOWS:
                    await self._window(headers, receive, send)
                case _:
                    raise _RefusedError(HTTPStatus.NOT_FOUND, f"use GET / or POST {WINDOWS}")
        except _RefusedError as error:
            await _answer(send, error.status, "text/plain; charset=utf-8", error.why.encode())

    def _check_token(self, headers: dict[bytes, bytes]) -> None:
        """In a time that does not depend on how much of the token is right."""
        wanted = f"Bearer {self.token}".encode()
        if not hmac.compare_digest(headers.get(b"authorization", b""), wanted):
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "this server needs its token")

    def _description(self) -> dict[str, Any]:
        there = {"windows": len(self._sizes)}
        return self.about | there | {"protocol": VERSION, "limits": asdict(self.limits)}

    async def _window(self, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        size = self._admitted_size(headers)
        number = self._count = self._count + 1
        self._sizes[number] = size
        try:
            body = await _read_body(receive, size, self.slowest)
            start = {"type": "http.response.start", "status": HTTPStatus.OK}
            await send({**start, "headers": [(b"content-type", MEDIA_TYPE.encode())]})
            async with aclosing(self._frames(body, number, receive)) as frames:
                async for part in frames:
                    message = {"type": "http.response.body", "body": part, "more_body": True}
                    await asyncio.wait_for(send(message), self.slowest)
            await send({"type": "http.response.body", "body": b""})
        except asyncio.TimeoutError:  # the client takes nothing: it is as if it were gone
            return
        finally:
            del self._sizes[number]

    def _admitted_size(self, headers: dict[bytes, bytes]) -> int:
        """Bytes of a window that may come in. Errors: _RefusedError."""
        text = headers.get(b"content-length", b"").decode("latin-1")
        if not text.isdecimal() or len(text) > 20:
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "a request needs its Content-Length")
        size, limits = int(text), self.limits
        if size > limits.window:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a window has at most {limits.window} bytes ({limits.pixels} pixels in {limits.views} "
                f"views), got {size}",
            )
        if len(self._sizes) >= limits.queue or sum(self._sizes.values()) + size > limits.held:
            raise _RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the server is full: {len(self._sizes)} windows are there",
            )
        return size

    async def _frames(
        self, body: bytes, number: int, receive: Receive
    ) -> AsyncGenerator[bytes, None]:
        """The frames of a window, with news between them, until its client is gone."""
        gone = asyncio.ensure_future(_disconnected(receive))
        began = None  # when the first frame came
        async with aclosing(self.make(body)) as made:
            coming = asyncio.ensure_future(anext(made, None))
            try:
                while True:
                    waiting = {coming, gone}
                    await asyncio.wait(waiting, timeout=self.news, return_when=FIRST_COMPLETED)
                    now = time.monotonic()
                    if gone.done() or (coming.done() and coming.result() is None):
                        return
                    if began is not None and now - began > self.limits.seconds:
                        why = f"the window took more than {self.limits.seconds} seconds"
                        yield error_frame(why)
                        return
                    if coming.done():
                        began = began or now
                        yield coming.result()
                        coming = asyncio.ensure_future(anext(made, None))
                    else:
                        yield frame("wait", message=self._news(number, began is not None))
            finally:
                gone.cancel()
                coming.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await coming  # `made` cannot be closed while it runs

    def _news(self, number: int, began: bool) -> str:
        if began:
            return "the window is being made"
        before = sum(other < number for other in self._sizes)
        return f"windows before this one: {before}"


async def _read_body(receive: Receive, size: int, seconds: float) -> bytes:
    """The body of a request, of so many bytes. Errors: _RefusedError, also for one that is slow."""
    body = bytearray()
    end, more = time.monotonic() + seconds, True
    while more and len(body) <= size:
        try:
            message = await asyncio.wait_for(receive(), end - time.monotonic())
        except asyncio.TimeoutError as error:
            why = f"a request must come in within {seconds:g} seconds"
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, why) from error
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if len(body) != size:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, f"{size} bytes were promised, got {len(body)}")
    return bytes(body)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: HTTPStatus, kind: str, body: bytes) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
