"""The remote generator without its server: bytes there and back, and servers that misbehave."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from vmemkit.core import cameras, same_bits, views
from vmemkit.generation import Generation, Generator, Remote
from vmemkit.generation.remote import (
    Limits,
    frame,
    read_frame,
    read_state,
    read_window,
    rng_frame,
    state_frame,
    window_frame,
)

TOKEN = "0123456789abcdef"
ABOUT = {"protocol": 1, "limits": {}}
H, W = 6, 8

pytestmark = pytest.mark.usefixtures("as_installed")


@pytest.fixture(scope="module")
def context():
    rng = torch.Generator().manual_seed(0)
    image, depth = torch.rand(2, 3, H, W, generator=rng), torch.rand(2, H, W, generator=rng) + 1
    depth[0, 0, :2] = torch.tensor([torch.nan, torch.inf])
    confidence, given = depth.nan_to_num(1, posinf=2), torch.tensor([True, False])
    made = views(image, cameras(torch.eye(4).repeat(2, 1, 1)), depth, confidence, given)
    return made.replace(latent=torch.randn(2, 4, 3, 4), embedding=torch.full((2, 5), torch.nan))


@pytest.fixture(scope="module")
def targets():
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[:, 2, 3] = torch.arange(3) / 10
    return cameras(poses)


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def reader(data: bytes) -> Callable[[int], bytes]:
    return io.BytesIO(data).read


# ---- the wire ------------------------------------------------------------------------------------


def test_a_window_comes_back_to_the_bit(context, targets):
    rng = seed()
    body = window_frame(context, targets, rng)
    back, cams, state = read_window(body, Limits())
    assert back.leaves().keys() == context.leaves().keys()
    assert all(same_bits(leaf, back.leaves()[name]) for name, leaf in context.leaves().items())
    assert all(same_bits(leaf, cams.leaves()[name]) for name, leaf in targets.leaves().items())
    assert torch.equal(torch.rand(3, generator=state), torch.rand(3, generator=rng))


def test_fields_that_a_view_lacks_stay_away(context, targets):
    bare = context.replace(depth=None, confidence=None, latent=None, embedding=None)
    back, _, _ = read_window(window_frame(bare, targets, seed()), Limits())
    assert back.leaves().keys() == bare.leaves().keys()


def test_a_state_comes_back_to_the_bit():
    depth = torch.full((2, H, W), torch.nan)
    state = Generation(
        torch.rand(2, 3, H, W), depth, depth + 1, embedding=torch.rand(2, 4), note="a note"
    )
    made = read_frame(reader(state_frame(state)), 10_000)
    back = read_state(made, 2, H, W)
    assert back.note == "a note"
    assert back.latent is None
    assert all(same_bits(leaf, back.leaves()[name]) for name, leaf in state.leaves().items())


LENGTHS = struct.Struct("<IQ")
BAD_FRAMES = {
    "a long text": (LENGTHS.pack(2**31, 0), "at most"),
    "many tensors": (LENGTHS.pack(2, 2**60) + b"{}", "at most"),
    "no JSON": (LENGTHS.pack(2, 0) + b"{]", "begins with JSON"),
    "deep JSON": (LENGTHS.pack(60_000, 0) + b"[" * 60_000, "begins with JSON"),
    "no kind": (LENGTHS.pack(2, 0) + b"{}", "that has a kind"),
    "no safetensors": (LENGTHS.pack(12, 9) + b'{"kind":"a"}' + b"x" * 9, "as safetensors"),
    "a pickle": (LENGTHS.pack(12, 9) + b'{"kind":"a"}' + b"\x80\x04cos\nxx.", "as safetensors"),
    "an end too early": (LENGTHS.pack(12, 9) + b'{"kind":"a"}', "bytes or more"),
    "nothing": (b"", "bytes or more"),
}


@pytest.mark.parametrize(("body", "words"), BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_frame_that_is_none_is_refused(body, words):
    with pytest.raises(ValueError, match=words):
        read_window(body, Limits())


def remade(body: bytes, changes: dict[str, torch.Tensor | None]) -> bytes:
    """The window's frame with other tensors; None leaves one out."""
    columns = read_frame(reader(body), len(body)).tensors | changes
    return frame("window", {k: x for k, x in columns.items() if x is not None}, version=1)


