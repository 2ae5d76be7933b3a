"""Weight files: where they are looked for, and how they are fetched. No test uses the network."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from vmemkit.nets.weights import FOLDERS, WEIGHTS, available, find, require
from vmemkit.nets.weights.hub import MIRRORS, get, repositories

errors = pytest.importorskip("huggingface_hub.errors")
COMMIT = "a" * 40
NAMES = list(WEIGHTS)


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine without weights and without a network."""
    for variable in (FOLDERS, MIRRORS):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", no_network)


def no_network(*_, **__):
    raise AssertionError("the network was used")


def put(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def cached(root: Path, repository: str, file: str) -> Path:
    """A file in a hub cache under `root`, laid out as the library does."""
    home = root / f"models--{repository.replace('/', '--')}"
    put(home / "refs" / "main", COMMIT.encode())
    return put(home / "snapshots" / COMMIT / file)


# ---- finding -------------------------------------------------------------------------------------


def test_a_file_is_looked_for_in_the_folder_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    assert find("vmem", tmp_path / "given") is None
    in_cache = cached(tmp_path / "hub", "liguang0115/vmem", "vmem_weights.pth")
    assert find("vmem", tmp_path / "given") == in_cache
    last = put(tmp_path / "b" / "vmem_weights.pth")
    monkeypatch.setenv(FOLDERS, os.pathsep.join(map(str, (tmp_path / "a", last.parent))))
    assert find("vmem", tmp_path / "given") == last
    first = put(tmp_path / "a" / "vmem" / "vmem_weights.pth")
    assert find("vmem", tmp_path / "given") == first
    given = put(tmp_path / "given" / "vmem_weights.pth")
    assert find("vmem", tmp_path / "given") == given
    assert available("vmem")
    assert not available("seva")


def test_a_name_that_two_files_share_counts_only_in_its_own_folder(tmp_path):
    put(tmp_path / "model.safetensors")
    assert find("clip", tmp_path) is None
    assert find("seva-1.0", tmp_path) is None
    clip = put(tmp_path / "clip" / "model.safetensors")
    assert find("clip", tmp_path) == clip
    assert find("seva-1.0", tmp_path) is None


def test_the_cache_is_searched_for_every_repository_mirrors_first(monkeypatch, tmp_path):
    file = "diffusion_pytorch_model.safetensors"
    mirror = cached(tmp_path / "hub", "Manojb/stable-diffusion-2-1-base", f"vae/{file}")
    assert find("vae") == mirror
    monkeypatch.setenv(MIRRORS, " vae = me/my-vae , clip=me/models/clip,")
    assert repositories("vae")[0] == "me/my-vae"
    assert repositories("clip") == ("me/models/clip", *WEIGHTS["clip"].repositories)
    assert find("vae") == mirror
    assert find("vae") != (mine := cached(tmp_path / "hub", "me/my-vae", file))
    assert find("vae") == mine
    clip = cached(tmp_path / "hub", "me/models", "clip/model.safetensors")
    assert find("clip") == clip


@pytest.mark.parametrize("text", ["vae", "vae=", "vae=me", "vae=../me//x", "tower=me/x", "=me/x"])
def test_malformed_mirrors_are_named(monkeypatch, text):
    monkeypatch.setenv(MIRRORS, text)
    with pytest.raises(ValueError, match=r"VMEMKIT_MIRRORS needs the form NAME=OWNER/REPOSITORY"):
        find("vae")


def test_without_the_library_there_is_no_cache_but_folders(monkeypatch, tmp_path):
    cached(tmp_path / "hub", "liguang0115/vmem", "vmem_weights.pth")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert find("vmem") is None
    assert find("vmem", tmp_path / "hub") is None
    assert find("vmem", put(tmp_path / "vmem_weights.pth").parent) is not None


@pytest.mark.parametrize("name", NAMES)
def test_what_is_required_and_missing_is_named_with_the_ways_to_get_it(name):
    entry = WEIGHTS[name]
    with pytest.raises(ValueError, match="is not on this machine") as error:
        require(name)
    for words in (entry.file, entry.size_text, entry.licence, entry.page, FOLDERS):
        assert words in str(error.value)
    assert f"`vmemkit weights get {name}`" in str(error.value)


def test_what_is_required_and_here_is_returned(tmp_path):
    file = put(tmp_path / "vmem_weights.pth")
    assert require("vmem", tmp_path) == file


@pytest.mark.parametrize("verb", [find, require, available, get])
def test_an_unknown_name_is_refused_with_the_known_ones(verb):
    with pytest.raises(ValueError, match="no weights are called 'vmen': one of vmem, seva"):
        verb("vmen")


def test_the_module_loads_neither_the_hub_s_library_nor_the_networks():
    code = "import sys, vmemkit.nets.weights; print({'huggingface_hub', 'diffusers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- fetching ------------------------------------------------------------------------------------


def http(status: int, **headers: str):
    """The error that the library makes of a response of the hub."""
    from huggingface_hub.utils import hf_raise_for_status

    # Its HTTP library changed between versions: take the one that it uses.
    client = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])
    url = "https://huggingface.co/api/models/me/x"
    named = {f"X-Error-{key.title()}": value for key, value in headers.items()}
    response = client.Response(status, headers=named, request=client.Request("HEAD", url))
    with pytest.raises(errors.HfHubHTTPError) as error:
        hf_raise_for_status(response)
    return error.value


