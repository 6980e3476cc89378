"""The training loop and one step of it."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from data_pipelines.bad_samples import BadSampleCounts
from data_pipelines.batch import ImageTextBatch
from data_pipelines.hashing import stable_hash
from eval.ranks import Interrupted, Ranks
from rins_mm.augment import augment
from rins_mm.bad_steps import describe_bad_step, leave_out
from rins_mm.checkpoint import Checkpoint, load_weights, restore_optimizer
from rins_mm.checkpoint_writer import CheckpointWriter
from rins_mm.config import TrainConfig
from rins_mm.distributed import GradientBuffer
from rins_mm.guard import StepGuard, running_statistics
from rins_mm.losses import LOSSES
from rins_mm.models.image_tower import set_fused_attention
from rins_mm.models.recursion import draw_calls
from rins_mm.models.siglip import SigLIP
from rins_mm.optim import build_optimizer, set_learning_rate
from rins_mm.run_log import RunLog, StepTimer, has_evaluation
from rins_mm.sample_digest import digest_of, hashes_of
from rins_mm.schedules import learning_rate_factor
from rins_mm.stopping import StopAsked, StopRequest
from rins_mm.watch import Watch

STOP, NO_BATCH, LOSS = 0, 1, 2
"""Places of what travels with the gradients: who is asked to stop, who has no batch, each one's loss."""


