import json
import subprocess
import sys

import pytest

from data_pipelines.__main__ import main as list_tools
from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError
from data_pipelines.keys import main
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import open_dataset


@pytest.fixture
def keys(capsys):
    """Runs the command line and reads its JSON lines."""

    def run(*flags):
        main([*map(str, flags), "--json"])
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.fixture
def folder(tmp_path, dataset_in, sample_of):
    """25 samples in shards of seven, two of them bad."""
    broken = {4: {"webp": b"<html>"}, 20: {"json": b"{"}}
    dataset_in(tmp_path, [sample_of(number, **broken.get(number, {})) for number in range(25)])
    return tmp_path


LABELS = ("--captions.kind", "label")


def test_the_keys_are_those_that_a_run_sees(folder, tokenizer, keys):
    config = DataConfig(captions=CaptionConfig(kind="label"), max_bad_fraction=1.0)
    batches = train_batches(
        config, open_dataset([f"{folder}/*.tar"]), tokenizer, image_size=8, batch_size=8, seed=3,
        start_step=0, num_steps=4, rank=0, world_size=1,
    )  # fmt: skip
    expected = [list(batch.sample_keys) for batch in batches]
    found = keys(f"{folder}/*.tar", *LABELS, "--batch-size", 8, "--steps", 4, "--seed", 3)
    assert [batch["keys"] for batch in found] == expected


def test_world_size_and_workers_change_nothing(folder, keys):
    flags = (f"{folder}/*.tar", *LABELS, "--batch-size", 7, "--steps", 3, "--from-step", 2)
    alone = keys(*flags)
    assert [batch["step"] for batch in alone] == [2, 3, 4]
    assert all(len(batch["keys"]) == 7 for batch in alone)
    assert keys(*flags, "--world-size", 3) == alone
    assert keys(*flags, "--world-size", 2, "--workers", 1) == alone


def test_an_epoch_begins_at_the_first_batch_with_samples_of_it(folder, keys):
    flags = (f"{folder}/*.tar", *LABELS, "--batch-size", 10, "--steps", 3)
    first, second = keys(*flags), keys(*flags, "--epoch", 1)
    assert [batch["epochs"] for batch in first] == [[0], [0], [0, 1]]
    assert second[0] == first[2]
    seen = [key for batch in [*first, *second[1:]] for key in batch["keys"]]
    assert len(set(seen[:25])) == len(set(seen[25:50])) == 25
    assert keys(*flags, "--epoch", 1, "--from-step", 1)[0] == second[1]


def test_bad_samples_are_shown_with_their_cause(folder, keys, capsys):
    flags = (f"{folder}/*.tar", *LABELS, "--batch-size", 25)
    (batch,) = keys(*flags)
    assert batch["bad"] == {"0.tar:004": "not a picture", "2.tar:020": "bad json"}
    main(list(map(str, flags)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 0, epoch 0, 25 samples"
    assert [line.split()[0] for line in lines[1:]] == batch["keys"]
    assert "  0.tar:004  BAD: not a picture" in lines


def test_a_number_that_makes_no_sense_is_named(folder):
    with pytest.raises(UserError, match="--world-size is 0; it must be at least 1"):
        main([f"{folder}/*.tar", "--world-size", "0"])


def test_a_recorded_batch_of_any_size_is_not_begun(folder, tmp_path):
    recorded = {"data": {"shards": [str(folder / "*.tar")]}, "batch_size": 10**7, "seed": 0}
    (tmp_path / "config.json").write_text(json.dumps(recorded))
    with pytest.raises(UserError, match=r"a batch of 10,000,000 has more keys than are shown"):
        main(["--run", str(tmp_path)])


def test_the_list_of_tools_names_each_with_one_line(capsys):
    list_tools([])
    lines = capsys.readouterr().out.splitlines()[2:]
    named = {line.split()[0].removeprefix("data_pipelines.") for line in lines}
    wanted = {"index", "keys", "verify", "lint", "stats", "show", "prepare.from_folder"}
    assert wanted <= named
    assert all(len(line.split(maxsplit=1)[1]) > 20 for line in lines)
    done = subprocess.run(
        [sys.executable, "-m", "data_pipelines"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[2:] == lines
