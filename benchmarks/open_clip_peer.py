"""open_clip's own trainer with the two changes without which it does not run on CPUs.

The first import makes torchvision importable beside a torch without CUDA; and with several processes
DistributedDataParallel refuses the device_ids=[cpu] that the trainer passes, so they are left out.
"""

import sys
from typing import Any

from data_pipelines import torchvision_cpu  # noqa: F401

# isort: split
import open_clip_train.main
import torch

wrapped = torch.nn.parallel.DistributedDataParallel


def without_device_ids(model: torch.nn.Module, *, device_ids: Any, **settings: Any) -> Any:
    """The model for several processes, wherever it lies."""
    return wrapped(model, **settings)


if __name__ == "__main__":
    torch.nn.parallel.DistributedDataParallel = without_device_ids  # type: ignore[misc]
    open_clip_train.main.main(sys.argv[1:])
