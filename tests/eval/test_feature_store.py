"""Files of vectors: whole or as good as none, and never those of something else."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from eval.feature_store import FeatureStore, key_of, surroundings_of

ROWS = {"AB": torch.arange(6.0).reshape(3, 2), "AAB": torch.ones(3, 2)}
NAME = key_of("a")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def path_of(store: FeatureStore, name: str = NAME) -> Path:
    return store.folder / f"{name}.safetensors"


def test_what_is_saved_is_found_again(store, capsys):
    assert store.load(NAME) is None
    store.save(NAME, ROWS, '[[1, "truncated \\u00e9"]]')
    rows, note = store.load(NAME)
    assert rows.keys() == ROWS.keys()
    assert all(rows[name].equal(ROWS[name]) for name in ROWS)
    assert note == '[[1, "truncated \\u00e9"]]'
    assert store.num_loaded == 1
    assert [entry.name for entry in store.folder.iterdir()] == [f"{NAME}.safetensors"]
    assert capsys.readouterr().err == ""


def test_variants_that_are_one_tensor_can_be_saved(store):
    one = torch.ones(2, 3)
    store.save(NAME, {"a": one, "b": one, "c": one.T[:2]})
    assert store.load(NAME).rows["b"].equal(one)


def test_without_a_folder_nothing_is_kept():
    nowhere = FeatureStore()
    nowhere.save(NAME, ROWS)
    assert nowhere.load(NAME) is None
    nowhere.remove()


def test_a_file_cut_short_anywhere_is_as_good_as_none(store, capsys):
    store.save(NAME, ROWS)
    whole = path_of(store).read_bytes()
    for length in range(len(whole)):
        path_of(store).write_bytes(whole[:length])
        assert store.load(NAME) is None, length
    assert "is damaged" in capsys.readouterr().err
    path_of(store).write_bytes(whole)
    assert store.load(NAME) is not None


def test_no_flipped_bit_goes_unnoticed(store):
    store.save(NAME, ROWS, "note")
    whole = path_of(store).read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path_of(store).write_bytes(damaged)
        found = store.load(NAME)
        # A bit of white space in the header may be another; what is read is what was written all the same.
        assert found is None or all(found.rows[name].equal(ROWS[name]) for name in ROWS), place


def test_a_sound_file_under_the_name_of_another_is_not_taken(store):
    store.save(NAME, ROWS)
    other = key_of("b")
    shutil.copy(path_of(store), path_of(store, other))
    assert store.load(other) is None
    assert store.load(NAME) is not None


def test_what_cannot_be_kept_is_told_once_and_stops_nothing(tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    store = FeatureStore(tmp_path / "file")
    store.save(NAME, ROWS)
    store.save(NAME, ROWS)
    assert store.load(NAME) is None
    assert capsys.readouterr().err.count("cannot be kept") == 1


def test_a_pipe_in_place_of_vectors_is_not_waited_for(store, capsys):
    store.folder.mkdir()
    os.mkfifo(path_of(store))
    assert store.load(NAME) is None
    assert "it is not a plain file" in capsys.readouterr().err


def test_only_what_belongs_to_the_store_is_removed(store):
    store.save(f"{NAME}/000000", ROWS)
    store.save(f"{key_of('b')}/000000", ROWS)
    store.remove()
    assert not store.folder.exists()
    store.save(f"{NAME}/000000", ROWS)
    (store.folder / "thesis.txt").write_text("precious")
    store.remove()
    assert [entry.name for entry in store.folder.iterdir()] == ["thesis.txt"]


def test_surroundings_follow_the_code_of_the_encoder_and_the_number_of_threads():
    class Elsewhere:
        device = "cpu"

    class OnGpu:
        device = "cuda:0"

    Elsewhere.__module__ = OnGpu.__module__ = "nowhere"

    class Ours:
        device = "cpu"

    Ours.__module__ = "rins_mm.encoder"
    before = key_of(surroundings_of(Elsewhere()))
    assert key_of(surroundings_of(Elsewhere())) == before
    assert len({before, key_of(surroundings_of(OnGpu())), key_of(surroundings_of(Ours()))}) == 3
    torch.set_num_threads(2)
    try:
        assert key_of(surroundings_of(Elsewhere())) != before
    finally:
        torch.set_num_threads(1)
