"""Train a recipe:  torchrun --nproc-per-node 2 -m rins_mm.train emoji --max-steps 500

The first word is a recipe's name or path, a recorded config.json (with --run-dir), or a run folder (with --resume).
"""

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro
from torch.nn.modules.batchnorm import _BatchNorm

from data_pipelines.bad_samples import BadSampleCounts
from data_pipelines.batch import ImageTextBatch
from data_pipelines.errors import UserError, run_command
from data_pipelines.loader import open_training_data, train_batches
from data_pipelines.manifest import Dataset
from data_pipelines.tokenizers import Tokenizer
from data_pipelines.words import tell
from eval.ranks import Ranks, require_same
from eval.suite import open_tasks, run_suite
from rins_mm.budget import describe_adapters
from rins_mm.checkpoint import Checkpoint
from rins_mm.checkpoint_writer import tidy
from rins_mm.config import TrainConfig, build_tokenizer, initial_model
from rins_mm.determinism import make_deterministic, set_threads
from rins_mm.distributed import local_device, process_group
from rins_mm.encoder import SigLIPEncoder
from rins_mm.initial_weights import begin_with, describe_init, record_fits
from rins_mm.learner import Learner
from rins_mm.matching import Plan, describe_plan, spent_before
from rins_mm.models.adapters import adapter_parameters
from rins_mm.models.draws import reachable_signatures
from rins_mm.models.siglip import SigLIP
from rins_mm.recipes import config_to_train, recipe_names, require_folder
from rins_mm.run_folder import begin_run, open_run_tokenizer, refuse_existing_run, resume_run
from rins_mm.run_log import RunLog, has_evaluation
from rins_mm.run_plan import describe_run, resolve_steps
from rins_mm.stopping import EXIT_CODE, StopRequest
from rins_mm.trainer import Trainer
from rins_mm.validation import validate
from rins_mm.watch import Watch


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """What the command line says: the configuration, and what to do with it."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    resume: bool = False
    """Continue the run in --run-dir from its newest checkpoint; begin it where there is none."""
    skip_damaged: bool = False
    """With --resume: pass over checkpoints that are damaged, and continue from the newest whole one."""
    dry_run: bool = False
    """Print what the recipe costs, and stop."""
    device: Literal["h100", "h200", "a100", "l40s", "rtx4090"] = "h100"
    """For --dry-run: the device whose time is estimated."""
    utilisation: float = 0.4
    """For --dry-run: the share of the device's peak that is assumed."""
    caption_tokens: float | None = None
    """For --dry-run: the mean length of a caption in tokens (without packing, of the longest of a batch);
    None: the whole context, and where a budget is matched the lengths of some captions of the data."""


def parse(argv: list[str]) -> TrainCommand:
    """The recipe named first on the command line, with the remaining flags applied."""
    asks_for_help = not argv or argv[0] in ("-h", "--help")
    if not asks_for_help and argv[0].startswith("-"):
        raise UserError(
            f"the first word must be a recipe, not the flag {argv[0]!r}; recipes are {', '.join(recipe_names())}"
        )
    source, flags = ("emoji", ["--help"]) if asks_for_help else (argv[0], argv[1:])
    return tyro.cli(
        TrainCommand,
        args=flags,
        default=TrainCommand(config=config_to_train(source)),
        prog=f"python -m rins_mm.train {source}",
        description=f"Train {source}. Recipes: {', '.join(recipe_names())}.",
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
    )


def main(argv: list[str]) -> None:
    """Check everything, then assemble the parts of a run, and train."""
    command = parse(argv)
    config = command.config
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    validate(config, world_size=world_size)
    if command.dry_run:
        print(
            describe_run(
                config,
                device=command.device,
                utilisation=command.utilisation,
                caption_tokens=command.caption_tokens,
                world_size=world_size,
            )
        )
        return
    require_folder(config)
    # Opened once for nothing: data that is missing should be known now, not at the first evaluation.
    open_tasks(config.evaluation.tasks, evaluation_data(config))
    set_threads(config.num_threads)
    if config.deterministic:
        make_deterministic()
    tokenizer = open_run_tokenizer(config) if command.resume else build_tokenizer(config)
    dataset = open_training_data(config.data)
    config, plan = resolve_steps(config, dataset, tokenizer, world_size, resumes=command.resume)
    model = initial_model(config, pad_token=tokenizer.pad_token)
    check_world_size(model, world_size)
    facts = {"data": dataset.fingerprint, "tokenizer": tokenizer.fingerprint}
    checkpoint = None
    if command.resume:
        checkpoint = resume_run(config, facts, skip_damaged=command.skip_damaged)
    else:
        refuse_existing_run(config)
    fits = begin_with(model, tokenizer, config) if checkpoint is None else []
    with (
        process_group(config.timeout_seconds) as ranks,
        Watch(ranks, config.timeout_seconds) as watch,
    ):
        step = checkpoint.step if checkpoint else 0
        agreed = [*facts.values(), f"step {step} of {config.max_steps}"]
        # Also: every rank has looked at the folder before the first one writes into it.
        require_same("the data, the tokenizer, the checkpoint and the steps", agreed, ranks)
        if command.resume and ranks.is_first:
            for line in tidy(Path(config.run_dir), checkpoint):
                tell(line)
        if checkpoint and is_complete(config, checkpoint):
            if ranks.is_first:
                tell(f"{config.run_dir} has reached its last step, {checkpoint.step}, already")
            return
        stop = StopRequest()
        with stop.listening():
            if ranks.is_first:
                begin_run(config, tokenizer, argv, ranks)
                record_fits(Path(config.run_dir), fits)
            is_finished = train(
                config, dataset, tokenizer, model, checkpoint, ranks, watch, facts, stop, plan
            )
    if not is_finished:
        sys.exit(EXIT_CODE)


