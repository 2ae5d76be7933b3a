"""Damaged recordings: files of every format, changed at random, must be read or refused.

`python tests/helpers/fuzz_helpers.py 10000` does by hand, with the package on the path, what the tests
do a few hundred times.
"""

import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from recording_helpers import FORMATS, house_views, write_film, write_lyra

from vmemkit.scenes import describe, load

HEIGHT, WIDTH = 12, 16
MOST_MEGABYTES = 1000  # that damaged files may make the process grow by
NUMBER = re.compile(rb"-?[0-9]+\.?[0-9]*(e-?[0-9]+)?")
NUMBERS = (
    *(
        b"0",
        b"-1",
        b"1e308",
        b"-1e400",
        b"nan",
        b"inf",
        b"9" * 400,
        b"1e-320",
        b"18446744073709551615",
    ),
    *(b"2147483648", b"65536", b"0.5", b"true", b"null", b'"x"', b"[]", b"{}", b"[1, [2]]"),
)
TEXTS = (
    *(
        b"../secret.png",
        b"/etc/passwd",
        b"\x00",
        b"\xff\xfe",
        b"\n",
        b"#",
        b" ",
        b"\\",
        b"[" * 2000,
    ),
    *(b'"', b",", b"NaN", b"..\\..\\secret.png", b"C:\\secret.png", b"images", b"\xe2\x80\xae"),
)
LARGE = (b"\xff" * 8, b"\x00" * 8, b"\xff" * 4, b"\x7f" + b"\xff" * 7, b"\x00\x00\x00\x80", b"\x01")
PICTURES = (".png", ".jpg")  # their readers have tests of their own


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes of a file with one to three changes."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(6)
        found = list(NUMBER.finditer(content[:100_000])) if kind < 2 else []
        if found:  # another number
            one = rng.choice(found)
            content = content[: one.start()] + rng.choice(NUMBERS) + content[one.end() :]
        elif kind == 2:  # something inserted
            content = content[:at] + rng.choice((*TEXTS, *LARGE)) + content[at:]
        elif kind == 3:  # a part cut out, or all of the rest
            content = content[:at] + content[at + rng.choice((1, 8, 64, len(content))) :]
        elif kind == 4:  # something overwritten
            value = rng.choice(LARGE)
            content = content[:at] + value + content[at + len(value) :]
        elif content:  # a bit flipped
            at = min(at, len(content) - 1)
            content = (
                content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
            )
    return content


class Opened:
    """The files that Python opens while it watches; a hook cannot be taken away again."""

    def __init__(self) -> None:
        self.watching = False
        self.paths: set[str] = set()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if self.watching and event == "open" and isinstance(arguments[0], str):
            self.paths.add(arguments[0])


OPENED = Opened()


def fuzz(name: str, count: int, folder: Path, seed: int = 0) -> Counter:
    """Damage one file of a recording `count` times, and load it each time.

    Returns how often it was read and refused. Errors: AssertionError for another exception than
    ValueError, for a file outside the folder that was opened, and for more than MOST_MEGABYTES.
    """
    rng, results = random.Random(f"{name} {seed}"), Counter()
    (folder / "secret.png").write_bytes(b"secret")
    root = folder / "recording"
    root.mkdir()
    views = house_views(2, HEIGHT, WIDTH)
    options = {"fov": 75.0} if name == "tum" else {}
    if name == "video":
        options["cameras"] = write_lyra(views, folder / "path")
        path = write_film(views, root)
    else:
        path = FORMATS[name](views, root)
    files = sorted(file for file in root.rglob("*") if file.is_file())
    files = [file for file in files if file.suffix not in PICTURES]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(count):
        file = rng.choice(files)
        sound = file.read_bytes()
        changed = damaged(sound, rng)
        file.write_bytes(changed)
        OPENED.paths.clear()
        OPENED.watching = True
        try:
            describe(load(path, **options))
            results["read"] += 1
        except ValueError:
            results["refused"] += 1
        except BaseException as error:
            (Path(tempfile.gettempdir()) / f"fuzz_{name.replace(' ', '_')}").write_bytes(changed)
            raise AssertionError(f"{name}, change {i} of {file.name}: {error!r}") from error
        finally:
            OPENED.watching = False
            file.write_bytes(sound)
        outside = [p for p in OPENED.paths if "secret" in p or p.startswith("/etc")]
        assert not outside, f"{name}, change {i} of {file.name} opened {outside}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MOST_MEGABYTES, f"{name} took {grown:.0f} MB"
    results["megabytes"] = round(grown)
    return results


def main(count: int, names: list[str]) -> None:
    for name in names or [*FORMATS, "video"]:
        folder = Path(tempfile.mkdtemp())
        start = time.monotonic()
        print(
            name, dict(fuzz(name, count, folder)), f"{time.monotonic() - start:.0f} s", flush=True
        )
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
