"""Remote: a generator that runs on another machine, behind `vmemkit serve`.

In: what any generator takes. Out: the states that the server's generator makes, as they come. Memory,
retrieval and reconstruction stay here. Only the standard library and safetensors are needed.
"""

from __future__ import annotations

import json
import os
import time
from collections import abc
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import InitVar, dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import torch

from vmemkit.core import Cameras, Views
from vmemkit.generation.generator import Generation, checked_targets
from vmemkit.generation.remote.wire import (
    MEDIA_TYPE,
    MOST_HEAD,
    VERSION,
    WINDOWS,
    Frame,
    Limits,
    read_frame,
    read_state,
    set_rng,
    state_bytes,
    window_frame,
)

TOKEN = "VMEMKIT_TOKEN"  # environment variable
SHORTEST = 16  # letters of a token
SILENCE = 60  # seconds without a byte after which a server counts as lost; it sends one every 5
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0  # seconds between two tries
MOST_STATES = 500  # a server that sends more for one window is not believed
MOST_MESSAGE = 1000  # letters
BUSY = (429, 502, 503, 504)  # statuses of HTTP; proxies say 502 and 504


class _AgainError(Exception):
    """The server is busy, or has lost the window: the same request may succeed later."""


class _Secret:
    """A text that is no setting: neither a repr nor a session shows it."""

    def __init__(self, text: str) -> None:
        self.text = text


