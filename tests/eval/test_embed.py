"""Blocks, order, repeated strings, broken pictures, and equality at any number of processes."""

import threading

import numpy as np
import pytest
import torch

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from eval.embed import BLOCK, embed_pictures, embed_texts
from eval.ranks import Ranks

ONE = Ranks()


def picture(number: int) -> np.ndarray:
    generator = np.random.default_rng(number)
    return generator.integers(0, 256, (8 + number % 5, 9, 3), dtype=np.uint8)


def broken_every_ninth(number: int) -> np.ndarray:
    if number % 9 == 4:
        raise BadSample("truncated" if number % 2 else "no picture")
    return picture(number)


def test_each_distinct_string_is_encoded_once_in_full_blocks_and_comes_back_in_order(toy_encoder):
    strings = [f"word {number % 70}" for number in range(200)]
    vectors = embed_texts(toy_encoder, strings, ["shallow", "deep"], ONE)
    assert [len(batch) for batch in toy_encoder.string_batches] == [BLOCK, BLOCK]
    assert toy_encoder.string_batches[1] == [f"word {n}" for n in range(64, 70)] + ["word 69"] * 58
    assert toy_encoder.asked_variants == [("shallow", "deep")] * 2
    for variant in ("shallow", "deep"):
        alone = toy_encoder.encode_texts(strings, [variant])[variant]
        torch.testing.assert_close(vectors[variant], alone)
        assert torch.equal(vectors[variant][3], vectors[variant][73])


@pytest.mark.parametrize("num_pictures", [1, 63, 64, 65, 130])
def test_pictures_keep_their_places_whatever_their_number(toy_encoder, num_pictures):
    features, usable, causes = embed_pictures(toy_encoder, picture, num_pictures, ONE)
    alone = toy_encoder.encode_images([picture(n) for n in range(num_pictures)])
    torch.testing.assert_close(features, alone)
    assert set(toy_encoder.picture_batches[:-1]) == {BLOCK}
    assert usable.all()
    assert causes == {}


def test_a_broken_picture_is_a_marked_hole_with_its_cause_and_shifts_nothing(toy_encoder):
    features, usable, causes = embed_pictures(toy_encoder, broken_every_ninth, 30, ONE)
    assert causes == {4: "no picture", 13: "truncated", 22: "no picture"}
    assert (~usable).nonzero().flatten().tolist() == [4, 13, 22]
    alone = toy_encoder.encode_images([picture(n) for n in range(30)])
    torch.testing.assert_close(features[usable], alone[usable])


def test_a_fault_of_the_program_is_not_taken_for_a_broken_picture(toy_encoder):
    def fail(number: int) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        embed_pictures(toy_encoder, fail, 3, ONE)


def test_the_next_block_is_read_while_one_is_encoded(toy_encoder):
    reading_of_second_block = threading.Event()

    def read(number: int) -> np.ndarray:
        if number == BLOCK:
            reading_of_second_block.set()
        return picture(number)

    encode = toy_encoder.encode_images

    def encode_after_reading_began(pictures):
        assert reading_of_second_block.wait(timeout=10)
        return encode(pictures)

    toy_encoder.encode_images = encode_after_reading_began
    embed_pictures(toy_encoder, read, 2 * BLOCK, ONE)


def test_an_encoder_that_loses_items_is_told_so(toy_encoder):
    toy_encoder.encode_images = lambda pictures: torch.zeros(len(pictures) - 1, 4)
    with pytest.raises(UserError, match="63 vectors for 64 items"):
        embed_pictures(toy_encoder, picture, 3, ONE)


def test_vectors_have_the_same_bits_at_one_two_and_three_processes(run_on_ranks, toy_encoder):
    strings = [f"word {number} of {number % 7}" for number in range(150)] * 2

    def embed(ranks):
        pictures = embed_pictures(toy_encoder, broken_every_ninth, 140, ranks)
        texts = embed_texts(toy_encoder, strings, ["deep"], ranks)["deep"]
        few = embed_texts(toy_encoder, ["one", "two"], ["deep"], ranks)["deep"]
        return {
            "calls": [len(toy_encoder.picture_batches), len(toy_encoder.string_batches)],
            "pictures": pictures.features.tolist(),
            "usable": pictures.usable.tolist(),
            "causes": [[number, cause] for number, cause in pictures.causes.items()],
            "texts": texts.tolist(),
            "few": few.tolist(),
        }

    results = {world_size: run_on_ranks(embed, world_size) for world_size in (1, 2, 3)}
    calls = {
        world_size: [result.pop("calls") for result in shares]
        for world_size, shares in results.items()
    }
    # Three blocks of pictures, three of texts and one of the two words, dealt out in turn.
    assert calls == {1: [[3, 4]], 2: [[2, 3], [1, 1]], 3: [[1, 2], [1, 1], [1, 1]]}
    expected = results[1][0]
    assert len(expected["causes"]) == 16
    for world_size in (2, 3):
        for result in results[world_size]:
            assert result == expected


@pytest.mark.parametrize("num_pictures", [1, 50, 64, 65])
def test_ranks_without_a_block_of_their_own_still_get_all_vectors(
    run_on_ranks, toy_encoder, num_pictures
):
    def embed(ranks):
        return embed_pictures(toy_encoder, picture, num_pictures, ranks).features.tolist()

    alone = run_on_ranks(embed, 1)[0]
    assert len(alone) == num_pictures
    assert run_on_ranks(embed, 3) == [alone] * 3
