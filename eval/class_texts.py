"""A vector for each class of a zero-shot task: the mean over its sentences, made unit again.

Sentences are embedded a few thousand at a time, however many there are; the finished class vectors
are kept under everything that they depend on, and used again by the next evaluation.

Axes: C classes, E the shared embedding.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from data_pipelines.captions import MAX_CAPTION_CHARACTERS
from data_pipelines.errors import UserError
from eval.embed import BLOCK, NOTHING_KEPT, embed_texts
from eval.encoder import DualEncoder
from eval.feature_store import FeatureStore, key_of, prompt_fingerprint, surroundings_of
from eval.ranks import Ranks
from eval.task_kinds import ZeroShotTask
from eval.texts import cause_against

SENTENCES_AT_ONCE = 8192
"""How many sentences are held as vectors at once: 80 for each of 1,000 classes fill gigabytes."""
CALLS_AT_ONCE = 16
"""But no fewer calls of the encoder than this: ranks share them."""
MOST_SENTENCES = 2_000_000
"""Of a task: the 21,841 classes of ImageNet-21k have 1.7 million in OpenAI's 80 sentences."""
MOST_BYTES = 120_000_000
"""Of all of them together in memory; those have 52 million. A sentence that is not ASCII may take 4 a character."""


def sentences_of(task: ZeroShotTask) -> list[list[str]]:
    """The sentences of each class: the data set's own, or its name in each template.

    Raises UserError for names that are no texts, and for more sentences, or longer ones, than there may be.
    """
    if task.class_sentences is not None:
        return task.class_sentences
    for number, name in enumerate(task.class_names):
        if cause := cause_against(name):
            raise UserError(
                f"{task.name}: class {number:,} is called {name[:60]!r}, which is no text to embed ({cause}); "
                "mend the names of the classes"
            )
    _refuse_large(task)
    return [[text.replace("{}", name) for text in task.templates] for name in task.class_names]


def _refuse_large(task: ZeroShotTask) -> None:
    """Raise UserError where names in templates would be too many sentences, or too long, before any is written."""
    names = [len(name) for name in task.class_names]
    places = [text.count("{}") for text in task.templates]
    bare = [len(text) - 2 * n for text, n in zip(task.templates, places, strict=True)]
    most = max(names, default=0)
    longest = max((length + n * most for length, n in zip(bare, places, strict=True)), default=0)
    if longest > MAX_CAPTION_CHARACTERS:
        raise UserError(
            f"{task.name}: a class name in a template would be a sentence of {longest:,} characters, and "
            f"{MAX_CAPTION_CHARACTERS:,} is the limit; shorten the names or the templates"
        )
    number, num_bytes = len(names) * len(bare), 0
    plain = [len(name) for name in task.class_names if name.isascii()]
    groups = [(len(some), sum(some)) for some in (names, plain)]
    for text, length, n in zip(task.templates, bare, places, strict=True):
        in_all, in_plain = (length * how_many + n * long for how_many, long in groups)
        num_bytes += 4 * in_all - (3 * in_plain if text.isascii() else 0)
    if number > MOST_SENTENCES or num_bytes > MOST_BYTES:
        raise UserError(
            f"{task.name}: {len(names):,} class names in {len(bare):,} templates would be {number:,} sentences of "
            f"up to {num_bytes:,} bytes, and {MOST_SENTENCES:,} of {MOST_BYTES:,} are the limit; give fewer templates"
        )


def class_features(
    encoder: DualEncoder,
    sentences: Sequence[Sequence[str]],
    variants: Sequence[str],
    ranks: Ranks,
    *,
    batch_size: int = 1,
    work: FeatureStore = NOTHING_KEPT,
    cache: FeatureStore = NOTHING_KEPT,
    label: str | None = None,
) -> dict[str, Float32[Tensor, "C E"]]:
    """The unit vector of each class for each variant, from a list of sentences per class.

    What `cache` holds is not computed: the first process looks, and all take what it has. For the
    rest see `embed_texts`. Raises UserError for a class without sentences.
    """
    for number, own in enumerate(sentences):
        if not own:
            raise UserError(f"class {number} has no sentences; give each class one or more")
    prompts = prompt_fingerprint([list(own) for own in sentences])
    surroundings = surroundings_of(encoder)

    def name_of(variant: str) -> str:
        return key_of(
            "class vectors", encoder.fingerprint, surroundings, prompts, variant, batch_size
        )

    features = {}
    for variant in variants:
        cached = cache.load(name_of(variant)) if ranks.is_first else None
        width = ranks.largest(cached.rows["classes"].shape[1] if cached else 0)
        if width:
            share = cached.rows["classes"] if cached else torch.zeros(len(sentences), width)
            features[variant] = ranks.all_gather(share)[0]
    missing = [variant for variant in variants if variant not in features]
    if missing:
        computed = _means(encoder, sentences, missing, ranks, batch_size, work, label)
        if ranks.is_first:
            for variant, rows in computed.items():
                cache.save(name_of(variant), {"classes": rows})
        features |= computed
    return features


def _means(
    encoder: DualEncoder,
    sentences: Sequence[Sequence[str]],
    variants: Sequence[str],
    ranks: Ranks,
    batch_size: int,
    work: FeatureStore,
    label: str | None,
) -> dict[str, Float32[Tensor, "C E"]]:
    # Classes with the same sentences are one: they get the same vector to the last bit.
    classes = list(dict.fromkeys(map(tuple, sentences)))
    distinct = list(dict.fromkeys(sentence for own in classes for sentence in own))
    uses = _uses(classes, distinct)
    # Whole calls, and as many at any number of ranks: the same strings share a call everywhere.
    at_once = batch_size * BLOCK * max(CALLS_AT_ONCE, SENTENCES_AT_ONCE // (batch_size * BLOCK))
    sums: dict[str, Float64[Tensor, "C E"]] = {}
    for start in range(0, len(distinct), at_once):
        part = embed_texts(
            encoder,
            distinct[start : start + at_once],
            variants,
            ranks,
            batch_size=batch_size,
            work=work,
            label=label and f"{label} from {start:,} of {len(distinct):,}",
        )
        first, last = torch.searchsorted(uses[0], torch.tensor([start, start + at_once])).tolist()
        rows, owners = uses[0, first:last] - start, uses[1, first:last]
        for variant, vectors in part.items():
            if variant not in sums:
                sums[variant] = torch.zeros(len(classes), vectors.shape[1], dtype=torch.float64)
            # One after the other in their order: where the parts end does not change a sum.
            sums[variant].index_add_(0, owners, normalize(vectors.double(), dim=-1)[rows])
    number_of = {own: number for number, own in enumerate(classes)}
    numbers = torch.tensor([number_of[tuple(own)] for own in sentences])
    return {variant: normalize(total, dim=-1)[numbers].float() for variant, total in sums.items()}


def _uses(classes: Sequence[Sequence[str]], distinct: Sequence[str]) -> Int64[Tensor, "2 uses"]:
    """(number of the distinct sentence, class) for each sentence of each class, by the first."""
    row_of = {sentence: row for row, sentence in enumerate(distinct)}
    uses = torch.tensor(
        [(row_of[sentence], number) for number, own in enumerate(classes) for sentence in own]
    )
    return uses[uses[:, 0].argsort(stable=True)].T.contiguous()
