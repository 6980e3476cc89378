"""Shards of scenes: the same bytes however they are made, and siblings in one batch."""

import json
import subprocess
import sys
from itertools import groupby

import pytest

from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError
from data_pipelines.loader import DataConfig, open_training_data, train_batches
from data_pipelines.manifest import open_dataset
from data_pipelines.prepare.scenes import main
from data_pipelines.prepare.unfinished import JOURNAL_NAME
from data_pipelines.samples import decoded_sample

FLAGS = ("--num-samples", "28", "--samples-per-shard", "8", "--constructions", "pair", "counts")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted run in this process writes."""
    out = tmp_path_factory.mktemp("scenes")
    main([str(out), *FLAGS, "--workers", "0"])
    return out / "train"


def test_the_number_of_workers_changes_no_byte(whole, tmp_path):
    main([str(tmp_path), *FLAGS, "--workers", "3"])
    assert content(tmp_path / "train") == content(whole)
    assert JOURNAL_NAME not in content(whole)
    assert {"train-00003.tar", "dataset.json"} < set(content(whole))


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(whole, tmp_path, repository, capsys):
    program = (
        "import os, signal, sys\n"
        "from data_pipelines.prepare import scenes\n"
        "real = scenes.write_shard\n"
        "def watched(path, samples):\n"
        "    def some():\n"
        "        for number, sample in enumerate(samples):\n"
        "            if path.name == 'train-00002.tar' and number == 5:\n"
        "                os.kill(os.getpid(), signal.SIGKILL)\n"
        "            yield sample\n"
        "    return real(path, some())\n"
        "scenes.write_shard = watched\n"
        "scenes.main(sys.argv[1:])\n"
    )
    arguments = [str(tmp_path), *FLAGS]
    command = [sys.executable, "-c", program, *arguments, "--workers", "0"]
    assert subprocess.run(command, cwd=repository, timeout=60).returncode == -9
    out = tmp_path / "train"
    assert not (out / "dataset.json").exists()
    inode = (out / "train-00001.tar").stat().st_ino
    with pytest.raises(UserError, match=r"other settings or another input \(seed\)"):
        main([*arguments, "--seed", "1"])
    main([*arguments, "--workers", "0"])
    told = capsys.readouterr().err
    assert "reused 2 shards of 16 samples; removed 1 unfinished or damaged files" in told
    assert content(out) == content(whole)
    assert (out / "train-00001.tar").stat().st_ino == inode


def test_a_longer_run_begins_with_the_samples_of_a_shorter_one(whole, tmp_path):
    main([str(tmp_path), *FLAGS[2:], "--num-samples", "16", "--workers", "0"])
    assert (tmp_path / "train/train-00000.tar").read_bytes() == (
        whole / "train-00000.tar"
    ).read_bytes()


def test_the_folder_says_what_training_never_says_and_whose_the_drawings_are(whole):
    described = json.loads((whole / "dataset.json").read_text())
    assert described["concepts"] == ["cloud", "cup", "hook"]
    assert ["star", "red"] in described["new_colours"]
    assert ["cat", "sideways"] in described["new_relations"]
    assert described["accidental_truths"] < 0.02
    assert "CC BY 4.0" in described["credits"]
    assert [shard["num_samples"] for shard in described["shards"]] == [8, 8, 8, 4]


def test_foils_are_in_the_json_of_samples_that_are_not_for_training(tmp_path, whole):
    main([str(tmp_path), *FLAGS[2:], "--num-samples", "4", "--split", "test", "--workers", "0"])
    dataset = open_dataset([str(tmp_path / "test/*.tar")])
    for number in range(4):
        pixels, record = decoded_sample(dataset, number)
        assert pixels.shape == (32, 32, 3)
        assert record["caption"] == record["txt"]
        assert {"kind", "text"} == set(record["foils"][0])
        assert record["group"] == "test 0"
    _, record = decoded_sample(open_dataset([str(whole / "*.tar")]), 0)
    assert "foils" not in record
    assert set(record["scene"]["things"][0]) == {"kind", "colour", "size", "x", "y", "depth"}


class Letters:
    """A tokenizer of no interest."""

    context_length, vocab_size, end_token, pad_token, fingerprint = 4, 300, 1, 1, "letters"

    def encode(self, strings):
        return [[2, 1] for _ in strings]

    def save(self, folder):
        raise NotImplementedError


def test_siblings_stay_in_one_batch_in_every_epoch(whole):
    config = DataConfig(
        shards=(str(whole / "*.tar"),),
        captions=CaptionConfig(kind="text"),
        positives=("positive_key",),
        block_size=4,
    )
    # 28 samples and batches of 8: the second epoch begins in the middle of a batch.
    batches = list(
        train_batches(
            config, open_training_data(config), Letters(), image_size=32, batch_size=8, seed=0,
            start_step=0, num_steps=7, rank=0, world_size=1,
        )
    )  # fmt: skip
    epochs = set()
    for batch in batches:
        assert batch.valid.all()
        numbers = [int(key.rpartition("-")[2]) for key in batch.sample_keys]
        epochs.add(tuple(numbers))
        groups = [list(group) for _, group in groupby(numbers, key=lambda number: number // 4)]
        assert [sorted(group) for group in groups] == [
            list(range(group[0] // 4 * 4, group[0] // 4 * 4 + 4)) for group in groups
        ]
        # Siblings say different things, so that only a sample's own caption is right.
        assert len(set(batch.text_keys[:4, 1].tolist())) == 4
    assert len(epochs) == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--num-samples", "6"], "--num-samples is 6; it must be a multiple of 4"),
        (["--num-samples", "0"], "--num-samples is 0"),
        (["--num-samples", "8", "--samples-per-shard", "6"], "--samples-per-shard is 6"),
        (["--num-samples", "8", "--siblings", "0"], "--siblings is 0"),
        (["--num-samples", "8", "--workers", "-1"], "--workers is -1"),
        (["--num-samples", "8", "--num-kinds", "99"], "--num-kinds is 99, and emoji offers 28"),
        (["--num-samples", "8", "--cut-outs", "nowhere"], "--cut-outs is nowhere"),
        (["--num-samples", "8", "--picture-size", "30"], "--picture-size is 30"),
        (["--num-samples", "8", "--constructions", "poem"], "there is no construction 'poem'"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(tmp_path, arguments, words):
    with pytest.raises(UserError) as error:
        main([str(tmp_path / "out"), *arguments])
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_more_siblings_than_can_be_told_apart_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipelines.scenes.siblings._DRAFTS", 3)
    with pytest.raises(UserError, match="no counts has 400 siblings"):
        main([str(tmp_path), "--num-samples", "400", "--siblings", "400", "--samples-per-shard",
              "400", "--constructions", "counts", "--workers", "0"])  # fmt: skip
