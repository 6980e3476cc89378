"""Hostile folders of other libraries: code that configurations name, weights that are pickles, sizes past all bounds."""

# ruff: noqa: E501  (a case stands on one line)

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile_data import HTML, TOLD
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
from hostile_weights import spoilt_safetensors, spoilt_sentencepiece


def inputs() -> Iterator[Input]:
    """All of them."""
    yield from hugging_face("hf")
    yield from hugging_face("export_hf", seal)
    yield from open_clip("open_clip")
    yield from open_clip("open_clip_timm")
    yield from sentence_transformers()


def with_code(*names: str, **values: Any) -> Callable[[Path], None]:
    """Files of code in the folder, and values in its config.json that name them."""

    def spoil(folder: Path) -> None:
        for name in names:
            mark = str(canary_beside(folder / name))
            put(
                folder / name,
                f"import os\nos.makedirs({mark!r}, exist_ok=True)\n{CLASSES}".encode(),
            )
        changed(**values)(folder / "config.json")

    return spoil


CLASSES = """
class Model: pass
class Config: pass
class Tokenizer: pass
"""
CODE: dict[str, dict[str, Any]] = {
    "a class of its own": {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}},
    "a class of its own, of an unknown kind": {
        "model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
    },
    "a class on the hub": {"auto_map": {"AutoConfig": "stranger/repository--evil.Config"}},
    "a kernel on the hub": {"_attn_implementation_internal": "stranger/kernel"},
    "a kernel on the hub, by its other name": {"_attn_implementation": "stranger/kernel:evil"},
    "a kernel for text": {"text_config__attn_implementation": "stranger/kernel"},
    "a kernel for experts": {"_experts_implementation_internal": "stranger/kernel"},
    "code to be made": {"_target_": "os.system", "__class__": "os.system"},
    "trust in itself": {"trust_remote_code": True, "auto_map": {"AutoConfig": "evil.Config"}},
    "a quantizer": {"quantization_config": {"quant_method": "gptq", "modules_to_not_convert": "x"}},
    "a quantizer of its own": {"quantization_config": {"quant_method": "evil", "auto_map": {"x": "evil.Q"}}},
    "an adapter": {"peft_type": "LORA", "base_model_name_or_path": "stranger/model"},
    "another name": {"_name_or_path": OUTSIDE, "model_type": "siglip"},
    "a kind of HTML": {"model_type": HTML},
    "a kind of a path": {"model_type": "../../evil"},
    "a kind of numbers": {"model_type": 5},
    "towers of text": {"text_config": "x", "vision_config": 1},
    "text width of 10^9": {"text_config__hidden_size": 10**9},
    "text width of 50,000": {"text_config__hidden_size": 50_000, "text_config__intermediate_size": 10**5},
    "text depth of 10^8": {"text_config__num_hidden_layers": 10**8},
    "vocabulary of 10^11": {"text_config__vocab_size": 10**11},
    "vocabulary of 10^7": {"text_config__vocab_size": 10**7},
    "pictures of 10^7 pixels": {"vision_config__image_size": 10**7},
    "patches of nothing": {"vision_config__patch_size": 0},
    "a type of numbers to be evaluated": {"dtype": "__import__('os')", "torch_dtype": "os"},
    "commands for a terminal": {"is_heterogeneous": TOLD, "is_decoder": TOLD, "torchscript": TOLD},
    "a class of the library": {"architectures": ["pipeline", "os.system"]},
}  # fmt: skip
"""Values of config.json."""


def hugging_face(thing: str, then: Any = None) -> Iterator[Input]:
    """Folders of transformers."""
    for name, values in CODE.items():
        yield from at(thing, "", iter([("code", name, with_code("evil.py", **values))]), then)
    yield from at(thing, "config.json", all_of(spoilt_json, spoilt_names, spoilt_pickles), then)
    yield from at(thing, "tokenizer_config.json", all_of(spoilt_json, spoilt_names), then)
    yield from at(
        thing, "model.safetensors", all_of(spoilt_safetensors, spoilt_names, spoilt_pickles), then
    )
    tokenizer: dict[str, dict[str, Any]] = {
        "tokenizer of its own": {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}, "tokenizer_class": "Evil"},
        "tokenizer on the hub": {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["a/b--evil.T", None]}},
        "tokenizer of a path": {"tokenizer_class": "../../evil"},
        "template of a chat": {"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
        "length without end": {"model_max_length": 10**30},
        "vocabulary elsewhere": {"vocab_file": "/etc/passwd", "tokenizer_file": "/etc/passwd"},
        "tokens of objects": {"added_tokens_decoder": {"-1": {"content": "x"}, "10000000000": {"content": "y"}}},
    }  # fmt: skip
    for name, values in tokenizer.items():
        yield from at(
            thing, "tokenizer_config.json", iter([("code", name, _beside_code(values))]), then
        )
    if thing == "hf":
        yield from at(
            thing, "spiece.model", all_of(spoilt_sentencepiece, spoilt_names, spoilt_pickles)
        )
        yield from at(thing, "processor_config.json", all_of(spoilt_json, spoilt_names))
        for name, values in {
            "processor of its own": {"auto_map": {"AutoProcessor": "evil.Model"}, "processor_class": "Evil"},
            "pictures of 10^6 pixels": {"image_processor__size": {"height": 10**6, "width": 10**6}},
        }.items():  # fmt: skip
            yield from at(
                thing, "processor_config.json", iter([("code", name, _beside_code(values))])
            )
    yield from at(
        thing,
        "",
        iter([("pickle", "weights as a pickle", _pickled_weights("pytorch_model.bin"))]),
        then,
    )
    for name, parts in {
        "parts elsewhere": {"a": "../../../etc/passwd", "b": "/etc/passwd"}, "part that is a device": {"a": "/dev/zero"},
        "parts that are numbers": {"a": 5}, "part that is a pickle": {"a": "evil.bin"},
    }.items():  # fmt: skip
        yield from at(thing, "", iter([("json", name, _parts(parts))]), then)