BAD_WINDOWS = {
    "no image": ({"context.image": None}, "are needed, got"),
    "an unknown tensor": ({"weights": torch.zeros(1)}, "are needed, got"),
    "half precision": ({"context.image": torch.zeros(2, 3, H, W).half()}, "must be torch.float32"),
    "no views": ({"context.image": torch.zeros(0, 3, H, W)}, "must be torch.float32"),
    "another size": ({"context.depth": torch.ones(2, H, W + 1)}, r"\[2, 6, 9\]|\[k h w\]"),
    "bright images": ({"context.image": torch.full((2, 3, H, W), 2.0)}, "finite in"),
    "negative depth": ({"context.depth": -torch.ones(2, H, W)}, "depth must be positive"),
    "a bent camera": ({"targets.world_from_cam": torch.ones(3, 4, 4)}, "must be rigid"),
    "no randomness": ({"rng": torch.zeros(5056, dtype=torch.uint8)}, "state of a torch.Generator"),
    "short randomness": ({"rng": torch.zeros(3, dtype=torch.uint8)}, "state of a torch.Generator"),
}


@pytest.mark.parametrize(("changes", "words"), BAD_WINDOWS.values(), ids=BAD_WINDOWS)
def test_a_window_that_is_none_is_refused(context, targets, changes, words):
    with pytest.raises(ValueError, match=words):
        read_window(remade(window_frame(context, targets, seed()), changes), Limits())


def test_a_window_of_another_version_is_refused(context, targets):
    made = read_frame(reader(window_frame(context, targets, seed())), 100_000)
    with pytest.raises(ValueError, match="version 1 is needed, got 'window' of 2"):
        read_window(frame("window", made.tensors, version=2), Limits())


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(views=4), "takes 4 views a window, got 2 of context and 3 targets"),
        (Limits(pixels=5 * H * W - 1), "got 5 views of 6 x 8"),
    ],
)
def test_a_window_beyond_the_limits_is_refused(context, targets, limits, words):
    """Also where the targets are what is too much, which take few bytes."""
    with pytest.raises(ValueError, match=words):
        read_window(window_frame(context, targets, seed()), limits)


@pytest.mark.parametrize("pixels", [0, -1, 1.5, True, "8"])
def test_limits_are_whole_numbers(pixels):
    with pytest.raises(ValueError, match="the limit pixels is a whole number"):
        Limits(pixels=pixels)


# ---- a client and servers that misbehave ---------------------------------------------------------


