"""Exports beside the encoder itself: the whole matrix of parity, and the same recall in every library."""

import functools
import io

import exported
import numpy as np
import pytest
import tiny
from clip_benchmark_peer import theirs
from PIL import Image

from data_pipelines.shard_writer import write_shard
from eval.encoder import DEFAULT_VARIANT
from eval.model_names import load_named
from eval.suite import run_suite
from rins_mm.export.formats import FORMATS, ExportJob
from rins_mm.export.one_format import write_format
from rins_mm.export.parity import measure
from rins_mm.export.verify import verify_folder

pytestmark = pytest.mark.long

ENCODERS = {"open_clip": {"image": exported.NAMED, "padding": "siglip"}}
"""Where a format cannot express the ordinary tiny encoder."""
WORDS = (
    "red", "blue", "green", "brown", "small", "big", "seven", "quick", "lazy", "apple", "sky",
    "tree", "dog", "fox", "cat",
)  # fmt: skip
NUM_PICTURES = 40


@functools.cache
def job_of(name: str) -> ExportJob:
    return ExportJob(encoder=exported.encoder(**ENCODERS.get(name, {})), text_signature="AAB")


@pytest.mark.parametrize("name", FORMATS)
def test_a_thousand_captions_and_256_pictures_at_batches_of_1_2_7_and_64(name, tmp_path):
    job = job_of(name)
    folder = tmp_path / name
    folder.mkdir()
    write_format(name, job, measure(job), folder)
    print("\n".join(verify_folder(folder, all_batches=True, run_programs=True)))


def data(folder, side: int):
    """Forty pictures of a side that needs no resizing, with five captions each, as CLIP_benchmark reads them."""
    samples = []
    for number in range(NUM_PICTURES):
        buffer = io.BytesIO()
        Image.fromarray(tiny.pixels(number, side, side)).save(buffer, "PNG")
        numbers = np.random.default_rng(number)
        captions = [f"{' '.join(numbers.choice(WORDS, 4))} {number} {n}" for n in range(5)]
        sample = {"png": buffer.getvalue(), "txt": "\n".join(captions).encode()}
        samples.append((f"{number:05d}", sample))
    (folder / "test").mkdir(parents=True)
    write_shard(folder / "test" / "0.tar", samples)
    (folder / "test" / "nshards.txt").write_text("1")
    (folder / "dataset_type.txt").write_text("retrieval")
    return folder


def metrics(model, folder, variant: str = DEFAULT_VARIANT) -> dict[str, float]:
    results = run_suite(model, [f"wds:{folder}"], [variant], progress=False)
    return results[0]["metrics"]


@pytest.mark.parametrize(
    ("name", "place"), [("hf", "hf:{}"), ("open_clip", "open_clip:local-dir:{}")]
)
def test_an_exported_folder_scores_as_the_encoder_does(name, place, tmp_path):
    encoder = job_of(name).encoder
    export = exported.write(name, job_of(name), tmp_path / name)
    folder = data(tmp_path / "wds", encoder.model.image_tower.config.image_size)
    own = metrics(encoder.as_dual_encoder(), folder, "AAB")
    assert 0 < own["image_retrieval_recall@5"] < own["image_retrieval_recall@10"] < 1
    in_library = metrics(load_named(place.format(export), "cpu"), folder)
    assert in_library == pytest.approx(own, abs=1e-6)
    if name == "open_clip":
        in_benchmark = theirs(export, folder, tmp_path / "out.json")
        assert len(in_benchmark) == 6
        assert {k: own[k] for k in in_benchmark} == pytest.approx(in_benchmark, abs=1e-6)
