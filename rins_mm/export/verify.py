"""Whether an exported folder gives, in its consumer's own library, what the encoder gave.

The library runs in a child process (consumers/run.py); here its answers are compared.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from data_pipelines.errors import UserError
from data_pipelines.plain_files import MAX_BYTES, require_modest_folder
from rins_mm.checkpoint import verify_manifest
from rins_mm.export import consumers
from rins_mm.export.compare import Answers, compare
from rins_mm.export.formats import FORMATS
from rins_mm.export.parity import Parity, read_parity, save_golden_pictures

BATCH_SIZES = (1, 2, 7, 64)
SOME = 32
"""Strings, and pictures, that are compared at batch sizes other than the last."""
MOST_SECONDS = 3600
CODE_AND_PICKLES = {
    ".py", ".so", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".joblib",
}  # fmt: skip
"""Endings of files that could run something; none belongs into an export."""
FACTS = {"format", "dtype", "text_signature", "image_signature", "fingerprint"}
"""What MANIFEST.json and parity.json both say."""


def verify_folder(
    folder: Path,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    all_batches: bool = False,
    run_programs: bool = False,
) -> list[str]:
    """What was compared, in lines. Raises UserError where anything differs by more than it may.

    Formats whose files can run code are read with `run_programs` alone.
    """
    manifest = verify_manifest(folder)
    if odd := [name for name in _files(folder) if Path(name).suffix in CODE_AND_PICKLES]:
        raise UserError(f"{folder / odd[0]} could be code, which no export holds; use another copy")
    if stray := sorted(set(_files(folder)) - set(manifest["files"]) - {"MANIFEST.json"}):
        raise UserError(f"{folder / stray[0]} is not in MANIFEST.json; use another copy")
    _require_modest(folder)
    parity = read_parity(folder)
    # A manifest that was sealed again may say nothing of these.
    for fact in FACTS & manifest.keys():
        if manifest[fact] != parity.facts[fact]:
            raise UserError(
                f"{folder} cannot be verified: its {fact} is another in parity.json than in "
                "MANIFEST.json; export it again"
            )
    name = parity.facts["format"]
    if name not in FORMATS:
        raise UserError(f"{folder} is of the unknown format {name!r}; use a newer rins_mm")
    # A manifest shows that a folder is as its writer left it, not who that was.
    if FORMATS[name].runs_what_it_holds and not run_programs:
        raise UserError(
            f"{folder} is of the format {name}, and {FORMATS[name].library} runs what such files hold; "
            "if you know who wrote it, give --run-programs"
        )
    batches = _batches(parity, sorted(set(batch_sizes)), all_batches)
    with TemporaryDirectory() as work:
        answers = _ask(name, folder, parity, batches, Path(work))
    lines, faults = compare(name, parity, answers)
    if faults:
        raise UserError(
            f"{folder} does not give what the encoder gave: {'; '.join(faults)}; "
            f"do not use it, and report it with the versions of rins_mm and {FORMATS[name].library}"
        )
    return lines


def _require_modest(folder: Path) -> None:
    """Raise UserError where a library would fill the memory with what a small file of JSON says."""
    try:
        require_modest_folder(folder, MAX_BYTES)
    except ValueError as error:
        raise UserError(f"{folder} cannot be verified: {error}; use another copy") from error


def _files(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]


def _batches(
    parity: Parity, sizes: Sequence[int], all_batches: bool
) -> dict[int, dict[str, list[int]]]:
    """The numbers of the strings and pictures that are asked for at each batch size."""
    batches = {}
    for size in sizes:
        counts = {"strings": len(parity.strings), "pictures": len(parity.pixels)}
        batches[size] = {
            name: list(range(count))
            if all_batches or size == sizes[-1]
            else list(range(0, count, max(1, count // SOME)))
            for name, count in counts.items()
        }
    return batches


def _ask(
    name: str, folder: Path, parity: Parity, batches: dict[int, dict[str, list[int]]], work: Path
) -> Answers:
    """What the library answers in a process of its own."""
    task = {"strings": list(parity.strings), "batches": batches}
    (work / "task.json").write_text(json.dumps(task))
    np.save(work / "pixels.npy", normalised(parity))
    save_golden_pictures(work)
    place = Path(consumers.__file__).parent
    command = [
        sys.executable, "-I", str(place / "run.py"), str(place / f"{name}.py"),
        str(folder.resolve()), str(work),
    ]  # fmt: skip
    environment = {
        **{k: v for k, v in os.environ.items() if not k.endswith(("_proxy", "_PROXY", "_TOKEN"))},
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
    }
    try:
        child = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True,
            timeout=MOST_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{FORMATS[name].library} has not finished with {folder} in {MOST_SECONDS} s; "
            "verify on a faster machine, or with fewer --batch-sizes"
        ) from error
    if child.returncode or not (work / "done.json").is_file():
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise UserError(
            f"{FORMATS[name].library} cannot read {folder}: {last[:400]}; "
            f"install its packages: pip install 'rins_mm[{FORMATS[name].extra or 'export'}]'"
        )
    return _read_answers(work, batches)


def normalised(parity: Parity) -> np.ndarray:
    """The golden pixels as towers take them: float32 [M, 3, S, S]."""
    mean, std = (torch.tensor(parity.facts[key])[:, None, None] for key in ("mean", "std"))
    return ((parity.pixels.float() / 255 - mean) / std).numpy()


def _read_answers(work: Path, batches: dict[int, dict[str, list[int]]]) -> Answers:
    def numbers(path: Path) -> Any:
        return torch.from_numpy(np.load(path, allow_pickle=False)) if path.is_file() else None

    def words(path: Path) -> Any:
        return json.loads(path.read_text()) if path.is_file() else None

    return Answers(
        token_ids=words(work / "token_ids.json"),
        left_alone=words(work / "left_alone.json"),
        own_pixels=numbers(work / "own_pixels.npy"),
        own_picture_vectors=numbers(work / "own_picture_vectors.npy"),
        text_vectors={
            size: (chosen["strings"], vectors)
            for size, chosen in batches.items()
            if (vectors := numbers(work / f"text-{size}.npy")) is not None
        },
        picture_vectors={
            size: (chosen["pictures"], vectors)
            for size, chosen in batches.items()
            if (vectors := numbers(work / f"picture-{size}.npy")) is not None
        },
        own_packages=words(work / "done.json")["own_packages"],
    )