def train(
    config: TrainConfig,
    dataset: Dataset,
    tokenizer: Tokenizer,
    model: SigLIP,
    checkpoint: Checkpoint | None,
    ranks: Ranks,
    watch: Watch,
    facts: Mapping[str, str],
    stop: StopRequest,
    plan: Plan | None,
) -> bool:
    """One run, from its first or its next step to its last; False when it was stopped before that."""
    first_step = checkpoint.step if checkpoint else 0
    bad_samples = BadSampleCounts()
    run_log = RunLog(
        Path(config.run_dir),
        ranks,
        max_steps=config.max_steps,
        first_step=first_step,
        tensorboard=config.tensorboard,
    )
    with closing(run_log):
        learner = Learner(
            config, model, ranks=ranks, device=local_device(), watch=watch, say=run_log.say
        )
        if checkpoint:
            learner.restore(checkpoint)
        trainer = Trainer(
            config,
            learner,
            first_step=first_step,
            ranks=ranks,
            run_log=run_log,
            watch=watch,
            evaluate=partial(
                evaluate,
                config=config,
                tokenizer=tokenizer,
                ranks=replace(ranks, asked_to_stop=stop.__bool__),
            ),
            facts=facts,
            bad_samples=bad_samples,
            stop=stop,
            blank=ImageTextBatch.blank(
                -(-config.batch_size // ranks.world_size),
                image_size=config.image.image_size,
                end_token=tokenizer.end_token,
                num_keys=1 + len(config.data.positives),
            ),
            spent=spent_before(
                first_step, config.batch_size, checkpoint.state if checkpoint else {}
            ),
        )
        trainer.writer.check_room(**learner.saved_parts())
        run_log.say(opening_line(config, model, dataset, ranks, first_step))
        if plan:
            run_log.write_plan(asdict(plan), describe_plan(plan, config.budget))
        batches = train_batches(
            config.data,
            dataset,
            tokenizer,
            image_size=config.image.image_size,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=first_step,
            num_steps=config.max_steps - first_step,
            rank=ranks.rank,
            world_size=ranks.world_size,
            bad_samples=bad_samples,
        )
        with closing(batches):
            is_finished = trainer.fit(batches)
        if is_finished:
            run_log.say(f"done: {config.max_steps} steps; the run is in {config.run_dir}")
        return is_finished


def is_complete(config: TrainConfig, checkpoint: Checkpoint) -> bool:
    """Whether nothing of the run is left to do after its newest checkpoint."""
    metrics = Path(config.run_dir) / "metrics.jsonl"
    is_evaluated = not config.evaluation.tasks or has_evaluation(metrics, config.max_steps)
    return checkpoint.step == config.max_steps and is_evaluated


def check_world_size(model: SigLIP, world_size: int) -> None:
    """Refuse several ranks for a model whose batch statistics would differ between them."""
    locked = set(model.image_tower.locked)
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
    names = [part for part in norms if part not in locked]
    if world_size > 1 and names:
        raise UserError(
            f"the image tower {model.image_tower.config.name!r} has {len(names)} BatchNorm layers, whose "
            f"statistics {world_size} ranks would not share; start one rank, or choose a model without them"
        )


def evaluate(
    model: SigLIP, step: int, *, config: TrainConfig, tokenizer: Tokenizer, ranks: Ranks
) -> Mapping[str, float]:
    """The metrics of the configured tasks at each depth of the text tower, by name.

    Raises Interrupted, on all ranks, when one of them is asked to stop meanwhile.
    """
    if not config.evaluation.tasks:
        return {}
    signatures = config.evaluation.text_signatures or reachable_signatures(config.text.recursion)
    encoder = SigLIPEncoder(model, tokenizer, name=f"{Path(config.run_dir).name}@{step}")
    with ranks.interruptible():
        results = run_suite(
            encoder.as_dual_encoder(),
            list(config.evaluation.tasks),
            list(signatures),
            data=evaluation_data(config),
            ranks=ranks,
        )
    return {
        f"{result['dataset']}/{result['variant']}/{name}": value
        for result in results
        for name, value in result["metrics"].items()
    }


def evaluation_data(config: TrainConfig) -> Path | None:
    """The folder of the pictures for tasks that need one."""
    return Path(config.evaluation.data) if config.evaluation.data else None


def opening_line(
    config: TrainConfig, model: SigLIP, dataset: Dataset, ranks: Ranks, first_step: int
) -> str:
    """What is about to run, in one line."""
    added = sum(p.numel() for p in adapter_parameters(model).values())
    adapters = describe_adapters(added, sum(p.numel() for p in model.parameters()))
    begin = f"resuming after step {first_step}" if first_step else "training"
    return (
        f"{begin}: {config.max_steps} steps of {config.batch_size} pairs from {dataset.num_samples} samples, "
        f"{ranks.world_size} ranks, {config.precision}, text {config.text.recursion.signature} "
        f"(p_s {config.text.recursion.skip_probability}), image {config.image.recursion.signature}"
        f"{f', adapters of {adapters}' if added else ''}"
        f"{describe_init(config.init)}"
        f"{', deterministic' if config.deterministic else ''}"
    )


if __name__ == "__main__":
    run_command(main)
