import dataclasses
import json

import pytest
import torch

from data_pipelines.errors import UserError
from rins_mm import learner
from rins_mm.accumulation import Found, find_gradients
from rins_mm.recipes import load_config, recipe_names
from rins_mm.selfcheck import __main__ as selfcheck
from rins_mm.selfcheck import setting
from rins_mm.selfcheck.cells import COMPILE_FORMS, LOSS_FORMS, Cell, Measured, cells_of
from rins_mm.selfcheck.reference import WRITTEN_OUT, errors, reference
from rins_mm.selfcheck.setting import HOLES, open_batch, prepare

ALONE = ["emoji", "--world-sizes", "1", "--json"]


@pytest.fixture(autouse=True)
def nothing_is_compiled(monkeypatch):
    """The checks of annotations that tests run under cannot be compiled; other processes compile."""
    monkeypatch.delitem(COMPILE_FORMS, "aot_eager")


@pytest.fixture(scope="module")
def emoji():
    config = prepare(load_config("emoji"), full=False)
    return config, *open_batch(config)


def test_every_combination_is_a_cell_and_each_is_there_once():
    cells = cells_of((1, 2, 3), 5)
    assert len(set(cells)) == len(cells)
    for world_size in (1, 2, 3):
        for micro_batch_size in (0, 5):
            for precision in ("fp64", "fp32"):
                losses = {
                    cell.loss
                    for cell in cells
                    if (cell.world_size, cell.micro_batch_size, cell.precision)
                    == (world_size, micro_batch_size, precision)
                }
                assert {LOSS_FORMS[loss]["kind"] for loss in losses} == {"sigmoid", "softmax"}


@pytest.mark.parametrize(
    ("world_sizes", "micro_batch_size", "said"),
    [((5,), 5, "5 ranks"), ((0,), 5, "0 ranks"), ((1,), 0, "micro_batch_size is 0")],
)
def test_what_cannot_be_checked_is_refused(world_sizes, micro_batch_size, said):
    with pytest.raises(UserError, match=said):
        cells_of(world_sizes, micro_batch_size)


def test_a_right_step_passes_in_every_way_that_one_process_has(capsys):
    selfcheck.main(ALONE)
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and found["data"] == "real data"
    assert len(found["cells"]) == len(cells_of((1,), 5))
    for cell in found["cells"]:
        assert cell["ok"] and max(cell["errors"].values()) <= found["tolerances"][cell["precision"]]
        # An error of exactly zero everywhere would be a comparison of something with itself.
        assert max(cell["errors"].values()) > 0


def count_scale_in_every_part(encode, loss, parts, *, seed, running_statistics=()):
    """Put each part, with gradient, among the features of the others, and add up the gradients."""
    if len(parts) == 1:
        return find_gradients(encode, loss, parts, seed=seed)
    with torch.no_grad():
        features = [encode(part) for part in parts]
    for number, part in enumerate(parts):
        features[number] = encode(part)
        images, texts = (torch.cat(rows) for rows in zip(*features, strict=True))
        value = loss(images, texts)
        value.backward()
        features[number] = tuple(rows.detach() for rows in features[number])
    return Found(loss=value.detach(), image_features=images, text_features=texts)


def test_scale_and_bias_counted_once_for_each_part_are_caught(monkeypatch, capsys):
    monkeypatch.setattr(learner, "find_gradients", count_scale_in_every_part)
    with pytest.raises(SystemExit) as ended:
        selfcheck.main(ALONE)
    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    for cell in found["cells"]:
        assert cell["ok"] == (cell["micro_batch_size"] == 0)
        if not cell["ok"]:
            tolerance = found["tolerances"][cell["precision"]]
            wrong = {part for part, error in cell["errors"].items() if error > tolerance}
            # The softmax has no gradient of the bias that could be counted too often.
            softmax = cell["loss"] == "softmax"
            assert wrong == ({"logit_scale"} if softmax else {"logit_scale", "logit_bias"})
            # 24 pairs in parts of 5 are 5 parts.
            assert cell["errors"]["logit_scale"] == pytest.approx(4.0, rel=1e-3)


def test_gradients_that_cancel_are_caught_in_the_table(monkeypatch, capsys):
    def cancel(encode, loss, parts, *, seed, running_statistics=()):
        whole = find_gradients(encode, loss, parts, seed=seed)
        if len(parts) > 1:
            find_gradients(encode, lambda *features: -loss(*features), parts, seed=seed)
        return whole

    monkeypatch.setattr(learner, "find_gradients", cancel)
    with pytest.raises(SystemExit):
        selfcheck.main(["emoji", "--world-sizes", "1"])
    printed = capsys.readouterr().out
    assert "NO" in printed and "cells are out of tolerance" in printed


def test_what_is_no_number_is_no_small_error():
    nothing = {"loss": torch.tensor(1.0, dtype=torch.float64)}
    assert errors({"loss": torch.tensor(torch.nan)}, nothing)["loss"] > 1e20
    cell = Cell(world_size=1, micro_batch_size=0, loss="softmax", compile="off", precision="fp32")
    assert not Measured(cell=cell, errors={"loss": 0.0, "logit_bias": 1e30}).is_ok


def test_the_batch_has_holes_and_positives_beyond_the_diagonal(emoji):
    _, batch, _ = emoji
    assert batch.valid.sum() == len(batch.valid) - len(HOLES)
    matches = (batch.image_keys[:, None] == batch.text_keys[None]).any(dim=-1)
    assert matches[1, 7] and matches[20, 5] and not matches[0, 1]


def test_missing_data_are_replaced_by_noise_and_said_so(emoji):
    config, _, _ = emoji
    missing = dataclasses.replace(config.data, shards=("nowhere/*.tar",))
    batch, origin = open_batch(dataclasses.replace(config, data=missing))
    assert origin.startswith("synthetic data: ") and "nowhere" in origin
    assert int(batch.tokens.max()) < config.tokenizer.vocab_size
    assert batch.offsets[-1] == len(batch.tokens) and batch.offsets.diff().min() >= 1


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_a_toy_form_with_its_signature(name):
    whole = load_config(name)
    config = prepare(whole, full=False)
    assert config.text.recursion == whole.text.recursion
    assert config.image.recursion == whole.image.recursion
    batch = setting._synthetic_batch(config)
    found = reference(config, batch, "sigmoid")
    assert all(value.isfinite().all() for value in found.values())
    assert all(found[part].any() for part in ("image_tower", "text_tower"))
    assert sum(len(found[part]) for part in ("image_tower", "text_tower")) < 4e6


def test_the_full_form_has_the_towers_of_the_recipe():
    whole = load_config("siglip_b16_rins")
    config = prepare(whole, full=True)
    assert (config.image, config.text) == (whole.image, whole.text)


def test_every_loss_has_a_form_that_is_written_out():
    assert {form["kind"] for form in LOSS_FORMS.values()} == WRITTEN_OUT.keys()
