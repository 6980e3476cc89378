"""The whole way from names to results, alone and in several processes."""

import json
from dataclasses import replace
from zlib import crc32

import pytest
import torch
from torch.nn.functional import normalize

from data_pipelines.errors import UserError
from data_pipelines.shard_writer import write_shard
from eval.class_texts import class_features, sentences_of
from eval.ranks import Ranks
from eval.suite import measure_tasks, open_tasks, run_suite
from eval.task_kinds import Choice, CompositionalTask, Pairing, ProbeTask, ZeroShotTask
from eval.tasks import TASKS, open_task

SKIPPED = {"not a picture": 4, "truncated picture": 1, "empty caption": 1}


def without_seconds(results):
    return [{key: result[key] for key in result if key != "seconds"} for result in results]


@pytest.fixture
def _toy_classes(shard, monkeypatch):
    """A zero-shot task over the pictures of the shard: class n mod 5."""

    def open_toy(name, data):
        pictures = open_task(f"retrieval:{shard}", None).pictures
        return ZeroShotTask(
            name=name,
            dataset="toy",
            pictures=pictures,
            class_names=["ant", "bee", "cat", "dog", "elk"],
            templates=("{}", "a {}"),
            labels=torch.arange(pictures.num_pictures) % 5,
            rule="as drawn",
        )

    monkeypatch.setitem(TASKS, "zero_shot:toy", open_toy)


def test_a_result_has_clip_benchmarks_keys_and_ours(toy_encoder, shard):
    (result,) = run_suite(toy_encoder, [f"retrieval:{shard}"], ["deep"])
    assert result["dataset"] == str(shard)
    assert (result["model"], result["pretrained"]) == ("toy", "toy-1")
    assert result["task"] == "zeroshot_retrieval"
    assert result["language"] == "en"
    assert (result["name"], result["variant"]) == (f"retrieval:{shard}", "deep")
    assert list(result["metrics"]) == list(result["chance"])
    assert set(result["metrics"]) == {
        f"{asked}_retrieval_{metric}"
        for asked in ("image", "text")
        for metric in ("recall@1", "recall@5", "recall@10", "median_rank", "map")
    }
    assert set(result["intervals"]) == set(result["near_ties"]) == set(result["metrics"])
    assert set(result["mistakes"][0]) == {"picture", "right", "given", "margin"}
    assert result["encoder_fingerprint"] == "toy-1"
    assert len(result["data_fingerprint"]) == 64
    assert "Ties count as misses" in result["rule"]
    json.dumps(result, allow_nan=False)


def test_what_cannot_be_used_is_left_out_and_counted_by_cause(toy_encoder, shard):
    (result,) = run_suite(toy_encoder, [f"retrieval:{shard}"], ["deep"])
    assert result["num_pictures"] == 150 - 6
    assert result["num_texts"] == 51 - 1
    assert result["skipped"] == SKIPPED | {"text without a usable picture": 1}


def test_an_encoder_that_knows_the_answers_finds_all_although_some_pictures_are_broken(
    toy_encoder, shard
):
    task = open_task(f"retrieval:{shard}", None)
    text_of = dict(task.right_pairs.flip(0).tolist())
    by_pixels = {}
    for number, text in text_of.items():
        if number not in (7, 70, 120, 121, 122):
            by_pixels[task.pictures.read(number).tobytes()] = task.texts[text]

    def encode_images(pictures, variants):
        texts = [by_pixels.get(picture.tobytes(), "nothing") for picture in pictures]
        return dict.fromkeys(variants, toy_encoder.encode_texts(texts, ["deep"])["deep"])

    toy_encoder.encode_images = encode_images
    (result,) = run_suite(toy_encoder, [f"retrieval:{shard}"], ["deep"])
    assert result["metrics"]["text_retrieval_recall@1"] == 1.0
    # The second caption of picture 0 has a vector of its own, and 143 pictures of other texts.
    assert result["metrics"]["image_retrieval_recall@1"] >= 49 / 50


