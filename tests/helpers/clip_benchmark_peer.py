"""CLIP_benchmark 1.6.2 with the two changes without which it does not run here.

It imports requests (for downloads that no test makes) without requiring it, and it makes a number of an
array that has one element but also an axis, which NumPy has refused since 2.4.
"""

import argparse
import gc
import json
import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from data_pipelines import torchvision_cpu  # noqa: F401

# isort: split
try:
    import requests  # noqa: F401
except ImportError:
    sys.modules["requests"] = ModuleType("requests")

# isort: split
from clip_benchmark import cli
from clip_benchmark.metrics import zeroshot_classification


def number_of(value: Any) -> float:
    """What `float` gave before."""
    return float(value.item() if isinstance(value, np.ndarray) else value)


zeroshot_classification.float = number_of


class TheirError(Exception):
    """What their program ended with."""


def theirs(model, folder, out, *, amp: bool = False) -> dict[str, float]:
    """What the program itself writes: python -m clip_benchmark.cli eval --no_amp …"""
    is_retrieval = (folder / "dataset_type.txt").exists()
    given = argparse.Namespace(
        dataset="wds/any", dataset_root=str(folder), split="test", model_type="open_clip",
        model=f"local-dir:{model}", pretrained="", model_cache_dir=None, language="en",
        task="zeroshot_retrieval" if is_retrieval else "zeroshot_classification", amp=amp,
        recall_k=[1, 5, 10], batch_size=16, num_workers=0, seed=0, verbose=False,
        skip_existing=False, skip_load=False, annotation_file="", output=str(out),
        custom_template_file=None, custom_classname_file=None, wds_cache_dir=None,
        save_clf=None, load_clfs=[], distributed=False, dump_classnames=False,
        dump_templates=False,
    )  # fmt: skip
    failure = ""
    with warnings.catch_warnings():
        # It reads shards in order without saying so, which webdataset 1 wants to hear.
        warnings.filterwarnings("ignore", message=r"WebDataset\(shardshuffle")
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            cli.run(given)
        except Exception as error:
            failure = repr(error)
        # webdataset leaves its files open until then.
        gc.collect()
    if failure:
        raise TheirError(failure)
    return json.loads(out.read_text())["metrics"]


__all__ = ["TheirError", "cli", "theirs", "zeroshot_classification"]
