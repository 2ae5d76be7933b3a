"""Where the Explorer saves and loads: a folder of one's own, or the visitor's browser.

Both are a row of widgets with `buttons` and a context `opened`, which is a folder to write to or read
from. Visitors of one page share a disk, so nothing of theirs stays on it: the folder is temporary,
what was written is offered as a download, and what is read was uploaded.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import anywidget
import ipywidgets
import traitlets

from vmemkit.widgets.parts import button

NAMES = ("save", "load", "export")
ARCHIVE = "my_walk.zip"
MB = 1_000_000  # bytes
T = TypeVar("T")

# Limits of a page that many visit. A view costs about 40 bytes a pixel.
UPLOAD = 50 * MB  # bytes of a file
UNPACKED = 500 * MB  # bytes of a saved walk once it is unpacked
IMAGE = 24_000_000  # pixels of an image
STEPS = 100  # that are taken in a journey, undone ones among them
HELD = 10_000_000  # pixels of all views that a journey holds
DISK = 1000 * MB  # bytes of walks on the disk, about 100 steps
LIMITS = (
    f"Limits of this page: files of {UPLOAD // MB} MB, images of {IMAGE // 10**6} megapixels, "
    f"{STEPS} steps, views of {HELD // 10**6} megapixels in all, {DISK // MB} MB of walks. The "
    "server keeps walks while you are here, and nothing afterwards: save yours to take it along."
)

DOWNLOAD = """
function render({ model, el }) {
  const link = document.createElement("a");
  el.appendChild(link);
  const draw = () => {
    const content = model.get("content");
    URL.revokeObjectURL(link.href);
    link.hidden = !content.byteLength;
    link.href = URL.createObjectURL(new Blob([content]));
    link.download = model.get("name");
    link.textContent = `download ${link.download} (${(content.byteLength / 1e6).toFixed(1)} MB)`;
  };
  model.on("change:content", draw);
  draw();
}
export default { render };
"""


class Download(anywidget.AnyWidget):
    """A link to a file that the browser has got; none while `content` is empty."""

    _esm = DOWNLOAD
    name = traitlets.Unicode(ARCHIVE).tag(sync=True)
    content = traitlets.Bytes().tag(sync=True)

    def __repr__(self) -> str:
        return f"Download({self.name}, {len(self.content)} bytes)"


class FolderFiles(ipywidgets.HBox):
    """A folder on the disk, as named in the field `folder`."""

    def __init__(self, act: Callable[[str], object]) -> None:
        """`act` is called with the name of the button that was pressed."""
        self.folder = ipywidgets.Text("my_walk", description="folder")
        self.buttons = {name: button(name, partial(act, name)) for name in NAMES}
        super().__init__([self.folder, *self.buttons.values()])

    @property
    def place(self) -> Path:
        """Where things are written. Errors: ValueError for a home that nobody has."""
        try:
            return Path(self.folder.value).expanduser()
        except RuntimeError:
            name = self.folder.value
            raise ValueError(
                f"{name}: there is no such home, give a folder such as my_walk"
            ) from None

    @contextlib.contextmanager
    def opened(self, what: str) -> Iterator[Path]:
        """The folder. Errors: ValueError for a home that nobody has."""
        yield self.place


class BrowserFiles(ipywidgets.HBox):
    """Downloads and uploads of a zip file; on the disk there is nothing."""

    place = f"{ARCHIVE}: follow the link to download it"

    def __init__(self, act: Callable[[str], object]) -> None:
        """`act` is called with the name of the button that was pressed."""
        self.upload, self.download = upload(".zip", "saved walk"), Download()
        self.buttons = {name: button(name, partial(act, name)) for name in NAMES}
        save, load, export = self.buttons.values()
        super().__init__([save, export, self.download, self.upload, load])

    @contextlib.contextmanager
    def opened(self, what: str) -> Iterator[Path]:
        """A temporary folder: to load with what was uploaded, else to be offered as a download.

        Errors: ValueError for no upload, or one that is no zip file or too large.
        """
        with tempfile.TemporaryDirectory() as name:
            if what == "load":
                _unpack(received(self.upload, "saved walk", UPLOAD), name)
                with without_folder(name):
                    yield Path(name)
            else:
                yield Path(name)
                self.download.content = _packed(Path(name))


def upload(accept: str, text: str) -> ipywidgets.FileUpload:
    """A button that lets one choose a file of a kind."""
    return ipywidgets.FileUpload(accept=accept, description=text, layout={"width": "auto"})


def received(field: ipywidgets.FileUpload, text: str, limit: int | None = None) -> dict:
    """The file that has arrived. Errors: ValueError for none, or more than `limit` bytes."""
    if not field.value:
        raise ValueError(
            f"no {text} has arrived: press {field.description!r} and choose a file; files above the "
            "server's limit do not arrive"
        )
    file = field.value[0]
    if limit is not None and file["size"] > limit:
        size = file["size"] / MB
        raise ValueError(f"{file['name']} has {size:.1f} MB, the limit here is {limit / MB:.0f} MB")
    return file


def read_upload(file: dict, read: Callable[[Path], T]) -> T:
    """What `read` makes of an uploaded file. Its errors name the file as the user does."""
    with tempfile.TemporaryDirectory() as folder, without_folder(folder):
        path = Path(folder) / Path(file["name"]).name
        path.write_bytes(bytes(file["content"]))
        return read(path)


@contextlib.contextmanager
def without_folder(folder: str) -> Iterator[None]:
    """Errors in here do not tell of a folder that the user does not know."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace(f"{folder}{os.sep}", "")) from error


def _unpack(file: dict, folder: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(file["content"])) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
            if unpacked > UNPACKED:
                raise ValueError(
                    f"{file['name']} has {unpacked / MB:.0f} MB once it is unpacked, "
                    f"the limit here is {UNPACKED // MB} MB"
                )
            archive.extractall(folder)  # within the folder, whatever the archive says
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{file['name']} is no zip file that 'save' made: {error}") from error


def _packed(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return packed.getvalue()
