"""One sound example of everything that a command or a loader takes: what hostile inputs are made from."""

import contextlib
import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import tiny
import torch
import toy
from hostile_pictures import encoded
from hostile_runner import QUIET, entry_point
from hostile_tars import member
from PIL import Image
from safetensors.torch import save_file

import rins_mm
from data_pipelines import torchvision_cpu  # noqa: F401
from rins_mm.checkpoint import weights
from rins_mm.recorded_config import write_config
from rins_mm.study.design import load_study
from rins_mm.study.jobs import study_jobs

METRICS = [f"{kind}_retrieval_recall@{rank}" for kind in ("image", "text") for rank in (1, 5, 10)]
WORDS = ["a red apple", "a cat", "two dogs", "a green tree", "a blue car", "a house"]


def build(world: Path) -> None:
    """Make all things in the folder; with the project's own commands where they make them."""
    world.mkdir(parents=True)
    _shards_and_pictures(world)
    _tables(world)
    _evaluation_sets(world)
    _models_of_others(world)
    _own_models(world)


def command(module: str, *argv: str | Path) -> None:
    """Run a command of this project in this process."""
    entry_point(module)([str(word) for word in argv])


def picture(number: int) -> bytes:
    """A small PNG, another for each number."""
    stream = io.BytesIO()
    Image.fromarray(tiny.pixels(number, 32, 32)).save(stream, "PNG")
    return stream.getvalue()


def tar(samples: dict[str, dict[str, bytes]]) -> bytes:
    """A shard of samples by their keys, whose parts are named by their kinds."""
    parts = [
        (f"{key}.{kind}", data) for key, some in samples.items() for kind, data in some.items()
    ]
    return b"".join(member(name.encode(), data) for name, data in parts) + bytes(1024)


def _samples(**more: bytes) -> dict[str, dict[str, bytes]]:
    return {
        f"s{number}": {
            "png": picture(number),
            "txt": words.encode(),
            "json": json.dumps(
                {"label": words, "caption": words, "uid": f"{number:032x}"}
            ).encode(),
            **more,
        }
        for number, words in enumerate(WORDS)
    }


def _shards_and_pictures(world: Path) -> None:
    samples = _samples()
    for name in ("shard", "table_shard"):
        (world / name).mkdir()
        (world / name / "a.tar").write_bytes(tar(samples))
    table = pyarrow.table(
        {"key": list(samples), "uid": [f"{number:032x}" for number in range(len(samples))]}
    )
    pyarrow.parquet.write_table(table, world / "table_shard" / "a.parquet")
    for folder in ("pictures", "classes/cat", "classes/dog"):
        (world / folder).mkdir(parents=True)
        for number in range(3):
            (world / folder / f"{number}.png").write_bytes(picture(number + len(folder)))
    (world / "cut_outs").mkdir()
    for number, name in enumerate(("apple", "cat", "car", "dog", "tree", "star", "moon", "key")):
        pixels = np.zeros((32, 32, 4), dtype=np.uint8)
        pixels[4 : 20 + number, 6:28] = (30 * number, 200, 90, 255)
        Image.fromarray(pixels).save(world / "cut_outs" / f"{name}.png")


