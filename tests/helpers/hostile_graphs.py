"""Hostile graphs whose weights lie elsewhere, programs with pickles, and small files of results and records."""

# ruff: noqa: E501  (a case stands on one line)

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile_data import HTML
from hostile_files import (
    Input,
    at,
    canary_beside,
    changed,
    pickles,
    put,
    spoilt_json,
    spoilt_names,
    spoilt_pickles,
)
from hostile_models import all_of, seal
from hostile_settings import OUTSIDE


def inputs() -> Iterator[Input]:
    """All of them."""
    yield from onnx()
    yield from programs()
    yield from records()
    yield from at("results", "", all_of(spoilt_json, spoilt_names, spoilt_pickles))
    yield from packages()


def onnx() -> Iterator[Input]:
    """Pairs of graphs."""
    yield from at("onnx", "onnx.json", all_of(spoilt_json, spoilt_names, spoilt_pickles))
    for file in ("image.onnx", "text.onnx"):
        yield from at("onnx", file, all_of(spoilt_names, spoilt_pickles))
    for name, values in {
        "context of 10^10": {"text__context_length": 10**10}, "context of 10^6": {"text__context_length": 10**6},
        "pictures of 10^6 pixels": {"image__size": 10**6}, "pictures of -1": {"image__size": -1},
        "means that are no numbers": {"image__mean": [float("nan")] * 3}, "input of another name": {"text__input": "x"},
    }.items():  # fmt: skip
        yield from at("onnx", "onnx.json", iter([("json", name, changed(**values))]))
    for name, location in {
        "weights that climb out": "../../secret.bin", "weights of the root": "/etc/passwd", "weights of a device": "/dev/zero",
        "weights behind a link": "link.bin", "weights that are missing": "gone.bin", "weights with a NUL": "a\0b", "weights at an address": OUTSIDE,
        "weights of a pipe": "pipe.bin", "weights of no name": "", "weights beside themselves": "image.onnx",
    }.items():  # fmt: skip
        yield from at("onnx", "", iter([("onnx", name, _outside(location))]))
    for name, length in {"of 2^62 bytes": 2**62, "of -1 bytes": -1}.items():
        yield from at(
            "onnx", "", iter([("onnx", f"weights {name}", _outside("inside.bin", length))])
        )
    yield from at("onnx", "", iter([("onnx", "operator of a stranger", _operator)]))
    yield from at("onnx", "", iter([("onnx", "tensor of 10^15 numbers", _unfolding)]))


def _outside(location: str, length: int = 3 * 32 * 32 * 32 * 4) -> Callable[[Path], None]:
    """The weights of image.onnx lie in another file."""

    def spoil(folder: Path) -> None:
        import onnx

        (folder.parent / "secret.bin").write_bytes(bytes(3 * 32 * 32 * 32 * 4))
        (folder / "inside.bin").write_bytes(bytes(100))
        (folder / "link.bin").symlink_to("/etc/passwd")
        os.mkfifo(folder / "pipe.bin")
        model = onnx.load(folder / "image.onnx")
        for tensor in model.graph.initializer:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in {"location": location, "offset": "0", "length": str(length)}.items():
                tensor.external_data.add(key=key, value=value)
        put(folder / "image.onnx", model.SerializeToString())

    return spoil


def _operator(folder: Path) -> None:
    import onnx

    model = onnx.load(folder / "image.onnx")
    model.graph.node[0].domain, model.graph.node[0].op_type = "evil", "System"
    put(folder / "image.onnx", model.SerializeToString())


def _unfolding(folder: Path) -> None:
    """A constant expands to a petabyte while the graph is made ready."""
    import onnx
    from onnx import helper

    model = onnx.load(folder / "image.onnx")
    shape = helper.make_tensor("huge", onnx.TensorProto.INT64, [3], [10**5] * 3)
    value = helper.make_tensor("one", onnx.TensorProto.FLOAT, [1], [1.0])
    model.graph.initializer.extend([shape, value])
    model.graph.node.append(helper.make_node("Expand", ["one", "huge"], ["unfolded"]))
    model.graph.output.append(helper.make_tensor_value_info("unfolded", 1, [10**5] * 3))
    put(folder / "image.onnx", model.SerializeToString())


