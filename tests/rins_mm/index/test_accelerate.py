"""Accelerators: nearly the answers of exact search with exact scores, kept, and never believed from elsewhere."""

import json

import numpy as np
import pytest
import torch
from toy_index import facts_of, unit_rows, write_index

from rins_mm.index import accelerate
from rins_mm.index.accelerate import open_accelerator, search_with
from rins_mm.index.layout import (
    IndexShard,
    metadata_path,
    vectors_path,
    write_facts,
    write_removed,
)
from rins_mm.index.opened import open_index
from rins_mm.index.search import search
from rins_mm.index.shards import write_metadata, write_vectors

pytest.importorskip("faiss")
pytest.importorskip("usearch")


@pytest.fixture(scope="module")
def vectors():
    """2,000 vectors about 50 places."""
    places = unit_rows(50, 16)
    rows = np.repeat(places, 40, axis=0) + 0.2 * unit_rows(2000, 16, seed=1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def folder(vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    return write_index(tmp_path / "index", vectors, per_shard=1000)


@pytest.mark.parametrize("kind", ["faiss", "usearch"])
def test_answers_are_nearly_those_of_exact_search_and_scores_are_exact(folder, vectors, kind):
    index = open_index(folder)
    accelerator = open_accelerator(index, kind)
    queries = torch.from_numpy(vectors[::200] + 0.1 * unit_rows(10, 16, seed=2))
    exact_scores, exact = search(index, queries, 10)
    scores, numbers = search_with(index, accelerator, queries, 10)
    hits = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), numbers.tolist(), strict=True)]
    assert sum(hits) >= 95
    assert accelerator.recall >= 0.9
    same = numbers == exact
    assert torch.allclose(scores[same], exact_scores[same], atol=2e-6)
    assert bool((scores.diff(dim=1) <= 0).all())


@pytest.mark.parametrize("kind", ["faiss", "usearch"])
def test_removed_pictures_are_not_found_and_the_rest_is(folder, vectors, kind):
    query = torch.from_numpy(vectors[:1])
    _, before = search(open_index(folder), query, 5)
    write_removed(folder, before[0].tolist())
    index = open_index(folder)
    _, exact = search(index, query, 5)
    _, numbers = search_with(index, open_accelerator(index, kind), query, 5)
    assert numbers.tolist() == exact.tolist()
    # Where more is asked for than is likely, all are compared.
    _, numbers = search_with(index, open_accelerator(index, kind), query, 10_000)
    assert sorted(numbers[0].tolist()) == index.numbers[index.present].tolist()


@pytest.mark.parametrize("kind", ["faiss", "usearch"])
def test_it_is_kept_and_what_was_not_made_here_is_made_anew(
    folder, kind, monkeypatch, capsys, tmp_path
):
    path = folder / "accelerators" / f"{kind}.bin"
    made = open_accelerator(open_index(folder), kind)
    kept = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(accelerate, "_made", lambda *_: pytest.fail("it was made again"))
        again = open_accelerator(open_index(folder), kind)
    assert (again.effort, again.recall) == (made.effort, made.recall)
    assert not capsys.readouterr().err

    def is_refused(reason: str) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(accelerate, "_loaded", lambda *_: pytest.fail("it was believed"))
            open_accelerator(open_index(folder), kind)
        assert reason in capsys.readouterr().err
        assert path.stat().st_size == len(kept)

    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    is_refused("was not made by this user's programs, or is damaged")
    path.write_bytes(b"anything")
    is_refused("cannot be read")
    # A whole file of another user: sealed, but with a key that is not here.
    (tmp_path / "cache" / "seal.key").unlink()
    path.write_bytes(kept)
    is_refused("was not made by this user's programs")


def test_other_vectors_need_another_accelerator(folder, tmp_path, vectors, capsys):
    open_accelerator(open_index(folder), "faiss")
    other = write_index(tmp_path / "other", vectors[::-1].copy(), per_shard=1000)
    (other / "accelerators").mkdir()
    (other / "accelerators" / "faiss.bin").write_bytes(
        (folder / "accelerators" / "faiss.bin").read_bytes()
    )
    open_accelerator(open_index(other), "faiss")
    assert "was made of other vectors" in capsys.readouterr().err


def test_vectors_that_are_not_those_of_their_hashes_make_no_accelerator(folder):
    data = json.loads((folder / "index.json").read_text())
    data["shards"][1]["vectors_sha256"] = "f" * 64
    (folder / "index.json").write_text(json.dumps(data))
    with pytest.raises(accelerate.UserError, match=r"00001\.npy is damaged: its SHA-256"):
        open_accelerator(open_index(folder), "faiss")


def test_product_quantization_wants_many_vectors(folder):
    with pytest.raises(accelerate.UserError, match="faiss-pq learns from 9,984 or more"):
        open_accelerator(open_index(folder), "faiss-pq")


def test_where_nothing_can_be_kept_it_is_made_all_the_same(folder, monkeypatch, capsys):
    (folder / "accelerators").write_text("in the way")
    accelerator = open_accelerator(open_index(folder), "faiss")
    assert accelerator.recall > 0.9
    assert "cannot be kept" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["accelerators", "accelerators/faiss.bin"])
def test_none_is_kept_where_links_lead_elsewhere(folder, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "faiss.bin").write_text("precious")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(tmp_path / "elsewhere" / name.partition("/")[2])
    with pytest.raises(accelerate.UserError, match=f"{name} is a link.*search exactly"):
        open_accelerator(open_index(folder), "faiss")
    assert [file.read_text() for file in (tmp_path / "elsewhere").iterdir()] == ["precious"]


@pytest.mark.parametrize("kind", ["faiss", "usearch"])
def test_vectors_that_are_not_finite_make_no_accelerator(vectors, tmp_path, kind):
    spoilt = vectors[:200].copy()
    spoilt[7, 3] = np.nan
    index = open_index(write_index(tmp_path / "index", spoilt))
    with pytest.raises(
        accelerate.UserError, match=r"00000\.npy is damaged: it has numbers that are"
    ):
        open_accelerator(index, kind)
    with pytest.raises(accelerate.UserError, match="numbers that are not finite"):
        index.gathered(np.array([7]))


@pytest.mark.parametrize("kind", ["faiss", "faiss-pq", "usearch"])
def test_an_index_without_vectors_has_no_accelerator(tmp_path, kind):
    shard = IndexShard(
        first_number=0,
        num_numbers=1,
        num_pictures=0,
        vectors_sha256=write_vectors(vectors_path(tmp_path, 0), np.empty((0, 16), np.float16)),
        metadata_sha256=write_metadata(metadata_path(tmp_path, 0), []),
    )
    write_facts(tmp_path, facts_of([shard], 16, 1, 1))
    with pytest.raises(accelerate.UserError, match=r"has no vectors.*search exactly"):
        open_accelerator(open_index(tmp_path), kind)
