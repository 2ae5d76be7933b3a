"""The journal: records in a file that only grows, and the lock of the one process that writes it.

The file begins with a line of MAGIC, the version and a name that each new file has for its own. A
record is a frame: a mark, the length and the CRC-32 of the text, and the text, JSON in UTF-8. A second
line may hold a body, which is read only when it is asked for. A record is on the disk before `append`
returns. So only the last frame can be torn, by a crash or a power cut. A bad frame that a whole one
follows is damage, and an error.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import struct
import uuid
import weakref
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vmemkit.core import replacing

MAGIC, VERSION = b"vmemkit-session", 1
FIRST_LINE = re.compile(rb"vmemkit-session (\d{1,6}) [0-9a-f]{32}\n")
FIRST_BYTES = len(MAGIC) + 42  # the first line is at most so long: a version has up to six digits
MARK = b"\xffVMR"  # no text in UTF-8 has a byte 255
HEADER = struct.Struct("<4sII")  # mark, length of the text, CRC-32 of length and text
MAX_TEXT = 1 << 28  # bytes of a record: far more than any step needs
HELD = (errno.EWOULDBLOCK, errno.EACCES)  # how systems say that another process has a lock
# Windows lets nobody read a locked byte. So a byte is locked that lies behind the end of the file.
LOCKED_BYTE = 1 << 30

Record = dict[str, Any]


class Journal:
    """The records of a file, read as far as `end`. Nothing is held open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._first_line = b""
        self._seen = (0, 0)  # size and time of the file at the last call of `news`
        self.end = 0  # where the last whole frame ends

    def news(self) -> tuple[bool, Iterator[tuple[int, Record]], int]:
        """What was appended since the last call: whether the file is another one, so that all its
        records are new; new records with their offsets; and the bytes of a torn frame behind them.

        Errors: ValueError for a file that is no journal, or that is damaged, and for a record that is
        none when it is reached.
        """
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                size = status.st_size  # the next call reads what is appended from now on
                first, seen = _first_line(file, self.path.name), (size, status.st_mtime_ns)
                if first == self._first_line and seen == self._seen:
                    return False, iter(()), size - self.end
                is_new = first != self._first_line or size < self.end
                frames, end = _frames(file, len(first) if is_new else self.end, size)
                if end < size and not is_new:  # a frame may have been taken back: read all again
                    is_new = True
                    frames, end = _frames(file, len(first), size)
                if end < size and _has_frame(file, end + 1, size):
                    raise ValueError(f"{self.path.name} is damaged at byte {end}, before its end")
        except OSError as error:
            raise ValueError(f"cannot read {self.path.name}: {error.strerror}") from error
        first_lines = ((offset, text.partition(b"\n")[0]) for offset, text in frames)
        records = ((offset, _record(line, self.path.name, offset)) for offset, line in first_lines)
        self._first_line, self._seen, self.end = first, seen, end
        return is_new, records, size - end

    def forget(self) -> None:
        """Read all anew at the next call of `news`."""
        self._first_line = b""

    def read(self, offset: int) -> tuple[Record, Record]:
        """The record at an offset that `news` told, and its body. Errors: ValueError for damage."""
        try:
            with self.path.open("rb") as file:
                text = _frame(file, offset, os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise ValueError(f"cannot read {self.path.name}: {error.strerror}") from error
        if text is None:
            raise ValueError(f"{self.path.name} is damaged at byte {offset}")
        line, _, body = text.partition(b"\n")
        name = self.path.name
        return _record(line, name, offset), _record(body or b"{}", name, offset)


class JournalWriter(Journal):
    """A journal to append to, which one process at a time may have."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Errors: OSError if it cannot be written."""
        super().__init__(path)
        if not path.exists():
            write_journal(path, ())
        self._file = path.open("r+b", buffering=0)
        self.close = weakref.finalize(self, self._file.close)

    def append(self, record: Record, body: Record | None = None) -> int:
        """Write a record and its body, and wait until it is on the disk; returns its offset.

        Errors: OSError for a full disk; the file is then as it was. Also for a file that another
        program has deleted, replaced or shortened since it was opened.
        """
        self._check_file()
        start, number = self.end, self._file.fileno()
        remaining = memoryview(_framed(record, body))
        end = start + len(remaining)
        self.cut()
        try:
            os.lseek(number, start, os.SEEK_SET)
            while remaining:
                remaining = remaining[os.write(number, remaining) :]
            os.fsync(number)
        except BaseException:
            self.cut()
            raise
        self.end = end
        return start

    def _check_file(self) -> None:
        """Errors: OSError unless the file is still the one that was opened, and as long."""
        opened = os.fstat(self._file.fileno())
        try:
            same = os.path.samestat(opened, self.path.stat())
        except FileNotFoundError:
            same = False
        if not same or opened.st_size < self.end:
            raise OSError(
                errno.EIO, "another program has deleted, replaced or shortened its journal"
            )

    def cut(self) -> None:
        """Take away what lies behind the last whole frame."""
        if os.fstat(self._file.fileno()).st_size > self.end:
            os.ftruncate(self._file.fileno(), self.end)

    def cut_at(self, offset: int) -> None:
        """Take away all records from an offset on."""
        self.end = offset
        self.cut()
        os.fsync(self._file.fileno())


def write_journal(path: Path, records: Iterable[tuple[Record, Record | None]]) -> None:
    """Write a whole journal, of records and their bodies, in place of an older one, in one step.

    Errors: OSError.
    """
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(MAGIC + f" {VERSION} {uuid.uuid4().hex}\n".encode())
        for record, body in records:
            file.write(_framed(record, body))


def lock(path: Path) -> BinaryIO:
    """A file that is locked for this process until it is closed, or until the process ends.

    Errors: ValueError that names the process which has the lock, and for a link, whose target would
    be overwritten.
    """
    if path.is_symlink():
        raise ValueError(f"{path} is a link to another file: delete it, and open the session again")
    file = path.open("a+b", buffering=0)
    try:
        _lock_file(file)
    except OSError as error:
        holder = _holder(file)
        file.close()
        if error.errno not in HELD:
            raise
        if holder == _own_name():
            holder, remedy = "this process", "go on with the Session that is open, or close() it"
        else:
            remedy = "end it first, or open the session with readonly=True"
        raise ValueError(f"{holder} writes to the session in {path.parent}: {remedy}") from None
    file.truncate(0)
    file.write(_own_name().encode(errors="replace"))
    return file


def _own_name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _lock_file(file: BinaryIO) -> None:
    """Errors: OSError if another one has the lock. The system takes it back at the process's end."""
    if os.name == "nt":
        import msvcrt

        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(file: BinaryIO) -> str:
    """The words that the holder of a lock has written into the file."""
    file.seek(0)
    words = file.read(200).decode(errors="replace")
    return words if re.fullmatch(r"process \d+ on [\w.-]+", words) else "another process"


def _first_line(file: BinaryIO, name: str) -> bytes:
    """The first line. Errors: ValueError unless it is that of a journal of this version."""
    file.seek(0)
    line = file.readline(FIRST_BYTES)
    match = FIRST_LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{name} is not the journal of a session")
    if int(match[1]) != VERSION:
        raise ValueError(f"{name} has version {int(match[1])}; this code reads {VERSION}")
    return line


def _frames(file: BinaryIO, start: int, size: int) -> tuple[list[tuple[int, bytes]], int]:
    """Whole frames of a file of `size` bytes, as (offset, text), and where the last of them ends."""
    frames = []
    while (text := _frame(file, start, size)) is not None:
        frames.append((start, text))
        start += HEADER.size + len(text)
    return frames, start


def _frame(file: BinaryIO, offset: int, size: int) -> bytes | None:
    """The text of the frame at an offset; None if no whole frame is there."""
    if size - offset < HEADER.size:
        return None
    file.seek(offset)
    mark, length, checksum = HEADER.unpack(file.read(HEADER.size))
    if mark != MARK or not 0 < length <= min(MAX_TEXT, size - offset - HEADER.size):
        return None
    text = file.read(length)
    return text if len(text) == length and _checksum(text) == checksum else None


def _has_frame(file: BinaryIO, start: int, size: int) -> bool:
    """Whether a whole frame begins anywhere from `start` on, within the longest torn one."""
    file.seek(start)
    rest = file.read(min(size - start, MAX_TEXT + 2 * HEADER.size))
    place = rest.find(MARK)
    while place >= 0:
        if _frame(file, start + place, size) is not None:
            return True
        place = rest.find(MARK, place + 1)
    return False


def _framed(record: Record, body: Record | None) -> bytes:
    lines = [record] if body is None else [record, body]
    encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
    text = "\n".join(map(encode, lines)).encode()
    if len(text) > MAX_TEXT:
        raise ValueError(f"a record of {len(text)} bytes is too large: {MAX_TEXT} is the limit")
    return HEADER.pack(MARK, len(text), _checksum(text)) + text


def _checksum(text: bytes) -> int:
    return zlib.crc32(text, zlib.crc32(len(text).to_bytes(4, "little")))


def _record(text: bytes, name: str, offset: int) -> Record:
    """The record of a frame. Errors: ValueError that names the file and the offset."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{name} has no record at byte {offset}: {type(error).__name__}"
        ) from error
    if not isinstance(record, dict):
        raise ValueError(f"{name} has no record at byte {offset}: got a {type(record).__name__}")
    return record
