"""The child process of verification:  python -I run.py CONSUMER.py FOLDER WORK

The network is closed and memory is limited. Nothing of this project is imported, unless the consumer is
the project itself. CONSUMER.py offers `load(folder)`, whose result has these methods, or those of them
that the format knows:

token_ids(strings) -> lists of ids, without padding
text_vectors(strings) -> float32 [N, E], of any norm
left_alone(strings) -> booleans: whether the library passes a string to its tokenizer as it is
pixels(pictures) -> float32 [N, 3, S, S], normalised, from PIL pictures in RGB
picture_vectors(pixels) -> float32 [N, E] of such pixels, of any norm

CONSUMER.py imports nothing but the standard library before `load` is called. It may say
USES_TORCHVISION = True (it imports torchvision) or IS_THIS_PROJECT = True.

WORK holds `task.json`, `pixels.npy` and the pictures as files; the answers are written there.
"""

import importlib.util
import json
import resource
import runpy
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
OWN_PACKAGES = {"rins_mm", "eval", "data_pipelines"}
MEMORY = 16 * 2**30
"""Bytes of address space beside eight times the folder's: libraries alone map several GB."""


class ClosedSocket(socket.socket):
    """A socket that nobody can open."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise OSError("the network is closed while an export is verified")


def main(consumer_file: str, folder: Path, work: Path) -> None:
    """Write down what the consumer gives for each task."""
    socket.socket = ClosedSocket  # type: ignore[misc]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    most, hard = MEMORY + 8 * size, resource.getrlimit(resource.RLIMIT_AS)[1]
    # Whoever started this may have a lower limit, which cannot be raised.
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    spec = importlib.util.spec_from_file_location("consumer", consumer_file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # The declarations live as long as what run_path returns.
    patch = None
    if getattr(module, "USES_TORCHVISION", False):
        patch = runpy.run_path(str(ROOT / "data_pipelines" / "torchvision_cpu.py"))
    if getattr(module, "IS_THIS_PROJECT", False):
        sys.path.insert(0, str(ROOT))
    consumer = module.load(folder)
    answer(consumer, json.loads((work / "task.json").read_text()), work)
    del patch
    own = sorted(OWN_PACKAGES & sys.modules.keys())
    (work / "done.json").write_text(json.dumps({"own_packages": own}))


def answer(consumer: Any, task: dict[str, Any], work: Path) -> None:
    """Ask the consumer for all that it knows, and write it down."""
    import numpy as np
    from PIL import Image

    strings = task["strings"]
    for name in ("token_ids", "left_alone"):
        if hasattr(consumer, name):
            (work / f"{name}.json").write_text(json.dumps(getattr(consumer, name)(strings)))
    given = np.load(work / "pixels.npy", allow_pickle=False)
    if hasattr(consumer, "pixels"):
        pictures = [Image.open(path).convert("RGB") for path in sorted(work.glob("*.png"))]
        own = in_batches(consumer.pixels, pictures, 64)
        np.save(work / "own_pixels.npy", own)
        np.save(work / "own_picture_vectors.npy", in_batches(consumer.picture_vectors, own, 64))
    for size in map(int, task["batches"]):
        numbers = task["batches"][str(size)]
        if hasattr(consumer, "text_vectors"):
            chosen = [strings[number] for number in numbers["strings"]]
            np.save(work / f"text-{size}.npy", in_batches(consumer.text_vectors, chosen, size))
        if hasattr(consumer, "picture_vectors"):
            chosen = given[numbers["pictures"]]
            np.save(
                work / f"picture-{size}.npy", in_batches(consumer.picture_vectors, chosen, size)
            )


def in_batches(function: Callable[[Any], Any], items: Any, size: int) -> Any:
    """What a function gives for all items, asked for `size` at once."""
    import numpy as np

    parts = [function(items[start : start + size]) for start in range(0, len(items), size)]
    return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
