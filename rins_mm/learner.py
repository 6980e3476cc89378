"""A model, what updates it, and one step of training."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from data_pipelines.batch import ImageTextBatch
from data_pipelines.hashing import stable_hash
from eval.ranks import Ranks
from rins_mm.accumulation import Found, find_gradients, split
from rins_mm.augment import augment
from rins_mm.bad_steps import describe_bad_step, leave_out
from rins_mm.checkpoint import Checkpoint, load_weights
from rins_mm.config import TrainConfig
from rins_mm.distributed import GradientBuffer
from rins_mm.guard import StepGuard, running_statistics
from rins_mm.losses import choose_loss
from rins_mm.models.compiled import compile_blocks
from rins_mm.models.draws import draw_calls
from rins_mm.models.image_tower import set_fused_attention
from rins_mm.models.siglip import SigLIP
from rins_mm.models.signatures import Calls
from rins_mm.optim import build_optimizer, set_learning_rate
from rins_mm.optimizer_state import restore_optimizer
from rins_mm.round_telemetry import observed_rounds
from rins_mm.schedules import learning_rate_factor
from rins_mm.sharding import ShardedGradients, gathered, on_parts, shard, skeleton_of
from rins_mm.step_timer import StepTimer
from rins_mm.watch import Watch

STOP, NO_BATCH, LOSS = 0, 1, 2
"""Places of what travels with the gradients: who is asked to stop, who has no batch, each one's loss."""


