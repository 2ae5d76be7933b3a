"""`vmemkit serve`: a generator for a class, made here and asked from many notebooks."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from ipaddress import ip_address
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from vmemkit.cli.walk import WEIGHTLESS
from vmemkit.generation import FAST, PRESETS, Generator, preset
from vmemkit.generation.diffusion import DiffusionConfig
from vmemkit.generation.remote import TOKEN, Limits
from vmemkit.nets.weights import WEIGHTS, require
from vmemkit.serving import Service, serving

AT_ONCE = 4  # published weights: windows in a batch
LONGEST_TOKEN = 4096  # letters that are read
OPEN = (
    "This address is not on this machine alone, and traffic is not encrypted: whoever listens on the "
    "network reads the token and the pictures. Put a proxy with TLS before it (vmemkit/serving/README.md)."
)


def load_generator(name: str, weights: str | None, fast: bool, previews: int) -> Generator:
    """The generator of this name, as each replica loads it."""
    if name in WEIGHTLESS:
        return WEIGHTLESS[name]()
    settings: dict[str, Any] = FAST if fast else {}
    return preset(name, weights, preview_every=previews, **settings)


def run_serve(
    options: argparse.Namespace,
    console: Console,
    load: Callable[..., Generator] = load_generator,
) -> None:
    """`vmemkit serve`: serve until Ctrl-C or SIGTERM."""
    service = service_of(options, load)
    console.print(Text(f"starting Ray, replicas: {service.replicas}; this takes a while"))
    try:
        with serving(service) as url:
            # Services are stopped by SIGTERM, which Ray would turn into a crash.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            for line in greeting(options, service, url):
                console.print(Text(line), soft_wrap=True)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopped")


def service_of(options: argparse.Namespace, load: Callable[..., Generator]) -> Service:
    """What the command's options ask for. Errors: ValueError for bad ones and for missing weights."""
    name, published = options.generator, options.generator in PRESETS
    at_once = AT_ONCE if published else 1
    if published:
        DiffusionConfig(preview_every=options.previews)  # refuses a bad number before all starts
        for file in (name, "vae", "clip"):
            require(file, options.weights)
    gpus = torch.cuda.device_count() if published else 0
    licence = WEIGHTS[name].terms if published else "none is needed: it has no weights"
    return Service(
        load=partial(load, name, options.weights, options.fast, options.previews),
        about={"generator": name, "licence": licence},
        token=_token(options.token_file),
        host=options.host,
        port=options.port,
        replicas=max(gpus, 1) if options.replicas is None else options.replicas,
        gpus=gpus > 0,
        at_once=at_once if options.at_once is None else options.at_once,
        limits=Limits(**{field.name: getattr(options, field.name) for field in fields(Limits)}),
    )


def greeting(options: argparse.Namespace, service: Service, url: str) -> list[str]:
    """Lines that say where the server is, how a notebook asks it, and what it takes."""
    limits = service.limits
    given = options.token_file or (os.environ.get(TOKEN) and f"the environment variable {TOKEN}")
    where = "GPU" if service.gpus else "CPU"
    return [
        f"{options.generator} on {service.replicas} x {where} at {url}; Ctrl-C stops it",
        f"token: that of {given}" if given else f"token: {service.token}",
        f'in a notebook: vm.walk(memory, path, generator=vm.generation.Remote("{url}", token))',
        f"limits: {limits.pixels / 1e6:g} megapixels and {limits.views} views a window, {limits.seconds} "
        f"seconds for each, {limits.queue} windows at once",
        f"licence: {service.about['licence']}",
        *([] if _is_loopback(options.host) else [OPEN]),
    ]


def _token(file: str | None) -> str:
    """The token of a file or of the environment, or a new one. None stands on the command line, which
    other users of the machine can read."""
    if file is not None:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.read(LONGEST_TOKEN).strip()
    return os.environ.get(TOKEN) or secrets.token_urlsafe(24)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
