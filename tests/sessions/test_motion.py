"""The words for a motion are those that `moves` takes."""

from __future__ import annotations

import pytest
from core_helpers import Box

from vmemkit.scenes import moves
from vmemkit.sessions.motion import motion_between


@pytest.mark.parametrize("pitch", [0.0, -20.0, 89.0])
@pytest.mark.parametrize(
    "words",
    [
        "forward 0.50",
        "back 0.50",
        "strafe left 0.30",
        "strafe right 0.30, up 0.20",
        "down 0.20",
        "right 30.0",
        "left 170.0",
        "look up 0.5",
        "look down 10.0",
        "forward 1.00, right 45.0, look down 5.0",
        "stay",
    ],
)
def test_moves_are_told_as_they_were_given(words, pitch):
    start = Box().look(33.0, pitch=pitch)[0]
    end = start if words == "stay" else moves(start, words)[-1]
    assert motion_between(start, end) == words
