"""Both sides of the comparison with CLIP_benchmark, each for a process of its own."""

import contextlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from data_pipelines import torchvision_cpu  # noqa: F401

# isort: split
import open_clip
import torch
from clip_benchmark.metrics import zeroshot_retrieval
from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from data_pipelines.tokenizers import ClipTokenizer
from eval.class_texts import class_features
from eval.encoder import DEFAULT_VARIANT
from eval.model_names import load_named
from eval.picture_sets import PictureSet
from eval.ranks import current_ranks
from eval.retrieval import measure
from eval.task_kinds import RetrievalTask
from rins_mm.encoder import SigLIPEncoder
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import build_model
from rins_mm.models.text_tower import TextTowerConfig

HEAD_WIDTH = 64
VOCABULARY = 49408
CUT_OFFS = [1, 5, 10]
PEERS_BATCH = 64
"""CLIP_benchmark's default."""
TEXT_TOWERS = {
    # Causal, read at the end token.
    "CLIP": {"context_length": 77},
    # Without a mask, read at the last place: padding is part of every caption.
    "SigLIP": {
        "context_length": 64,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
    },
}


@dataclass(frozen=True, kw_only=True)
class Towers:
    """Sizes of the text tower and of what it reads; the image tower is never run."""

    width: int
    depth: int
    num_classes: int
    num_templates: int