def _tables(world: Path) -> None:
    rows = [{"file": f"{number}.png", "caption": WORDS[number]} for number in range(3)]
    (world / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (world / "captions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "caption"])
        writer.writeheader()
        writer.writerows(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), world / "captions.parquet")
    (world / "deny.jsonl").write_text(json.dumps({"shard": "a.tar", "key": "s1"}) + "\n")
    (world / "uids.txt").write_text("".join(f"{number:032x}\n" for number in range(3)))
    np.save(world / "uids.npy", np.array([(0, 1), (0, 2)], dtype="u8,u8"))


def _evaluation_sets(world: Path) -> None:
    for name, part in (("wds", {"cls": b"1"}), ("wds_retrieval", {})):
        (world / name / "test").mkdir(parents=True)
        (world / name / "test" / "0.tar").write_bytes(tar(_samples(**part)))
        (world / name / "test" / "nshards.txt").write_text("1")
    (world / "wds" / "classnames.txt").write_text("cat\ndog\n")
    (world / "wds" / "zeroshot_classification_templates.txt").write_text("a photo of {c}\n")
    (world / "wds_retrieval" / "dataset_type.txt").write_text("retrieval")
    karpathy = [
        {
            "filename": f"{n}.png", "split": "test", "imgid": n, "cocoid": n,
            "sentences": [{"raw": WORDS[n], "sentid": n}],
        }
        for n in range(3)
    ]  # fmt: skip
    (world / "karpathy.json").write_text(json.dumps({"dataset": "coco", "images": karpathy}))
    (world / "imagenet" / "n01440764").mkdir(parents=True)
    lines = []
    for number in range(1, 4):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        (world / "imagenet" / name).write_bytes(encoded("JPEG", size=(32, 32)))
        lines.append(f"{name} n01440764\n")
    (world / "imagenet" / "n01440764").rmdir()
    (world / "imagenet" / "val.txt").write_text("".join(lines))


def _models_of_others(world: Path) -> None:
    # It imports libraries that need torchvision_cpu before them.
    import foreign_models

    foreign_models.siglip(world / "hf")
    foreign_models.open_clip_siglip(world / "open_clip")
    foreign_models.open_clip_timm(world / "open_clip_timm")
    foreign_models.sentence_transformer(world / "st", foreign_models.clip(world / "clip"))
    foreign_models.onnx_pair(world / "onnx")
    foreign_models.tiny_tokenizer().save(world / "tokenizer")
    (world / "tokenizer.model").write_bytes((world / "tokenizer" / "tokenizer.model").read_bytes())


def _own_models(world: Path) -> None:
    config = toy.config()
    config = replace(
        config,
        run_dir=str(world / "run"), max_steps=2, batch_size=4, checkpoint_every=2,
        image=replace(config.image, width=32), text=replace(config.text, width=32, mlp_width=64),
        data=replace(config.data, shards=(str(world / "shard" / "a.tar"),), positives=("caption",)),
        evaluation=replace(config.evaluation, tasks=(f"retrieval:{world / 'shard' / 'a.tar'}",)),
    )  # fmt: skip
    write_config(config, world / "config.json")
    command("rins_mm.train", world / "config.json", "--run-dir", world / "run")
    _weights_of_timm(world)
    for name in ("native", "hf", "pt2"):
        out = world / ("native" if name == "native" else f"export_{name}")
        command("rins_mm.export", world / "run", "--out", out, "--formats", name, "--no-verify")
    command("rins_mm.index", "build", world / "run", "--pictures", world / "pictures",
            "--out", world / "index")  # fmt: skip
    command("rins_mm.evaluate", world / "run")
    _study(world)
    (world / "packages").mkdir()


def _weights_of_timm(world: Path) -> None:
    """Those of the run's image tower, under timm's names in three formats: the run can begin with them."""
    own = weights(rins_mm.load(world / "run").model.image_tower)
    backbone = {n.removeprefix("backbone."): t for n, t in own.items() if n.startswith("backbone.")}
    save_file(backbone, world / "weights.safetensors")
    np.savez(world / "weights.npz", **{name: t.numpy() for name, t in backbone.items()})
    torch.save(backbone, world / "weights.pt")


def _study(world: Path) -> None:
    """A study of the toy recipe, and a record of its first run."""
    here = Path(toy.__file__).with_name("toy_study.py")
    (world / "small_study.py").write_text(
        f"from runpy import run_path\nstudy = run_path({str(here)!r})['study']\n"
    )
    study = load_study(str(world / "small_study.py"), scale="cpu")
    job = study_jobs(study, world / "out", {})[0]
    place = job.record_path(world / "records")
    place.parent.mkdir(parents=True)
    spent = {"samples": 8.0, "flops": 1e9, "layer_steps": 4.0}
    results = [
        {
            "name": task, "dataset": "emoji-val", "variant": "AB", "metrics": dict.fromkeys(METRICS, 0.5),
            "intervals": {name: [0.4, 0.6] for name in METRICS},
        }
        for task in job.tasks
    ]  # fmt: skip
    record = {
        "format_version": 1, "config_hash": job.config_hash, "arm": job.arm, "seed": job.seed,
        "trained_depth": "AB", "results": results, "steps": 2, "spent": spent, "parameters": 1000,
        "held_out": {"fingerprint": "", "losses": {"AB": 5.0}}, "losses": [[8.0, 1e9, 5.0]],
        "config": {"optimizer": {"peak_learning_rate": 1e-3}}, "training_seconds": 1.0,
        "curve": [{**spent, "metrics": {}}], "versions": {"git_commit": "x"},
    }  # fmt: skip
    place.write_text(json.dumps(record))


def quietly_built(world: Path) -> None:
    """`build` in a process of its own, so that this one stays as it was; its words go to a file."""
    child = os.fork()
    if child == 0:
        code = 1
        with (world.parent / "build.log").open("w") as log:
            os.environ.update(QUIET, RINS_MM_CACHE=str(world.parent / "cache"))
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            with contextlib.suppress(BaseException):
                build(world)
                code = 0
            if code:
                import traceback

                traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError((world.parent / "build.log").read_text()[-3000:])
