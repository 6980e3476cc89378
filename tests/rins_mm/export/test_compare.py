"""What counts as a difference: wrong ids, pixels, vectors and places, and nothing within rounding."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from rins_mm.export.compare import Answers, compare, disordered
from rins_mm.export.parity import Parity


@pytest.fixture
def parity():
    generator = torch.Generator().manual_seed(0)
    texts, pictures = (torch.randn(n, 8, generator=generator) for n in (20, 30))
    return Parity(
        facts={
            "dtype": "fp32", "text_signature": "AAB", "image_signature": "AB",
            "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.4, 0.3],
        },
        strings=[f"caption {number}" for number in range(20)],
        token_ids=[[number, 1] for number in range(20)],
        text_vectors=normalize(texts, dim=-1),
        pixels=torch.randint(0, 256, (30, 3, 4, 4), dtype=torch.uint8, generator=generator),
        picture_vectors=normalize(pictures, dim=-1),
    )  # fmt: skip


@pytest.fixture
def right(parity):
    """What a library answers that does all as the encoder does, with vectors of another length."""
    mean, std = (torch.tensor(parity.facts[name])[:, None, None] for name in ("mean", "std"))
    return Answers(
        token_ids=[list(row) for row in parity.token_ids],
        left_alone=None,
        own_pixels=(parity.pixels.float() / 255 - mean) / std,
        own_picture_vectors=parity.picture_vectors * 3,
        text_vectors={
            2: ([0, 5], parity.text_vectors[[0, 5]]),
            64: (range(20), parity.text_vectors * 7),
        },
        picture_vectors={64: (range(30), parity.picture_vectors * 3)},
        own_packages=[],
    )


def faults(parity, answers, name="hf"):
    return " and ".join(compare(name, parity, answers)[1])


def moved(vectors, number, by):
    changed = vectors.clone()
    changed[number, 0] += by
    return changed


def test_what_is_right_is_told_in_one_line_without_a_fault(parity, right):
    lines, found = compare("hf", parity, right)
    assert found == []
    (line,) = lines
    assert line.startswith("hf (fp32, text AAB, image AB): ids of 20 of 20 strings equal")
    assert "pixels of 30 of 30 pictures equal" in line and "top 10 of 20 queries equal" in line


def test_an_id_a_pixel_and_a_vector_that_differ_are_faults(parity, right):
    wrong = replace(right, token_ids=[[0, 1], [9, 1], *right.token_ids[2:]])
    assert "ids of 1 strings differ, such as 'caption 1'" in faults(parity, wrong)
    pixels = right.own_pixels.clone()
    pixels[3, 0, 0, 0] += 2 / 255
    assert "pixels of 29 of 30" in faults(parity, replace(right, own_pixels=pixels))
    rows = moved(parity.text_vectors, 7, 1e-4)
    wrong = replace(right, text_vectors={64: (range(20), rows)})
    assert "captions differ by" in faults(parity, wrong)
    wrong = replace(
        right, text_vectors={**right.text_vectors, 2: ([0, 5], parity.text_vectors[:2])}
    )
    assert "captions differ by" in faults(parity, wrong)


def test_answers_of_another_number_or_width_are_faults(parity, right):
    wide = torch.ones(20, 9)
    for changes in (
        {"token_ids": right.token_ids[1:]},
        {"left_alone": [True]},
        {"text_vectors": {64: (range(20), wide)}},
        {"text_vectors": {64: (range(20), parity.text_vectors[:19])}},
        {"picture_vectors": {64: (range(30), parity.picture_vectors[0])}},
        {"own_picture_vectors": parity.picture_vectors[:, :7]},
    ):
        (name,) = changes
        assert f"the answers for {name} are not" in faults(parity, replace(right, **changes))


def test_captions_of_which_none_can_be_compared_are_not_taken_for_equal(parity, right):
    none = [[9, 9]] * 20
    wrong = replace(right, token_ids=none, left_alone=[False] * 20)
    assert "captions differ by inf" in faults(parity, wrong, "open_clip")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_a_fault(parity, right, number):
    rows = moved(parity.picture_vectors, 4, number)
    wrong = replace(right, picture_vectors={64: (range(30), rows)}, text_vectors={})
    assert "pictures differ by" in faults(parity, wrong)
    pixels = right.own_pixels.clone()
    pixels[0, 0, 0, 0] = number
    assert "pixels" in faults(parity, replace(right, own_pixels=pixels))


def test_strings_that_a_library_changes_first_are_not_compared(parity, right):
    wrong = replace(
        right, token_ids=[[9, 1], *right.token_ids[1:]], left_alone=[False] + [True] * 19
    )
    lines, found = compare("open_clip", parity, wrong)
    assert found == []
    assert "ids of 19 of 20 strings equal (1 are changed by the library" in lines[0]


def test_pillows_filter_may_round_otherwise_and_a_wrong_crop_may_not(parity, right):
    near = replace(right, own_pixels=right.own_pixels + 1 / 255 * (torch.rand(30, 3, 4, 4) < 0.3))
    assert faults(parity, near, "open_clip") == ""
    assert "pixels" in faults(parity, near, "hf")
    cropped = replace(right, own_pixels=right.own_pixels.roll(1, dims=3))
    assert "pixels" in faults(parity, cropped, "open_clip")


def test_half_precision_may_move_vectors_further(parity, right):
    rows = moved(parity.text_vectors, 7, 8e-3)
    answers = replace(right, text_vectors={64: (range(20), rows)})
    assert faults(parity, answers)
    coarse = replace(parity, facts={**parity.facts, "dtype": "bf16"})
    assert faults(coarse, answers) == ""


def test_a_process_that_imported_this_project_proves_nothing(parity, right):
    answers = replace(right, own_packages=["rins_mm"])
    assert "imported rins_mm" in faults(parity, answers)
    assert faults(parity, answers, "native") == ""


def test_places_count_where_scores_are_told_apart():
    golden = torch.tensor([[0.9, 0.8, 0.79999, 0.1], [0.5, 0.4, 0.3, 0.2]])
    near_tie = torch.tensor([[0.9, 0.79999, 0.8, 0.1], [0.5, 0.4, 0.3, 0.2]])
    assert disordered(golden, near_tie, gap=2e-5, top=2) == 0
    swapped = torch.tensor([[0.9, 0.8, 0.79999, 0.1], [0.4, 0.5, 0.3, 0.2]])
    assert disordered(golden, swapped, gap=2e-5, top=2) == 1
    risen = torch.tensor([[0.9, 0.8, 0.79999, 0.85], [0.5, 0.4, 0.3, 0.2]])
    assert disordered(golden, risen, gap=2e-5, top=2) == 1
    assert disordered(golden, risen, gap=2e-5, top=1) == 0
