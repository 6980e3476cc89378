"""Building indexes: the same bytes at any number of ranks, killed or not; adding, removing, refusing."""

import fcntl
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from launching import Launch, run
from PIL import Image
from toy_index import build_argv

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from rins_mm.encoder import SignatureEncoder
from rins_mm.index import build as build_module
from rins_mm.index.__main__ import main
from rins_mm.index.layout import UNFINISHED
from rins_mm.index.opened import open_index
from rins_mm.index.search import search
from rins_mm.index.verify import verify, verify_pictures


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def slow_main(argv: list[str]) -> None:
    """Building with a model that takes its time."""
    real = SignatureEncoder.encode_images

    def encode_images(self: SignatureEncoder, *arguments: Any) -> Any:
        time.sleep(0.5)
        return real(self, *arguments)

    SignatureEncoder.encode_images = encode_images
    main(argv)


def test_vectors_and_metadata_are_those_of_the_pictures(built, pictures):
    index = open_index(built)
    assert index.num_pictures == 68
    assert [n for n in range(70) if n not in index.numbers] == [5, 41]
    encoder = tiny.encoder()
    for number in (0, 17, 69):
        path = pictures / f"{number:02d}.png"
        row = index.row(number)
        assert (row["name"], row["width"], row["height"]) == (path.name, 30, 20 + number)
        own = encoder.encode_images([path])
        assert float((index.vector(number) - own).abs().max()) < 1e-3
        assert np.array_equal(index.picture(number), np.asarray(Image.open(path)))
        _, numbers = search(index, own, 1)
        assert numbers.item() == number
    assert index.facts.left_out == {"not a picture": 2}
    assert '"05.png"' in (built / "left_out.jsonl").read_text()
    assert verify(index) == verify_pictures(index) == []
    assert not (built / UNFINISHED).exists()


@pytest.mark.slow
def test_a_build_that_is_killed_goes_on_at_another_number_of_ranks_and_ends_with_the_same_bytes(
    model, pictures, built, tmp_path
):
    out = tmp_path / "index"
    argv = build_argv(model, pictures, out)
    launch = Launch(slow_main, argv, tmp_path / "1", 2)
    deadline = time.monotonic() + 300
    while len(list(out.glob(f"{UNFINISHED}/0*.json"))) < 2:
        assert launch.running() and time.monotonic() < deadline, launch.output()
        time.sleep(0.01)
    launch.kill()
    with pytest.raises(UserError, match="has not come to its end"):
        open_index(out)
    # What a process was writing when it died, and a whole file of which nobody knows.
    (out / "vectors" / ".00004.npy.77.tmp").write_bytes(b"half")
    (out / "vectors" / "00004.npy").write_bytes(b"unknown")
    left = len(list(out.glob(f"{UNFINISHED}/0*.json")))
    assert 2 <= left < 5
    outcomes = run(main, argv, tmp_path / "2", world_size=3, timeout=300)
    assert [outcome.code for outcome in outcomes] == [0, 0, 0], outcomes
    assert f"{left} of 5 shards with" in outcomes[0].output
    assert "2 left out: not a picture" in outcomes[0].output
    assert contents(out) == contents(built)


def test_a_finished_shard_that_was_damaged_meanwhile_is_made_again(
    model, pictures, built, tmp_path, monkeypatch
):
    out = tmp_path / "index"

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build_module, "write_facts", die)
        with pytest.raises(KeyboardInterrupt):
            main(build_argv(model, pictures, out))
    (out / "vectors" / "00002.npy").write_bytes(b"flipped")
    (out / UNFINISHED / "00001.json").write_text("{")
    main(build_argv(model, pictures, out))
    assert contents(out) == contents(built)


def test_adding_takes_what_is_new_and_goes_on_after_it_was_cut_off(
    model, pictures, tmp_path, monkeypatch, capsys
):
    few, out = tmp_path / "few", tmp_path / "index"
    few.mkdir()
    for number in range(20):
        shutil.copy(pictures / f"{number:02d}.png", few)
    main(build_argv(model, few, out))
    before = contents(out)
    with monkeypatch.context() as patched:
        patched.setattr(build_module, "write_left_out", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["add", str(out), "--pictures", str(pictures)])
    # Half an addition changes nothing for those who search.
    assert open_index(out).num_pictures == 19
    assert {name: contents(out)[name] for name in before} == before
    capsys.readouterr()
    main(["add", str(out), "--pictures", str(pictures)])
    printed = capsys.readouterr()
    assert "19 pictures are in the index already" in printed.out
    assert "added 49 pictures" in printed.out
    assert "4 of 4 shards with 49 pictures are whole" in printed.err
    index = open_index(out)
    assert index.num_pictures == 68
    assert verify(index) == verify_pictures(index) == []
    # Their numbers follow those of the first source, gaps included.
    assert index.row(int(index.numbers[19]))["name"] == "20.png"
    assert index.facts.left_out == {"not a picture": 3}
    before = contents(out)
    main(["add", str(out), "--pictures", str(pictures)])
    assert "none of 2 new pictures can be used ({'not a picture': 2})" in capsys.readouterr().err
    assert contents(out) == before


