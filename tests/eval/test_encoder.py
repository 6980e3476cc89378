"""Any object with two methods becomes an encoder that can be scored, and is told what it does wrong."""

import numpy as np
import pytest
import torch

from data_pipelines.errors import UserError
from eval.encoder import DEFAULT_VARIANT, DualEncoder, as_dual_encoder
from eval.suite import run_suite


class Numbers:
    """A model that returns what it is told to."""

    def __init__(self, returned):
        self.returned = returned

    def encode_images(self, pictures):
        return self.returned

    def encode_texts(self, strings):
        return self.returned


def dual(returned) -> DualEncoder:
    return as_dual_encoder(Numbers(returned), name="numbers", fingerprint="1")


@pytest.mark.parametrize(
    "returned",
    [
        torch.tensor([[3.0, 4.0], [0.0, 2.0]]),
        torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64),
        torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.bfloat16, requires_grad=True),
        np.array([[3.0, 4.0], [0.0, 2.0]], dtype=np.float16),
        [[3, 4], [0, 2]],
    ],
)
def test_vectors_of_torch_and_numpy_become_unit_vectors_in_float32(returned):
    model = dual(returned)
    assert isinstance(model, DualEncoder)
    assert (model.name, model.fingerprint) == ("numbers", "1")
    for encode in (model.encode_images, model.encode_texts):
        vectors = encode(["a", "b"], [DEFAULT_VARIANT])
        assert list(vectors) == [DEFAULT_VARIANT]
        rows = vectors[DEFAULT_VARIANT]
        assert rows.dtype == torch.float32
        assert not rows.requires_grad
        torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (torch.zeros(3, 4), r"numbers returned the shape \[3, 4\] for 2 items"),
        (torch.zeros(2), r"the shape \[2\]"),
        (torch.zeros(2, 3, 4), r"the shape \[2, 3, 4\]"),
        (torch.zeros(2, 0), r"the shape \[2, 0\]"),
        (np.array([[1.0, np.nan], [1.0, 1.0]]), "numbers returned numbers that are not finite"),
        (torch.tensor([[1.0, torch.inf], [1.0, 1.0]]), "not finite"),
    ],
)
def test_what_is_no_row_for_each_item_or_not_finite_is_told_with_the_models_name(returned, words):
    for encode in (dual(returned).encode_images, dual(returned).encode_texts):
        with pytest.raises(UserError, match=words):
            encode(["a", "b"], [DEFAULT_VARIANT])


def test_a_variant_that_a_plain_model_does_not_have_is_refused():
    with pytest.raises(UserError, match="numbers has no variant 'AB'"):
        dual(torch.ones(1, 2)).encode_texts(["a"], ["AB"])


def test_an_object_that_lacks_a_method_is_refused():
    class Half:
        def encode_images(self, pictures):
            return None

    with pytest.raises(UserError, match="half has no method encode_texts"):
        as_dual_encoder(Half(), name="half", fingerprint="1")


def test_a_model_that_divides_by_the_spread_of_pixels_is_not_stopped_by_a_broken_picture(shard):
    class Standardising:
        def encode_images(self, pictures):
            rows = torch.tensor(
                np.array([[p.mean(), p[0].mean(), p[:, 0].mean()] for p in pictures])
            )
            return rows / torch.tensor([[p.std()] for p in pictures])

        def encode_texts(self, strings):
            return torch.ones(len(strings), 3)

    model = as_dual_encoder(Standardising(), name="standardising", fingerprint="1")
    (result,) = run_suite(model, [f"retrieval:{shard}"], progress=False)
    assert result["skipped"]["not a picture"] == 4


def test_any_object_can_be_scored_and_sees_pixels(shard, toy_encoder):
    class Plain:
        def encode_images(self, pictures):
            assert all(p.dtype == np.uint8 and p.shape[2] == 3 for p in pictures)
            return 7 * toy_encoder.encode_images(pictures, ["default"])["default"].double()

        def encode_texts(self, strings):
            return toy_encoder.encode_texts(strings, ["default"])["default"].numpy()

    model = as_dual_encoder(Plain(), name="plain", fingerprint="1")
    (result,) = run_suite(model, [f"retrieval:{shard}"], progress=False)
    (expected,) = run_suite(toy_encoder, [f"retrieval:{shard}"], progress=False)
    assert (result["variant"], result["image_variant"]) == ("default", "default")
    assert result["metrics"] == expected["metrics"]
