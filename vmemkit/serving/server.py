"""The server: Ray, the replicas and the door, started and stopped together.

In: a `Service`. Out: an address, for as long as the context lasts. The Ray is one of its own: it takes
orders only from this process, and stops with it.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from vmemkit.generation import Generator
from vmemkit.generation.remote import Limits, checked_token, error_frame, frame
from vmemkit.serving.door import Door, Make

LOOPBACK = "127.0.0.1"
CONNECTIONS = 512  # open at once, idle ones among them
STOP = 10  # seconds for open requests to end when the server stops
RAY_AUTH = "RAY_AUTH_MODE"  # environment variable
HEALTH = 2.0  # seconds between two looks at whether a replica lives


@dataclass(frozen=True)
class Service:
    """What is served, to whom and how. Errors: ValueError for bad numbers and tokens.

    load makes the generator in each replica; it is sent there, so its arguments must be picklable.
    about: what the server says of itself, such as the generator's name and licence.
    """

    load: Callable[[], Generator]
    about: dict[str, Any]
    token: str = field(repr=False)
    host: str = LOOPBACK
    port: int = 0  # 0: any that is free
    replicas: int = 1
    gpus: bool = False  # whether each replica has a GPU of its own
    at_once: int = 1  # windows in a batch, at most
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        checked_token(self.token)
        if self.replicas < 1 or self.at_once < 1:
            raise ValueError(
                f"replicas and windows at once are 1 or more, got {self.replicas}, {self.at_once}"
            )
        if not 0 <= self.port < 2**16:
            raise ValueError(f"a port is 0 to {2**16 - 1}, got {self.port}")


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """Serve until the context ends; gives the URL.

    Errors: ValueError where Ray Serve is missing, or the replicas cannot start; OSError for a port
    that is taken.
    """
    ray = _library()
    from vmemkit.serving.replicas import Replica  # needs Ray

    with socket.create_server((service.host, service.port)) as listener, _started(ray, service):
        handle = _deployed(ray, Replica, service)
        door = Door(_asking(ray, handle), service.token, service.limits, service.about)
        with _listening(door, listener):
            host, port = listener.getsockname()[:2]
            yield f"http://{host}:{port}"


@contextmanager
def _started(ray: ModuleType, service: Service) -> Iterator[None]:
    """A Ray of our own, with a CPU for each replica. Errors: ValueError where it does not start."""
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    settings = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    try:
        for tries_left in (1, 0):
            try:
                ray.init(address="local", num_cpus=service.replicas, **settings)
                break
            # Ray gives its processes 30 seconds and then raises a bare Exception. On a busy machine
            # that is too short for the first time, when their files are not in memory yet.
            except Exception as error:
                ray.shutdown()
                if not tries_left:
                    raise ValueError(f"Ray does not start: {error}") from error
        yield
    finally:
        ray.shutdown()


def _deployed(ray: ModuleType, replica: type, service: Service) -> Any:
    """The handle of the replicas, once all are ready. Errors: ValueError where they do not start."""
    from ray import serve

    missing = service.replicas - int(ray.cluster_resources().get("GPU", 0))
    if service.gpus and missing > 0:
        raise ValueError(f"{service.replicas} replicas need a GPU each, and {missing} are missing")
    logs = {"log_level": "WARNING", "enable_access_log": False}
    serve.start(proxy_location="Disabled", logging_config=logs)
    deployment = serve.deployment(
        name="generator",
        num_replicas=service.replicas,
        # One batch is made while the next one gathers; what comes later may go to another replica.
        max_ongoing_requests=2 * service.at_once,
        ray_actor_options={"num_cpus": 1, "num_gpus": int(service.gpus)},
        health_check_period_s=HEALTH,
        graceful_shutdown_timeout_s=1,
        max_constructor_retry_count=1,
        logging_config=logs,
    )(replica)
    bound = deployment.bind(service.load, service.at_once, service.limits)
    try:
        return serve.run(bound, name="vmemkit", route_prefix=None).options(stream=True)
    except RuntimeError as error:
        raise ValueError(f"the replicas do not start: {error}") from error


def _asking(ray: ModuleType, handle: Any) -> Make:
    """A function from a window's frame to its answer's frames, by any replica."""

    async def make(window: bytes) -> AsyncGenerator[bytes, None]:
        response = handle.states.remote(window)
        try:
            async for part in response:
                yield part
        except ray.exceptions.RayTaskError as error:
            logging.getLogger(__name__).error("a replica failed", exc_info=error)
            yield error_frame("the server failed; it logged how")
        except (ray.exceptions.RayError, ray.serve.exceptions.RayServeException):
            yield frame("lost", message="the process that made the window has died")
        finally:
            response.cancel()

    return make


@contextmanager
def _listening(door: Door, listener: socket.socket) -> Iterator[None]:
    """Take requests in a thread of its own, until the context ends."""
    import uvicorn

    config = uvicorn.Config(
        door,
        loop="asyncio",
        http="h11",  # which limits the size of headers
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=STOP,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="door")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join()


def _library() -> ModuleType:
    """Ray. Errors: ValueError where it is missing, and where it cannot be protected any more."""
    # Ray's ports are open to other machines, so each call needs a secret. Ray reads this on import.
    if sys.modules.get("ray") is not None and os.environ.get(RAY_AUTH) != "token":
        raise ValueError("Ray is loaded already without a token: serve in a process of its own")
    os.environ[RAY_AUTH] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Without this, a Ray that is started tells its makers so over the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.serve
    except ImportError as error:
        raise ValueError(
            f'serving needs Ray Serve: pip install "vmemkit[cluster]" ({error})'
        ) from error
    return ray
