"""Processes: the package in the workers of a torch DataLoader, however they are started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 180  # seconds: a run takes twenty
SCRIPT = """
import sys, threading
import torch
from torch.utils.data import DataLoader, Dataset
import vmemkit as vm
from vmemkit import scenes


class Steps(Dataset):
    def __init__(self):
        house = scenes.rooms(0)
        tour = scenes.single_tour(house)
        self.memory = vm.begin(house.render(tour.given, 96, 128))
        self.targets = tour.cameras[:4]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        target = self.targets[i : i + 1]
        chosen = vm.retrieve(self.memory, target, 1).chosen
        return chosen, vm.step(self.memory, target, k=1).views.image[0]


if __name__ == "__main__":
    torch.set_num_threads(2)
    steps = Steps()
    threads = [threading.Thread(target=steps.__getitem__, args=(0,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [steps[i] for i in range(len(steps))]
    start = None if sys.argv[1] == "default" else sys.argv[1]
    loader = DataLoader(steps, batch_size=None, num_workers=2, multiprocessing_context=start)
    for (chosen, image), (own, same) in zip(loader, expected, strict=True):
        assert torch.equal(chosen, own)
        # A worker has one thread, and torch's sums depend on their number.
        assert torch.allclose(image, same, atol=1e-5)
    print("done", len(expected))
"""


@pytest.mark.parametrize("start", ["default", "spawn"])
def test_a_loader_with_two_workers_walks_after_threads_have(start, tmp_path):
    script = tmp_path / "loader.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    command = [sys.executable, str(script), start]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # with its workers
            process.wait()
            status = f"none: the workers hung for {LIMIT} s and were killed"
        log.seek(0)
        text = log.read()
    assert status == 0, f"exit status {status}\n{text}"
    assert text.splitlines()[-1] == "done 4"