def programs() -> Iterator[Input]:
    """Exports whose programs are torch's own archives."""
    yield from at("export_pt2", "image.pt2", all_of(spoilt_pickles, spoilt_names), seal)
    for name, wanted in {"examples": "sample_inputs", "weights": "weights"}.items():
        yield from at(
            "export_pt2",
            "image.pt2",
            iter([("pickle", f"pickled {name}", _with_pickle(wanted))]),
            seal,
        )
    yield from at(
        "export_pt2", "image.pt2", iter([("code", "expressions with calls", _with_calls)]), seal
    )
    yield from at("export_pt2", "pt2.json", all_of(spoilt_json, spoilt_names), seal)


def _with_pickle(part: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        trap = pickles(path)["pickle of torch, zip"]

        def change(name: str, content: bytes) -> bytes:
            if name.endswith("_config.json") and part == "weights":
                return content.replace(b'"use_pickle": false', b'"use_pickle": true')
            hit = part == "sample_inputs" and "/sample_inputs/" in name
            hit |= part == "weights" and "/weights/weight_" in name
            return trap if hit else content

        _rewritten(path, change, f"{path.stem}/data/sample_inputs/model.pt", trap)

    return spoil


def _with_calls(path: Path) -> None:
    mark = str(canary_beside(path))
    call = f"__import__('os').mkdir({mark!r})"

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        for sign in (b'"expr_str": "', b'"as_expr": "'):
            content = content.replace(sign, sign + call.encode() + b" + ")
        return content

    _rewritten(path, change)


def _rewritten(
    path: Path, change: Callable[[str, bytes], bytes], extra: str = "", more: bytes = b""
) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: change(name, archive.read(name)) for name in archive.namelist()}
    if extra and more:
        first = next(iter(files)).partition("/")[0]
        files.setdefault(f"{first}/{extra.partition('/')[2]}", more)
        for name in files:
            if "/sample_inputs/" in name and "sample_inputs" in extra:
                files[name] = more
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def records() -> Iterator[Input]:
    """Records of a study that are there already."""
    changes: dict[str, dict[str, Any]] = {
        "nothing measured": {"held_out": None}, "losses of text": {"held_out__losses__AB": "5"},
        "arms of lists": {"arm": [1]}, "another arm": {"arm": "rins"}, "seed of 10^30": {"seed": 10**30},
        "nothing spent": {"spent__flops": 0}, "spent without end": {"spent__flops": 1e308},
        "a curve of lists": {"curve": [[1]]}, "losses of nothing": {"losses": [[]]}, "no losses": {"losses": []},
        "intervals of text": {"results__0__intervals": {"image_retrieval_recall@1": "ab"}},
        "a depth of HTML": {"trained_depth": HTML}, "another depth": {"trained_depth": "AAAB"},
        "versions of HTML": {"versions": {HTML: HTML, "git_commit": f"\x1b[2J{HTML}"}},
        "10^5 results": {"results": [{}] * 10**5}, "300 depths": {"held_out__losses": {"A" * n: 1.0 for n in range(300)}},
        "settings that are a list": {"config": [1], "config_hash": "x"},
    }  # fmt: skip
    for name, values in changes.items():
        yield Input(thing="records", kind="results", name=name,
                    spoil=lambda path, v=values: [changed(**v)(file) for file in sorted(path.rglob("*.json"))])  # fmt: skip
    for kind, name, make in all_of(spoilt_json, spoilt_names, spoilt_pickles):
        yield Input(thing="records", kind=kind, name=name,
                    spoil=lambda path, m=make: [m(file) for file in sorted(path.rglob("*.json"))])  # fmt: skip


def packages() -> Iterator[Input]:
    """Packages of the emoji pack, packed (known by their hashes) and unpacked."""
    yield from at(
        "packages", "emoji-datasource-google-16.0.0.tgz", all_of(spoilt_pickles, spoilt_names)
    )
    for kind, name, make in all_of(spoilt_json, spoilt_names, spoilt_pickles):
        yield Input(thing="packages", kind=kind, name=f"unpacked: {name}",
                    spoil=lambda path, m=make: _unpacked(path, m))  # fmt: skip


def _unpacked(path: Path, make: Callable[[Path], object]) -> None:
    folder = path / "emoji-datasource-google-16.0.0" / "package"
    folder.mkdir(parents=True)
    make(folder / "package.json")
