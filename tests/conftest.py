"""One thread per process, no network, a cache inside the repository."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RINS_MM_CACHE", str(REPOSITORY / ".cache"))
os.environ["HF_HUB_OFFLINE"] = "1"

from data_pipelines import torchvision_cpu  # noqa: E402, F401  (before any test imports timm)

# isort: split
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

# Shared cores make single examples slow now and then; that is no defect.
settings.register_profile("default", deadline=None, max_examples=50)
settings.load_profile("default")
torch.set_num_threads(1)


@pytest.fixture
def repository() -> Path:
    """The root of the working tree."""
    return REPOSITORY
