"""Score a run, a checkpoint, an export or another's model, alone or on many ranks:

torchrun --nproc-per-node 2 -m rins_mm.evaluate RUN --tasks zero_shot:emoji-style --text-signatures AB AAB
"""

import datetime
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from data_pipelines.cache import cache_folder
from data_pipelines.errors import UserError, run_command
from data_pipelines.plain_files import refuse_links
from data_pipelines.words import say, tell
from eval.embed import NOTHING_KEPT
from eval.feature_store import FeatureStore, prompt_fingerprint
from eval.mistakes import mistake_thumbnails
from eval.ranks import Interrupted, Ranks
from eval.report import results_tables, write_page, write_results
from eval.suite import measure_tasks, open_tasks
from eval.task_kinds import Task
from eval.tasks import TASKS, is_fetched
from rins_mm.config import EvaluationConfig
from rins_mm.distributed import local_device, process_group
from rins_mm.evaluated_model import EvaluatedModel, open_model
from rins_mm.recorded_config import read_config
from rins_mm.run_folder import describe_environment
from rins_mm.stopping import EXIT_CODE, StopRequest


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Measure zero-shot classification and retrieval at several depths of the towers.

    What is not named is taken from the run's own record. No file is replaced without --overwrite. An
    evaluation that was interrupted goes on when the same command is given again, on any number of ranks.
    """

    model: Annotated[str, tyro.conf.Positional]
    """A run (its newest checkpoint), one checkpoint's folder, or an export; or another's model, such as
    open_clip:ViT-B-16-SigLIP:WEIGHTS, hf:FOLDER, sentence_transformers:FOLDER or onnx:FOLDER."""
    tasks: tuple[str, ...] = ()
    """Task names, such as zero_shot:emoji-style, retrieval:emoji-test, or retrieval:SHARDS for your
    own; none: those that the run recorded."""
    text_signatures: tuple[str, ...] = ()
    """Depths of the text tower, such as AB AAB AAAB; none: those that the run recorded, or else all
    that its training drew."""
    image_signatures: tuple[str, ...] = ()
    """Depths of the image tower, each measured with each depth of the text tower; none: the trained one."""
    batch_size: int = 1
    """Blocks of 64 pictures or strings that the model is given at once. Only the last bits of vectors
    depend on it."""
    data: Path | None = None
    """Folder of the pictures, for tasks that need one (zero_shot:imagenet)."""
    data_folders: tuple[str, ...] = ()
    """Other folders for single tasks, such as zero_shot:objectnet=/data/objectnet-1.0."""
    out: Path | None = None
    """File to write; None: eval.json in the run's folder, eval-STEP.json there for the folder of one
    checkpoint, and eval.json where you are for an export, whose files are sealed. What is computed is
    kept in FILE.work until the file is written."""
    html: Path | None = None
    """Also write the results as a page that needs nothing beside it."""
    overwrite: bool = False
    """Replace these files if they exist."""
    class_cache: bool = True
    """Take vectors of classes from the cache folder (RINS_MM_CACHE), and keep new ones there."""
    num_threads: int = 1
    """CPU threads per rank."""
    timeout_seconds: float = 600.0
    """A rank that hears nothing from the others for this long gives up."""


def main(argv: list[str]) -> None:
    """Load, run the suite on all ranks, and write and print on the first."""
    command = tyro.cli(EvaluateCommand, args=argv, prog="python -m rins_mm.evaluate")
    check(command)
    # Every rank looks before any of them writes: the suite that follows begins with an exchange.
    out = output_file(command)
    work = open_work(out)
    torch.set_num_threads(command.num_threads)
    stop = StopRequest()
    with process_group(command.timeout_seconds) as ranks, stop.listening():
        if ranks.is_first and work.folder is not None and work.folder.is_dir():
            tell(f"going on with what an evaluation has left in {work.folder}")
        try:
            tasks, results, facts = measure(
                command, argv, replace(ranks, asked_to_stop=stop.__bool__), work
            )
        except Interrupted:
            reason = stop.reason_on_any(ranks)
            if ranks.is_first:
                tell(
                    f"stopped by {reason}; what was computed is kept in {work.folder}, and the same "
                    "command goes on from there, on any number of ranks",
                )
            sys.exit(EXIT_CODE)
        if ranks.is_first:
            write(command, out, tasks, results, facts)
        # No rank deletes what was kept (on several machines each has its own) before the file is written.
        ranks.largest(0)
        work.remove()


def measure(
    command: EvaluateCommand, argv: Sequence[str], ranks: Ranks, work: FeatureStore
) -> tuple[list[Task], list[dict[str, Any]], dict[str, Any]]:
    """The tasks, their results and what one needs to know to repeat them, on all ranks.

    Raises Interrupted, on all ranks, when one of them is asked to stop meanwhile.
    """
    recorded = recorded_evaluation(Path(command.model))
    with ranks.interruptible():
        model = open_model(
            command.model,
            text_signatures=command.text_signatures or recorded.text_signatures,
            image_signatures=command.image_signatures,
            device=str(local_device()),
        )
        ranks.leave_when_asked()
        names = command.tasks or recorded.tasks
        if not names:
            raise UserError(
                f"{command.model} records no tasks; name some with --tasks, "
                f"such as {' '.join(TASKS)}"
            )
        fetched = [] if command.tasks else [name for name in names if is_fetched(name)]
        if fetched:
            raise UserError(
                f"{command.model} records the task {fetched[0]}; name it yourself, with --tasks, to have "
                "it fetched from there"
            )
        data = command.data or (Path(recorded.data) if recorded.data else None)
        tasks = open_tasks(names, data, folders_by_task(command.data_folders))
        cache = FeatureStore(cache_folder() / "class_vectors")
        results = measure_tasks(
            model.encoder,
            tasks,
            model.text_variants,
            model.image_variants,
            ranks=ranks,
            batch_size=command.batch_size,
            work=work,
            cache=cache if command.class_cache else NOTHING_KEPT,
        )
    return tasks, results, provenance(command, argv, model, results, ranks)


def check(command: EvaluateCommand) -> None:
    """Refuse numbers that mean nothing."""
    for name, number in (("num_threads", command.num_threads), ("batch_size", command.batch_size)):
        if number < 1:
            raise UserError(f"{name} is {number}; it must be at least 1")


def folders_by_task(words: Sequence[str]) -> dict[str, Path]:
    """The folder of each task from words like NAME=FOLDER."""
    folders = {}
    for word in words:
        name, _, folder = word.partition("=")
        if not name or not folder:
            raise UserError(
                f"data_folders has {word!r}; write NAME=FOLDER, such as zero_shot:imagenet=/data/imagenet"
            )
        folders[name] = Path(folder)
    return folders


def output_file(command: EvaluateCommand) -> Path:
    """Where the results go. Raises UserError for files that exist and may not be replaced."""
    out, folder = command.out, Path(command.model)
    if out is None and (folder / "state.json").is_file():
        checkpoint = folder.resolve()
        step = checkpoint.name.removeprefix("step-").lstrip("0")
        out = checkpoint.parent.parent / f"eval-{step}.json"
    elif out is None and folder.is_dir() and not (folder / "encoder.json").is_file():
        out = folder / "eval.json"
    elif out is None:
        out = Path("eval.json")
    for path in (out, command.html):
        if path is not None and path.exists() and not command.overwrite:
            raise UserError(
                f"{path} exists already; give --overwrite to replace it, or name another file"
            )
    return out


def open_work(out: Path) -> FeatureStore:
    """What is kept beside the results until they are written. Raises UserError where links lie there."""
    folder = out.with_name(f"{out.name}.work")
    # It may have come with somebody else's run, and is removed in the end.
    refuse_links(folder, "an evaluation", "name another file with --out", itself=True)
    return FeatureStore(folder)


def recorded_evaluation(run: Path) -> EvaluationConfig:
    """What the run measured while it trained; nothing for an export, which does not say."""
    of_checkpoint = (run / "state.json").is_file()
    record = (run.resolve().parent.parent if of_checkpoint else run) / "config.json"
    if record.is_file() and not (run / "encoder.json").is_file():
        return read_config(record).evaluation
    return EvaluationConfig()


def provenance(
    command: EvaluateCommand,
    argv: Sequence[str],
    model: EvaluatedModel,
    results: Sequence[Mapping[str, Any]],
    ranks: Ranks,
) -> dict[str, Any]:
    """What one needs to know to repeat the evaluation."""
    return {
        "command": f"python -m rins_mm.evaluate {shlex.join(argv)}",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": model.encoder.name,
        "model_fingerprint": model.encoder.fingerprint,
        **model.facts,
        "data_fingerprint": prompt_fingerprint([r["data_fingerprint"] for r in results]),
        "prompt_fingerprint": prompt_fingerprint([r["prompt_fingerprint"] for r in results]),
        "batch_size": command.batch_size,
        "world_size": ranks.world_size,
        "threads": command.num_threads,
        **describe_environment(),
    }


def write(
    command: EvaluateCommand,
    out: Path,
    tasks: Sequence[Task],
    results: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> None:
    """The results as JSON, as a page where one is asked for, and as a table."""
    write_results(out, results, facts, overwrite=command.overwrite)
    if command.html is not None:
        pictures = mistake_thumbnails(tasks, results)
        write_page(command.html, results, facts, pictures, overwrite=command.overwrite)
    console = Console(highlight=False)
    console.print(results_tables(results))
    for path in (out, command.html):
        if path is not None:
            say(f"wrote {path}")


if __name__ == "__main__":
    run_command(main)
