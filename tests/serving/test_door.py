"""The door: who comes in, with how much, and what becomes of a window. No Ray is needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from vmemkit.generation.remote import Limits, frame
from vmemkit.serving import Door, door

TOKEN = "0123456789abcdef"
RIGHT = {"authorization": f"Bearer {TOKEN}"}
STATES = [frame("state", note=str(i)) for i in range(3)]


@dataclass
class Client:
    """One request by ASGI, without a network: what it sends, and what it has got."""

    headers: dict[str, str]
    body: list[bytes] = field(default_factory=list)  # parts
    method: str = "POST"
    path: str = "/windows"
    left: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[dict] = field(default_factory=list)

    async def ask(self, app: Door) -> Client:
        headers = [(k.encode(), v.encode()) for k, v in self.headers.items()]
        scope = {"type": "http", "method": self.method, "path": self.path, "headers": headers}
        parts = list(self.body)

        async def receive() -> dict:
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            self.got.append(message)

        await app(scope, receive, send)
        return self

    @property
    def status(self) -> int:
        return self.got[0]["status"]

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.got).decode(errors="replace")


def window(size: int = 4, **headers: str) -> Client:
    """A request with a body of so many bytes."""
    return Client(RIGHT | {"content-length": str(size)} | headers, [b"x" * size])


class Maker:
    """Makes three states of each window; the second one waits for `go`."""

    def __init__(self) -> None:
        self.go, self.bodies, self.closed = asyncio.Event(), [], 0

    async def __call__(self, body: bytes) -> AsyncIterator[bytes]:
        self.bodies.append(body)
        try:
            yield STATES[0]
            await self.go.wait()
            for state in STATES[1:]:
                yield state
        finally:
            self.closed += 1


def opened(limits: Limits | None = None, **settings: float) -> tuple[Door, Maker]:
    make = Maker()
    about = {"generator": "test"}
    return Door(make, TOKEN, limits or Limits(), about, **settings), make


async def until(true) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen")


def test_a_window_gets_all_its_states():
    async def run() -> None:
        app, make = opened()
        make.go.set()
        client = await Client(RIGHT | {"content-length": "6"}, [b"abc", b"def"]).ask(app)
        assert client.status == 200
        bodies = [message["body"] for message in client.got[1:]]
        assert bodies == [*STATES, b""]
        assert client.got[-1].get("more_body", False) is False
        assert make.bodies == [b"abcdef"]
        assert make.closed == 1

    asyncio.run(run())


def test_the_server_describes_itself():
    async def run() -> None:
        app, _ = opened(Limits(views=5))
        client = await Client(RIGHT, method="GET", path="/").ask(app)
        about = json.loads(client.text)
        assert about["generator"] == "test"
        assert about["limits"]["views"] == 5
        assert about["windows"] == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer \xfc"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/windows"), ("GET", "/"), ("GET", "/other")]
)
def test_without_the_token_nothing_is_read_or_told(headers, method, path):
    async def run() -> None:
        app, make = opened()
        client = Client({"content-length": "4"} | headers, [b"xxxx"], method, path)
        await client.ask(app)
        assert client.status == 401
        assert make.bodies == []
        assert "generator" not in client.text

    asyncio.run(run())


PIXELS = 100_000_000  # more than the server takes; the image alone has 12 bytes a pixel
REFUSED = {
    "100 megapixels": (window(4, **{"content-length": str(12 * PIXELS)}), 413, "at most"),
    "no length": (Client(RIGHT, [b"xxxx"]), 411, "Content-Length"),
    "a wrong length": (window(4, **{"content-length": "-4"}), 411, "Content-Length"),
    "an endless length": (window(4, **{"content-length": "9" * 5000}), 411, "Content-Length"),
    "less than promised": (
        window(4, **{"content-length": "5"}),
        400,
        "5 bytes were promised, got 4",
    ),
    "more than promised": (
        window(4, **{"content-length": "3"}),
        400,
        "3 bytes were promised, got 4",
    ),
    "another path": (Client(RIGHT, method="GET", path="/windows"), 404, "use GET /"),
    "another method": (Client(RIGHT, method="PUT", path="/"), 404, "use GET /"),
}


@pytest.mark.parametrize(("client", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_a_request_that_is_none_is_refused(client, status, words):
    async def run() -> None:
        app, make = opened()
        await client.ask(app)
        assert client.status == status
        assert words in client.text
        assert make.bodies == []
        client.method, client.path, client.headers, client.got = "GET", "/", RIGHT, []
        assert json.loads((await client.ask(app)).text)["windows"] == 0

    asyncio.run(run())


@pytest.mark.parametrize("limits", [Limits(queue=1), Limits(held=7)])
def test_a_full_server_says_so_until_there_is_room(limits):
    async def run() -> None:
        app, make = opened(limits)
        first = asyncio.ensure_future(window().ask(app))
        await until(lambda: make.bodies)
        assert (await window().ask(app)).status == 503
        make.go.set()
        assert (await first).status == 200
        assert (await window().ask(app)).status == 200

    asyncio.run(run())


def test_who_leaves_cancels_its_window_and_no_other():
    async def run() -> None:
        app, make = opened()
        leaves, stays = window(), window()
        tasks = [asyncio.ensure_future(client.ask(app)) for client in (leaves, stays)]
        await until(lambda: all(len(client.got) == 2 for client in (leaves, stays)))
        leaves.left.set()
        await until(lambda: make.closed == 1)
        assert not tasks[1].done()
        make.go.set()
        await asyncio.gather(*tasks)
        assert STATES[1] not in [message.get("body") for message in leaves.got]
        assert [message.get("body") for message in stays.got[1:]] == [*STATES, b""]

    asyncio.run(run())


def test_who_waits_hears_how_many_windows_are_before():
    async def run() -> None:
        go = asyncio.Event()

        async def make(body: bytes) -> AsyncIterator[bytes]:
            await go.wait()
            yield STATES[0]

        app = Door(make, TOKEN, Limits(), {}, news=0.01)
        first, second = window(), window()
        tasks = [asyncio.ensure_future(client.ask(app)) for client in (first, second)]
        await until(lambda: len(first.got) > 2 and len(second.got) > 2)
        go.set()
        await asyncio.gather(*tasks)
        assert frame("wait", message="windows before this one: 0") in [
            m.get("body") for m in first.got
        ]
        assert frame("wait", message="windows before this one: 1") in [
            m.get("body") for m in second.got
        ]

    asyncio.run(run())


def test_a_window_that_takes_too_long_is_cancelled():
    async def run() -> None:
        app, make = opened(Limits(seconds=1), news=0.01)
        client = await window().ask(app)
        assert "the window took more than 1 seconds" in client.text
        assert "the window is being made" in client.text
        assert make.closed == 1

    asyncio.run(run())


def test_a_slow_client_loses_its_place():
    async def run() -> None:
        app, make = opened(slowest=0.02)
        slow = Client(RIGHT | {"content-length": "4"})  # which sends nothing
        assert (await slow.ask(app)).status == 408
        client = window()

        async def never(message: dict) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()
            client.got.append(message)

        scope = {"type": "http", "method": "POST", "path": "/windows"}
        headers = [(k.encode(), v.encode()) for k, v in client.headers.items()]
        requests = iter([{"type": "http.request", "body": b"xxxx"}])

        async def receive() -> dict:
            for request in requests:
                return request
            await asyncio.Event().wait()
            return {}

        await app({**scope, "headers": headers}, receive, never)
        assert make.closed == 1
        described = await Client(RIGHT, method="GET", path="/").ask(app)
        assert json.loads(described.text)["windows"] == 0

    asyncio.run(run())


def test_news_come_well_before_a_client_counts_the_server_as_lost():
    from vmemkit.generation.remote.client import SILENCE

    assert 3 * door.NEWS < SILENCE
