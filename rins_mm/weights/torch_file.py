"""Files of torch's own format (.pt, .pth, .bin), which are pickles: read by a child that can do little harm.

The child takes weights alone (weights_only), has limits of memory and time, and hands over safetensors.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from data_pipelines.errors import UserError
from rins_mm.checkpoint import read_tensors
from rins_mm.weights import torch_file_child

SPARE_BYTES = 2 * 2**30
"""What the child may hold beside four times the size of the file."""
LONGEST_SECONDS = 600


def read_torch_file(path: Path, *, most_seconds: int = LONGEST_SECONDS) -> dict[str, Tensor]:
    """The tensors of a file that torch has saved.

    Raises UserError for one that holds more than weights, or takes more than a file of its size may.
    """
    most_bytes = SPARE_BYTES + 4 * path.stat().st_size
    with TemporaryDirectory() as folder:
        target = Path(folder) / "weights.safetensors"
        # Isolated: neither the working folder nor the environment lends it modules.
        command = [sys.executable, "-I", str(Path(torch_file_child.__file__).resolve())]
        limits = [str(most_bytes), str(most_seconds)]
        try:
            child = subprocess.run(
                [*command, str(path.resolve()), str(target), *limits],
                capture_output=True,
                text=True,
                timeout=most_seconds,
                env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"},
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"{path} was not read within {most_seconds} s; give the weights as safetensors"
            ) from error
        if child.returncode:
            cause = (child.stderr.strip() or f"exit status {child.returncode}").splitlines()[-1]
            raise UserError(
                f"cannot read the weights in {path}, with at most {most_bytes / 2**30:.1f} GiB and no code from it: "
                f"{cause}; give weights alone, best as safetensors"
            )
        try:
            return read_tensors(target)
        except UserError as error:
            # The user knows the file that was given, not the child's.
            raise UserError(str(error).replace(str(target), str(path))) from error
