"""Recordings may come from anywhere: a damaged file is read or refused, and nothing else happens.

`tests/helpers/fuzz_helpers.py` takes a count, for more of the same by hand.
"""

import pytest
from fuzz_helpers import fuzz
from recording_helpers import FORMATS

pytestmark = pytest.mark.usefixtures("as_installed")  # shape checks would take most of the time
CHANGES = {"record3d": 100, "transforms": 120, "video": 10}  # their decoders take longer


@pytest.mark.parametrize("name", [*FORMATS, "video"])
def test_a_damaged_recording_is_read_or_refused(tmp_path, name):
    if name == "record3d":
        pytest.importorskip("OpenEXR")
    count = CHANGES.get(name, 200)
    results = fuzz(name, count, tmp_path)
    assert results["read"] + results["refused"] == count
    assert results["refused"] > 0