class Learner:
    """All that training changes. Nothing in a step depends on what was drawn in earlier ones."""

    def __init__(
        self,
        config: TrainConfig,
        model: SigLIP,
        *,
        ranks: Ranks,
        device: torch.device,
        watch: Watch,
        say: Callable[[str], None],
    ) -> None:
        self.config = config
        self.ranks = ranks
        self.device = device
        self.watch = watch
        self.say = say
        self.timer = StepTimer(device)
        self.group = dist.group.WORLD if ranks.world_size > 1 else None
        sharded = config.sharding == "fsdp" and self.group is not None
        # What is divided goes to the device block by block: all of it may be too much for one.
        self.model = model if sharded else model.to(device)
        self.fused_attention = device.type != "cpu" or config.precision != "bf16"
        self.average = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
            if config.ema_decay
            else None
        )
        if config.compile != "off":
            compile_blocks(self.model, backend=config.compile)
        self.skeleton: SigLIP | None = None
        """The model without weights, where each rank holds a part of them; None where it holds all."""
        if sharded:
            self.skeleton = skeleton_of(self.model)
            self.shard()
        gradients = GradientBuffer if self.skeleton is None else ShardedGradients
        self.gradients = gradients(self.model.parameters(), num_votes=3)
        self.optimizer = build_optimizer(config.optimizer, self.model)
        self.guard = StepGuard(config.guard)
        self.running_statistics = running_statistics(self.model)

    def shard(self) -> None:
        """Keep a part of the weights, and of their average, on each rank."""
        mesh = init_device_mesh(self.device.type, (self.ranks.world_size,))
        shard(self.model, mesh, bf16=self.config.precision == "bf16")
        if self.average is not None:
            shard(cast(SigLIP, self.average.module), mesh, bf16=False)
            self.average.multi_avg_fn = on_parts(get_ema_multi_avg_fn(self.config.ema_decay))

    def train_step(
        self,
        step: int,
        batch: ImageTextBatch,
        *,
        has_batch: bool = True,
        asked_to_stop: bool = False,
        observe_rounds: bool = False,
    ) -> dict[str, Any] | None:
        """One update from this rank's share of a global batch; what to log of it.

        A rank without a batch takes part with a blank one, so that no other waits for it in vain; then
        nothing is updated on any rank, and the answer is None.
        """
        config, model = self.config, self.model
        self.timer.enter("forward_backward")
        image_calls = draw_calls(config.image.recursion, tower="image", seed=config.seed, step=step)
        text_calls = draw_calls(config.text.recursion, tower="text", seed=config.seed, step=step)

        model.train()
        set_fused_attention(model, fused=self.fused_attention)
        statistics = [buffer.clone() for buffer in self.running_statistics]
        self.gradients.zero()
        with observed_rounds(model, wanted=observe_rounds) as rounds:
            found = self.find_gradients(step, batch, image_calls, text_calls)
        own_gradient_norm = self.gradients.own_norm()
        self.gradients.votes[STOP] = asked_to_stop
        self.gradients.votes[NO_BATCH] = not has_batch
        self.gradients.votes[LOSS] = found.loss
        self.timer.enter("exchange")
        self.watch.mark("exchanging gradients")
        self.gradients.sum_over_ranks(self.group)
        if self.gradients.votes[NO_BATCH]:
            return None
        self.timer.enter("optimizer")
        # All ranks hold the same loss, unless one has gone wrong: then the mean is not finite on any.
        mean_loss = self.gradients.votes[LOSS] / self.ranks.world_size
        gradient_norm = self.gradients.clip(config.optimizer.max_gradient_norm)
        rate = self.learning_rate(step)
        metrics = {
            "loss": found.loss,
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
            "image_calls": "".join(image_calls),
            "text_calls": "".join(text_calls),
        }
        # Both in one reading: each makes the host wait for the device.
        cause = self.guard.judge(*torch.stack((mean_loss, gradient_norm)).tolist())
        if cause is None:
            self.update(rate)
        else:
            for buffer, before in zip(self.running_statistics, statistics, strict=True):
                buffer.copy_(before)
            facts = {"cause": cause, **metrics, "own_gradient_norm": own_gradient_norm}
            pixels = map(self.pixels, split(batch, config.micro_batch_size))
            facts |= describe_bad_step(
                batch, model, pixels, found.image_features, found.text_features
            )
            rank = self.ranks.rank
            leave_out(config, self.guard, facts, step=step + 1, rank=rank, say=self.say)
        self.timer.enter("other")
        return {
            **metrics,
            **rounds,
            "logit_scale": model.logit_scale.detach().exp(),
            "logit_bias": model.logit_bias.detach(),
            "skipped_steps": self.guard.skipped_steps,
        }

    def find_gradients(
        self, step: int, batch: ImageTextBatch, image_calls: Calls, text_calls: Calls
    ) -> Found:
        """Add this rank's share of the gradients of a global batch to the buffer."""

        def seed(number: int) -> None:
            # Stochastic depth and patch dropout draw from torch's generator: tie it to the step.
            torch.manual_seed(stable_hash("step", self.config.seed, step, self.ranks.rank, number))

        return find_gradients(
            partial(self.encode, image_calls=image_calls, text_calls=text_calls),
            partial(self.loss, batch=batch),
            split(batch, self.config.micro_batch_size),
            seed=seed,
            running_statistics=self.running_statistics,
        )

    def encode(
        self, part: ImageTextBatch, *, image_calls: Calls, text_calls: Calls
    ) -> tuple[Float[Tensor, "B E"], Float[Tensor, "B E"]]:
        """The features of a part of this rank's share."""
        pixels, part = self.pixels(part), part.to(self.device)
        with torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            return self.model(pixels, part.tokens, part.offsets, image_calls, text_calls)

    def pixels(self, part: ImageTextBatch) -> Float[Tensor, "B 3 S S"]:
        """The pictures as the image tower sees them, augmented."""
        images, row_seeds = part.images.to(self.device), part.row_seeds.to(self.device)
        return augment(images.float() / 255.0, row_seeds, self.config.augmentation)

    def loss(
        self,
        image_features: Float[Tensor, "B E"],
        text_features: Float[Tensor, "B E"],
        batch: ImageTextBatch,
    ) -> Float[Tensor, ""]:
        """The loss of the global batch, equal on all ranks."""
        self.watch.mark("exchanging features")
        loss = self.config.loss
        loss_of = choose_loss(
            loss.kind,
            form=loss.form,
            tile_size=loss.tile_size,
            exchange=loss.exchange,
            compiler=self.config.compile,
        )
        value = loss_of(
            image_features,
            text_features,
            logit_scale=self.model.logit_scale,
            logit_bias=self.model.logit_bias,
            image_keys=batch.image_keys.to(self.device),
            text_keys=batch.text_keys.to(self.device),
            valid=batch.valid.to(self.device),
            group=self.group,
        )
        self.watch.mark("computing gradients")
        return value

    def learning_rate(self, step: int) -> float:
        """The rate of a step, taken at its middle: neither the first nor the last is wasted on zero."""
        config = self.config
        return config.optimizer.peak_learning_rate * learning_rate_factor(
            config.schedule,
            samples_seen=(step + 0.5) * config.batch_size,
            total_samples=config.max_steps * config.batch_size,
        )

    def update(self, rate: float) -> None:
        """Take the step that the gradients say."""
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def best_model(self) -> SigLIP:
        """The model to be evaluated: the averaged weights where an average is kept.

        Whole on every rank: ranks encode different numbers of blocks, and sharded towers need all ranks.
        """
        model = self.model if self.average is None else cast(SigLIP, self.average.module)
        # In fp32, by the kernels of an encoder that is loaded: the same digits.
        set_fused_attention(model, fused=True)
        if self.skeleton is not None:
            set_fused_attention(self.skeleton, fused=True)
        return model if self.skeleton is None else gathered(model, self.skeleton)

    def saved_parts(self) -> dict[str, Any]:
        """What a checkpoint holds tensors of."""
        average = None if self.average is None else self.average.module
        return {"model": self.model, "average": average, "optimizer": self.optimizer}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after the checkpoint's last step."""
        self.guard.restore(checkpoint.state)
        load_weights(self.model, checkpoint.model_weights(), checkpoint.folder)
        restore_optimizer(self.optimizer, self.model, checkpoint)
        if self.average is not None:
            load_weights(
                self.average.module, checkpoint.model_weights(averaged=True), checkpoint.folder
            )
            # The first update of an average copies; it has happened, unless no step was taken.
            self.average.n_averaged.fill_(checkpoint.step - self.guard.skipped_steps)
