"""One short run of this project's trainer, or of open_clip's, on the same work: its speed and memory."""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from process_memory import descendants

from data_pipelines.errors import UserError
from data_pipelines.loader import DataConfig
from rins_mm.augment import AugmentationConfig
from rins_mm.config import TokenizerConfig, TrainConfig
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.recorded_config import write_config
from rins_mm.run_log import read_rows
from rins_mm.schedules import ScheduleConfig

HERE = Path(__file__).parent
SECONDS_BETWEEN_READINGS = 0.5
SECONDS_BETWEEN_LOOKS = 0.02
RATE = re.compile(r" Batch \(t\): [\d.]+, ([\d.]+)/s, ")
Side = Literal["open_clip AB", "rins_mm AB", "rins_mm AAAB"]


@dataclass(frozen=True, kw_only=True)
class Towers:
    """The sizes of both models. Heads are 64 wide; the image tower is a ViT with a class token."""

    image_size: int
    patch_size: int
    image_depth: int
    width: int
    text_depth: int
    context_length: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one run has to do."""

    towers: Towers
    shards: tuple[Path, ...]
    batch_size: int
    """Pairs per process."""
    processes: int
    steps: int
    warm_up: int
    """First steps that do not count."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run showed."""

    samples_per_second: float
    """Median over steps, by the clock."""
    samples_per_cpu_second: float
    """Over all its processes and the steps that count: what else the machine does hardly moves it."""
    peak_megabytes: float
    """Most memory of all its processes together; a page that several share counts once (PSS)."""


def run_side(side: Side, work: Work, folder: Path, peer_packages: Path | None) -> Outcome:
    """Train in new processes, and read from the trainer's own log how fast it was."""
    folder.mkdir(parents=True)
    prepare = _prepare_peer if side == "open_clip AB" else _prepare_ours
    command = prepare(side, work, folder)
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={work.processes}"]
        if work.processes > 1
        else []
    )
    path = [str(HERE.parent)]
    if side == "open_clip AB":
        if launcher:
            # torchrun would take the trainer's --logs for one of its own options.
            launcher.append("--")
        path.insert(0, str(peer_packages))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)}
    read_rates = _peer_rates if side == "open_clip AB" else _our_rates
    peak, cpu_seconds = _run_watched(
        [sys.executable, *launcher, *command],
        environment,
        folder / "output.txt",
        steps_done=lambda: len(read_rates(folder)),
    )
    rates = read_rates(folder)
    if len(rates) != work.steps:
        raise UserError(
            f"{folder}/output.txt tells of {len(rates)} steps, not {work.steps}; see there"
        )
    # Steps that were over before one looked again have no reading of their own.
    last = max(cpu_seconds)
    first = min(step for step in cpu_seconds if step >= min(work.warm_up, last))
    if first == last:
        raise UserError(
            f"the {work.steps} steps of {side} were over in no time; measure longer ones"
        )
    pairs = (last - first) * work.batch_size * work.processes
    return Outcome(
        samples_per_second=statistics.median(rates[work.warm_up :]),
        samples_per_cpu_second=pairs / (cpu_seconds[last] - cpu_seconds[first]),
        peak_megabytes=peak,
    )


def _prepare_ours(side: Side, work: Work, folder: Path) -> list[str]:
    towers = work.towers
    heads = towers.width // 64
    config = TrainConfig(
        run_dir=str(folder / "run"),
        max_steps=work.steps,
        batch_size=work.batch_size * work.processes,
        log_every=1,
        precision="bf16",
        image=ImageTowerConfig(
            name="vit_tiny_patch16_224",
            image_size=towers.image_size,
            patch_size=towers.patch_size,
            width=towers.width,
            depth=towers.image_depth,
            num_heads=heads,
        ),
        text=TextTowerConfig(
            width=towers.width,
            depth=towers.text_depth,
            num_heads=heads,
            mlp_width=4 * towers.width,
            context_length=towers.context_length,
            gelu="exact",
            recursion=RecursionConfig(signature=side.split()[1]),
        ),
        tokenizer=TokenizerConfig(kind="clip", vocab_size=49408),
        # Batches are made in a thread of the trainer, which is the default; the peer needs a process.
        data=DataConfig(shards=tuple(map(str, work.shards))),
        # As far as the peer's crop of 0.9 to 1 of the area goes.
        augmentation=AugmentationConfig(max_scale=1.05, max_shift=0.025),
        schedule=ScheduleConfig(warmup_samples=0),
    )
    write_config(config, folder / "recipe.json")
    return ["-m", "rins_mm.train", str(folder / "recipe.json"), "--run-dir", config.run_dir]