class Trainer:
    """A model, its optimizer, and where they write. `fit` is the loop."""

    def __init__(
        self,
        config: TrainConfig,
        model: SigLIP,
        *,
        ranks: Ranks,
        device: torch.device,
        run_log: RunLog,
        watch: Watch,
        evaluate: Callable[[SigLIP, int], Mapping[str, float]],
        facts: Mapping[str, Any],
        bad_samples: BadSampleCounts,
        stop: StopRequest,
        blank: ImageTextBatch,
    ) -> None:
        self.config = config
        self.ranks = ranks
        self.device = device
        self.run_log = run_log
        self.watch = watch
        self.evaluate = evaluate
        self.facts = facts
        self.bad_samples = bad_samples
        self.stop = stop
        self.blank = blank
        self.group = dist.group.WORLD if ranks.world_size > 1 else None
        self.model = model.to(device)
        slow_fused_kernel = device.type == "cpu" and config.precision == "bf16"
        set_fused_attention(self.model, fused=not slow_fused_kernel)
        self.average = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
            if config.ema_decay
            else None
        )
        self.optimizer = build_optimizer(config.optimizer, self.model)
        self.gradients = GradientBuffer(self.model.parameters(), num_votes=3)
        self.guard = StepGuard(config.guard)
        self.running_statistics = running_statistics(self.model)
        self.timer = StepTimer()
        self.writer = CheckpointWriter(
            Path(config.run_dir),
            keep=config.keep_checkpoints,
            asynchronous=config.checkpoint_async,
        )
        self.stall_seconds = 0.0
        self.first_step = 0
        self.saved_step = 0

    def fit(self, batches: Iterator[ImageTextBatch]) -> bool:
        """Train from `first_step` to the end; `batches` begin with the batch of that step.

        False when the ranks were asked to stop before the end: what was trained is saved then.
        """
        config = self.config
        if self.lacks_evaluation() and not self.measure(self.first_step):
            return self.leave(self.first_step)
        for step in range(self.first_step, config.max_steps):
            self.watch.mark("waiting for data", step=step + 1)
            batch = self.next_batch(batches)
            self.watch.mark("computing", keys=batch.sample_keys if batch else ())
            metrics = self.train_step(step, batch)
            if batch is None or metrics is None:
                return self.leave(step)
            done = step + 1
            self.run_log.advance(done)
            if due(done, config.log_every, config.max_steps):
                self.log(done, metrics, batch.sample_keys)
            evaluates = due(done, config.eval_every, config.max_steps)
            saves = due(done, config.checkpoint_every, config.max_steps)
            if evaluates or saves:
                self.watch.mark("exchanging counts of bad samples")
                self.report_bad_samples(done)
            if saves:
                self.watch.mark("saving")
                self.save(done)
            if evaluates and not self.measure(done):
                return self.leave(done)
            if self.gradients.votes[STOP] and done < config.max_steps:
                return self.leave(done)
            if evaluates or saves:
                self.timer.restart()
        return True

    def next_batch(self, batches: Iterator[ImageTextBatch]) -> ImageTextBatch | None:
        """The next batch; None when this rank is asked to stop while it waits."""
        try:
            with self.timer.waiting(), self.stop.ending_waits():
                return next(batches)
        except StopAsked:
            return None

    def measure(self, done: int) -> bool:
        """Evaluate what the first `done` steps gave; False when the ranks are asked to stop meanwhile."""
        self.watch.mark("evaluating")
        try:
            metrics = self.evaluate(self.best_model(), done)
        except Interrupted:
            return False
        self.run_log.write_evaluation(done, metrics)
        return True

    def lacks_evaluation(self) -> bool:
        """Whether the evaluation of the step that a run resumes from was cut off."""
        config, step = self.config, self.first_step
        if not config.evaluation.tasks or not step:
            return False
        is_written = self.ranks.is_first and has_evaluation(self.run_log.path, step)
        return due(step, config.eval_every, config.max_steps) and not self.ranks.largest(is_written)

    def leave(self, done: int) -> bool:
        """Save what is not saved yet; False, as the answer of a run that was stopped."""
        self.watch.mark("saving")
        if done > self.saved_step:
            self.save(done)
        self.writer.finish()
        # Nobody leaves before the first rank has saved: torchrun would end it when others are gone.
        self.ranks.largest(0)
        reason = self.stop.reason or "a signal to another rank"
        self.run_log.say(
            f"stopped after step {done} of {self.config.max_steps} by {reason}; "
            "what was trained is saved, and --resume goes on from there"
        )
        return False

    def train_step(self, step: int, batch: ImageTextBatch | None) -> dict[str, Any] | None:
        """One update from this rank's share of a global batch. Nothing here depends on earlier draws.

        A rank without a batch takes part with a blank one, so that no other waits for it in vain; then
        nothing is updated on any rank, and the answer is None.
        """
        has_batch = batch is not None
        batch = (batch or self.blank).to(self.device)
        config, model = self.config, self.model
        image_calls = draw_calls(config.image.recursion, tower="image", seed=config.seed, step=step)
        text_calls = draw_calls(config.text.recursion, tower="text", seed=config.seed, step=step)
        # Stochastic depth and patch dropout draw from torch's generator: tie it to the step.
        torch.manual_seed(stable_hash("step", config.seed, step, self.ranks.rank))

        model.train()
        statistics = [buffer.clone() for buffer in self.running_statistics]
        self.gradients.zero()
        images = augment(batch.images.float() / 255.0, batch.row_seeds, config.augmentation)
        with torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"
        ):
            image_features, text_features = model(
                images, batch.tokens, batch.offsets, image_calls, text_calls
            )
        self.watch.mark("exchanging features")
        loss = LOSSES[config.loss.kind](
            image_features,
            text_features,
            logit_scale=model.logit_scale,
            logit_bias=model.logit_bias,
            image_keys=batch.image_keys,
            text_keys=batch.text_keys,
            valid=batch.valid,
            group=self.group,
        )
        self.watch.mark("computing gradients")
        loss.backward()
        own_gradient_norm = self.gradients.flat.norm()
        self.gradients.votes[STOP] = bool(self.stop)
        self.gradients.votes[NO_BATCH] = not has_batch
        self.gradients.votes[LOSS] = loss.detach()
        self.watch.mark("exchanging gradients")
        self.gradients.sum_over_ranks(self.group)
        if self.gradients.votes[NO_BATCH]:
            return None
        # All ranks hold the same loss, unless one has gone wrong: then the mean is not finite on any.
        mean_loss = self.gradients.votes[LOSS] / self.ranks.world_size
        gradient_norm = self.gradients.clip(config.optimizer.max_gradient_norm)

        rate = config.optimizer.peak_learning_rate * learning_rate_factor(
            config.schedule,
            # The middle of the step: neither the first nor the last one is wasted on a rate of zero.
            samples_seen=(step + 0.5) * config.batch_size,
            total_samples=config.max_steps * config.batch_size,
        )
        set_learning_rate(self.optimizer, rate)
        # Both in one reading: each makes the host wait for the device.
        cause = self.guard.judge(*torch.stack((mean_loss, gradient_norm)).tolist())
        if cause is None:
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(model)
        else:
            for buffer, before in zip(self.running_statistics, statistics, strict=True):
                buffer.copy_(before)
            facts = describe_bad_step(
                batch,
                model=model,
                images=images,
                image_features=image_features,
                text_features=text_features,
            )
            numbers = {
                "loss": loss.item(),
                "gradient_norm": gradient_norm.item(),
                "own_gradient_norm": own_gradient_norm.item(),
                "learning_rate": rate,
                "image_calls": "".join(image_calls),
                "text_calls": "".join(text_calls),
            }
            facts = {"cause": cause, **numbers, **facts}
            leave_out(
                config, self.guard, facts, step=step + 1, rank=self.ranks.rank, say=self.run_log.say
            )
        return {
            "loss": loss.detach(),
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
            "logit_scale": model.logit_scale.detach().exp(),
            "logit_bias": model.logit_bias.detach(),
            "image_calls": "".join(image_calls),
            "text_calls": "".join(text_calls),
            "skipped_steps": self.guard.skipped_steps,
        }

    def log(self, done: int, metrics: Mapping[str, Any], sample_keys: Sequence[str]) -> None:
        """One row of metrics.jsonl and one line on the console."""
        hashes = self.ranks.all_gather(hashes_of(sample_keys))
        elapsed, waited, steps = self.timer.read()
        numbers = {k: v.item() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        self.run_log.write_step(
            {
                "step": done,
                **numbers,
                "samples": digest_of(hashes, self.config.batch_size),
                "samples_seen": done * self.config.batch_size,
                "samples_per_second": steps * self.config.batch_size / elapsed,
                "data_wait_fraction": waited / elapsed,
                "checkpoint_stall_seconds": self.stall_seconds,
                "time": time.time(),
            }
        )
        self.stall_seconds = 0.0

    def report_bad_samples(self, done: int) -> None:
        """Say, on the first rank, how many samples of this launch were left out, by shard and cause."""
        own = [[*place, count] for place, count in self.bad_samples.by_shard_and_cause.items()]
        total: Counter[tuple[str, str]] = Counter()
        for text in self.ranks.all_gather_text(json.dumps(own)):
            for shard, cause, count in json.loads(text):
                total[shard, cause] += count
        if total:
            self.run_log.write_bad_samples(done, total)

    def best_model(self) -> SigLIP:
        """The model to be evaluated: the averaged weights where an average is kept."""
        return self.model if self.average is None else cast(SigLIP, self.average.module)

    def saved_parts(self) -> dict[str, Any]:
        """What a checkpoint holds tensors of."""
        average = None if self.average is None else self.average.module
        return {"model": self.model, "average": average, "optimizer": self.optimizer}

    def save(self, done: int) -> None:
        """Begin a checkpoint, on the first rank: all ranks hold the same weights. The last is waited for."""
        self.saved_step = done
        if not self.ranks.is_first:
            return
        stall = self.writer.begin(
            done,
            **self.saved_parts(),
            state={**self.facts, "step": done, **self.guard.state()},
        )
        self.stall_seconds += stall
        self.run_log.say(f"step {done:>6}  checkpoint: training stood still for {stall:.3f} s")
        if done == self.config.max_steps:
            self.writer.finish()

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
        self.first_step = self.saved_step = checkpoint.step


def due(done: int, every: int, last: int) -> bool:
    """Whether something that happens every so many steps (0: never) and at the end happens now."""
    return done == last or (every > 0 and done % every == 0)
