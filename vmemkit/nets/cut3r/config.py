"""The sizes of CUT3R, and the check of a checkpoint's own description against them.

A published file holds, as text, the Python call that built its network. The text is parsed, never run,
and its values are compared with a config, because some of them (numbers of heads) do not show in the
weights' shapes.
"""

from __future__ import annotations

import ast
import dataclasses
import math
from dataclasses import dataclass

RAY_HEADS = 16  # attention heads of the ray encoder, fixed in the published code
NETWORK, CONFIG = "ARCroco3DStereo", "ARCroco3DStereoConfig"  # names in a checkpoint's description
TRAINING_ONLY = ("freeze",)  # values of the description that do not concern the network

# The published file calls the first layer by its training-time name; its parameters are the same.
SYNONYMS = {"ManyAR_PatchEmbed": "PatchEmbedDust3R"}

# Values of the description that this implementation has built in.
BUILT_IN = {
    "state_pe": "2d",
    "pos_embed": "RoPE100",
    "pose_head": True,
    "patch_embed_cls": "PatchEmbedDust3R",
    "head_type": "dpt",
    "output_mode": "pts3d+pose",
    "depth_mode": ("exp", -math.inf, math.inf),
    "conf_mode": ("exp", 1, math.inf),
    "pose_mode": ("exp", -math.inf, math.inf),
    "landscape_only": False,
}


@dataclass(frozen=True)
class CUT3RConfig:
    """Sizes of the network. Names and defaults as published (cut3r_512_dpt_4_64)."""

    state_size: int = 768  # tokens of the state
    rgb_head: bool = True
    img_size: tuple[int, int] = (512, 512)  # pixels
    enc_embed_dim: int = 1024
    enc_depth: int = 24
    enc_num_heads: int = 16
    dec_embed_dim: int = 768
    dec_depth: int = 12
    dec_num_heads: int = 12
    # Descriptions leave these out: they are the published code's defaults.
    state_dec_num_heads: int = 16  # differs from dec_num_heads, and does not show in the weights
    local_mem_size: int = 256
    ray_enc_depth: int = 2
    # Widths of the dense heads, fixed in the published code.
    layer_dims: tuple[int, int, int, int] = (96, 192, 384, 768)
    feature_dim: int = 256
    last_dim: int = 128


def check_config(config: CUT3RConfig) -> None:
    """Errors: ValueError for a config that contradicts itself."""
    for name, width, heads in (
        ("encoder", config.enc_embed_dim, config.enc_num_heads),
        ("ray encoder", config.enc_embed_dim, RAY_HEADS),
        ("decoder", config.dec_embed_dim, config.dec_num_heads),
        ("state decoder", config.dec_embed_dim, config.state_dec_num_heads),
    ):
        if heads < 1 or width % (4 * heads):
            raise ValueError(f"the {name} needs a width that is a multiple of 4 * {heads}: {width}")
    if config.dec_depth < 4 or len(config.layer_dims) != 4:
        raise ValueError(
            f"the heads read four depths: need dec_depth >= 4 and four layer_dims, got "
            f"{config.dec_depth} and {config.layer_dims}"
        )


def check_model_string(text: str, config: CUT3RConfig) -> None:
    """Compare a checkpoint's description of its own network with `config`. Nothing in it is run.

    Values that it leaves out and that weights do not show are taken to be the published defaults.
    Errors: ValueError for another network, for values that are not plain, for missing numbers of
    heads, and for each difference.
    """
    values, own = _described(text), BUILT_IN | dataclasses.asdict(config)
    missing = [name for name in ("enc_num_heads", "dec_num_heads") if name not in values]
    if missing:
        raise ValueError(
            f"the checkpoint's model string does not say {' and '.join(missing)}, which weights do not "
            "show"
        )
    defaults = {f: getattr(CUT3RConfig, f) for f in ("state_dec_num_heads", "ray_enc_depth")}
    differences = [
        f"{name}: the file says {value!r}, the config {own.get(name, 'does not know it')!r}"
        for name, value in (defaults | values).items()
        if name not in own or SYNONYMS.get(value, value) != own[name]
    ]
    if differences:
        raise ValueError(
            f"the checkpoint is of another network than the config: {'; '.join(differences)}. Give a "
            "CUT3RConfig with the file's values"
        )


def _described(text: str) -> dict[str, object]:
    """The keyword arguments of NETWORK(CONFIG(...)), without those that only training needs."""
    try:
        outer = ast.parse(text.strip(), mode="eval").body
        inner = outer.args[0]
        names = (outer.func.id, inner.func.id)
        if names != (NETWORK, CONFIG) or len(outer.args) != 1 or outer.keywords or inner.args:
            raise ValueError(f"it is {names[0]}({names[1]}(...)) or has unnamed values")
        values = {keyword.arg: _plain(keyword.value) for keyword in inner.keywords}
    except Exception as error:
        raise ValueError(
            f"cannot read the checkpoint's model string {text[:80]!r}: needs "
            f"{NETWORK}({CONFIG}(name=value, ...)) of plain values ({error})"
        ) from error
    return {name: value for name, value in values.items() if name not in TRAINING_ONLY}


def _plain(node: ast.expr) -> object:
    """A number, text, None, or a tuple of these. Errors: ValueError for any other expression."""
    if isinstance(node, ast.Name) and node.id == "inf":
        return math.inf
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_plain(node.operand)
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_plain(item) for item in node.elts)
    if isinstance(node, ast.Constant):
        return node.value
    raise ValueError(f"{ast.unparse(node)} is not a plain value")
