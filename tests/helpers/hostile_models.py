"""Hostile runs, exports, folders of other libraries, indexes and files of weights, as the things that commands take."""

# ruff: noqa: E501  (a case stands on one line)

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile_tokenizers
from hostile_data import HTML, NAMES, TOLD, as_file_name
from hostile_files import (
    CANARY,
    Input,
    Spoiling,
    at,
    canary_beside,
    changed,
    command,
    put,
    sparse,
    spoilt_json,
    spoilt_names,
    spoilt_pickles,
)
from hostile_settings import CONFIG_VALUES, OUTSIDE, RUN_VALUES
from hostile_weights import (
    lying_arrays,
    parquet_of,
    spoilt_archives,
    spoilt_parquet,
    spoilt_safetensors,
    spoilt_sentencepiece,
)

CHECKPOINT = "checkpoints/step-00000002"


def inputs() -> Iterator[Input]:
    """All of them."""
    yield from runs()
    yield from natives()
    yield from tokenizers()
    yield from indexes()
    yield from weights()
    yield from configs("config", "")


def seal(folder: Path) -> None:
    """Write the manifest anew, as whoever made the folder can."""
    from rins_mm.checkpoint import MANIFEST, write_manifest

    facts = json.loads((folder / MANIFEST).read_text()) if (folder / MANIFEST).is_file() else {}
    (folder / MANIFEST).unlink(missing_ok=True)
    if any(not path.is_file() for path in folder.rglob("*") if not path.is_dir()):
        # Of a pipe there is no hash; a manifest that lists it can be made all the same.
        facts["files"] = facts.get("files", {})
        put(folder / MANIFEST, _resealed(facts))
        return
    for name in ("files", "format_version", "manifest_sha256"):
        facts.pop(name, None)
    write_manifest(folder, facts)


def _resealed(facts: dict[str, Any]) -> bytes:
    from rins_mm.checkpoint import _sealed

    facts.pop("manifest_sha256", None)
    return _sealed(facts).encode()


def all_of(*makers: Callable[[], Iterator[Spoiling]]) -> Iterator[Spoiling]:
    """The spoilings of all makers."""
    for maker in makers:
        yield from maker()


def configs(thing: str, file: str) -> Iterator[Input]:
    """Recorded configurations."""
    yield from at(thing, file, all_of(spoilt_json, spoilt_names, spoilt_pickles))
    for name, values in {**CONFIG_VALUES, **RUN_VALUES}.items():
        yield from at(thing, file, iter([("settings", name, changed(**values))]))


def runs() -> Iterator[Input]:
    """Runs with a checkpoint, sealed anew where something in it was changed."""
    yield from configs("run", "config.json")

    def sealed(path: Path) -> None:
        seal(path / CHECKPOINT)

    yield from at(
        "run", f"{CHECKPOINT}/MANIFEST.json", all_of(spoilt_json, spoilt_names, spoilt_pickles)
    )
    for name, values in _manifests().items():
        yield from at(
            "run", f"{CHECKPOINT}/MANIFEST.json", iter([("json", name, _sealed_with(values))])
        )
    for file in ("state.json", "optimizer.json"):
        yield from at("run", f"{CHECKPOINT}/{file}", all_of(spoilt_json, spoilt_names), sealed)
    for file in ("model.safetensors", "optimizer.safetensors"):
        yield from at("run", f"{CHECKPOINT}/{file}",
                      all_of(spoilt_safetensors, spoilt_names, spoilt_pickles), sealed)  # fmt: skip
    for name, values in {
        "step of 10^30": {"step": 10**30}, "data of another": {"data": ["x"]},
        "counts that are texts": {"samples_seen": "many"}, "no state": {"step": None},
    }.items():  # fmt: skip
        yield from at(
            "run", f"{CHECKPOINT}/state.json", iter([("json", name, changed(**values))]), sealed
        )
    for file in ("metrics.jsonl", "eval.json", "environment.json"):
        yield from at("run", file, all_of(spoilt_json, spoilt_names, spoilt_pickles))
    for name, row in _rows().items():
        line = json.dumps(row) + "\n"
        yield from at(
            "run", "metrics.jsonl", iter([("json", name, lambda p, t=line: put(p, t.encode() * 3))])
        )
    for file in ("metrics.jsonl", "metrics.partial", "command.txt", "environment.json", ".config.json.partial",
                 "tokenizer", "tokenizer/tokenizer.json", "checkpoints", "checkpoints/step-00000003"):  # fmt: skip
        yield Input(thing="run", kind="no file", name=f"{file}: link out of the folder",
                    spoil=lambda path, f=file: _led_out(path / f, path.parent / "outside"))  # fmt: skip
    yield from results("run", "eval.json")
    yield from at("run", "tokenizer/tokenizer.model", spoilt_sentencepiece())
    yield from at("run", "tokenizer/tokenizer.json", all_of(spoilt_json, spoilt_names))
    for name, text in NAMES.items():
        yield Input(thing="run", kind="name", name=f"{name} of the run", spoil=lambda path, t=text: path.rename(path.parent / as_file_name(t)), word=f"@{as_file_name(text)}")  # fmt: skip


