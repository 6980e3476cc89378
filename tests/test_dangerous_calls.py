"""Where code could be run, files unpickled, programs started or the network reached: here and nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("rins_mm", "eval", "data_pipelines", "configs")

GUARDED = (
    # Text or bytes become code.
    "eval", "exec", "__import__", "builtins.compile", "code", "codeop", "importlib.import_module",
    "importlib.util.spec_from_file_location", "pkgutil", "runpy", "ctypes", "sympy",
    # Formats that can carry code.
    "pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "copyreg", "yaml", "pandas", "torch.load",
    "torch.jit", "torch.hub", "torch.package", "torch.export.load", "torch.ops.load_library",
    "torch.utils.cpp_extension", "numpy.load",
    "numpy.fromfile", "transformers.AutoModel", "transformers.AutoConfig", "transformers.AutoProcessor",
    "transformers.AutoTokenizer", "sentence_transformers", "onnxruntime.InferenceSession", "faiss", "usearch",
    "open_clip.create_model", "open_clip.create_model_and_transforms", "open_clip.get_tokenizer",
    "open_clip.tokenizer.HFTokenizer", "timm.create_model",
    # Archives that write where they like.
    "tarfile", "shutil.unpack_archive", "zipfile",
    # Programs.
    "subprocess", "pty", "os.system", "os.popen", "os.execv", "os.execve", "os.execvp", "os.spawnv", "os.posix_spawn",
    "os.startfile", "webbrowser",
    # The network.
    "socket", "socketserver", "http", "urllib", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "fsspec",
    "huggingface_hub", "asyncio", "xmlrpc", "uvicorn",
    # Pages.
    "jinja2.Environment", "jinja2.Template", "markupsafe",
)  # fmt: skip
METHODS = (
    "from_pretrained", "extractall", "extract", "from_string", "load_library", "load_state_dict_from_url",
    "all_gather_object", "broadcast_object_list", "gather_object", "scatter_object_list", "send_object_list",
)  # fmt: skip
"""Guarded whatever they are called on."""

REQUIRED = {
    "numpy.load": {"allow_pickle": False},
    "torch.load": {"weights_only": True},
    "jinja2.Environment": {"autoescape": True},
    "transformers.AutoModel.from_pretrained": {
        "local_files_only": True, "trust_remote_code": False, "use_safetensors": True,
    },
    "transformers.AutoConfig.from_pretrained": {"local_files_only": True, "trust_remote_code": False},
    "transformers.AutoProcessor.from_pretrained": {"local_files_only": True, "trust_remote_code": False},
    "transformers.AutoTokenizer.from_pretrained": {"local_files_only": True, "trust_remote_code": False},
    "sentence_transformers.SentenceTransformer": {"local_files_only": True, "trust_remote_code": False},
    "open_clip.tokenizer.HFTokenizer": {"local_files_only": True, "trust_remote_code": False},
    "open_clip.create_model": {"weights_only": True, "require_pretrained": True},
}  # fmt: skip
"""What a call must say, each time."""
NEVER = {
    "allow_pickle": True, "weights_only": False, "trust_remote_code": True, "shell": True, "autoescape": False,
    "local_files_only": False,
}  # fmt: skip
"""What no call may say."""

CONSUMER = "in the child of rins_mm.export verify, whose network is closed"
ALLOWED: dict[str, dict[str, str]] = {
    "importlib.import_module": {
        "rins_mm/recipes.py": "a recipe of the package configs, by a name from the list of its files",
        "rins_mm/study/design.py": "a study of the package configs, by a name from the list of its files",
    },
    "importlib.util.spec_from_file_location": {
        "rins_mm/export/consumers/run.py": "a consumer beside it, named by verify out of FORMATS",
    },
    "runpy": {
        "rins_mm/recipes.py": "a recipe is code, and the user names its file",
        "rins_mm/study/design.py": "a study is code, and the user names its file",
        "rins_mm/export/consumers/run.py": "torchvision_cpu.py of this tree",
        "rins_mm/export/consumers/onnx_int8.py": "the file beside it",
    },
    "ctypes": {"data_pipelines/torchvision_cpu.py": "a library of the installed torchvision"},
    "torch.load": {"rins_mm/weights/torch_file_child.py": "in an isolated child with limits"},
    "torch.export.load": {"rins_mm/export/consumers/pt2.py": f"{CONSUMER}; only with --run-programs"},
    "numpy.load": {
        "data_pipelines/sidecar.py": "an index beside a shard",
        "data_pipelines/subset.py": "a list of uids",
        "rins_mm/weights/files.py": ".npz weights",
        "rins_mm/export/verify.py": "what the child has answered",
        "rins_mm/export/consumers/run.py": "what verify asks",
    },
    "transformers.AutoModel": {
        "eval/hugging_face_model.py": "a folder that the user names",
        "rins_mm/export/consumers/hf.py": CONSUMER,
    },
    "transformers.AutoConfig": {"eval/hugging_face_model.py": "a folder that the user names"},
    "transformers.AutoProcessor": {
        "eval/hugging_face_model.py": "a folder that the user names",
        "rins_mm/export/consumers/hf.py": CONSUMER,
    },
    "transformers.AutoTokenizer": {"rins_mm/export/consumers/hf.py": CONSUMER},
    ".from_pretrained": {
        "eval/hugging_face_model.py": "as REQUIRED says",
        "rins_mm/export/consumers/hf.py": "as REQUIRED says",
    },
    "sentence_transformers": {
        "eval/sentence_transformers_model.py": "a folder that the user names",
        "rins_mm/export/consumers/sentence_transformers.py": CONSUMER,
    },
    "onnxruntime.InferenceSession": {
        "eval/onnx_model.py": "a folder that the user names",
        "rins_mm/export/consumers/onnx.py": CONSUMER,
    },
    "open_clip.create_model": {"eval/open_clip_model.py": "as REQUIRED says; the hub is offline"},
    "open_clip.get_tokenizer": {
        "eval/open_clip_model.py": "only where the configuration names no tokenizer of transformers",
        "rins_mm/export/consumers/open_clip.py": CONSUMER,
    },
    "open_clip.tokenizer.HFTokenizer": {"eval/open_clip_model.py": "as REQUIRED says"},
    "open_clip.create_model_and_transforms": {"rins_mm/export/consumers/open_clip.py": CONSUMER},
    "timm.create_model": {
        "rins_mm/models/image_tower.py": "a name of timm's list, without weights",
        "rins_mm/weights/sources.py": "a name of timm's list, without weights",
        "rins_mm/export/consumers/timm.py": CONSUMER,
    },
    "faiss": {"rins_mm/index/accelerate.py": "files with this user's own seal alone"},
    "usearch": {"rins_mm/index/accelerate.py": "files with this user's own seal alone"},
    "tarfile": {
        "data_pipelines/shard_writer.py": "writes",
        "data_pipelines/prepare/emoji_packages.py": "packages with pinned hashes, by the filter for data",
    },
    ".extractall": {"data_pipelines/prepare/emoji_packages.py": "packages with pinned hashes"},
    "zipfile": {
        "data_pipelines/sidecar.py": "looks at sizes before numpy reads",
        "rins_mm/weights/files.py": "an exception",
        "rins_mm/export/pt2.py": "looks for pickles in what was just written",
    },
    "subprocess": {
        "rins_mm/run_folder.py": "git, to note the commit",
        "rins_mm/study/runner.py": "rins_mm.train for each run",
        "rins_mm/export/verify.py": "the consumer's child",
        "rins_mm/weights/torch_file.py": "the child that reads torch's files",
        "data_pipelines/prepare/emoji_packages.py": "npm, by hand, to rebuild the pack",
    },
    "socket": {
        "data_pipelines/http_ranges.py": "shards at addresses that the user names",
        "rins_mm/serve/__main__.py": "listens, on the loopback unless told otherwise",
        "rins_mm/serve/listening.py": "listens",
        "rins_mm/export/consumers/run.py": "closes the network",
    },
    "http": {"data_pipelines/http_ranges.py": "shards at addresses that the user names"},
    "urllib": {"data_pipelines/http_ranges.py": "splits addresses; opens none"},
    "fsspec": {"data_pipelines/object_stores.py": "object stores that the user names"},
    "huggingface_hub": {"eval/local_models.py": "set offline"},
    "uvicorn": {"rins_mm/serve/listening.py": "listens"},
    "jinja2.Environment": {
        "data_pipelines/pages.py": "templates of the package, escaping",
        "eval/report.py": "templates of the packages, escaping",
    },
}  # fmt: skip
"""Which file may use what, and why that is safe."""


def modules(repository: Path) -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in sorted((repository / room).rglob("*.py")):
            yield str(path.relative_to(repository)), ast.parse(path.read_text())


def whole_names(tree: ast.AST) -> dict[ast.AST, str]:
    """What each name and each chain of attributes stands for, as the module's imports say."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                known[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    # A variable or parameter of such a name is no builtin.
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }

    def whole(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            return f"{whole(node.value)}.{node.attr}"
        name = node.id if isinstance(node, ast.Name) else "?"
        if name in known or name in own:
            return known.get(name, f"its own {name}")
        return "builtins.compile" if name == "compile" else name

    return {n: whole(n) for n in ast.walk(tree) if isinstance(n, ast.Name | ast.Attribute)}


def uses_of(tree: ast.Module) -> set[str]:
    """The guarded things that a module uses or imports."""
    names = set(whole_names(tree).values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    # The package eval is this project's.
    names = {name for name in names if not name.startswith("eval.")}
    found = {g for g in GUARDED if any(name == g or name.startswith(f"{g}.") for name in names)}
    called = {
        n.func.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
    }
    return found | {f".{method}" for method in METHODS if method in called}


def settings_of(call: ast.Call, tree: ast.Module) -> dict[str, object]:
    """The literal keywords of a call, those of a dict of the module that is unpacked into it too."""
    found: dict[str, object] = {}
    for keyword in call.keywords:
        if keyword.arg is not None:
            if isinstance(keyword.value, ast.Constant):
                found[keyword.arg] = keyword.value.value
        elif isinstance(keyword.value, ast.Name):
            for node in ast.walk(tree):
                targets = node.targets if isinstance(node, ast.Assign) else []
                if isinstance(getattr(node, "value", None), ast.Dict) and any(
                    isinstance(t, ast.Name) and t.id == keyword.value.id for t in targets
                ):
                    pairs = zip(node.value.keys, node.value.values, strict=True)
                    found |= {
                        k.value: v.value
                        for k, v in pairs
                        if isinstance(k, ast.Constant) and isinstance(v, ast.Constant)
                    }
    return found


def test_only_the_listed_places_can_run_load_start_or_reach_anything(repository: Path) -> None:
    used = {(name, guarded) for name, tree in modules(repository) for guarded in uses_of(tree)}
    allowed = {(name, guarded) for guarded, names in ALLOWED.items() for name in names}
    assert used - allowed == set(), "not allowed there"
    assert allowed - used == set(), "allowed, and not needed"


def test_every_call_that_could_unpickle_or_fetch_says_that_it_must_not(repository: Path) -> None:
    seen = set()
    for name, tree in modules(repository):
        names = whole_names(tree)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            said = settings_of(call, tree)
            assert not (said.items() & NEVER.items()), (name, call.lineno)
            called = names.get(call.func, "")
            seen.add(called)
            missing = REQUIRED.get(called, {}).items() - said.items()
            assert not missing, (name, call.lineno, called, dict(missing))
            if called.endswith(".extractall"):
                assert said.get("filter") == "data", name
    assert REQUIRED.keys() <= seen


def test_the_child_that_unpickles_weights_imports_nothing_of_this_project(repository: Path) -> None:
    text = (repository / "rins_mm" / "weights" / "torch_file_child.py").read_text()
    assert not any(f"import {room}" in text or f"from {room}" in text for room in ROOMS)


def test_the_gate_sees_through_other_names_and_imports_inside_of_functions() -> None:
    text = """
import numpy as n
from os import system as quiet
def one(payload, compile):
    from pickle import loads
    n.load("x", allow_pickle=True); quiet("ls"); exec(payload); compile("x"); payload.extractall()
"""
    assert uses_of(ast.parse(text)) == {"numpy.load", "os.system", "exec", "pickle", ".extractall"}
    assert (
        uses_of(ast.parse("from eval.words import short\nmodel.eval()\nre.compile('x')")) == set()
    )
    assert uses_of(ast.parse("compile('1', 'x', 'eval')")) == {"builtins.compile"}
