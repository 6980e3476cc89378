import json
import subprocess
import sys

import pytest

from data_pipelines.bad_samples import BadSampleCounts
from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError
from data_pipelines.lint import bad_rows, main
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import open_dataset

LABELS = CaptionConfig(kind="label")
BROKEN = {
    0: ({"webp": b"<html>"}, "not a picture"),
    6: ({"webp": b""}, "not a picture"),
    7: ({"json": b"{"}, "bad json"),
    9: ({"json": b"\xff"}, "bad utf-8"),
    13: ({"json": b'{"label": " "}'}, "empty caption"),
    20: ({"json": b"{}"}, "no caption"),
}


@pytest.fixture
def folder(tmp_path, dataset_in, sample_of):
    """25 samples in shards of seven, six of them bad."""
    changes = {number: change for number, (change, _) in BROKEN.items()}
    dataset_in(tmp_path, [sample_of(number, **changes.get(number, {})) for number in range(25)])
    return tmp_path


def lint(folder, *flags):
    main([f"{folder}/*.tar", "--out", f"{folder}/out", "--captions.kind", "label", *flags])
    report = json.loads((folder / "out" / "_stats.json").read_text())
    lines = (folder / "out" / "bad_samples.jsonl").read_text().splitlines()
    return report, [json.loads(line) for line in lines]


def test_every_bad_sample_is_listed_with_its_cause(folder, capsys):
    report, listed = lint(folder)
    assert [(line["shard"], line["key"], line["cause"]) for line in listed] == [
        (f"{number // 7}.tar", f"{number:03d}", cause) for number, (_, cause) in BROKEN.items()
    ]
    assert "19 of 25 samples are good" in capsys.readouterr().out
    by_shard = {name.rpartition("/")[2]: causes for name, causes in report["bad_by_shard"].items()}
    assert by_shard["1.tar"] == {"bad json": 1, "bad utf-8": 1, "empty caption": 1}


def test_the_report_has_the_form_of_img2dataset(folder):
    report, _ = lint(folder)
    assert (report["count"], report["successes"]) == (25, 19)
    assert (report["failed_to_decode"], report["failed_to_caption"]) == (4, 2)
    assert sum(report["status_dict"].values()) == report["count"]
    assert report["status_dict"]["success"] == 19
    assert report["status_dict"]["not a picture"] == 2
    assert report["end_time"] - report["start_time"] == pytest.approx(report["duration"])


def test_the_causes_are_those_that_training_counts(folder, tokenizer):
    dataset = open_dataset([f"{folder}/*.tar"])
    counts = BadSampleCounts()
    config = DataConfig(captions=LABELS, max_bad_fraction=1.0)
    list(train_batches(
        config, dataset, tokenizer, image_size=8, batch_size=25, seed=0, start_step=0, num_steps=1,
        rank=0, world_size=1, bad_samples=counts,
    ))  # fmt: skip
    trained = {(finding.shard, finding.key, finding.cause) for finding in counts.latest}
    found = {
        (dataset.shards[row.shard].name, row.key, row.cause) for row in bad_rows(dataset, LABELS)
    }
    assert found == trained


def test_worker_processes_find_the_same_in_the_same_order(folder):
    dataset = open_dataset([f"{folder}/*.tar"])
    alone = list(bad_rows(dataset, LABELS))
    assert list(bad_rows(dataset, LABELS, num_workers=2)) == alone


def test_the_list_denies_what_it_names_and_the_rest_is_clean(folder, tokenizer):
    lint(folder)
    deny_list = str(folder / "out" / "bad_samples.jsonl")
    clean = open_dataset([f"{folder}/*.tar"], [deny_list])
    assert clean.num_samples == 19
    assert list(bad_rows(clean, LABELS)) == []
    report, listed = lint(folder, "--deny-lists", deny_list, "--overwrite")
    assert (report["count"], report["successes"], listed) == (19, 19, [])


def test_files_of_an_earlier_run_stay_unless_they_may_be_replaced(folder):
    lint(folder)
    with pytest.raises(UserError, match=r"_stats.json exists already; give --overwrite"):
        lint(folder)
    lint(folder, "--overwrite")


def test_a_shard_that_vanishes_is_one_line_also_from_a_worker(folder):
    dataset = open_dataset([f"{folder}/*.tar"])
    (folder / "2.tar").unlink()
    for num_workers in (0, 1):
        with pytest.raises(UserError, match=r"2.tar has vanished"):
            list(bad_rows(dataset, LABELS, num_workers=num_workers))


def test_linting_needs_no_torch():
    code = "import sys, data_pipelines.lint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
