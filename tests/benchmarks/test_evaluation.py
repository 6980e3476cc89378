"""The benchmark of evaluation runs whole at toy size."""

import json

import pytest

from data_pipelines.errors import UserError

TOY = (
    "--num-classes 3 --num-templates 4 --widths 64 --depth 2 --rounds 2 --num-pictures 150 "
    "--texts-per-picture 2 --feature-width 16 --out"
)


@pytest.fixture
def evaluation(repository, monkeypatch):
    """The benchmark's module, whose measurements run here: new processes take seconds to import all."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import evaluation

    monkeypatch.setattr(evaluation, "in_fresh_process", lambda function, *given: function(*given))
    return evaluation


def test_it_runs_at_toy_size_and_writes_every_figure(evaluation, tmp_path, capsys):
    evaluation.main([*TOY.split(), str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert "times as fast as CLIP_benchmark" in printed and "150 pictures x 300 texts" in printed
    results = json.loads((tmp_path / "out.json").read_text())
    [row] = results["classifiers"]
    assert row["width"] == 64
    assert row["times_as_fast"].keys() == evaluation.RATIOS.keys()
    assert all(ratio > 0 for ratio in row["times_as_fast"].values())
    assert all(len(taken) == 2 for taken in row["seconds"].values())
    retrieval = results["retrieval"]
    assert retrieval["num_texts"] == 300
    assert retrieval["largest_difference_of_recalls"] < 1e-6
    # So that the recalls could differ.
    assert 0 < retrieval["costs"]["ours"][0]["recalls"]["image_retrieval_recall@1"] < 1


def test_both_sides_build_the_same_class_vectors_of_the_same_model(evaluation):
    import evaluation_sides as sides

    towers = sides.Towers(width=64, depth=2, num_classes=3, num_templates=4)
    for kind in ("CLIP", "SigLIP"):
        theirs, ours = (
            sides.CLASSIFIERS[f"{kind}, {who}"](towers)(3) for who in ("theirs", "ours")
        )
        assert theirs.T.shape == ours.shape == (3, 64)
        assert (theirs.T - ours).abs().max() < 1e-5


def test_mistakes_are_told_before_anything_is_measured(evaluation, tmp_path):
    (tmp_path / "out.json").touch()
    with pytest.raises(UserError, match="give --overwrite"):
        evaluation.main([*TOY.split(), str(tmp_path / "out.json")])
    with pytest.raises(UserError, match="GB are free; take fewer"):
        evaluation.main(["--num-pictures", "10_000_000", "--out", str(tmp_path / "other.json")])