@pytest.mark.usefixtures("_toy_classes")
def test_pictures_are_embedded_once_for_all_variants_and_tasks_that_share_them(toy_encoder, shard):
    names = [f"retrieval:{shard}", "zero_shot:toy", f"retrieval:{shard}"]
    results = run_suite(toy_encoder, names, ["shallow", "deep", "shallow"])
    assert [(r["name"], r["variant"]) for r in results] == [
        (name, variant) for name in names[:2] for variant in ("shallow", "deep")
    ]
    assert toy_encoder.picture_batches == [64, 64, 64]
    assert results[2]["skipped"] == {"not a picture": 4, "truncated picture": 1}


def test_every_pair_of_variants_is_measured_in_one_pass(toy_encoder, shard):
    name = f"retrieval:{shard}"
    images, texts = ["flat", "round"], ["shallow", "deep"]
    results = run_suite(toy_encoder, [name], texts, images, progress=False)
    assert toy_encoder.asked_image_variants == [("flat", "round")] * 3
    # Twice to see that batches do not count, and once for the task.
    assert toy_encoder.asked_variants == [("shallow", "deep")] * 3
    pairs = [(image, text) for image in images for text in texts]
    assert [(r["image_variant"], r["variant"]) for r in results] == pairs
    for result, (image, text) in zip(results, pairs, strict=True):
        (alone,) = run_suite(toy_encoder, [name], [text], [image], progress=False)
        assert without_seconds([result]) == without_seconds([alone])
    assert len({json.dumps(result["metrics"]) for result in results}) == 4


def all_kinds(shard):
    """A task of each kind over the pictures of the shard; the probe learns from its end."""
    (retrieval,) = open_tasks([f"retrieval:{shard}"], None)
    pictures = retrieval.pictures
    common = {"dataset": "toy", "pictures": pictures, "rule": "as drawn"}
    fives = torch.arange(pictures.num_pictures) % 5
    names = ["ant", "bee", "cat", "dog", "elk"]
    # Picture 7 cannot be read.
    questions = [
        Choice(picture=n, right=(n,), wrong=(n + 1,), kind="next") for n in range(5, 10)
    ] + [Pairing(pictures=(n, n + 1), texts=(n, n + 1), kind="pair") for n in (0, 6)]
    asked = replace(pictures, fingerprint="asked", num_pictures=30)
    learned = replace(
        pictures, fingerprint="learned", num_pictures=40, read=lambda n: pictures.read(149 - n)
    )
    return [
        retrieval,
        ZeroShotTask(
            name="classes", class_names=names, templates=("{}", "a {}"), labels=fives, **common
        ),
        CompositionalTask(name="choices", texts=retrieval.texts, questions=questions, **common),
        ProbeTask(
            name="probe",
            class_names=names,
            labels=fives[:30],
            train_pictures=learned,
            train_labels=fives[:40],
            train_missing={0: "not known"},
            **common | {"pictures": asked},
        ),
    ]


def test_each_kind_of_task_has_its_results_with_what_was_left_out(toy_encoder, shard):
    tasks = all_kinds(shard)
    results = measure_tasks(
        toy_encoder, tasks, ["shallow", "deep"], ["flat", "round"], progress=False
    )
    by_name = {name: [r for r in results if r["name"] == name] for name in
               (tasks[0].name, "classes", "choices", "probe")}  # fmt: skip
    assert [len(own) for own in by_name.values()] == [4, 4, 4, 2]
    broken = {"not a picture": 4, "truncated picture": 1}
    assert by_name["classes"][0]["skipped"] == broken
    assert by_name["classes"][0]["num_classes"] == 5
    choices = by_name["choices"][0]
    # Picture 7 is in a choice and in a pairing.
    assert choices["skipped"] == broken | {"question without all its pictures": 2}
    assert choices["num_questions"] == 5
    assert {"accuracy", "text_score", "image_score", "group_score"} <= choices["metrics"].keys()
    probe = by_name["probe"][0]
    assert probe["skipped"] == {
        "truncated picture": 1,
        "to learn from: not a picture": 3,
        "to learn from: not known": 1,
    }
    assert [r["image_variant"] for r in by_name["probe"]] == ["flat", "round"]
    assert any("C = " in note for note in probe["notes"])
    for result in results:
        assert list(result["metrics"]) == list(result["chance"])
        expected = {tasks[0].name: 144, "probe": 29}.get(result["name"], 145)
        assert result["num_pictures"] == expected
        json.dumps(result, allow_nan=False)