def _beside_code(values: dict[str, Any]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with_code("evil.py", **{})(path.parent)
        changed(**values)(path)

    return spoil


def _pickled_weights(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.glob("*.safetensors"):
            path.unlink()
        put(folder / name, pickles(folder / name)["pickle of torch, zip"])

    return spoil


def _parts(parts: dict[str, Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        put(folder / "evil.bin", pickles(folder / "evil.bin")["pickle of torch, zip"])
        text = json.dumps({"metadata": {"total_size": 4}, "weight_map": parts})
        put(folder / "model.safetensors.index.json", text.encode())

    return spoil


def open_clip(thing: str) -> Iterator[Input]:
    """Folders of open_clip: with its own image tower, which is evaluated, or timm's, which is a beginning too."""
    yield from at(thing, "open_clip_config.json", all_of(spoilt_json, spoilt_names, spoilt_pickles))
    yield from at(thing, "open_clip_model.safetensors",
                  all_of(spoilt_safetensors, spoilt_names, spoilt_pickles))  # fmt: skip
    yield from at(thing, "tokenizer.json", all_of(spoilt_json, spoilt_names))
    for name, values in {
        "text tower on the hub": {"model_cfg__text_cfg__hf_model_name": "stranger/model"},
        "tokenizer on the hub": {"model_cfg__text_cfg__hf_tokenizer_name": "stranger/model"},
        "trusting tokenizer": {"model_cfg__text_cfg__tokenizer_kwargs": {"trust_remote_code": True}},
        "image tower on the hub": {"model_cfg__vision_cfg__timm_model_name": "hf-hub:stranger/model"},
        "image tower of a folder": {"model_cfg__vision_cfg__timm_model_name": "local-dir:/tmp/stranger"},
        "pretrained image tower": {"model_cfg__vision_cfg__timm_model_name": "vit_tiny_patch16_224", "model_cfg__vision_cfg__timm_model_pretrained": True},
        "width of 10^9": {"model_cfg__text_cfg__width": 10**9}, "width of 10^5": {"model_cfg__text_cfg__width": 10**5},
        "depth of 10^8": {"model_cfg__text_cfg__layers": 10**8}, "context of 10^10": {"model_cfg__text_cfg__context_length": 10**10},
        "vocabulary of 10^10": {"model_cfg__text_cfg__vocab_size": 10**10}, "embedding of 10^10": {"model_cfg__embed_dim": 10**10},
        "class to be made": {"model_cfg___target_": "os.system"}, "cleaning of HTML": {"model_cfg__text_cfg__tokenizer_kwargs": {"clean": HTML}},
        "pictures of 10^7 pixels": {"model_cfg__vision_cfg__image_size": 10**7}, "towers of text": {"model_cfg__text_cfg": "x"},
    }.items():  # fmt: skip
        yield from at(thing, "open_clip_config.json", iter([("code", name, changed(**values))]))
    for name in ("open_clip_pytorch_model.bin", "open_clip_model.pt"):
        yield from at(thing, "", iter([("pickle", f"weights as {name}", _pickled_weights(name))]))


def sentence_transformers() -> Iterator[Input]:
    """Folders of sentence-transformers."""
    for file in (
        "modules.json",
        "config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    ):
        yield from at("st", file, all_of(spoilt_json, spoilt_names))
    yield from at(
        "st", "model.safetensors", all_of(spoilt_safetensors, spoilt_names, spoilt_pickles)
    )
    first = "sentence_transformers.base.modules.transformer.Transformer"
    for name, modules in {
        "module of the folder": ["evil.Model"], "module of Python": ["os.system"], "module on the hub": ["stranger/repo--evil.Model"],
        "module of its own behind": [first, "evil.Model"], "path that climbs out": [first, "sentence_transformers.models.Dense"],
    }.items():  # fmt: skip
        rows = [
            {"idx": n, "name": str(n), "path": "../../" * n, "type": kind}
            for n, kind in enumerate(modules)
        ]
        text = json.dumps(rows).encode()
        yield from at("st", "", iter([("code", name, _modules(text))]))
    for name, values in {
        "trust in itself": {"trust_remote_code": True, "model_args": {"trust_remote_code": True}},
        "arguments for another model": {
            "model_args": {"pretrained_model_name_or_path": "stranger/model"}
        },
        "a kernel on the hub": {"model_args": {"attn_implementation": "stranger/kernel"}},
    }.items():
        yield from at(
            "st", "sentence_bert_config.json", iter([("code", name, _beside_code(values))])
        )
    yield from at(
        "st", "config_sentence_transformers.json",
        iter([("words", "commands for a terminal", changed(default_prompt_name=TOLD, prompts={TOLD: TOLD}))]),
    )  # fmt: skip
    for name, values in CODE.items():
        yield from at("st", "", iter([("code", name, with_code("evil.py", **values))]))
    yield from at(
        "st", "", iter([("pickle", "weights as a pickle", _pickled_weights("pytorch_model.bin"))])
    )


def _modules(text: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with_code("evil.py", "__init__.py")(folder)
        put(folder / "modules.json", text)

    return spoil
