"""Files of tensors: whole or not there, and compared to the bit."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import load_file

from vmemkit.core import bytes_of, same_bits, save_tensors


def test_tensors_that_share_a_buffer_are_saved(tmp_path):
    buffer = torch.arange(12.0).view(3, 4)
    tensors = {"rows": buffer[1:], "columns": buffer[:, ::2], "none": buffer[:0]}
    save_tensors(tmp_path / "file.safetensors", tensors)
    back = load_file(tmp_path / "file.safetensors")
    assert back.keys() == tensors.keys()
    assert all(same_bits(back[name], tensor) for name, tensor in tensors.items())


def test_whoever_may_read_other_files_may_read_these(tmp_path):
    (tmp_path / "other").touch()
    save_tensors(tmp_path / "file.safetensors", {"a": torch.ones(3)})
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_failure_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "file.safetensors"
    save_tensors(path, {"a": torch.ones(3)})

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="no space"):
            save_tensors(path, {"a": torch.zeros(5)})
    assert load_file(path)["a"].tolist() == [1, 1, 1]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), True),
        (torch.tensor([0.0]), torch.tensor([-0.0]), False),
        (torch.tensor([1.0]), torch.tensor([1]), False),
        (torch.ones(2, 3), torch.ones(3, 2), False),
        (torch.tensor(True), torch.tensor(True), True),
        (torch.ones(2, 2, dtype=torch.bfloat16).T, torch.ones(2, 2, dtype=torch.bfloat16), True),
    ],
)
def test_bits_are_compared_and_not_numbers(a, b, equal):
    assert same_bits(a, b) is equal
    assert bytes_of(a).numpy().nbytes == a.nbytes