def test_results_are_the_same_to_the_last_digit_at_one_two_and_three_processes(
    toy_encoder, shard, run_on_ranks
):
    tasks = all_kinds(shard)

    def measure(ranks):
        results = measure_tasks(
            toy_encoder, tasks, ["shallow", "deep"], ["flat"], ranks=ranks, progress=False
        )
        return json.dumps(without_seconds(results))

    alone = measure(Ranks())
    for world_size in (2, 3):
        assert run_on_ranks(measure, world_size) == [alone] * world_size


def test_processes_that_see_other_data_are_all_told(toy_encoder, tmp_path, run_on_ranks, png):
    for rank in (0, 1):
        write_shard(tmp_path / f"{rank}.tar", [("a", {"png": png, "txt": b"cat %d" % rank})])

    def run(ranks):
        with pytest.raises(UserError, match="do not agree on the data"):
            run_suite(toy_encoder, [f"retrieval:{tmp_path}/{ranks.rank}.tar"], ["deep"])
        return "told"

    assert run_on_ranks(run, 2) == ["told", "told"]


def test_a_mistake_in_the_last_name_is_told_before_anything_is_computed(toy_encoder, shard):
    with pytest.raises(UserError, match="no task"):
        run_suite(toy_encoder, [f"retrieval:{shard}", "retrieval:nothing"], ["deep"])
    assert toy_encoder.picture_batches == []


def test_nothing_to_do_is_a_mistake(toy_encoder, shard):
    name = f"retrieval:{shard}"
    for tasks, texts, images in ([], ["a"], ["a"]), ([name], [], ["a"]), ([name], ["a"], []):
        with pytest.raises(UserError, match="nothing to evaluate"):
            run_suite(toy_encoder, tasks, texts, images)


def test_data_without_one_usable_picture_is_refused(toy_encoder, tmp_path):
    write_shard(tmp_path / "a.tar", [("a", {"png": b"?", "txt": b"cat"})])
    with pytest.raises(UserError, match="none of its 1 pictures can be used"):
        run_suite(toy_encoder, [f"retrieval:{tmp_path}/a.tar"], ["deep"])


def test_imagenet_scores_each_picture_among_all_thousand_names(toy_encoder, class_folders):
    table = normalize(torch.randn(8192, 16, generator=torch.Generator().manual_seed(0)), dim=-1)

    def encode_texts(strings, variants):
        vectors = table[[crc32(string.encode()) % len(table) for string in strings]]
        return dict.fromkeys(variants, vectors)

    toy_encoder.encode_texts = encode_texts
    task = open_task("zero_shot:imagenet", class_folders)
    # Red 200 stands for the first of the two classes that are called missile.
    shown = {0: "tench", 1: "goldfish", 200: "missile"}
    names = task.class_names
    sentences = [sentences_of(task)[names.index(name)] for name in shown.values()]
    vectors = class_features(toy_encoder, sentences, ["deep"], Ranks())["deep"]

    def encode_images(pictures, variants):
        rows = vectors[[list(shown).index(picture[0, 0, 0]) for picture in pictures]]
        return dict.fromkeys(variants, rows)

    toy_encoder.encode_images = encode_images
    (result,) = run_suite(
        toy_encoder, ["zero_shot:imagenet"], ["deep"], data=class_folders, progress=False
    )
    assert result["dataset"] == "imagenet1k"
    assert result["task"] == "zeroshot_classification"
    assert (result["num_pictures"], result["num_classes"]) == (6, 1000)
    assert result["metrics"]["acc1"] == 5 / 6
    assert result["metrics"]["mean_per_class_recall"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert result["chance"]["acc5"] == pytest.approx(0.005)
    assert len(result["notes"]) == 1
