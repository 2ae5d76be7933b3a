"""Weight files: where they are looked for, and how they are downloaded. Nothing here is online."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from vmemkit.nets.weights import (
    FOLDERS,
    MIRRORS,
    WEIGHTS,
    available,
    download_weights,
    find,
    repositories,
    require,
)

errors = pytest.importorskip("huggingface_hub.errors")
COMMIT = "a" * 40
NAMES = list(WEIGHTS)


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch, tmp_path):
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
    mine = cached(tmp_path / "hub", "me/my-vae", file)
    assert find("vae") == mine
    clip = cached(tmp_path / "hub", "me/models", "clip/model.safetensors")
    assert find("clip") == clip


@pytest.mark.parametrize("text", ["vae", "vae=", "vae=me", "vae=../me//x", "tower=me/x", "=me/x"])
def test_malformed_mirrors_are_named(monkeypatch, text):
    monkeypatch.setenv(MIRRORS, text)
    with pytest.raises(ValueError, match=r"VMEMKIT_MIRRORS needs the form NAME=OWNER/REPOSITORY"):
        find("vae")


def test_without_the_library_only_folders_are_searched(monkeypatch, tmp_path):
    cached(tmp_path / "hub", "liguang0115/vmem", "vmem_weights.pth")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert find("vmem") is None
    assert find("vmem", tmp_path / "hub") is None
    assert find("vmem", put(tmp_path / "vmem_weights.pth").parent) is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_described_with_the_ways_to_get_it(name):
    entry = WEIGHTS[name]
    with pytest.raises(ValueError, match="is not on this machine") as error:
        require(name)
    for words in (entry.file, entry.size_text, entry.licence, entry.page, FOLDERS):
        assert words in str(error.value)
    assert f"`vmemkit weights get {name}`" in str(error.value)


def test_a_required_file_is_returned(tmp_path):
    file = put(tmp_path / "vmem_weights.pth")
    assert require("vmem", tmp_path) == file


@pytest.mark.parametrize("verb", [find, require, available, download_weights])
def test_an_unknown_name_is_refused_with_the_known_ones(verb):
    with pytest.raises(ValueError, match="no weights are called 'vmen': one of vmem, seva"):
        verb("vmen")


def test_the_module_loads_neither_the_hub_s_library_nor_the_networks():
    code = "import sys, vmemkit.nets.weights; print({'huggingface_hub', 'diffusers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- downloading ---------------------------------------------------------------------------------


def http(status: int, code: str):
    """The error that the library makes of a response of the hub."""
    from huggingface_hub.utils import hf_raise_for_status

    # Its HTTP library changed between versions: take the one that it uses.
    client = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])
    request = client.Request("HEAD", "https://huggingface.co/api/models/me/x")
    response = client.Response(status, headers={"X-Error-Code": code}, request=request)
    with pytest.raises(errors.HfHubHTTPError) as error:
        hf_raise_for_status(response)
    return error.value


FAILURES = {
    "no repository": lambda: http(404, "RepoNotFound"),
    "no file": lambda: http(404, "EntryNotFound"),
    "gated": lambda: http(403, "GatedRepo"),
    "no network": lambda: ConnectionError("no route"),
    "a failed transfer": lambda: RuntimeError("xet\nfailed"),
    "a full disk": lambda: OSError(28, "No space left on device"),
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stands in for the hub: `hub.contents[repository]` is an error, or the files that it has."""
    contents, requests = {}, []

    def download(repository, file, *, subfolder=None, local_dir=None):
        requests.append(repository)
        files = contents.get(repository, FAILURES["no repository"]())
        if isinstance(files, BaseException):
            raise files
        path = f"{subfolder}/{file}" if subfolder else file
        if path not in files:
            raise FAILURES["no file"]()
        if local_dir is None:
            return str(cached(tmp_path / "hub", repository, path))
        return str(put(Path(local_dir).resolve() / path))  # as the library does

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return namedtuple("Hub", "contents requests")(contents, requests)


def test_a_download_goes_to_the_cache_and_is_found_there(hub):
    hub.contents["laion/CLIP-ViT-H-14-laion2B-s32B-b79K"] = {"model.safetensors", "config.json"}
    path = download_weights("clip")
    assert path == find("clip")
    assert path.name == "model.safetensors"
    assert (path.parent / "config.json").is_file()
    hub.contents.clear()
    assert download_weights("clip") == path  # again, without a request to the hub


