"""Settings of towers and of runs that a stranger might record."""

# ruff: noqa: E501  (a case stands on one line)

from typing import Any

from hostile_files import CANARY

OUTSIDE = "http://192.0.2.1/x"
"""An address that nobody has."""

CONFIG_VALUES: dict[str, Any] = {
    "width of 10^9": {"text__width": 10**9, "text__num_heads": 1},
    "width of 100,000": {"text__width": 100_000, "text__num_heads": 1},
    "MLP of 10^9": {"text__mlp_width": 10**9},
    "depth of 10^9": {"text__depth": 10**9},
    "depth of 100,000": {"text__depth": 100_000},
    "negative width": {"text__width": -32},
    "no heads": {"text__num_heads": 0},
    "context of 10^10": {"text__context_length": 10**10},
    "pictures of 10^6 pixels": {"image__image_size": 10**6},
    "patches of nothing": {"image__patch_size": 0},
    "width of an image tower of 10^9": {"image__width": 10**9, "image__num_heads": 1},
    "depth of an image tower of 10^7": {"image__depth": 10**7},
    "model from the hub": {"image__name": "hf-hub:stranger/model"},
    "model from the hub, older": {"image__name": "hf_hub:stranger/model"},
    "model from a folder": {"image__name": "local-dir:/tmp/stranger"},
    "model from an address": {"image__name": OUTSIDE},
    "model with commands for a terminal": {"image__name": "\x1b[2Jvit\u202e"},
    "model of 10^10 weights": {"image__name": "vit_giant_patch14_clip_224", "image__width": None, "image__depth": None, "image__num_heads": None, "image__patch_size": None},
    "stems without end": {"image__stem_channels": [10**9] * 1000},
    "signature of 10^9 calls": {"text__recursion__signature": "A^999999999B"},
    "signature of brackets": {"text__recursion__signature": "(" * 100_000},
    "signature with a command": {"text__recursion__signature": "__import__('os')"},
    "code to be imported": {"_target_": "os.system"},
    "code below": {"text__auto_map": {"AutoModel": "evil.Model"}},
    "number as text": {"text__width": "32"},
    "true as a number": {"text__depth": True},
    "list of lists": {"image__mean": [[0.5]] * 3},
    "NaN as a colour": {"image__std": [float("nan")] * 3},
    "nothing as a tower": {"text": None},
}  # fmt: skip
"""Of towers, as config.json and encoder.json tell them."""

RUN_VALUES: dict[str, Any] = {
    "a batch of 10^12": {"batch_size": 10**12},
    "a batch of 10^7": {"batch_size": 10**7},
    "10^9 threads": {"num_threads": 10**9},
    "10^9 workers": {"data__num_workers": 10**9},
    "10^12 batches ahead": {"data__prefetch_batches": 10**12},
    "blocks of 10^18": {"data__block_size": 10**18},
    "command as a shard": {"data__shards": [f"pipe:touch {CANARY}"]},
    "device as a shard": {"data__shards": ["/dev/zero"]},
    "device as a deny-list": {"data__deny_lists": ["/dev/zero"]},
    "device as a tokenizer": {"tokenizer__model_file": "/dev/zero"},
    "code as initial weights": {"init__model": "/dev/zero"},
    "hub as initial weights": {"init__model": "open_clip:ViT-B-16:laion2b_s34b_b88k"},
    "tasks at an address": {"evaluation__tasks": [f"retrieval:{OUTSIDE}.tar"]},
    "task with a command": {"evaluation__tasks": [f"retrieval:pipe:touch {CANARY}"]},
    "task with commands for a terminal": {"evaluation__tasks": ["\x1b[2J\u202e"]},
    "template of formats": {"data__captions__kind": "template", "data__captions__templates": ["{caption.__class__.__init__.__globals__}", "{0}", "{caption!r:>999999999}"]},
    "template with 10^6 fields": {"data__captions__kind": "template", "data__captions__templates": ["{caption}" * 100_000]},
    "seed past 64 bits": {"seed": 2**200},
    "negative seed": {"seed": -(2**70)},
    "warm-up without end": {"schedule__warmup_samples": 2**200},
    "time without end": {"timeout_seconds": 1e308},
}  # fmt: skip
"""Of a run, beside its towers."""