@contextmanager
def answering(
    *parts: bytes, status: int = 200, about: object = ABOUT, tries: int = 1
) -> Iterator[str]:
    """A server that answers a window with these parts; in tries before the last, it sends the first
    and closes the connection."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            text = json.dumps(about).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(1)
            body = b"".join(parts if len(seen) >= tries else parts[:1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + (len(seen) < tries)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def state(shade: float, m: int = 3) -> Generation:
    depth = torch.ones(m, H, W)
    return Generation(torch.full((m, 3, H, W), shade), depth, depth)


def shades(url: str, context, targets, **settings: object) -> list[float]:
    generator = Remote(url, TOKEN, **{"patience": 0.0} | settings)
    assert isinstance(generator, Generator)
    return [float(made.image[0, 0, 0, 0]) for made in generator(context, targets, seed())]


def test_states_come_and_the_rng_goes_on_where_the_server_left_it(context, targets):
    drawn, rng = seed(), seed()
    torch.rand(5, generator=drawn)
    with answering(state_frame(state(0.5)), rng_frame(drawn)) as url:
        made = list(Remote(url, TOKEN)(context, targets, rng))
    assert len(made) == 1
    assert torch.equal(rng.get_state(), drawn.get_state())


def test_after_a_lost_connection_no_state_comes_twice(context, targets):
    parts = [state_frame(state(shade)) for shade in (0.25, 0.5, 0.75)]
    said: list[str] = []
    with answering(*parts, rng_frame(seed()), tries=2) as url:
        assert shades(url, context, targets, patience=5.0, tell=said.append) == [0.25, 0.5, 0.75]
    assert len(said) == 1
    assert "the next try is in 0.5 s" in said[0]


def test_a_server_that_stays_busy_is_given_up(context, targets):
    with (
        answering(b"the server is full", status=503) as url,
        pytest.raises(ConnectionError, match="the server is full; tried for 0 seconds"),
    ):
        shades(url, context, targets)


def test_where_nobody_listens_the_error_comes_at_once(context, targets):
    with pytest.raises(ConnectionError, match=r"no server answers at http://127\.0\.0\.1:1"):
        shades("http://127.0.0.1:1", context, targets, patience=100.0)


GOOD = state_frame(state(0.5))
HOSTILE = {
    "a giant frame": ([LENGTHS.pack(10, 2**50)], "of tensors, got 10 and 1125899906842624"),
    "another number of views": ([state_frame(state(0.5, 2))], "image must be"),
    "an unknown kind": ([frame("order")], "unknown frame, 'order'"),
    "an error": ([frame("error", message="no \x1b[31mroom")], r"no  \[31mroom"),
    "a note that commands": ([state_frame(state(0.5).replace(note="\x1b[2J"))], "a note is a line"),
    "a long note": ([state_frame(state(0.5).replace(note="a" * 3000))], "a note is a line"),
    "no randomness": ([GOOD, frame("done")], "state of a torch.Generator"),
    "endless states": ([GOOD] * 502, "more than 500 states"),
}


@pytest.mark.parametrize(("parts", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_server_that_misbehaves_is_an_error(context, targets, parts, words):
    with answering(*parts) as url, pytest.raises(ValueError, match=words):
        shades(url, context, targets)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"protocol": 2}, "protocol 1"),
        ([], "protocol 1"),
        ({"protocol": 1}, "names its limits"),
        ({"protocol": 1, "limits": {"price": 3}}, "names its limits"),
        ({"protocol": 1, "limits": {"views": 2}}, "takes 2 views a window"),
    ],
)
def test_a_server_says_what_it_is_before_it_gets_a_window(context, targets, about, words):
    with answering(about=about) as url, pytest.raises(ValueError, match=words):
        shades(url, context, targets)


def test_a_redirect_is_not_followed(context, targets):
    with answering(b"", status=302) as url, pytest.raises(ValueError, match="status 302"):
        shades(url, context, targets)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8700", "ftp://a", "http://", "http://me:word@a", "http://a?b", "http://a:b"],
)
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="URL"):
        Remote(url, TOKEN)


@pytest.mark.parametrize(
    "token", ["", "short", "a" * 15, "a token with spaces in it", "ü" * 20, "a\n" * 20]
)
def test_a_token_that_is_none_is_refused_without_being_shown(token):
    with pytest.raises(ValueError, match="a token is 16 or more") as caught:
        Remote("http://127.0.0.1", token)
    assert not token or token not in str(caught.value)


def test_the_token_may_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("VMEMKIT_TOKEN", raising=False)
    with pytest.raises(ValueError, match="set VMEMKIT_TOKEN"):
        Remote("http://127.0.0.1")
    monkeypatch.setenv("VMEMKIT_TOKEN", TOKEN)
    assert TOKEN not in repr(Remote("http://127.0.0.1"))


def test_a_notebook_needs_nothing_of_the_server():
    code = "import sys, vmemkit; vmemkit.generation.Remote; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"ray", "fastapi", "starlette", "uvicorn"}


def test_randomness_of_a_gpu_is_refused(context, targets):
    class OnGpu:
        device = torch.device("cuda")

    with pytest.raises(ValueError, match="rng on the CPU"):
        list(Remote("http://127.0.0.1", TOKEN)(context, targets, OnGpu()))