def test_a_download_into_a_folder_lies_where_it_is_looked_for(hub, tmp_path):
    hub.contents["me/models"] = {"deep/vae/diffusion_pytorch_model.safetensors"}
    hub.contents["me/models"] |= {"deep/vae/config.json"}
    path = download_weights("vae", tmp_path / "mine", "me/models/deep/vae")
    assert path == tmp_path / "mine" / "vae" / "diffusion_pytorch_model.safetensors"
    assert path == find("vae", tmp_path / "mine")
    assert sorted(child.name for child in path.parent.iterdir()) == sorted(WEIGHTS["vae"].files)
    assert download_weights("vae", tmp_path / "mine") == path
    assert set(hub.requests) == {"me/models"}


@pytest.mark.parametrize("subfolder", ["", "/vae"])
def test_a_folder_may_be_a_relative_path(hub, monkeypatch, tmp_path, subfolder):
    monkeypatch.chdir(tmp_path)
    hub.contents["me/x"] = {f"{subfolder}/{file}".strip("/") for file in WEIGHTS["vae"].files}
    path = download_weights("vae", "mine", f"me/x{subfolder}")
    assert path == find("vae", "mine") == Path("mine/vae") / WEIGHTS["vae"].file
    assert sorted(os.listdir("mine/vae")) == sorted(WEIGHTS["vae"].files)


def test_a_file_without_its_companion_is_downloaded_again(hub):
    hub.contents["laion/CLIP-ViT-H-14-laion2B-s32B-b79K"] = {"model.safetensors", "config.json"}
    (download_weights("clip").parent / "config.json").unlink()
    assert (download_weights("clip").parent / "config.json").is_file()


@pytest.mark.parametrize("why", FAILURES)
def test_where_one_repository_fails_the_next_is_tried(hub, monkeypatch, why):
    monkeypatch.setenv(MIRRORS, "vae=me/my-vae")
    hub.contents["stabilityai/stable-diffusion-2-1-base"] = FAILURES[why]()
    hub.contents["Manojb/stable-diffusion-2-1-base"] = {
        f"vae/{file}" for file in WEIGHTS["vae"].files
    }
    path = download_weights("vae")
    assert "models--Manojb--" in str(path)
    order = ("me/my-vae", "stabilityai/s", "sd2-community/s", "Manojb/s")
    for repository, start in zip(dict.fromkeys(hub.requests), order, strict=True):
        assert repository.startswith(start)


def test_where_all_fail_the_library_s_errors_are_quoted_in_one_line(hub):
    for repository, why in zip(WEIGHTS["vae"].repositories, FAILURES, strict=False):
        hub.contents[repository.removesuffix("/vae")] = FAILURES[why]()
    with pytest.raises(ValueError, match="--repository OWNER/NAME") as error:
        download_weights("vae")
    message = str(error.value)
    for words in ("Repository Not Found", "Entry Not Found", "no route", "`hf auth login`"):
        assert words in message
    assert all(repository.split("/")[0] in message for repository in WEIGHTS["vae"].repositories)
    assert f'{MIRRORS}="vae=' in message
    assert "\n" not in message
    assert isinstance(error.value.__cause__, errors.RepositoryNotFoundError)


def test_a_gated_repository_is_named_with_the_page_of_its_terms(hub):
    hub.contents["liguang0115/vmem"] = FAILURES["gated"]()
    with pytest.raises(
        ValueError, match=r"terms at https://huggingface\.co/liguang0115/vmem and log"
    ):
        download_weights("vmem")


def test_a_named_repository_is_tried_alone(hub):
    with pytest.raises(ValueError, match=r"cannot download vmem_weights\.pth \(.*/me/other:"):
        download_weights("vmem", repository="me/other")
    assert hub.requests == ["me/other"]


def test_without_the_library_a_download_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r'pip install "vmemkit\[weights\]"'):
        download_weights("vmem")


def test_a_disk_that_is_too_small_is_noticed_before(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")(6e9, 1e9, WEIGHTS["vmem"].size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"needs 5\.06 GB and .* has 5\.06 GB left: make room"):
        download_weights("vmem", tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_a_malformed_repository_is_refused():
    with pytest.raises(ValueError, match="a repository is OWNER/NAME"):
        download_weights("vmem", repository="vmem")