def _prepare_peer(side: Side, work: Work, folder: Path) -> list[str]:
    towers = work.towers
    model = {
        "embed_dim": towers.width,
        "init_logit_scale": 2.302585,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": towers.image_size, "layers": towers.image_depth, "width": towers.width,
            "head_width": 64, "patch_size": towers.patch_size,
        },
        "text_cfg": {
            "context_length": towers.context_length, "vocab_size": 49408, "width": towers.width,
            "heads": towers.width // 64, "layers": towers.text_depth, "no_causal_mask": True,
        },
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    shards = work.shards[0].parent / "{00000..00007}.tar"
    words = (
        f"--model local-dir:{folder} --siglip --train-data {shards} --dataset-type webdataset "
        f"--batch-size {work.batch_size} --workers 1 --epochs 1 --logs {folder / 'logs'} --name run "
        f"--log-every-n-steps 1 --warmup 0 --device cpu --dist-backend gloo --precision amp_bf16 "
        f"--train-num-samples {work.batch_size * work.processes * work.steps}"
    )
    return [str(HERE / "open_clip_peer.py"), *words.split()]


def _our_rates(folder: Path) -> list[float]:
    path = folder / "run" / "metrics.jsonl"
    rows = read_rows(path) if path.exists() else []
    return [row["samples_per_second"] for row in rows if "loss" in row]


def _peer_rates(folder: Path) -> list[float]:
    log = folder / "logs" / "run" / "out.log"
    return [float(rate) for rate in RATE.findall(log.read_text())] if log.exists() else []


def _run_watched(
    command: Sequence[str],
    environment: dict[str, str],
    output: Path,
    *,
    steps_done: Callable[[], int],
) -> tuple[float, dict[int, float]]:
    """Megabytes at the fullest moment of the command and all that it starts; CPU seconds by step."""
    peak, cpu_seconds, looked = 0.0, {}, 0.0
    with output.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        while process.poll() is None:
            done = steps_done()
            if done and done not in cpu_seconds and (seconds := _cpu_seconds(process.pid)):
                cpu_seconds[done] = seconds
            if time.monotonic() - looked > SECONDS_BETWEEN_READINGS:
                # Dearer to read: the kernel walks all pages.
                looked = time.monotonic()
                peak = max(peak, _megabytes(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        # The folder is gone when this is read.
        print(output.read_text()[-5000:], file=sys.stderr)
        raise UserError(f"{' '.join(command[:4])} … failed; its last words are above")
    return peak, cpu_seconds


def _cpu_seconds(process: int) -> float:
    """Of the process and all that it has started, those that have ended not counted; 0 where one just ends."""
    ticks = 0
    try:
        for number in descendants(process):
            words = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
    except OSError:
        return 0.0
    return ticks / os.sysconf("SC_CLK_TCK")


def _megabytes(process: int) -> float:
    kilobytes = 0
    try:
        for number in descendants(process):
            for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
    except OSError:
        # A process ended between two looks: the next reading counts.
        return 0.0
    return kilobytes * 1024 / 1e6


def peer_is_missing(peer_packages: Path | None) -> str | None:
    """Why open_clip's trainer cannot be run here; None where it can."""
    if peer_packages is None:
        return "no --peer-packages were named; benchmarks/open_clip_packages.sh makes them"
    code = "from data_pipelines import torchvision_cpu; import pandas, webdataset, open_clip_train.main"
    path = os.pathsep.join([str(peer_packages), str(HERE.parent)])
    asked = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.stderr.strip().splitlines()[-1] if asked.returncode else None
