"""Verification: in a process of the library alone, without network; what was changed is noticed."""

import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import exported
import pytest
import torch
from safetensors.torch import load_file, save_file

import rins_mm
from data_pipelines.errors import UserError
from rins_mm.checkpoint import MANIFEST, write_manifest
from rins_mm.export import consumers
from rins_mm.export.__main__ import main
from rins_mm.export.formats import FORMATS, ExportJob
from rins_mm.export.golden import golden_picture
from rins_mm.export.native import write_native
from rins_mm.export.one_format import write_format
from rins_mm.export.parity import measure, read_parity, write_parity
from rins_mm.export.verify import verify_folder

RUN = Path(consumers.__file__).parent / "run.py"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "tiny"
    write_native(exported.encoder(), folder)
    return folder


@pytest.fixture(scope="module")
def job() -> ExportJob:
    return ExportJob(encoder=exported.encoder(), text_signature="AAB", source="tiny@0")


@pytest.fixture(scope="module")
def parity(job):
    return measure(job)


def consumer_that(does: str, tmp_path: Path) -> subprocess.CompletedProcess:
    """What becomes of a consumer that runs these lines when it loads the folder."""
    lines = "\n".join(f"    {line}" for line in does.splitlines())
    (tmp_path / "consumer.py").write_text(f"def load(folder):\n{lines}\n")
    return subprocess.run(
        [sys.executable, "-I", str(RUN), str(tmp_path / "consumer.py"), str(tmp_path), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_network_is_closed_and_memory_has_an_end(tmp_path):
    asked = "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')"
    assert "the network is closed" in consumer_that(asked, tmp_path).stderr
    asked = "import socket\nsocket.create_connection(('127.0.0.1', 9))"
    assert "the network is closed" in consumer_that(asked, tmp_path).stderr
    assert "MemoryError" in consumer_that("bytearray(2**40)", tmp_path).stderr
    # Neither is this repository on the path of what runs there.
    assert "ModuleNotFound" in consumer_that("import tiny", tmp_path).stderr


def sealed(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    write_manifest(folder, {})


def test_a_folder_is_not_even_read_where_a_file_is_damaged_added_or_could_be_code(
    job, parity, tmp_path
):
    folder = tmp_path / "timm"
    folder.mkdir()
    write_format("timm", job, parity, folder)
    (folder / "note.txt").write_text("mine")
    with pytest.raises(UserError, match=r"note\.txt is not in MANIFEST"):
        verify_folder(folder)
    (folder / "note.txt").rename(folder / "modeling.py")
    with pytest.raises(UserError, match=r"modeling\.py could be code"):
        verify_folder(folder)
    (folder / "modeling.py").unlink()
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        verify_folder(folder)


def test_parity_is_read_as_it_was_written_and_pictures_are_made_again(parity, tmp_path):
    write_parity(parity, "hf", tmp_path)
    read = read_parity(tmp_path)
    assert read.strings == parity.strings and read.token_ids == parity.token_ids
    assert read.text_vectors.equal(parity.text_vectors) and read.pixels.equal(parity.pixels)
    assert read.facts["format"] == "hf" and read.facts["text_signature"] == "AAB"
    document = json.loads((tmp_path / "parity.json").read_text())
    document["pixels_sha256"][100] = "0" * 64
    (tmp_path / "parity.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="other golden pictures"):
        read_parity(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": None}, "format is missing or of another kind"),
        ({"format_version": True}, "format_version is missing or of another kind"),
        ({"dtype": "x"}, "dtype is missing or of another kind"),
        ({"mean": None}, "mean is missing or of another kind"),
        ({"std": [0.5, 0, 0.5]}, "std is missing or of another kind"),
        ({"strings": 5}, "strings is missing or of another kind"),
        ({"strings": [1, 2]}, r"strings\.0 is missing or of another kind"),
        ({"strings": [], "token_ids": []}, "0 strings in place of 1,000"),
        ({"token_ids": [5]}, r"token_ids\.0 is missing or of another kind"),
        ({"token_ids": [[5]]}, "1 token_ids in place of 1,000"),
        ({"pixels_sha256": []}, "0 pixels_sha256 in place of 256"),
        ({"image_size": 10**6}, "image_size is missing or of another kind"),
        ({"image_size": 4096}, "cannot hold pictures of 4,096 pixels a side"),
    ],
)
def test_a_golden_answer_that_is_none_is_named(parity, tmp_path, monkeypatch, changes, words):
    write_parity(parity, "hf", tmp_path)
    document = json.loads((tmp_path / "parity.json").read_text()) | changes
    (tmp_path / "parity.json").write_text(json.dumps(document))
    monkeypatch.setattr("rins_mm.export.parity.resize_picture", pytest.fail)
    with pytest.raises(UserError, match=words):
        read_parity(tmp_path)


def test_the_first_picture_that_is_another_is_the_last_that_is_made(parity, tmp_path, monkeypatch):
    write_parity(parity, "hf", tmp_path)
    document = json.loads((tmp_path / "parity.json").read_text())
    document["pixels_sha256"][1] = "0" * 64
    (tmp_path / "parity.json").write_text(json.dumps(document))
    made = []
    monkeypatch.setattr(
        "rins_mm.export.parity.golden_picture", lambda n: made.append(n) or golden_picture(n)
    )
    with pytest.raises(UserError, match="other golden pictures"):
        read_parity(tmp_path)
    assert made == [0, 1]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("text_vectors", lambda rows: rows[:, :7].clone(), "different widths"),
        ("text_vectors", lambda rows: rows[1:].clone(), "text_vectors is missing or of another"),
        ("picture_vectors", lambda rows: rows.long(), "picture_vectors is missing or of another"),
        ("picture_vectors", lambda rows: rows[0].clone(), "picture_vectors is missing or of"),
        ("text_vectors", lambda rows: rows * float("nan"), "no vectors of finite numbers"),
        ("pixels", lambda rows: rows.float(), "pixels is missing or holds other"),
        ("pixels", lambda rows: rows.flip(0).contiguous(), "pixels is missing or holds other"),
    ],
)
def test_golden_vectors_of_another_kind_are_named(
    parity, tmp_path, monkeypatch, name, change, words
):
    write_parity(parity, "hf", tmp_path)
    tensors = load_file(tmp_path / "parity.safetensors")
    save_file({**tensors, name: change(tensors[name])}, tmp_path / "parity.safetensors")
    # The pictures are known to be the same; making them takes half a second.
    monkeypatch.setattr("rins_mm.export.parity._same_pixels", lambda *_: parity.pixels)
    with pytest.raises(UserError, match=words):
        read_parity(tmp_path)


def test_a_manifest_and_golden_answers_of_different_exports_are_refused(
    parity, tmp_path, monkeypatch
):
    write_parity(parity, "timm", tmp_path)
    write_manifest(tmp_path, {"format": "timm", "dtype": "bf16"})
    monkeypatch.setattr("rins_mm.export.parity._same_pixels", lambda *_: parity.pixels)
    with pytest.raises(UserError, match=r"its dtype is another in parity\.json"):
        verify_folder(tmp_path)


@pytest.mark.slow
def test_what_is_unchanged_is_verified_and_one_changed_weight_is_noticed(job, parity, tmp_path):
    folder = tmp_path / "timm"
    folder.mkdir()
    write_format("timm", job, parity, folder)
    (line,) = verify_folder(folder, batch_sizes=[64])
    assert line.startswith("timm (fp32, text AAB, image AAB): pixels of ")
    assert "pictures differ by" in line
    tensors = load_file(folder / "model.safetensors")
    tensors["norm.bias"][3] += 1e-3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    sealed(folder)
    with pytest.raises(UserError, match=r"pictures differ by .* and may by 1e-05"):
        verify_folder(folder, batch_sizes=[64])


@pytest.mark.long
def test_a_folder_of_transformers_is_verified_and_one_changed_weight_is_noticed(
    job, parity, tmp_path
):
    folder = tmp_path / "hf"
    folder.mkdir()
    write_format("hf", job, parity, folder)
    (line,) = verify_folder(folder, batch_sizes=[64])
    assert "ids of 1000 of 1000 strings equal" in line
    assert "pixels of 256 of 256 pictures equal" in line
    assert "top 10 of 1000 queries equal" in line
    tensors = load_file(folder / "model.safetensors")
    tensors["text_model.head.bias"][3] += 1e-3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    sealed(folder)
    with pytest.raises(UserError, match="captions differ by"):
        verify_folder(folder, batch_sizes=[64])
    del tensors["text_model.head.bias"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    sealed(folder)
    with pytest.raises(UserError, match=r"transformers cannot read.*text_model\.head\.bias"):
        verify_folder(folder, batch_sizes=[64])


@pytest.mark.long
def test_several_formats_are_all_there_or_none(source, tmp_path, capsys, monkeypatch):
    out = tmp_path / "all"
    main([str(source), "--out", str(out), "--formats", "native,timm", "--text-signature", "AAB"])
    printed = capsys.readouterr().out
    assert "native (fp32, text AAB, image AAB): ids of 1000 of 1000" in printed
    assert f"wrote {out / 'timm'}" in printed and "image tower's 2 blocks are 3 layers" in printed
    assert {path.name for path in out.iterdir()} == {"native", "timm"}
    assert rins_mm.load(out / "native").signature == "A^3B"

    monkeypatch.setitem(FORMATS, "timm", replace(FORMATS["timm"], tolerance=1e-12))
    with pytest.raises(UserError, match="does not give what the encoder gave"):
        main([str(source), "--out", str(out), "--formats", "native,timm", "--overwrite"])
    assert {path.name for path in tmp_path.iterdir()} == {"all"}
    with pytest.raises(UserError, match="does not give what the encoder gave"):
        main(["verify", str(out), "--batch-sizes", "64"])


def crafted_program(path: Path, canary: Path) -> None:
    """A .pt2 with a weight whose pickle makes a file when torch reads it."""

    class Touches:
        def __reduce__(self):
            return Path.touch, (canary,)

    weight = io.BytesIO()
    torch.save(Touches(), weight)
    example = (torch.zeros(1, 2),)
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), example), path)
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    (weights,) = (name for name in members if name.endswith("weights_config.json"))
    facts = json.loads(members[weights])
    for one in facts["config"].values():
        one["use_pickle"] = True
    members[weights] = json.dumps(facts).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, weight.getvalue() if "/weights/weight_" in name else data)


