"""What a configuration must keep to. All of it is checked before any process group exists."""

import dataclasses
import importlib.util
import math
from collections.abc import Mapping
from dataclasses import replace

from data_pipelines.errors import UserError
from data_pipelines.plain_values import refuse_commands
from rins_mm.config import InitConfig, TrainConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.recursion_checks import check_recursion
from rins_mm.models.signatures import expand, group_sizes
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.optim import check_optimizer_name

MAX_IMAGE_SIZE = 8_192
"""Pixels of a side in what others describe: far more than any encoder of today reads."""
MAX_THREADS = 1_024
"""Of a rank; and its workers."""


def validate(config: TrainConfig, *, world_size: int) -> None:
    """Refuse what cannot run: a UserError names the setting, its value and the mend."""
    _check_least(
        {
            "max_steps": (config.max_steps, 1),
            "batch_size": (config.batch_size, 1),
            "micro_batch_size": (config.micro_batch_size, 0),
            "checkpoint_every": (config.checkpoint_every, 1),
            "keep_checkpoints": (config.keep_checkpoints, 1),
            "eval_every": (config.eval_every, 0),
            "log_every": (config.log_every, 1),
            "profile": (config.profile, 0),
            "seed": (config.seed, 0),
            "num_threads": (config.num_threads, 1),
            "loss.tile_size": (config.loss.tile_size, 0),
            "guard.max_in_a_row": (config.guard.max_in_a_row, 1),
            # The standard deviation of a single step is none.
            "guard.spike_window": (config.guard.spike_window, 2),
            "image.image_size": (config.image.image_size, 1),
            "text.context_length": (config.text.context_length, 1),
            "data.num_workers": (config.data.num_workers, 0),
            "data.prefetch_batches": (config.data.prefetch_batches, 1),
            "data.block_size": (config.data.block_size, 1),
            "schedule.timescale_samples": (config.schedule.timescale_samples, 1),
            "schedule.warmup_samples": (config.schedule.warmup_samples, 0),
            "schedule.cooldown_samples": (config.schedule.cooldown_samples, 0),
        }
    )
    _check_positive(
        {
            "timeout_seconds": config.timeout_seconds,
            "loss.initial_scale": config.loss.initial_scale,
            "augmentation.min_scale": config.augmentation.min_scale,
            "optimizer.peak_learning_rate": config.optimizer.peak_learning_rate,
            "optimizer.image_rate_factor": config.optimizer.image_rate_factor,
            "optimizer.text_rate_factor": config.optimizer.text_rate_factor,
            "optimizer.layer_decay": config.optimizer.layer_decay,
        }
    )
    if world_size > config.batch_size:
        raise UserError(
            f"{world_size} ranks cannot share a batch_size of {config.batch_size}; "
            f"start at most {config.batch_size} ranks or raise --batch-size"
        )
    if not 0.0 <= config.guard.spike_sigmas < math.inf:
        raise UserError(
            f"guard.spike_sigmas is {config.guard.spike_sigmas}; it must be greater than 0, or 0 for none"
        )
    if not 0.0 <= config.ema_decay < 1.0:
        raise UserError(f"ema_decay is {config.ema_decay}; it must lie in [0, 1)")
    _check_machine(config)
    _check_pixels(config.image)
    check_recursion("image", config.image.recursion)
    check_recursion("text", config.text.recursion)
    _check_text(config.text, config.evaluation.text_signatures)
    check_optimizer_name(config.optimizer.name)
    _check_init(config.init)
    _check_tensorboard(config)
    _check_budget(config)
    _check_sharding(config)


def check_towers(image: ImageTowerConfig, text: TextTowerConfig, *, most_blocks: int) -> None:
    """Refuse towers that cannot be, or could not be with so few weights, before they are built."""
    depths = {"image.depth": image.depth or 1, "text.depth": text.depth}
    sizes = {"image.image_size": image.image_size, "text.context_length": text.context_length}
    _check_least({name: (value, 1) for name, value in {**depths, **sizes}.items()})
    for name, value in {**depths, "image.stem_channels": len(image.stem_channels)}.items():
        if value > most_blocks:
            raise UserError(f"{name} is {value}, and there are {most_blocks} weights in all")
    if image.image_size > MAX_IMAGE_SIZE:
        raise UserError(f"image.image_size is {image.image_size}, more than {MAX_IMAGE_SIZE:,}")
    _check_pixels(image)
    check_recursion("image", image.recursion)
    check_recursion("text", text.recursion)
    _check_text(text, ())


def _check_pixels(image: ImageTowerConfig) -> None:
    if not all(map(math.isfinite, image.mean)):
        raise UserError(f"image.mean is {image.mean}; it must be three finite numbers")
    if not all(0 < value < math.inf for value in image.std):
        raise UserError(f"image.std is {image.std}; it must be three finite numbers above 0")


