"""big_vision's two towers: a tree of flax parameters, flattened with slashes, as its .npz files hold it."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rins_mm.weights.files import MOST_TENSORS
from rins_mm.weights.names import IMAGE, TEXT, joined, renamed

_IMAGE_BLOCK = r"img/Transformer/encoderblock_(\d+)/"
_TEXT_BLOCK = r"txt/Encoder_0/encoderblock_(\d+)/"
_ATTENTION = "MultiHeadDotProductAttention_0/"
_POOL = "img/MAPHead_0/"
_QKV = (("query", 0), ("key", 1), ("value", 2))
MOST_BLOCKS = 1_000
"""Of a tower."""

RULES = (
    (r"img/embedding/", f"{IMAGE}patch_embed.proj."),
    (r"img/pos_embedding", f"{IMAGE}pos_embed"),
    (rf"{_IMAGE_BLOCK}LayerNorm_0/", rf"{IMAGE}blocks.\1.norm1."),
    (rf"{_IMAGE_BLOCK}LayerNorm_1/", rf"{IMAGE}blocks.\1.norm2."),
    *(
        (rf"{_IMAGE_BLOCK}{_ATTENTION}{name}/", rf"{IMAGE}blocks.\1.attn.qkv.{number}.")
        for name, number in _QKV
    ),
    (rf"{_IMAGE_BLOCK}{_ATTENTION}out/", rf"{IMAGE}blocks.\1.attn.proj."),
    (rf"{_IMAGE_BLOCK}MlpBlock_0/Dense_0/", rf"{IMAGE}blocks.\1.mlp.fc1."),
    (rf"{_IMAGE_BLOCK}MlpBlock_0/Dense_1/", rf"{IMAGE}blocks.\1.mlp.fc2."),
    (r"img/Transformer/encoder_norm/", f"{IMAGE}norm."),
    (rf"{_POOL}probe", f"{IMAGE}attn_pool.latent"),
    (rf"{_POOL}{_ATTENTION}query/", f"{IMAGE}attn_pool.q."),
    (rf"{_POOL}{_ATTENTION}key/", f"{IMAGE}attn_pool.kv.0."),
    (rf"{_POOL}{_ATTENTION}value/", f"{IMAGE}attn_pool.kv.1."),
    (rf"{_POOL}{_ATTENTION}out/", f"{IMAGE}attn_pool.proj."),
    (rf"{_POOL}LayerNorm_0/", f"{IMAGE}attn_pool.norm."),
    (rf"{_POOL}MlpBlock_0/Dense_0/", f"{IMAGE}attn_pool.mlp.fc1."),
    (rf"{_POOL}MlpBlock_0/Dense_1/", f"{IMAGE}attn_pool.mlp.fc2."),
    (r"txt/Embed_0/embedding", f"{TEXT}token_embedding.weight"),
    (r"txt/pos_embedding", f"{TEXT}positions"),
    (rf"{_TEXT_BLOCK}LayerNorm_0/", rf"{TEXT}blocks.\1.attention_norm."),
    (rf"{_TEXT_BLOCK}LayerNorm_1/", rf"{TEXT}blocks.\1.mlp_norm."),
    *(
        (rf"{_TEXT_BLOCK}{_ATTENTION}{name}/", rf"{TEXT}blocks.\1.attention.qkv.{number}.")
        for name, number in _QKV
    ),
    (rf"{_TEXT_BLOCK}{_ATTENTION}out/", rf"{TEXT}blocks.\1.attention.projection."),
    (rf"{_TEXT_BLOCK}MlpBlock_0/Dense_0/", rf"{TEXT}blocks.\1.mlp.expand."),
    (rf"{_TEXT_BLOCK}MlpBlock_0/Dense_1/", rf"{TEXT}blocks.\1.mlp.contract."),
    (r"txt/Encoder_0/encoder_norm/", f"{TEXT}norm."),
    (r"txt/head/", f"{TEXT}head."),
    (r"t\Z", "logit_scale"),
    (r"b\Z", "logit_bias"),
)


def from_big_vision(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of big_vision's two towers under our names, laid out as torch does.

    Raises ValueError for more blocks than any tower has.
    """
    flat = _by_block({name.removeprefix("params/"): tensor for name, tensor in theirs.items()})
    laid_out = dict(_as_torch(name, tensor) for name, tensor in flat.items())
    ours = joined(renamed(laid_out, RULES))
    positions = ours.get(f"{TEXT}positions")
    if positions is not None:
        ours[f"{TEXT}positions"] = positions.flatten(0, -2)
    return ours


def settings_of(theirs: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the shapes say of settings, under the names of ours; flax's GELU is the tanh form."""
    found: dict[str, Any] = {}
    for part, tower in (("image", "img/"), ("text", "txt/")):
        found[f"{part}.gelu"] = "tanh"
        found[f"{part}.norm_epsilon"] = 1e-6
        for name, tensor in theirs.items():
            if tower in name and name.endswith(f"{_ATTENTION}query/bias"):
                found[f"{part}.num_heads"] = tensor.shape[-2]
    return found


def _by_block(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blocks that were scanned over lie in one tensor, along its first axis: here each has its own."""
    scanned = {name: len(tensor) for name, tensor in tensors.items() if "/encoderblock/" in name}
    most, total = max(scanned.values(), default=0), sum(scanned.values())
    if most > MOST_BLOCKS or total > MOST_TENSORS:
        raise ValueError(f"{most:,} blocks in {total:,} tensors are more than a model has")
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in scanned:
            for number, part in enumerate(tensor):
                found[name.replace("/encoderblock/", f"/encoderblock_{number}/")] = part
        else:
            found[name] = tensor
    return found


def _as_torch(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """A parameter with torch's name of its kind, and torch's order of axes."""
    is_attention = _ATTENTION in name
    if name.endswith("/scale"):
        return f"{name.removesuffix('scale')}weight", tensor
    if name.endswith("/bias"):
        # Of query, key and value: heads by their width.
        return name, tensor.flatten() if is_attention else tensor
    if not name.endswith("/kernel"):
        return name, tensor
    name = f"{name.removesuffix('kernel')}weight"
    if tensor.ndim == 4:
        return name, tensor.permute(3, 2, 0, 1)
    if is_attention and tensor.ndim == 3:
        # query, key, value: [width, heads, head]; out: [heads, head, width].
        is_out = re.search(r"/out/weight\Z", name) is not None
        tensor = tensor.flatten(0, 1) if is_out else tensor.flatten(1)
    return name, tensor.T if tensor.ndim == 2 else tensor
