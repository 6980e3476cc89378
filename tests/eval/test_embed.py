"""Blocks, order, repeated strings, broken pictures; equality at any number of processes, interrupted or not."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from eval.embed import BLOCK, embed_pictures, embed_texts
from eval.feature_store import FeatureStore
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
    variants = ["flat", "deep"]
    features, usable, causes = embed_pictures(toy_encoder, picture, num_pictures, variants, ONE)
    alone = toy_encoder.encode_images([picture(n) for n in range(num_pictures)], variants)
    for variant in variants:
        torch.testing.assert_close(features[variant], alone[variant])
    assert set(toy_encoder.asked_image_variants) == {("flat", "deep")}
    assert set(toy_encoder.picture_batches[:-1]) == {BLOCK}
    assert usable.all()
    assert causes == {}


def test_a_broken_picture_is_a_marked_hole_with_its_cause_and_shifts_nothing(toy_encoder):
    embedded = embed_pictures(toy_encoder, broken_every_ninth, 30, ["deep"], ONE)
    features, usable, causes = embedded.features["deep"], embedded.usable, embedded.causes
    assert causes == {4: "no picture", 13: "truncated", 22: "no picture"}
    assert (~usable).nonzero().flatten().tolist() == [4, 13, 22]
    alone = toy_encoder.encode_images([picture(n) for n in range(30)], ["deep"])["deep"]
    torch.testing.assert_close(features[usable], alone[usable])


def test_a_fault_of_the_program_is_not_taken_for_a_broken_picture(toy_encoder):
    def fail(number: int) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        embed_pictures(toy_encoder, fail, 3, ["deep"], ONE)


def test_the_next_block_is_read_while_one_is_encoded(toy_encoder):
    reading_of_second_block = threading.Event()

    def read(number: int) -> np.ndarray:
        if number == BLOCK:
            reading_of_second_block.set()
        return picture(number)

    encode = toy_encoder.encode_images

    def encode_after_reading_began(pictures, variants):
        assert reading_of_second_block.wait(timeout=10)
        return encode(pictures, variants)

    toy_encoder.encode_images = encode_after_reading_began
    embed_pictures(toy_encoder, read, 2 * BLOCK, ["deep"], ONE)


def test_an_encoder_that_loses_items_is_told_so(toy_encoder):
    toy_encoder.encode_images = lambda pictures, variants: {"deep": torch.zeros(63, 4)}
    with pytest.raises(UserError, match="63 vectors for 64 items"):
        embed_pictures(toy_encoder, picture, 3, ["deep"], ONE)


def test_vectors_have_the_same_bits_at_one_two_and_three_processes(run_on_ranks, toy_encoder):
    strings = [f"word {number} of {number % 7}" for number in range(150)] * 2

    def embed(ranks):
        pictures = embed_pictures(toy_encoder, broken_every_ninth, 140, ["deep"], ranks)
        texts = embed_texts(toy_encoder, strings, ["deep"], ranks)["deep"]
        few = embed_texts(toy_encoder, ["one", "two"], ["deep"], ranks)["deep"]
        return {
            "calls": [len(toy_encoder.picture_batches), len(toy_encoder.string_batches)],
            "pictures": pictures.features["deep"].tolist(),
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
        embedded = embed_pictures(toy_encoder, picture, num_pictures, ["deep"], ranks)
        return embedded.features["deep"].tolist()

    alone = run_on_ranks(embed, 1)[0]
    assert len(alone) == num_pictures
    assert run_on_ranks(embed, 3) == [alone] * 3


def test_a_call_has_so_many_blocks_and_the_last_one_those_that_are_left(toy_encoder):
    strings = [f"word {number}" for number in range(7 * BLOCK + 5)]
    vectors = embed_texts(toy_encoder, strings, ["deep"], ONE, batch_size=3)["deep"]
    assert [len(batch) for batch in toy_encoder.string_batches] == [192, 192, 128]
    torch.testing.assert_close(vectors, toy_encoder.encode_texts(strings, ["deep"])["deep"])
    embedded = embed_pictures(toy_encoder, picture, 200, ["deep"], ONE, batch_size=64)
    assert toy_encoder.picture_batches == [256]
    alone = toy_encoder.encode_images([picture(n) for n in range(200)], ["deep"])["deep"]
    torch.testing.assert_close(embedded.features["deep"], alone)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_call_without_a_block_is_a_mistake(toy_encoder, batch_size):
    with pytest.raises(UserError, match=f"batch_size is {batch_size}"):
        embed_texts(toy_encoder, ["a"], ["deep"], ONE, batch_size=batch_size)


def test_vectors_are_exchanged_a_few_calls_at_a_time_without_losing_their_places(
    run_on_ranks, toy_encoder, monkeypatch
):
    strings = [f"word {number}" for number in range(9 * BLOCK + 1)]
    alone = embed_texts(toy_encoder, strings, ["flat", "deep"], ONE)
    # Two calls of each process at a time.
    monkeypatch.setattr("eval.embed.NUMBERS_PER_EXCHANGE", 2 * BLOCK * 24)

    def embed(ranks):
        vectors = embed_texts(toy_encoder, strings, ["flat", "deep"], ranks)
        return [vectors[variant].equal(alone[variant]) for variant in alone]

    assert run_on_ranks(embed, 2) == [[True, True]] * 2


class PowerCut(BaseException):
    """Nobody catches it."""


def dying(encode, num_calls):
    """The same method, which comes back only so many times."""
    calls = iter(range(num_calls))

    def encode_or_die(*arguments):
        if next(calls, None) is None:
            raise PowerCut
        return encode(*arguments)

    return encode_or_die


def test_what_was_done_before_an_interruption_is_not_done_again_at_any_number_of_processes(
    run_on_ranks, toy_encoder, tmp_path
):
    strings = [f"word {number}" for number in range(300)]
    variants = ["flat", "deep"]

    def embed(encoder, ranks, work):
        pictures = embed_pictures(
            encoder, broken_every_ninth, 300, variants, ranks, work=work, fingerprint="pictures"
        )
        texts = embed_texts(encoder, strings, variants, ranks, work=work)
        causes = [[number, cause] for number, cause in pictures.causes.items()]
        return [
            [vectors[v].tolist() for v in variants] for vectors in (pictures.features, texts)
        ], causes

    expected = embed(toy_encoder, ONE, FeatureStore())
    for number_done in (0, 3, 5, 7):
        work = FeatureStore(tmp_path / f"work-{number_done}")
        broken = replace(toy_encoder)
        broken.encode_images = dying(toy_encoder.encode_images, number_done)
        broken.encode_texts = dying(toy_encoder.encode_texts, number_done - 5)
        with pytest.raises(PowerCut):
            embed(broken, ONE, work)

        def resume(ranks, folder=work.folder):
            encoder = replace(toy_encoder, picture_batches=[], string_batches=[])
            again = FeatureStore(folder)
            vectors, causes = embed(encoder, ranks, again)
            num_made = len(encoder.picture_batches) + len(encoder.string_batches)
            return vectors, causes, again.num_loaded, num_made

        for world_size in (2, 3) if number_done == 3 else (2,):
            results = run_on_ranks(resume, world_size)
            assert [(vectors, causes) for vectors, causes, *_ in results] == [expected] * world_size
            # What the first of these has computed, the next one finds.
            found, made = (sum(counts) for counts in zip(*(r[2:] for r in results), strict=True))
            assert (found, made) == (
                (number_done, 10 - number_done) if world_size == 2 else (10, 0)
            )


def test_a_damaged_file_of_an_interrupted_evaluation_is_computed_again(
    toy_encoder, tmp_path, capsys
):
    strings = [f"word {number}" for number in range(200)]

    def embed():
        toy_encoder.string_batches.clear()
        work = FeatureStore(tmp_path / "work")
        vectors = embed_texts(toy_encoder, strings, ["deep"], ONE, work=work)["deep"]
        return vectors, len(toy_encoder.string_batches)

    whole, num_calls = embed()
    assert num_calls == 4
    first, second, third, _ = sorted((tmp_path / "work").rglob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"")
    damaged = bytearray(third.read_bytes())
    damaged[-9] ^= 4
    third.write_bytes(damaged)
    again, num_calls = embed()
    assert (num_calls, again.equal(whole)) == (3, True)
    assert capsys.readouterr().err.count("is damaged") == 3
    again, num_calls = embed()
    assert (num_calls, again.equal(whole)) == (0, True)


def test_vectors_of_another_model_variant_batch_or_list_are_not_taken(toy_encoder, tmp_path):
    def num_calls(encoder=toy_encoder, strings=("a", "b"), variants=("deep",), **settings) -> int:
        before = len(toy_encoder.string_batches)
        work = FeatureStore(tmp_path / "work")
        embed_texts(encoder, list(strings), list(variants), ONE, work=work, **settings)
        return len(toy_encoder.string_batches) - before

    assert num_calls() == 1
    assert num_calls() == 0
    assert num_calls(encoder=replace(toy_encoder, fingerprint="toy-2")) == 1
    assert num_calls(strings=("b", "a")) == 1
    assert num_calls(strings=("a", "b", "c")) == 1
    assert num_calls(variants=("deep", "flat")) == 1
    assert num_calls(batch_size=2) == 1
    assert num_calls(strings=("a", "b", "a")) == 0