def test_removed_pictures_are_gone_and_may_be_added_again(built, pictures, tmp_path, capsys):
    out = tmp_path / "index"
    shutil.copytree(built, out)
    main(["remove", str(out), "--numbers", "3", "--where", "height>=85"])
    assert "removed 6 pictures" in capsys.readouterr().out
    index = open_index(out)
    assert index.num_pictures == 62
    main(["add", str(out), "--pictures", str(pictures)])
    index = open_index(out)
    assert index.num_pictures == 68
    assert index.row(70)["name"] == "03.png"
    assert np.array_equal(index.picture(70), np.asarray(Image.open(pictures / "03.png")))
    with pytest.raises(UserError, match="no picture 3 "):
        main(["remove", str(out), "--numbers", "3"])
    with pytest.raises(UserError, match="nothing is named"):
        main(["remove", str(out)])


def test_a_picture_that_moved_is_found_by_its_name_and_one_that_changed_is_not_shown(
    built, pictures, tmp_path
):
    moved = tmp_path / "moved"
    shutil.copytree(pictures, moved)
    (moved / "00.png").unlink()
    (moved / "60.png").write_bytes((moved / "61.png").read_bytes())
    index = open_index(built, pictures=[str(moved)])
    assert np.array_equal(index.picture(12), np.asarray(Image.open(pictures / "12.png")))
    with pytest.raises(BadSample, match="moved since"):
        index.picture(0)
    with pytest.raises(BadSample, match="changed since"):
        index.picture(60)
    assert verify_pictures(index)[:2] == [
        "1 pictures: moved since it was indexed",
        "1 pictures: changed since it was indexed",
    ]


def test_an_index_is_replaced_only_when_asked_and_then_no_other_file_is_touched(
    model, pictures, built, tmp_path
):
    out = tmp_path / "index"
    shutil.copytree(built, out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is an index already"):
        main(build_argv(model, pictures, out))
    main([*build_argv(model, pictures, out)[:-1], "40", "--overwrite"])
    assert (out / "notes.txt").read_text() == "mine"
    index = open_index(out)
    assert [shard.num_numbers for shard in index.facts.shards] == [40, 30]
    assert sorted(path.name for path in (out / "vectors").iterdir()) == ["00000.npy", "00001.npy"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_text("x")
    with pytest.raises(UserError, match="is not empty and no index"):
        main([*build_argv(model, pictures, other), "--overwrite"])


def test_another_plan_does_not_go_on_with_what_is_unfinished(
    model, pictures, tmp_path, monkeypatch
):
    out = tmp_path / "index"
    with monkeypatch.context() as patched:
        patched.setattr(build_module, "_close", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(build_argv(model, pictures, out))
    with pytest.raises(UserError, match=r"other settings or other pictures \(batch size\)"):
        main([*build_argv(model, pictures, out), "--batch-size", "2"])
    main([*build_argv(model, pictures, out), "--batch-size", "2", "--overwrite"])
    assert verify(open_index(out)) == []


def test_pictures_that_are_all_broken_make_no_index(model, tmp_path):
    folder, out = tmp_path / "pictures", tmp_path / "index"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"?")
    with pytest.raises(UserError, match="none of the 1 pictures can be used"):
        main(build_argv(model, folder, out))
    Image.fromarray(tiny.pixels(1)).save(folder / "a.png")
    main(build_argv(model, folder, out))
    assert open_index(out).num_pictures == 1


def test_two_builds_do_not_write_to_one_folder(model, pictures, tmp_path):
    out = tmp_path / "index"
    (out / UNFINISHED).mkdir(parents=True)
    with (out / UNFINISHED / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another build is writing"):
            main(build_argv(model, pictures, out))