def sentences(towers: Towers) -> tuple[list[str], list[str]]:
    """Names of ImageNet's classes, and OpenAI's sentences with {c} where the name goes."""
    templates = [template("{c}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    return open_clip.IMAGENET_CLASSNAMES[: towers.num_classes], templates[: towers.num_templates]


def classifier_of_clip_benchmark(
    tower: str, towers: Towers, *, amp: bool
) -> Callable[[int], Tensor]:
    """Their class vectors of the first so many classes: one forward pass for each class."""
    names, templates = sentences(towers)
    with saved_open_clip(tower, towers) as folder:
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    return lambda count: zero_shot_classifier(
        model, tokenizer, names[:count], templates, "cpu", amp=amp
    )


def classifier_of_ours(tower: str, towers: Towers) -> Callable[[int], Tensor]:
    """Our class vectors of the first so many classes, of the same model or of a packed one."""
    names, templates = sentences(towers)
    own = [[template.replace("{c}", name) for template in templates] for name in names]
    if tower == "packed":
        encoder = packed_model(towers).as_dual_encoder()
    else:
        with saved_open_clip(tower, towers) as folder:
            encoder = load_named(f"open_clip:local-dir:{folder}", "cpu")
    ranks = current_ranks()
    return lambda count: class_features(encoder, own[:count], [DEFAULT_VARIANT], ranks)[
        DEFAULT_VARIANT
    ]


@contextlib.contextmanager
def saved_open_clip(tower: str, towers: Towers) -> Iterator[Path]:
    """A folder with an open_clip model of random weights, for as long as it is read."""
    text = {
        "vocab_size": VOCABULARY, "width": towers.width, "layers": towers.depth,
        "heads": max(1, towers.width // HEAD_WIDTH), **TEXT_TOWERS[tower],
    }  # fmt: skip
    vision = {"image_size": 32, "patch_size": 32, "width": 64, "layers": 1}
    sizes = {"embed_dim": towers.width, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    kind = open_clip.CLIP if tower == "CLIP" else open_clip.CustomTextCLIP
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_file(kind(**sizes).state_dict(), folder / "open_clip_model.safetensors")
        described = {"model_cfg": sizes | {"custom_text": tower != "CLIP"}, "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(described))
        yield folder


def packed_model(towers: Towers) -> SigLIPEncoder:
    """A model of this project with a text tower of the same size, which does not attend to padding."""
    tokenizer = ClipTokenizer(context_length=TEXT_TOWERS["SigLIP"]["context_length"])
    heads = max(1, towers.width // HEAD_WIDTH)
    model = build_model(
        ImageTowerConfig(
            name="vit_tiny_patch16_224", image_size=32, patch_size=32, width=towers.width,
            depth=2, num_heads=heads,
        ),
        TextTowerConfig(
            width=towers.width, depth=towers.depth, num_heads=heads, mlp_width=4 * towers.width,
            context_length=tokenizer.context_length,
        ),
        vocab_size=tokenizer.vocab_size, pad_token=tokenizer.pad_token, seed=0,
    )  # fmt: skip
    return SigLIPEncoder(model, tokenizer, name="packed")


CLASSIFIERS: dict[str, Callable[[Towers], Callable[[int], Tensor]]] = {
    "CLIP, theirs": lambda towers: classifier_of_clip_benchmark("CLIP", towers, amp=False),
    "CLIP, ours": lambda towers: classifier_of_ours("CLIP", towers),
    "SigLIP, theirs": lambda towers: classifier_of_clip_benchmark("SigLIP", towers, amp=False),
    "SigLIP, ours": lambda towers: classifier_of_ours("SigLIP", towers),
    "SigLIP, theirs in bfloat16": lambda towers: classifier_of_clip_benchmark(
        "SigLIP", towers, amp=True
    ),
    "packed, ours": lambda towers: classifier_of_ours("packed", towers),
}


def classifier_seconds(side: str, towers: Towers) -> float:
    """CPU seconds of building the classifier, after the first class has warmed up what there is."""
    torch.set_num_threads(1)
    build = CLASSIFIERS[side](towers)
    with contextlib.redirect_stderr(io.StringIO()):
        build(1)
        begin = time.process_time()
        build(towers.num_classes)
        return time.process_time() - begin


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Random features to rank."""

    num_pictures: int
    texts_per_picture: int
    width: int


def retrieval_of_clip_benchmark(
    images: Tensor, texts: Tensor, sizes: Retrieval
) -> Callable[[], dict[str, float]]:
    """Their recalls of features that a model would have given."""

    class Given:
        """A model whose pictures and texts are numbers of rows."""

        def encode_image(self, rows: Tensor) -> Tensor:
            return images[rows]

        def encode_text(self, rows: Tensor) -> Tensor:
            return texts[rows]

    each = sizes.texts_per_picture
    batches = [
        (rows, [[str(row * each + place) for place in range(each)] for row in rows.tolist()])
        for rows in torch.arange(sizes.num_pictures).split(PEERS_BATCH)
    ]
    return lambda: zeroshot_retrieval.evaluate(
        Given(), batches, lambda strings: torch.tensor([int(string) for string in strings]),
        "cpu", amp=False, recall_k_list=CUT_OFFS,
    )  # fmt: skip


def retrieval_of_ours(
    images: Tensor, texts: Tensor, sizes: Retrieval
) -> Callable[[], dict[str, float]]:
    """Our recalls, median ranks and mean average precisions of the same."""
    numbers = torch.arange(len(texts))
    task = RetrievalTask(
        name="retrieval:random", dataset="random", rule="", texts=[str(n) for n in numbers.tolist()],
        pictures=PictureSet(fingerprint="", num_pictures=len(images), read=lambda number: ""),
        right_pairs=torch.stack([numbers // sizes.texts_per_picture, numbers], dim=1),
    )  # fmt: skip
    usable = torch.ones(len(images), dtype=torch.bool)
    return lambda: measure(task, images, texts, usable=usable, ranks=current_ranks()).metrics


RETRIEVALS = {"theirs": retrieval_of_clip_benchmark, "ours": retrieval_of_ours}


def retrieval_cost(side: str, sizes: Retrieval) -> dict[str, object]:
    """CPU seconds, megabytes at the peak beyond what stood before with the features, and the recalls."""
    torch.set_num_threads(1)
    small = Retrieval(num_pictures=PEERS_BATCH, texts_per_picture=1, width=sizes.width)
    with contextlib.redirect_stderr(io.StringIO()):
        # Whatever the libraries set up at first use is no part of it.
        RETRIEVALS[side](*features(small), small)()
        run = RETRIEVALS[side](*features(sizes), sizes)
        before = megabytes("VmRSS")
        begin = time.process_time()
        metrics = run()
        seconds = time.process_time() - begin
    return {
        "seconds": seconds,
        "megabytes": megabytes("VmHWM") - before,
        "recalls": {name: value for name, value in metrics.items() if "recall" in name},
    }


def features(sizes: Retrieval) -> tuple[Tensor, Tensor]:
    """Unit vectors of pictures and of their texts, which are a little nearer to them than others are."""
    generator = torch.Generator().manual_seed(0)
    images = normalize(torch.randn(sizes.num_pictures, sizes.width, generator=generator), dim=-1)
    texts = images.repeat_interleave(sizes.texts_per_picture, dim=0)
    # Rows at a time, so that making them leaves no higher peak than they have themselves.
    for part in texts.split(1024):
        part += 0.2 * torch.randn(part.shape, generator=generator)
        part /= part.norm(dim=1, keepdim=True)
    return images, texts


def megabytes(name: str) -> float:
    """What Linux says of this process's memory: VmRSS now, VmHWM at its peak."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, f"this system does not tell {name}"
    return int(found[1]) * 1024 / 1e6
