"""SigLIP and SigLIP 2 as transformers names their weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rins_mm.weights.names import IMAGE, TEXT, joined, renamed, with_pool_apart

_IMAGE_BLOCK = r"vision_model\.encoder\.layers\.(\d+)\."
_TEXT_BLOCK = r"text_model\.encoder\.layers\.(\d+)\."
_POOL = r"vision_model\.head\."

RULES = (
    (r"vision_model\.embeddings\.patch_embedding\.", f"{IMAGE}patch_embed.proj."),
    (r"vision_model\.embeddings\.position_embedding\.weight", f"{IMAGE}pos_embed"),
    (rf"{_IMAGE_BLOCK}layer_norm(\d)\.", rf"{IMAGE}blocks.\1.norm\2."),
    (rf"{_IMAGE_BLOCK}self_attn\.q_proj\.", rf"{IMAGE}blocks.\1.attn.qkv.0."),
    (rf"{_IMAGE_BLOCK}self_attn\.k_proj\.", rf"{IMAGE}blocks.\1.attn.qkv.1."),
    (rf"{_IMAGE_BLOCK}self_attn\.v_proj\.", rf"{IMAGE}blocks.\1.attn.qkv.2."),
    (rf"{_IMAGE_BLOCK}self_attn\.out_proj\.", rf"{IMAGE}blocks.\1.attn.proj."),
    (rf"{_IMAGE_BLOCK}mlp\.", rf"{IMAGE}blocks.\1.mlp."),
    (r"vision_model\.post_layernorm\.", f"{IMAGE}norm."),
    (rf"{_POOL}probe", f"{IMAGE}attn_pool.latent"),
    (rf"{_POOL}attention\.in_proj_", f"{IMAGE}attn_pool.qkv."),
    (rf"{_POOL}attention\.out_proj\.", f"{IMAGE}attn_pool.proj."),
    (rf"{_POOL}layernorm\.", f"{IMAGE}attn_pool.norm."),
    (rf"{_POOL}mlp\.", f"{IMAGE}attn_pool.mlp."),
    (r"text_model\.embeddings\.token_embedding\.", f"{TEXT}token_embedding."),
    (r"text_model\.embeddings\.position_embedding\.weight", f"{TEXT}positions"),
    (rf"{_TEXT_BLOCK}layer_norm1\.", rf"{TEXT}blocks.\1.attention_norm."),
    (rf"{_TEXT_BLOCK}layer_norm2\.", rf"{TEXT}blocks.\1.mlp_norm."),
    (rf"{_TEXT_BLOCK}self_attn\.q_proj\.", rf"{TEXT}blocks.\1.attention.qkv.0."),
    (rf"{_TEXT_BLOCK}self_attn\.k_proj\.", rf"{TEXT}blocks.\1.attention.qkv.1."),
    (rf"{_TEXT_BLOCK}self_attn\.v_proj\.", rf"{TEXT}blocks.\1.attention.qkv.2."),
    (rf"{_TEXT_BLOCK}self_attn\.out_proj\.", rf"{TEXT}blocks.\1.attention.projection."),
    (rf"{_TEXT_BLOCK}mlp\.fc1\.", rf"{TEXT}blocks.\1.mlp.expand."),
    (rf"{_TEXT_BLOCK}mlp\.fc2\.", rf"{TEXT}blocks.\1.mlp.contract."),
    (r"text_model\.final_layer_norm\.", f"{TEXT}norm."),
    (r"text_model\.head\.", f"{TEXT}head."),
)

GELUS = {"gelu_pytorch_tanh": "tanh", "gelu_new": "tanh", "gelu": "exact"}
"""Our words for transformers' names of the activation."""


def from_hugging_face(theirs: Mapping[str, Tensor], *, patch_size: int) -> dict[str, Tensor]:
    """Weights of a SiglipModel or a Siglip2Model under our names."""
    ours = with_pool_apart(joined(renamed(theirs, RULES)))
    positions, patches = f"{IMAGE}pos_embed", f"{IMAGE}patch_embed.proj.weight"
    if positions in ours:
        ours[positions] = ours[positions][None]
    if patches in ours and ours[patches].ndim == 2:
        # SigLIP 2 for pictures of any shape multiplies patches laid out as rows, columns, colours.
        squares = ours[patches].unflatten(1, (patch_size, patch_size, -1))
        ours[patches] = squares.permute(0, 3, 1, 2)
    return ours


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json says of settings that no tensor shows, under the names of ours."""
    found: dict[str, Any] = {}
    for part, name in (("image", "vision_config"), ("text", "text_config")):
        tower = config.get(name) or {}
        activation = tower.get("hidden_act", "gelu_pytorch_tanh")
        found[f"{part}.num_heads"] = tower.get("num_attention_heads", 12)
        found[f"{part}.gelu"] = GELUS.get(activation, activation)
        found[f"{part}.norm_epsilon"] = tower.get("layer_norm_eps", 1e-6)
    return found