def _led_out(path: Path, outside: Path) -> None:
    """What is there lies outside now, and a link to it in its place."""
    outside.mkdir()
    if path.exists():
        path.rename(outside / path.name)
    path.symlink_to(outside / path.name)


def _manifests() -> dict[str, dict[str, Any]]:
    facts = {"bytes": 1, "sha256": "0" * 64}
    return {
        "files that climb out": {"files": {"../../../../etc/passwd": facts, "/etc/passwd": facts}},
        "device in the list": {"files": {"/dev/zero": facts}},
        "no files": {"files": {}},
        "files that are a list": {"files": [1]},
        "step that is text": {"step": "2\x1b[2J"},
        "100,000 files": {"files": {f"f{number}": facts for number in range(100_000)}},
        "size without end": {"files": {"state.json": {"bytes": 1e308, "sha256": "x"}}},
    }


def _sealed_with(values: dict[str, Any]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        put(path, _resealed({**json.loads(path.read_text()), **values}))

    return change


def _rows() -> dict[str, dict[str, Any]]:
    return {
        "rows of texts": {"step": "1", "loss": "x", "samples_seen": "many", "text_calls": HTML},
        "rows without names": {"loss": 1.0},
        "rows of huge numbers": {"step": 10**400, "loss": 1e308, "samples_seen": 0, "text_calls": "AB"},
        "rows of lists": {"step": [1], "loss": [2], "text_calls": {"a": 1}},
        "depths of HTML": {
            "step": 1, "loss": 1.0, "samples_seen": 1, "text_calls": HTML, "samples_per_second": 1.0,
            "gradient_norm": float("nan"), "logit_scale": 1.0, "caption_tokens": 1e308,
        },
    }  # fmt: skip


def results(thing: str, file: str) -> Iterator[Input]:
    """Files of results."""
    changes: dict[str, Any] = {
        "task at an address": {"results__0__name": f"retrieval:{OUTSIDE}.tar"},
        "task of a pipe": {"results__0__name": f"retrieval:pipe:touch {CANARY}"},
        "HTML in names": {"results__0__name": HTML, "results__0__variant": HTML, "results__0__model": HTML},
        "metrics of HTML": {"results__0__metrics": {HTML: 0.5, "acc1": HTML}},
        "numbers without end": {"results__0__metrics": {"image_retrieval_recall@1": 1e308}},
        "mistakes of nobody": {"results__0__mistakes": [{"picture": 10**9, "said": HTML}]},
        "mistakes that are numbers": {"results__0__mistakes": [1, 2, 3]},
        "pictures before the first": {"results__0__mistakes": [{"picture": -1}]},
        "counts of words": {"results__0__num_pictures": "x"}, "no chance": {"results__0__chance": []},
        "no intervals": {"results__0__intervals": None}, "classes of nothing": {"results__0__per_class": [{}]},
        "a variant that is a number": {"results__0__variant": 5}, "models of lists": {"results__0__model": []},
        "task of the whole disk": {"results__0__name": "zero_shot:folders:/", "results__0__mistakes": [{"picture": 0}]},
        "results that are texts": {"results": ["a", "b"]},
        "10^5 results": {"results": [{}] * 100_000},
    }  # fmt: skip
    for name, values in changes.items():
        yield from at(thing, file, iter([("results", name, changed(**values))]))


def natives() -> Iterator[Input]:
    """Exports of this project's own format."""
    yield from at("native", "encoder.json", all_of(spoilt_json, spoilt_names), seal)
    yield from at("native", "MANIFEST.json", all_of(spoilt_json, spoilt_names, spoilt_pickles))
    yield from at("native", "parity.json", all_of(spoilt_json, spoilt_names), seal)
    for name, values in CONFIG_VALUES.items():
        yield from at("native", "encoder.json", iter([("settings", name, changed(**values))]), seal)
    for name, text in NAMES.items():
        yield from at(
            "native",
            "encoder.json",
            iter([("name", f"{name} of the model", changed(name=text))]),
            seal,
        )
    yield from at(
        "native",
        "model.safetensors",
        all_of(spoilt_safetensors, spoilt_names, spoilt_pickles),
        seal,
    )
    yield from at("native", "tokenizer.model", spoilt_sentencepiece(), seal)
    yield from at("native", "parity.safetensors", spoilt_safetensors(), seal)
    for name, values in {
        "format of a path": {"format": "../../../x"}, "format of HTML": {"format": HTML},
        "pictures of 10^6 pixels": {"image_size": 10**6}, "strings of numbers": {"strings": [1, 2]},
        "no strings": {"strings": [], "token_ids": []}, "means of text": {"mean": ["a"]},
        "pictures of 4,096 pixels": {"image_size": 4096}, "no means": {"mean": None}, "strings that are one number": {"strings": 5},
        "one number for all ids": {"token_ids": [5]}, "kind of numbers that is none": {"dtype": "x"},
        "commands for a terminal": {"image_signature": f"AB{TOLD}", "text_signature": TOLD, "dtype": TOLD},
    }.items():  # fmt: skip
        yield from at("native", "parity.json", iter([("json", name, changed(**values))]), seal)
    for name in ("sitecustomize.py", "rins_mm.py", "torch.so", "__init__.py"):
        yield Input(thing="native", kind="code", name=f"{name} beside the weights",
                    spoil=lambda path, n=name: _code(path / n, path))  # fmt: skip


def _code(path: Path, folder: Path) -> None:
    put(path, f"import os\nos.mkdir({str(canary_beside(path))!r})\n".encode())
    seal(folder)


def tokenizers() -> Iterator[Input]:
    """Folders of tokenizers, and files of sentencepiece."""
    for case in hostile_tokenizers.tokenizers():
        yield Input(thing="tokenizer", kind="tokenizer", name=case.name,
                    spoil=lambda path, c=case: hostile_tokenizers.lay_down(path, c.make()))  # fmt: skip
    yield from at("tokenizer", "tokenizer.model", spoilt_sentencepiece())
    for file in ("tokenizer.json", "tokenizer.model"):
        yield from at("tokenizer", file, spoilt_names())
        yield from at("tokenizer", file, spoilt_pickles())
    yield from at("tokenizer_model", "", all_of(spoilt_sentencepiece, spoilt_names, spoilt_pickles))


def indexes() -> Iterator[Input]:
    """Indexes of pictures."""
    for file in ("index.json", "removed.json"):
        yield from at("index", file, all_of(spoilt_json, spoilt_names, spoilt_pickles))
    yield from at("index", "vectors/00000.npy", all_of(spoilt_names, spoilt_pickles))
    for name, content in lying_arrays().items():
        yield from at(
            "index", "vectors/00000.npy", iter([("numpy", name, lambda p, c=content: put(p, c))])
        )
    columns: dict[str, list] = {
        "number": [0, 1], "name": ["a", "b"], "label": ["", ""], "caption": ["", ""],
        "width": [1, 1], "height": [1, 1], "sha256": ["", ""],
    }  # fmt: skip
    yield from at("index", "metadata/00000.parquet",
                  all_of(lambda: spoilt_parquet(columns), spoilt_names, spoilt_pickles))  # fmt: skip
    for name, values in {
        "pictures at an address": {"sources__0__pictures": f"{OUTSIDE}/{{000..003}}.tar"},
        "pictures of a command": {"sources__0__pictures": f"pipe:touch {CANARY}"},
        "pictures of the root": {"sources__0__pictures": "/"},
        "pictures of a device": {"sources__0__pictures": "/dev/zero"},
        "model at an address": {"model__path": f"hf:{OUTSIDE}"},
        "model on the hub": {"model__path": "open_clip:ViT-B-16:openai"},
        "model of a command": {"model__path": f"$(touch {CANARY})"},
        "model with commands for a terminal": {"model__name": "\x1b[2J\u202e", "model__path": "\x1b[2J"},
        "model of HTML": {"model__name": HTML},
        "width of 2^40": {"width": 2**40},
        "10^9 pictures": {"shards__0__num_pictures": 10**9, "sources__0__num_numbers": 10**9},
        "negative numbers": {"shards__0__first_number": -1},
        "causes of HTML": {"left_out": {HTML: 1, "\x1b[2J": 2}},
        "signature of 10^9 calls": {"model__text_signature": "A^999999999B"},
    }.items():  # fmt: skip
        yield from at("index", "index.json", iter([("settings", name, changed(**values))]))
    yield from at("index", "left_out.jsonl", spoilt_names())
    for name in ("accelerators", "vectors", "metadata", ".unfinished"):
        yield Input(thing="index", kind="link", name=f"{name} elsewhere", spoil=_moved(name))
    for name, numbers in {
        "numbers around the largest": [2**62, -(2**63)], "numbers that fall": [1, 0], "numbers twice": [1, 1],
    }.items():  # fmt: skip
        told = parquet_of(columns | {"number": numbers})
        yield from at(
            "index",
            "metadata/00000.parquet",
            iter([("parquet", name, lambda p, c=told: put(p, c))]),
        )


def _moved(name: str) -> Callable[[Path], None]:
    """A part of the folder is a link to a folder beside it, with files of somebody else."""

    def spoil(path: Path) -> None:
        elsewhere = path.parent / "elsewhere"
        if (path / name).exists():
            shutil.move(path / name, elsewhere)
        elsewhere.mkdir(exist_ok=True)
        for file in ("faiss.bin", "faiss.json", ".mine.tmp", "lock", "journal.jsonl"):
            put(elsewhere / file, b"somebody else's")
        (path / name).symlink_to(elsewhere)

    return spoil


def weights() -> Iterator[Input]:
    """Files of weights."""
    yield from at("weights", "", all_of(spoilt_safetensors, spoilt_names, spoilt_pickles))
    yield from at("arrays", "", all_of(spoilt_archives, spoilt_names, spoilt_pickles))
    yield from at("torch_file", "", all_of(spoilt_pickles, spoilt_names, _torch_files))


def _torch_files() -> Iterator[Spoiling]:
    yield "pickle", "nothing", lambda path: put(path, b"")
    yield "pickle", "600 MB of nothing", lambda path: sparse(path, 6 * 10**8, b"PK\3\4")
    yield (
        "pickle",
        "a shell script",
        lambda path: put(path, f"#!/bin/sh\n{command(path)}\n".encode()),
    )
