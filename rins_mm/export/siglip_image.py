"""Which image towers are SigLIP's, so that transformers' SiglipVisionModel can express them."""

from typing import Any

import torch
from timm.layers import AttentionPoolLatent, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from data_pipelines.errors import UserError
from rins_mm.models.image_tower import ImageTower

MEND = "export native, onnx or pt2, or train with image.name vit_base_patch16_siglip_224 and its own patches"


def image_settings(tower: ImageTower) -> dict[str, Any]:
    """The vision_config of the tower, but for its number of layers. UserError: it is not SigLIP's."""
    backbone = tower.backbone
    if difference := _difference(backbone):
        raise UserError(
            f"the image tower {tower.config.name} {difference}, which transformers' SiglipVisionModel "
            f"cannot express; {MEND}"
        )
    patch = backbone.patch_embed.proj
    return {
        "hidden_size": backbone.embed_dim,
        "intermediate_size": backbone.blocks[0].mlp.fc1.out_features,
        "num_attention_heads": backbone.blocks[0].attn.num_heads,
        "num_channels": 3,
        "image_size": tower.config.image_size,
        "patch_size": patch.kernel_size[0],
        "hidden_act": _activation(backbone),
        "layer_norm_eps": backbone.norm.eps,
    }


def map_pooling(backbone: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of timm's attention pooling under transformers' names."""
    own = {
        name.removeprefix("attn_pool."): t for name, t in backbone.items() if "attn_pool." in name
    }
    tensors = {"probe": own["latent"]}
    for kind, name in (("weight", "in_proj_weight"), ("bias", "in_proj_bias")):
        tensors[f"attention.{name}"] = torch.cat([own[f"q.{kind}"], own[f"kv.{kind}"]])
        tensors[f"attention.out_proj.{kind}"] = own[f"proj.{kind}"]
        tensors[f"layernorm.{kind}"] = own[f"norm.{kind}"]
        for layer in ("mlp.fc1", "mlp.fc2"):
            tensors[f"{layer}.{kind}"] = own[f"{layer}.{kind}"]
    return tensors


def _difference(backbone: Any) -> str:
    """In what the tower differs from SigLIP's; empty: in nothing."""
    if type(backbone) is not VisionTransformer or not isinstance(backbone.blocks[0], Block):
        return f"is a {type(backbone).__name__} and no plain ViT"
    embed, pool = backbone.patch_embed, backbone.attn_pool
    if not isinstance(embed, PatchEmbed) or not isinstance(embed.norm, nn.Identity):
        return "has a convolutional stem (image.stem_channels)"
    if embed.proj.bias is None or embed.proj.kernel_size[0] != embed.proj.kernel_size[1]:
        return "has patches without a bias or not square"
    if backbone.num_prefix_tokens or backbone.pos_embed is None:
        return "has a class token or registers, or no learned positions"
    if not isinstance(pool, AttentionPoolLatent) or backbone.global_pool != "map":
        return f"pools its patches by {backbone.global_pool!r} and not by attention (map)"
    if pool.latent.shape[1] != 1 or pool.pos_embed is not None or pool.pool != "token":
        return "pools by more than one query"
    if not isinstance(backbone.norm_pre, nn.Identity) or not isinstance(
        backbone.fc_norm, nn.Identity
    ):
        return "has a norm before or after its blocks that SigLIP has not"
    return _difference_within(backbone)


def _difference_within(backbone: Any) -> str:
    pool, blocks = backbone.attn_pool, _blocks(backbone)
    additions = [part for b in blocks for part in (b.attn.q_norm, b.attn.k_norm, b.attn.norm)]
    additions += [part for b in blocks for part in (b.ls1, b.ls2, b.mlp.norm)]
    if not all(isinstance(part, nn.Identity) for part in (*additions, pool.q_norm, pool.k_norm)):
        return "has norms or scales within its blocks (qk norm, layer scale)"
    norms = [backbone.norm, pool.norm, *(norm for b in blocks for norm in (b.norm1, b.norm2))]
    if not all(isinstance(norm, nn.LayerNorm) and norm.eps == norms[0].eps for norm in norms):
        return "has norms that are not all the same LayerNorm"
    if any(block.attn.qkv.bias is None for block in blocks) or pool.q.bias is None:
        return "has attention without biases"
    if pool.num_heads != blocks[0].attn.num_heads:
        return "pools by another number of heads than its blocks have"
    if len({mlp.fc1.out_features for mlp in (pool.mlp, *(b.mlp for b in blocks))}) > 1:
        return "pools by an MLP of another width than those of its blocks"
    if not _activation(backbone):
        return "has activations that are not all the same GELU"
    return ""


def _blocks(backbone: Any) -> list[Any]:
    # By number: iterating would follow the signature.
    return [backbone.blocks[number] for number in range(len(backbone.blocks))]


def _activation(backbone: Any) -> str:
    """transformers' name of the activation; empty: there are several, or another than GELU."""
    found = set()
    for mlp in (backbone.attn_pool.mlp, *(block.mlp for block in _blocks(backbone))):
        form = getattr(mlp.act, "approximate", None)
        # timm has a class of its own for the tanh form, without saying so in an attribute.
        form = "tanh" if type(mlp.act).__name__ == "GELUTanh" else form
        found.add(form)
    names = {"none": "gelu", "tanh": "gelu_pytorch_tanh"}
    return names.get(found.pop() or "", "") if len(found) == 1 else ""
