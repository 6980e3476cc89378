"""open_clip's models with a timm image tower and a text tower of SigLIP's kind."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rins_mm.weights.names import IMAGE, TEXT, renamed

_BLOCK = r"text\.transformer\.resblocks\.(\d+)\."

RULES = (
    (r"visual\.trunk\.", IMAGE),
    (r"text\.token_embedding\.", f"{TEXT}token_embedding."),
    (r"text\.positional_embedding", f"{TEXT}positions"),
    (rf"{_BLOCK}ln_1\.", rf"{TEXT}blocks.\1.attention_norm."),
    (rf"{_BLOCK}ln_2\.", rf"{TEXT}blocks.\1.mlp_norm."),
    (rf"{_BLOCK}attn\.in_proj_", rf"{TEXT}blocks.\1.attention.qkv."),
    (rf"{_BLOCK}attn\.out_proj\.", rf"{TEXT}blocks.\1.attention.projection."),
    (rf"{_BLOCK}mlp\.c_fc\.", rf"{TEXT}blocks.\1.mlp.expand."),
    (rf"{_BLOCK}mlp\.c_proj\.", rf"{TEXT}blocks.\1.mlp.contract."),
    (r"text\.ln_final\.", f"{TEXT}norm."),
    (r"text\.text_projection\.", f"{TEXT}head."),
)

NEEDED_TEXT = {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
"""What makes a text tower of open_clip one of SigLIP's kind."""


def from_open_clip(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a CustomTextCLIP under our names."""
    return renamed(theirs, RULES)


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a model configuration says of the text tower that no tensor shows, under the names of ours."""
    text = config.get("text_cfg") or {}
    approximate = (text.get("act_kwargs") or {}).get("approximate", "none")
    return {
        "text.num_heads": text.get("heads", 8),
        "text.gelu": "tanh" if approximate == "tanh" else "exact",
        # open_clip's own default is torch's.
        "text.norm_epsilon": (text.get("norm_kwargs") or {}).get("eps", 1e-5),
    }


def why_not_siglip(config: Mapping[str, Any]) -> str:
    """Why the text tower of a model configuration is none of SigLIP's kind; "" where it is one."""
    text = config.get("text_cfg") or {}
    if text.get("hf_model_name"):
        return f"its text tower is {text['hf_model_name']!r} of transformers"
    for name, needed in NEEDED_TEXT.items():
        if text.get(name) != needed:
            return f"its text tower has {name} {text.get(name)!r}, and SigLIP's {needed!r}"
    return ""
