"""Random generators: an independent stream for every tuple of numbers."""

from __future__ import annotations

import numpy as np
import torch


def stream(*numbers: int) -> torch.Generator:
    """A random generator on the CPU, an independent one for every tuple of numbers.

    The numbers are hashed, because torch looks at only the last 32 bits of a seed.
    """
    entropy = [len(numbers), *(number % 2**64 for number in numbers)]
    state = np.random.SeedSequence(entropy).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


def seed_from(rng: torch.Generator) -> int:
    """One number drawn from `rng`, as the seed of a generator of one's own."""
    return int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
