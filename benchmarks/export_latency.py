"""The child of export_formats.py:  python -I export_latency.py CONSUMER.py FOLDER QUERY

Prints the CPU milliseconds of one text query and of one prepared picture, each the median of many.
"""

import importlib.util
import json
import os
import runpy
import statistics
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
ROOT = Path(__file__).parents[1]
WARM_UPS = 5
LEAST_RUNS = 20
SECONDS = 1.0
"""Of CPU time for each of the two."""


def main(consumer_file, folder, query) -> None:
    """Load, warm up, and time."""
    spec = importlib.util.spec_from_file_location("consumer", consumer_file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    patch = None
    if getattr(module, "USES_TORCHVISION", False):
        # Its declarations live as long as what this returns.
        patch = runpy.run_path(str(ROOT / "data_pipelines" / "torchvision_cpu.py"))
    if getattr(module, "IS_THIS_PROJECT", False):
        sys.path.insert(0, str(ROOT))
    consumer = module.load(Path(folder))
    from PIL import Image

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    pixels = consumer.pixels([Image.new("RGB", (300, 200), (200, 40, 40))])
    taken = {
        "text_ms": median_ms(lambda: consumer.text_vectors([query])),
        "picture_ms": median_ms(lambda: consumer.picture_vectors(pixels)),
    }
    del patch
    print(json.dumps(taken))


def median_ms(run) -> float:
    """What a run takes."""
    for _ in range(WARM_UPS):
        run()
    times = []
    while len(times) < LEAST_RUNS or sum(times) < SECONDS:
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    main(*sys.argv[1:])
