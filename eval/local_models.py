"""What the adapters to other libraries share: no network, mistakes in one line, a hash of all that counts."""

import hashlib
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, uint8

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json, require_modest_folder

SPARE_BYTES = 2**30
MAX_JSON_BYTES = 128 * 2**20
"""The largest tokenizer.json that is known has 35 MB."""
MAX_CONFIG_BYTES = 2**20
MOST_LAYERS = 1000
"""Of one tower; building more takes long before memory ends."""
MAX_SIDE = 8192
"""Pixels of the pictures that a model takes."""
LONGEST_CAUSE = 300
"""Characters of a library's own words that fit into one line of ours."""


@contextmanager
def loading(what: str, *, extra: str, place: Path) -> Iterator[None]:
    """Around the loading of a model: nothing is fetched, memory is bounded by the size of the file or the
    folder that it lies in, and all that fails is told in one line.
    """
    try:
        _refuse_endless(place)
        _refuse_parts_elsewhere(place)
        require_modest_folder(place, MAX_JSON_BYTES)
        with (
            _without_hub(), _without_log(), _quiet_transformers(), _bounded_memory(_most_bytes(place)),
        ):  # fmt: skip
            yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"{what} needs a package that is not installed ({_in_one_line(error)}); "
            f"install it with: pip install 'rins_mm[{extra}]'"
        ) from error
    # Three libraries meet a broken or a foreign folder with nearly any exception there is.
    except Exception as error:
        raise UserError(
            f"cannot load {what}: {_in_one_line(error)}; give a complete copy of it "
            "(nothing is fetched from the network)"
        ) from error


@contextmanager
def _without_hub() -> Iterator[None]:
    """What is asked of the Hugging Face hub is answered from its cache on this disk, or not at all."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _without_log() -> Iterator[None]:
    """Three libraries log words of the files that they read, as they stand there; what counts is checked here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without its progress bars, without warnings of what is checked here, and without its question
    whether code in a folder shall be run: it shall not.
    """
    try:
        from transformers import dynamic_module_utils
        from transformers.utils import logging as theirs
    except ImportError:
        # Some models do without it; the others will say that they need it.
        yield
        return
    level, shows_bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    seconds_to_answer = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = seconds_to_answer
        theirs.set_verbosity(level)
        if shows_bars:
            theirs.enable_progress_bar()


def _most_bytes(place: Path) -> int:
    """What loading may take: weights in another form, and once more, and what the libraries hold."""
    files = [path for path in place.rglob("*") if not path.is_dir()] if place.is_dir() else [place]
    for path in files:
        # A library would wait for a pipe, and read a device without end.
        if path.exists() and not path.is_file():
            raise ValueError(f"{path.name} is not a plain file")
        if path.suffix == ".json" and path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(
                f"{path.name} has {path.stat().st_size:,} bytes, and no settings need as many"
            )
    return SPARE_BYTES + 8 * sum(path.stat().st_size for path in files if path.is_file())


def _refuse_endless(place: Path) -> None:
    """Raises ValueError where a description wants so many layers that building them would take for ever."""
    for path in (*place.rglob("config.json"), *place.rglob("open_clip_config.json")):
        for layers in _layers(_described(path, MAX_CONFIG_BYTES)):
            if layers > MOST_LAYERS:
                raise ValueError(
                    f"{path.name} wants {layers:,} layers, and {MOST_LAYERS:,} is the limit"
                )


def _refuse_parts_elsewhere(place: Path) -> None:
    """Raises ValueError where a list of parts names a file outside of its folder, such as a device."""
    for path in place.rglob("*.index.json"):
        described = _described(path, MAX_JSON_BYTES)
        parts = described.get("weight_map") if isinstance(described, dict) else None
        for part in parts.values() if isinstance(parts, dict) else ():
            if not isinstance(part, str) or Path(part).name != part:
                raise ValueError(
                    f"{path.name} names the part {part!r}, which is no file of its folder"
                )


def _described(path: Path, max_bytes: int) -> object:
    try:
        return read_plain_json(path, max_bytes)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} is not readable ({error})") from error


def _layers(described: object) -> Iterator[int]:
    """All numbers of layers in a description."""
    if isinstance(described, dict):
        for name, value in described.items():
            if name in ("num_hidden_layers", "num_layers", "layers", "depth") and isinstance(
                value, int
            ):
                yield value
            yield from _layers(value)


@contextmanager
def _bounded_memory(most_bytes: int) -> Iterator[None]:
    """No more than so many bytes beyond what this process holds: a config.json may name any number as a width.

    Without a bound where GPUs are, whose driver reserves far more than it uses, and where Linux is not.
    """
    status = Path("/proc/self/status")
    if torch.cuda.is_available() or not status.is_file():
        yield
        return
    import resource

    held = re.search(r"VmData:\s*(\d+) kB", status.read_text())
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = 1024 * int(held[1] if held else 0) + most_bytes
    bounds = [bound for bound in (wanted, before, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def _in_one_line(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= LONGEST_CAUSE else f"{words[:LONGEST_CAUSE]} …"


def existing_folder(folder: Path, holds: str) -> Path:
    """The folder, if it is there."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give one that holds {holds}")
    return folder


def saved_files(save: Callable[[str], object]) -> dict[str, bytes]:
    """What a library writes when it saves a tokenizer or a processor: all that decides what it does."""
    with TemporaryDirectory() as folder:
        save(folder)
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }


def fingerprint_of(
    *, tensors: Mapping[str, Tensor], files: Mapping[str, bytes], settings: Any
) -> str:
    """A hash of weights, of files and of plain settings: equal hashes give equal vectors."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}".encode())
        digest.update(content)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        # Flat, because a tensor without axes cannot be seen as bytes.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()
