"""What ImageNet's classes are called, and the sentences that their names stand in.

openai           open_clip's names in OpenAI's 80 sentences (the usual choice)
cupl             sentences that a language model wrote for each class (CuPL, arXiv 2209.03320)
ar, cn, it, jp   names and sentences in Arabic, Chinese, Italian and Japanese

All but the first come with the package clip_benchmark, which is read, not run.
"""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_pipelines import torchvision_cpu  # noqa: F401
from data_pipelines.errors import UserError
from eval.outside_files import read_json

DEFAULT_PROMPTS = "openai"
LANGUAGES = ("ar", "cn", "it", "jp")
PROMPTS = (DEFAULT_PROMPTS, "cupl", *LANGUAGES)
NUM_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """How the 1,000 classes are put into words, in the order of their synsets."""

    class_names: list[str]
    templates: tuple[str, ...] = ()
    class_sentences: list[list[str]] | None = None
    language: str = "en"
    source: str
    """Whose words they are, as a part of a sentence."""


def imagenet_prompts(choice: str = DEFAULT_PROMPTS) -> Prompts:
    """One of PROMPTS. Raises UserError for others, and where the package that has it is missing."""
    if choice not in PROMPTS:
        raise UserError(f"there are no prompts {choice!r}; take one of {', '.join(PROMPTS)}")
    if choice in LANGUAGES:
        return Prompts(
            class_names=_strings(f"{choice}_classnames.json", NUM_CLASSES),
            templates=tuple(
                sentence.replace("{c}", "{}")
                for sentence in _strings(f"{choice}_zeroshot_classification_templates.json")
            ),
            language=choice,
            source=_source(f"names and sentences in {choice}"),
        )
    # It takes seconds to import.
    from open_clip import IMAGENET_CLASSNAMES

    names = list(IMAGENET_CLASSNAMES)
    if choice == "cupl":
        sentences = _of_clip_benchmark("cupl_prompts.json")
        return Prompts(
            class_names=names,
            class_sentences=[list(sentences[name]) for name in names],
            source=_source("CuPL's sentences"),
        )
    templates = openai_templates()
    return Prompts(
        class_names=names,
        templates=templates,
        source=f"open_clip's names in OpenAI's {len(templates)} sentences",
    )


def openai_templates() -> tuple[str, ...]:
    """OpenAI's 80 sentences for ImageNet, with {} where a name goes."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def _strings(file_name: str, number: int | None = None) -> list[str]:
    strings = _of_clip_benchmark(file_name)
    if not isinstance(strings, list) or len(strings) != (number or len(strings)):
        raise UserError(
            f"{file_name} of the installed clip-benchmark is not as in version 1.6.2; install that"
        )
    return [str(string) for string in strings]


def _of_clip_benchmark(file_name: str) -> Any:
    """What a file of the package says about imagenet1k. Its code stays asleep: it starts programs."""
    found = find_spec("clip_benchmark")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "these prompts come with the package clip_benchmark; install it with "
            f"pip install clip-benchmark, or leave the choice out ({DEFAULT_PROMPTS})"
        )
    folder = Path(found.submodule_search_locations[0]) / "datasets"
    return read_json(folder / file_name, "prompts of clip_benchmark")["imagenet1k"]


def _source(what: str) -> str:
    return f"{what} from clip-benchmark {version('clip-benchmark')}"