def before_download(cause: BaseException):
    """How the library wraps what goes wrong before it has found a file."""
    error = errors.LocalEntryNotFoundError("cannot find it in the cache, check your connection")
    error.__cause__ = cause
    return error


GONE = {
    "no repository": lambda: http(404, code="RepoNotFound"),
    "no repository, or not for strangers": lambda: http(401),
    "no file": lambda: http(404, code="EntryNotFound"),
    "no branch": lambda: http(404, code="RevisionNotFound"),
    "a disabled repository": lambda: before_download(
        http(403, message="Access to this resource is disabled.")
    ),
}
STOPPED = {
    "gated": (lambda: http(403, code="GatedRepo"), "read and accept its terms at"),
    "gated, no login": (lambda: http(401, code="GatedRepo"), "`hf auth login`"),
    "a weak token": (lambda: before_download(http(403)), "read access to gated repositories"),
    "a bad token": (
        lambda: http(401, message="Invalid credentials in Authorization header"),
        "`hf auth login`",
    ),
    "no network": (lambda: before_download(ConnectionError("no route")), "no route"),
    "a lost network": (lambda: ConnectionResetError("reset by peer"), "check the connection"),
    "a hub that is down": (lambda: before_download(http(503)), "503"),
    "a failed transfer": (lambda: RuntimeError("xet\nfailed"), "xet failed"),
    "a full disk": (lambda: OSError(28, "No space left on device"), "No space left"),
    "offline mode": (
        lambda: before_download(errors.OfflineModeIsEnabled("offline")),
        "HF_HUB_OFFLINE is set",
    ),
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stands in for the hub: `hub[repository]` is an error, or the files that it has."""
    contents, asked = {}, []

    def download(repository, file, *, subfolder=None, local_dir=None):
        asked.append(repository)
        found = contents.get(repository, GONE["no repository"]())
        if isinstance(found, BaseException):
            raise found
        path = f"{subfolder}/{file}" if subfolder else file
        if path not in found:
            raise GONE["no file"]()
        if local_dir is None:
            return str(cached(tmp_path / "hub", repository, path))
        return str(put(Path(local_dir).resolve() / path))  # as the library does

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return namedtuple("Hub", "contents asked")(contents, asked)


def test_a_download_goes_to_the_cache_and_is_found_there(hub):
    hub.contents["laion/CLIP-ViT-H-14-laion2B-s32B-b79K"] = {"model.safetensors", "config.json"}
    path = get("clip")
    assert path == find("clip")
    assert path.name == "model.safetensors"
    assert (path.parent / "config.json").is_file()
    hub.contents.clear()
    assert get("clip") == path  # again, without asking the hub


def test_a_download_into_a_folder_lies_where_it_is_looked_for(hub, tmp_path):
    hub.contents["me/models"] = {"deep/vae/diffusion_pytorch_model.safetensors"}
    hub.contents["me/models"] |= {"deep/vae/config.json"}
    path = get("vae", tmp_path / "mine", "me/models/deep/vae")
    assert path == tmp_path / "mine" / "vae" / "diffusion_pytorch_model.safetensors"
    assert path == find("vae", tmp_path / "mine")
    assert sorted(child.name for child in path.parent.iterdir()) == sorted(WEIGHTS["vae"].files)
    assert get("vae", tmp_path / "mine") == path
    assert set(hub.asked) == {"me/models"}


@pytest.mark.parametrize("subfolder", ["", "/vae"])
def test_a_folder_may_be_named_from_where_one_stands(hub, monkeypatch, tmp_path, subfolder):
    monkeypatch.chdir(tmp_path)
    files = {f"{subfolder}/{file}".strip("/") for file in WEIGHTS["vae"].files}
    hub.contents["me/x"] = files
    path = get("vae", "mine", f"me/x{subfolder}")
    assert path == find("vae", "mine") == Path("mine/vae") / WEIGHTS["vae"].file
    assert sorted(os.listdir("mine/vae")) == sorted(WEIGHTS["vae"].files)


def test_a_file_without_its_companion_is_fetched_again(hub):
    hub.contents["laion/CLIP-ViT-H-14-laion2B-s32B-b79K"] = {"model.safetensors", "config.json"}
    (get("clip").parent / "config.json").unlink()
    assert (get("clip").parent / "config.json").is_file()


@pytest.mark.parametrize("why", GONE)
def test_where_the_original_is_gone_the_mirrors_are_tried_in_order(hub, monkeypatch, why):
    monkeypatch.setenv(MIRRORS, "vae=me/my-vae")
    hub.contents["stabilityai/stable-diffusion-2-1-base"] = GONE[why]()
    hub.contents["Manojb/stable-diffusion-2-1-base"] = {
        f"vae/{file}" for file in WEIGHTS["vae"].files
    }
    path = get("vae")
    assert "models--Manojb--" in str(path)
    tried = ("me/my-vae", "stabilityai/s", "sd2-community/s", "Manojb/s")
    for asked, start in zip(dict.fromkeys(hub.asked), tried, strict=True):
        assert asked.startswith(start)


def test_where_all_are_gone_they_are_named_with_the_way_to_name_another(hub):
    with pytest.raises(ValueError, match="--repository OWNER/NAME") as error:
        get("vae")
    assert all(repository in str(error.value) for repository in WEIGHTS["vae"].repositories)
    assert f'{MIRRORS}="vae=' in str(error.value)


def test_a_named_repository_is_tried_alone(hub):
    with pytest.raises(ValueError, match="is in none of me/other"):
        get("vmem", repository="me/other")
    assert hub.asked == ["me/other"]


@pytest.mark.parametrize("why", STOPPED)
def test_what_another_repository_would_not_mend_stops_at_once_and_says_what_to_do(hub, why):
    error, words = STOPPED[why]
    hub.contents["stabilityai/stable-diffusion-2-1-base"] = error()
    with pytest.raises(ValueError, match=words) as raised:
        get("vae")
    assert len(hub.asked) == 1
    assert "\n" not in str(raised.value)


def test_whoever_is_not_let_in_is_told_the_page(hub):
    hub.contents["liguang0115/vmem"] = STOPPED["gated"][0]()
    with pytest.raises(ValueError, match=r"https://huggingface\.co/liguang0115/vmem, log in"):
        get("vmem")


def test_without_the_library_a_download_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r'pip install "vmemkit\[weights\]"'):
        get("vmem")


def test_a_disk_that_is_too_small_is_noticed_before(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")(6e9, 1e9, WEIGHTS["vmem"].size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"needs 5\.06 GB and .* has 5\.06 GB left: make room"):
        get("vmem", tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_a_repository_that_is_none_is_refused():
    with pytest.raises(ValueError, match="a repository is OWNER/NAME"):
        get("vmem", repository="vmem")