def _check_least(settings: Mapping[str, tuple[int, int]]) -> None:
    for name, (value, least) in settings.items():
        if value < least:
            raise UserError(f"{name} is {value}; it must be at least {least}")


def _check_positive(settings: Mapping[str, float]) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise UserError(f"{name} is {value}; it must be greater than 0")


def _check_machine(config: TrainConfig) -> None:
    """Refuse what no machine can do, whoever recorded it."""
    bounds = {
        "seed": (config.seed, 2**63 - 1),
        "num_threads": (config.num_threads, MAX_THREADS),
        "data.num_workers": (config.data.num_workers, MAX_THREADS),
    }
    for name, (value, most) in bounds.items():
        if value > most:
            raise UserError(f"{name} is {value}; it must be at most {most}")
    try:
        refuse_commands(dataclasses.asdict(replace(config, run_dir="")))
    except ValueError as error:
        # The record of such a run would not be read.
        raise UserError(f"{error}; give another name") from error
    try:
        config.run_dir.encode()
    except UnicodeEncodeError as error:
        # The run's record and its log name it.
        raise UserError(
            f"the name of the run folder {config.run_dir!r} is not UTF-8; rename it, or choose another --run-dir"
        ) from error


def _check_text(text: TextTowerConfig, evaluated: tuple[str, ...]) -> None:
    if text.num_heads < 1 or text.width % text.num_heads:
        raise UserError(
            f"text.width {text.width} cannot be shared by {text.num_heads} heads; "
            "choose a width that num_heads divides"
        )
    groups = group_sizes(text.recursion.signature, text.depth, text.recursion.split)
    for signature in evaluated:
        if unknown := sorted(set(expand(signature)) - groups.keys()):
            raise UserError(
                f"evaluation.text_signatures names {signature!r}, but the text tower has the groups "
                f"{' '.join(groups)} and no {' '.join(unknown)}; use these letters only"
            )


def _check_init(init: InitConfig) -> None:
    if init.unlock_from_block is not None and not init.lock_image:
        raise UserError(
            f"init.unlock_from_block is {init.unlock_from_block}, but nothing is locked; "
            "add --init.lock-image, or leave it out"
        )
    others = [name for name in ("image", "text") if getattr(init, name)]
    if init.model and others:
        raise UserError(
            f"init.model {init.model} gives both towers, so that init.{others[0]} "
            f"{getattr(init, others[0])} would be given twice; leave one of them out"
        )


def _check_tensorboard(config: TrainConfig) -> None:
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "tensorboard is asked for but not installed; pip install tensorboard, or leave out --tensorboard"
        )


def _check_sharding(config: TrainConfig) -> None:
    if config.sharding == "fsdp" and config.optimizer.name != "adamw":
        raise UserError(
            f"the optimizer {config.optimizer.name!r} needs whole parameters, and with --sharding fsdp a rank "
            "holds parts of them; choose --optimizer.name adamw or --sharding none"
        )
    if config.sharding == "fsdp" and config.compile != "off":
        raise UserError(
            f"sharding fsdp and compile {config.compile} have never been tried together; "
            "leave out --compile or --sharding"
        )


def _check_budget(config: TrainConfig) -> None:
    budget = config.budget
    if budget.match == "steps":
        check_schedule(config)
    if budget.match == "steps" and budget.amount:
        raise UserError(
            f"budget.amount is {budget.amount:g}, but budget.match is steps, whose number is --max-steps; "
            "leave it out, or match samples, layer_steps or flops"
        )
    if budget.match != "steps" and not 0 < budget.amount < math.inf:
        raise UserError(
            f"budget.match is {budget.match} and budget.amount is {budget.amount:g}; say with "
            f"--budget.amount how many {budget.match} the run may spend"
        )
    if not 0 <= budget.caption_tokens < math.inf or (
        budget.caption_tokens and budget.match != "flops"
    ):
        raise UserError(
            f"budget.caption_tokens is {budget.caption_tokens:g} with budget.match {budget.match}; it is a length "
            "of at least 1 by which FLOPs are planned, or 0"
        )


def check_schedule(config: TrainConfig) -> None:
    """Refuse a schedule that is longer than the run, once its number of steps is known."""
    schedule, total = config.schedule, config.max_steps * config.batch_size
    if schedule.cooldown_samples and schedule.shape != "rsqrt":
        raise UserError(
            f"schedule.cooldown_samples is {schedule.cooldown_samples}, but the shape "
            f"{schedule.shape!r} has no cooldown; set it to 0 or choose --schedule.shape rsqrt"
        )
    if schedule.warmup_samples + schedule.cooldown_samples > total:
        raise UserError(
            f"schedule.warmup_samples {schedule.warmup_samples} and cooldown_samples "
            f"{schedule.cooldown_samples} do not fit into the {total} samples of the run "
            f"({config.max_steps} steps of {config.batch_size}); shorten them or raise --max-steps"
        )
