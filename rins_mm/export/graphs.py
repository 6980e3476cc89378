"""The two encoders at fixed depths as functions of tensors alone, and their traced programs.

`pixels` are float32 [N, 3, size, size], (RGB / 255 - mean) / std. `ids` are int64 [N, L], padded on the
right. A text tower with masked padding takes `mask` beside them, int64 [N, L], 1 on tokens and 0 on
padding; L may then be any length up to the context, and what is padded changes nothing. Others take ids
of the whole context. Both give unit vectors [N, E].
"""

import copy
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.func import functional_call

from data_pipelines.errors import UserError
from rins_mm.encoder import SigLIPEncoder
from rins_mm.models.image_tower import ImageTower
from rins_mm.models.siglip import unit
from rins_mm.models.signatures import Calls, expand
from rins_mm.models.text_tower import TextTower

TRACED_BATCH = 2
"""Rows in tracing. A batch of one would be taken for a constant."""


class ImageGraph(nn.Module):
    """Normalised pixels to unit vectors, at one depth."""

    def __init__(self, tower: ImageTower, calls: Calls) -> None:
        super().__init__()
        tower.check(calls)
        self.backbone = tower.backbone
        if tower.stack is not None:
            tower.stack.calls = calls
        size = tower.config.image_size
        self.examples = {"pixels": torch.zeros(TRACED_BATCH, 3, size, size)}
        self.dynamic_shapes: dict[str, Any] = {"pixels": {0: Dim("batch", min=1)}}

    def forward(self, pixels: Float[Tensor, "N 3 S S"]) -> Float[Tensor, "N E"]:
        return unit(self.backbone(pixels))


class TextGraph(nn.Module):
    """Token ids to unit vectors, at one depth."""

    def __init__(self, tower: TextTower, calls: Calls) -> None:
        super().__init__()
        tower.blocks.check(calls)
        self.tower, self.calls = tower, calls
        context_length = tower.config.context_length
        batch = Dim("batch", min=1)
        self.masked = tower.config.padding == "masked"
        # A length of one would be taken for a constant, and so would the bound itself.
        length = min(max(2, context_length - 1), context_length) if self.masked else context_length
        ids = torch.zeros(TRACED_BATCH, length, dtype=torch.int64)
        self.examples = {"ids": ids}
        self.dynamic_shapes: dict[str, Any] = {"ids": {0: batch}}
        if self.masked:
            shapes = {0: batch}
            if length < context_length:
                shapes[1] = Dim("length", min=1, max=context_length)
            self.examples["mask"] = torch.ones_like(ids)
            self.dynamic_shapes = {"ids": shapes, "mask": shapes}

    def forward(
        self, ids: Int64[Tensor, "N L"], mask: Int64[Tensor, "N L"] | None = None
    ) -> Float[Tensor, "N E"]:
        tower = self.tower
        if mask is None:
            x, seen = tower.token_embedding(ids) + tower.positions, None
            last = torch.full_like(ids[:, :1], ids.shape[1] - 1)
        else:
            context_length = tower.config.context_length
            lengths = mask.sum(dim=1, keepdim=True)
            # Positions count from the end of the context, so that all end tokens have the last one.
            places = torch.arange(ids.shape[1], device=ids.device) + context_length - lengths
            positions = F.embedding(places.clamp(0, context_length - 1), tower.positions)
            x = tower.token_embedding(ids) + positions
            seen, last = mask.bool()[:, None, None, :], (lengths - 1).clamp(min=0)
        running = tower.blocks.begin(x, [self.calls])
        for letter in self.calls:
            running = tower.blocks.run_call(letter, running, seen)
        x = tower.blocks.end(running)
        pooled = x.gather(1, last[:, :, None].expand(-1, -1, x.shape[2]))[:, 0]
        return unit(tower.head(tower.norm(pooled)))


class StoredAs(nn.Module):
    """A graph whose weights are kept in fewer bits, and which computes in float32 all the same."""

    def __init__(self, graph: ImageGraph | TextGraph, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder = graph
        self.examples, self.dynamic_shapes = graph.examples, graph.dynamic_shapes
        for parameter in graph.parameters():
            parameter.data = parameter.data.to(dtype)

    def forward(self, *inputs: Tensor) -> Float[Tensor, "N E"]:
        weights = {name: weight.float() for name, weight in self.encoder.named_parameters()}
        return functional_call(self.encoder, weights, inputs)


def graphs_of(encoder: SigLIPEncoder, text_signature: str) -> dict[str, ImageGraph | TextGraph]:
    """Both encoders, on the CPU and in float32; the weights are copies."""
    model = copy.deepcopy(encoder.model).cpu().float().eval().requires_grad_(False)
    return {
        "image": ImageGraph(model.image_tower, expand(encoder.image_signature)),
        "text": TextGraph(model.text_tower, expand(text_signature)),
    }


def unique_bytes(graph: nn.Module) -> int:
    """What the weights take, each counted once."""
    return sum(weight.numel() * weight.element_size() for weight in graph.parameters())


def trace(graph: ImageGraph | TextGraph | StoredAs, name: str) -> ExportedProgram:
    """The graph as a program of torch.export: rounds written out, weights once, the batch free.

    Raises UserError for a tower that cannot be traced.
    """
    inputs = tuple(graph.examples.values())
    shapes = tuple(graph.dynamic_shapes.values())
    if isinstance(graph, StoredAs):
        shapes = (shapes,)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(graph, inputs, dynamic_shapes=shapes)
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        raise UserError(
            f"torch.export cannot trace the {name} tower: {type(error).__name__}: {reason[0]}; "
            "export the format native, which needs no trace"
        ) from error
    for node in program.graph.nodes:
        # Paths of source files on this machine are nobody's business.
        node.meta.pop("stack_trace", None)
    return program