@dataclass(frozen=True)
class Remote:
    """A generator that a server runs, with `vmemkit serve` (`vmemkit.serving`).

    url: of the server, such as "http://127.0.0.1:8700". token: that the server printed; by default
    that of the environment variable VMEMKIT_TOKEN, so that no notebook has to show it. It is not part
    of the settings, so no session stores it.

    A call sends the context, the targets and the state of `rng`, and yields the states as they come.
    So the views are those of the server's generator here, and `rng` is left as by that. Closing the
    iterator cancels on the server. Where a server is busy, or has lost the process that made the
    window, the window is sent again, and no state is yielded twice.
    """

    url: str
    token: InitVar[str | None] = None
    patience: float = 300.0  # seconds after a first failure in which a window is sent again
    tell: Callable[[str], None] | None = None  # gets a sentence while a window waits, such as print
    _secret: _Secret = field(init=False, repr=False, compare=False)

    def __post_init__(self, token: str | None) -> None:
        """Errors: ValueError for a bad URL, and for a missing or bad token."""
        _split(self.url)
        token = os.environ.get(TOKEN) if token is None else token
        if token is None:
            raise ValueError(
                f"a token is needed, which the server printed: Remote(url, token), or set {TOKEN}"
            )
        object.__setattr__(self, "_secret", _Secret(checked_token(token)))

    def __call__(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> Iterator[Generation]:
        """Errors: ValueError for what the server or its generator refuses, and for a server that does
        not keep to the protocol; ConnectionError where none answers, and where patience ends."""
        targets = checked_targets(targets)
        if rng.device.type != "cpu":
            raise ValueError(f"a remote generator needs an rng on the CPU, got one on {rng.device}")
        yielded, wait, end = 0, FIRST_WAIT, None
        while True:
            try:
                with closing(self._states(context, targets, rng)) as states:
                    for i, state in enumerate(states):
                        if i == yielded:
                            yielded += 1
                            yield state.to(context.device)
                return
            except _AgainError as error:
                end = time.monotonic() + self.patience if end is None else end
                if time.monotonic() + wait > end:
                    raise ConnectionError(
                        f"{self.url}: {error}; tried for {self.patience:g} seconds"
                    ) from error
                self._say(f"{error}; the next try is in {wait:g} s")
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def about(self) -> dict[str, Any]:
        """What the server says of itself: its generator, licence and limits.

        Errors: as for a call, but ConnectionError at once.
        """
        connection = self._connected()
        try:
            return self._about(connection)
        except (_AgainError, HTTPException, OSError) as error:
            raise ConnectionError(f"{self.url}: {error!s:.200}") from error
        finally:
            connection.close()

    def _states(
        self, context: Views, targets: Cameras, rng: torch.Generator
    ) -> abc.Generator[Generation, None, None]:
        """One try. Errors: _AgainError where another may help."""
        connection = self._connected()
        size = len(targets), *context.image.shape[2:]
        try:
            limits = _limits(self._about(connection))
            limits.check(len(context), *size)
            # A server that refuses answers before it has read all, and may close the connection.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._ask(connection, "POST", WINDOWS, window_frame(context, targets, rng))
            response, count = self._answer(connection), 0
            while count <= MOST_STATES:
                made = read_frame(_reader(response), state_bytes(*size))
                if made.kind == "done":
                    set_rng(rng, made.tensors.get("rng"))
                    return
                if made.kind == "state":
                    yield read_state(made, *size)
                    count += 1
                else:
                    self._heed(made)
            raise ValueError(f"{self.url} sent more than {MOST_STATES} states")
        except (HTTPException, OSError) as error:
            raise _AgainError(f"the connection was lost ({error!r:.200})") from error
        finally:
            connection.close()

    def _heed(self, made: Frame) -> None:
        """Do what a frame says that holds no state."""
        message = _printable(made.head.get("message"))
        if made.kind == "lost":
            raise _AgainError(message)
        if made.kind == "error":
            raise ValueError(f"{self.url}: {message}")
        if made.kind != "wait":
            raise ValueError(f"{self.url} sent an unknown frame, {made.kind!r:.40}")
        self._say(message)

    def _about(self, connection: HTTPConnection) -> dict[str, Any]:
        self._ask(connection, "GET", "/")
        text = self._answer(connection).read(MOST_HEAD)
        try:
            about = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.url} is no server of vmemkit: {error!s:.200}") from error
        if not isinstance(about, dict) or about.get("protocol") != VERSION:
            raise ValueError(
                f"{self.url} must be a vmemkit server of protocol {VERSION}, got {about!r:.80}: install "
                "the same vmemkit on both sides"
            )
        return about

    def _connected(self) -> HTTPConnection:
        """A connection. Errors: ConnectionError where nothing answers."""
        secure, host, port, _ = _split(self.url)
        connection = (HTTPSConnection if secure else HTTPConnection)(host, port, timeout=SILENCE)
        try:
            connection.connect()
        except OSError as error:
            raise ConnectionError(f"no server answers at {self.url}: {error}") from error
        return connection

    def _ask(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {self._secret.text}", "Content-Type": MEDIA_TYPE}
        connection.request(method, _split(self.url)[3] + path, body, headers)

    def _answer(self, connection: HTTPConnection) -> HTTPResponse:
        """The answer, if the server agrees. Errors: ValueError where it refuses; _AgainError."""
        response = connection.getresponse()
        if response.status == HTTPStatus.OK:
            return response
        message = _printable(response.read(MOST_HEAD).decode(errors="replace"))
        if response.status == HTTPStatus.UNAUTHORIZED:
            raise ValueError(f"{self.url} refuses this token: use the one that the server printed")
        if response.status in BUSY:
            raise _AgainError(message)
        raise ValueError(f"{self.url} refuses (status {response.status}): {message}")

    def _say(self, message: str) -> None:
        if self.tell is not None:
            self.tell(message)


def checked_token(token: str) -> str:
    """The token, if HTTP can carry it and nobody guesses it. Errors: ValueError, without the token."""
    if len(token) < SHORTEST or not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError(
            f"a token is {SHORTEST} or more ASCII letters, digits and signs without spaces, got "
            f"{len(token)} characters"
        )
    return token


def _split(url: str) -> tuple[bool, str, int | None, str]:
    """Whether it is https, host, port and path. Errors: ValueError."""
    try:
        parts = urlsplit(url)
        port, known = parts.port, parts.scheme in ("http", "https") and parts.hostname
    except ValueError as error:
        raise ValueError(f"{url!r:.200} is no URL: {error}") from error
    if not known or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"a URL such as http://127.0.0.1:8700 is needed, got {url!r:.200}")
    return parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/")


def _limits(about: dict[str, Any]) -> Limits:
    """The limits that a server names. Errors: ValueError."""
    try:
        return Limits(**about["limits"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"a server names its limits, got {about!r:.200}") from error


def _reader(response: HTTPResponse) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        part = response.read(count)
        if len(part) < count:
            raise _AgainError("the stream ended early")
        return part

    return read


def _printable(message: Any) -> str:
    """A server's text, without what could command a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(message)[:MOST_MESSAGE])
