"""A run's checkpoint: the manifest, and what is restored from it."""

import tempfile
from functools import cache
from pathlib import Path
from random import Random

import torch
from json_mutations import mutated_json
from small_run import SmallRun
from target import Files, Target, laid_down
from tensor_mutations import mutated_tensors, sealed_again

from data_pipelines.errors import UserError
from rins_mm import checkpoint, guard
from rins_mm.checkpoint import MANIFEST, looks_whole, newest_checkpoint, open_checkpoint
from rins_mm.guard import GuardConfig, StepGuard

STEP = "checkpoints/step-00000002/"


@cache
def seeds() -> list[Files]:
    """The checkpoints of a small run, with and without averaged weights, and one of the first version."""
    with tempfile.TemporaryDirectory() as name:
        run = SmallRun().train(range(2))
        more = {
            "skipped_in_a_row": 1,
            "skipped_steps": 2,
            "steps_taken": [[0.5, 1.5]],
            "data": "abc",
        }
        folder = run.save(Path(name), 2, average=run.model, **more)
        files = {f"{STEP}{path.name}": path.read_bytes() for path in folder.iterdir()}
        other = SmallRun("nadamw").train(range(2)).save(Path(name) / "other", 2)
        others = {f"{STEP}{path.name}": path.read_bytes() for path in other.iterdir()}
    first = dict(files)
    first[STEP + MANIFEST] = first[STEP + MANIFEST].replace(
        b'"format_version": 2', b'"format_version": 1'
    )
    return [files, others, first]


@cache
def small_run() -> SmallRun:
    """What checkpoints are restored into."""
    return SmallRun()


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """The manifest, or a file with a manifest that fits it again."""
    files = dict(files)
    for _ in range(draws.choice((1, 1, 2))):
        name = draws.choice([*files, STEP + MANIFEST, f"{STEP}state.json", f"{STEP}optimizer.json"])
        change = mutated_tensors if name.endswith("safetensors") else mutated_json
        files[name] = change(files.get(name, b"{}"), draws, other.get(name, b""))[:200_000]
    if draws.random() < 0.03:
        del files[draws.choice(list(files))]
    return sealed_again(files, draws, folder=STEP)


def attempt(files: Files, folder: Path) -> str:
    """Open and restore it; saved again and opened it holds the same."""
    laid_down(files, folder)
    step_folder = folder / STEP
    whole = looks_whole(step_folder)
    found = newest_checkpoint(folder, skip_damaged=False)
    if found is None:
        return "nothing there"
    assert whole, "opened, and does not look whole"
    assert open_checkpoint(step_folder).state == found.state or found.state != found.state
    run = small_run()
    run.optimizer.state.clear()
    StepGuard(GuardConfig()).restore(found.state)
    run.restore(found)
    found.model_weights(averaged=True)
    # What has been restored can be trained on.
    run.train([2])
    return "restored"


TARGET = Target(
    name="checkpoint",
    what="newest_checkpoint, looks_whole, load_weights, restore_optimizer, StepGuard.restore, and a step of training",
    attempt=attempt,
    seeds=seeds,
    mutate=mutate,
    traced=(checkpoint, guard),
    documented=(UserError,),
)
torch.set_num_threads(1)