@pytest.mark.long
def test_a_program_of_torch_is_not_run_until_somebody_says_that_it_may_be(parity, tmp_path):
    folder, canary = tmp_path / "pt2", tmp_path / "canary"
    folder.mkdir()
    write_parity(parity, "pt2", folder)
    for name in ("image.pt2", "text.pt2"):
        crafted_program(folder / name, canary)
    write_manifest(folder, {})
    with pytest.raises(UserError, match=r"torch runs what such files hold; .*--run-programs"):
        main(["verify", str(folder)])
    assert not canary.exists()
    # The refusal is not for nothing.
    with pytest.raises(UserError, match="torch cannot read"):
        main(["verify", str(folder), "--run-programs", "--batch-sizes", "64"])
    assert canary.exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--formats", "native,coreml"], "no format 'coreml'"),
        (["--text-signature", "ABC"], "calls C; use these letters only"),
        (["--formats", "native,open_clip"], "open_clip cannot express it"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing_behind(argv, message, source, tmp_path):
    with pytest.raises(UserError, match=message):
        main([str(source), "--out", str(tmp_path / "out"), "--no-verify", *argv])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_an_export_is_said_to_be_none(tmp_path):
    with pytest.raises(UserError, match="holds no export"):
        main(["verify", str(tmp_path)])
