"""`vmemkit serve`: what is served, with which token, what is said. No Ray is needed."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

import pytest

from vmemkit.cli import arguments as known
from vmemkit.cli import main
from vmemkit.cli.commands import parser
from vmemkit.cli.serve import AT_ONCE, greeting, load_generator, service_of
from vmemkit.generation import Warp
from vmemkit.generation.remote import Limits
from vmemkit.serving import LOOPBACK, Service

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("VMEMKIT_TOKEN", raising=False)


def options(*arguments: str) -> argparse.Namespace:
    return parser().parse_args(["serve", *arguments])


def service(*arguments: str) -> Service:
    return service_of(options(*arguments), load_generator)


def test_the_arguments_are_those_of_the_room():
    assert {name: number for name, (number, _) in known.SERVED.items()} == asdict(Limits())
    assert options().host == LOOPBACK
    command = argparse.ArgumentParser()
    known.add_serve(command)
    assert f"({AT_ONCE} for published weights" in " ".join(command.format_help().split())


def test_the_writer_is_served_on_this_machine_alone():
    made = service()
    assert (made.host, made.replicas, made.gpus, made.at_once) == (LOOPBACK, 1, False, 1)
    assert made.limits == Limits()
    assert type(made.load()).__name__ == "Writer"
    assert isinstance(service("--generator", "warp").load(), Warp)


def test_limits_and_numbers_are_taken():
    made = service(
        "--views", "5", "--seconds", "9", "--replicas", "3", "--at-once", "2", "--port", "0"
    )
    assert made.limits == Limits(views=5, seconds=9)
    assert (made.replicas, made.at_once, made.port) == (3, 2, 0)


def test_each_server_has_a_new_token_that_is_printed():
    first, second = service(), service()
    assert first.token != second.token
    assert f"token: {first.token}" in greeting(options(), first, "http://a")
    assert first.token not in repr(first)


def test_a_token_that_is_given_is_not_printed(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    made = service("--token-file", str(file))
    assert made.token == TOKEN
    words = "\n".join(greeting(options("--token-file", str(file)), made, "http://a"))
    assert f"token: that of {file}" in words
    monkeypatch.setenv("VMEMKIT_TOKEN", f"{TOKEN}2")
    made = service()
    assert made.token == f"{TOKEN}2"
    words += "\n".join(greeting(options(), made, "http://a"))
    assert TOKEN not in words


def test_other_machines_are_a_reason_to_warn():
    made = service()
    for host, warned in ((LOOPBACK, False), ("localhost", False), ("0.0.0.0", True), ("gpu", True)):
        words = "\n".join(greeting(options("--host", host), made, "http://a"))
        assert ("traffic is not encrypted" in words) is warned


BAD = {
    "a short token": (["--token-file", "short"], "a token is 16 or more"),
    "no token file": (["--token-file", "missing"], "missing"),
    "no views": (["--views", "0"], "the limit views is a whole number from 1 on"),
    "no replicas": (["--replicas", "0"], "replicas and windows at once are 1 or more"),
    "no batch": (["--at-once", "0"], "replicas and windows at once are 1 or more, got 1, 0"),
    "no previews": (["--generator", "vmem", "--previews", "-1"], "preview_every is 0 or more"),
    "no port": (["--port", "70000"], "a port is 0 to 65535, got 70000"),
    "no weights": (["--generator", "seva"], "vmemkit weights get seva"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(arguments, words, weight_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("abc")
    assert main(["serve", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_without_ray_the_error_names_the_extra(monkeypatch, capsys):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "as before")  # the command sets them
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it fails
    assert main(["serve"]) == 2
    assert 'pip install "vmemkit[cluster]"' in capsys.readouterr().err
