"""Random generators: an independent stream for every tuple of numbers."""

from __future__ import annotations

import numpy as np
import torch


def stream(*numbers: int) -> torch.Generator:
    """A random generator on the CPU, an independent one for every tuple of numbers. (torch itself
    looks at the last 32 bits of a seed only, so that sums of numbers would meet.)"""
    entropy = [len(numbers), *(number % 2**64 for number in numbers)]
    state = np.random.SeedSequence(entropy).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


def seed_from(rng: torch.Generator) -> int:
    """One number, all that a generator takes from the `rng` it is given."""
    return int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
