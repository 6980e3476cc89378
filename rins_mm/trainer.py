"""The training loop: steps, what is logged of them, checkpoints, evaluations, and how it ends."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from data_pipelines.bad_samples import BadSampleCounts
from data_pipelines.batch import ImageTextBatch
from eval.ranks import Interrupted, Ranks
from rins_mm.checkpoint_writer import CheckpointWriter
from rins_mm.config import TrainConfig
from rins_mm.flops import StepCost
from rins_mm.learner import STOP, Learner
from rins_mm.matching import Spending, audit, audit_line, planned_amount, spent_state
from rins_mm.models.siglip import SigLIP
from rins_mm.profiling import StepProfile
from rins_mm.run_log import RunLog, has_evaluation
from rins_mm.sample_digest import digest_of, hashes_of
from rins_mm.step_meter import StepMeter, recorded_peak
from rins_mm.stopping import StopAsked, StopRequest
from rins_mm.watch import Watch


class Trainer:
    """What learns, what it learns from, and where that is written down. `fit` is the loop."""

    def __init__(
        self,
        config: TrainConfig,
        learner: Learner,
        *,
        first_step: int,
        ranks: Ranks,
        run_log: RunLog,
        watch: Watch,
        evaluate: Callable[[SigLIP, int], Mapping[str, float]],
        facts: Mapping[str, Any],
        bad_samples: BadSampleCounts,
        stop: StopRequest,
        blank: ImageTextBatch,
        spent: Spending | None,
    ) -> None:
        self.config = config
        self.learner = learner
        self.first_step = self.saved_step = first_step
        self.ranks = ranks
        self.run_log = run_log
        self.watch = watch
        self.evaluate = evaluate
        self.facts = facts
        self.bad_samples = bad_samples
        self.stop = stop
        self.blank = blank
        run_dir = Path(config.run_dir)
        embedding_width = learner.model.image_tower.embedding_width
        self.meter = StepMeter(
            StepCost(
                config.image,
                config.text,
                embedding_width=embedding_width,
                image_is_locked=config.init.locks_all_of_image,
            ),
            learner.timer,
            ranks,
            peak=recorded_peak(run_dir, ranks),
            earlier=spent,
        )
        self.profile = StepProfile(
            run_dir / "profile", config.profile * ranks.is_first, learner.device, run_log.say
        )
        self.writer = CheckpointWriter(
            run_dir,
            keep=config.keep_checkpoints,
            asynchronous=config.checkpoint_async,
            writes=ranks.is_first,
        )
        self.stall_seconds = 0.0

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
            metrics = self.learner.train_step(
                step,
                batch or self.blank,
                has_batch=batch is not None,
                asked_to_stop=bool(self.stop),
                observe_rounds=self.ranks.is_first
                and due(step + 1, config.log_every, config.max_steps),
            )
            if batch is None or metrics is None:
                return self.leave(step)
            done = step + 1
            self.meter.count(batch.offsets.diff(), metrics["image_calls"], metrics["text_calls"])
            self.writer.raise_failure()
            self.run_log.advance(done)
            if due(done, config.log_every, config.max_steps):
                self.log(done, metrics, batch.sample_keys)
            if self.profile.step_done(done):
                self.meter.restart()
            evaluates = due(done, config.eval_every, config.max_steps)
            saves = due(done, config.checkpoint_every, config.max_steps)
            if evaluates or saves:
                self.watch.mark("exchanging counts of bad samples")
                self.report_bad_samples(done)
            if saves:
                self.save(done)
            if evaluates and not self.measure(done):
                return self.leave(done)
            if self.learner.gradients.votes[STOP] and done < config.max_steps:
                return self.leave(done)
            if evaluates or saves:
                self.meter.restart()
        self.profile.close()
        self.finish_saves()
        return True

    def next_batch(self, batches: Iterator[ImageTextBatch]) -> ImageTextBatch | None:
        """The next batch; None when this rank is asked to stop while it waits."""
        self.learner.timer.begin_step()
        try:
            with self.stop.ending_waits():
                return next(batches)
        except StopAsked:
            return None

    def measure(self, done: int) -> bool:
        """Evaluate what the first `done` steps gave; False when the ranks are asked to stop meanwhile."""
        if not self.config.evaluation.tasks:
            return True
        self.watch.mark("evaluating")
        try:
            metrics = self.evaluate(self.learner.best_model(), done)
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
        self.profile.close()
        if done > self.saved_step:
            self.save(done)
        self.finish_saves()
        reason = self.stop.reason_on_any(self.ranks)
        self.run_log.say(
            f"stopped after step {done} of {self.config.max_steps} by {reason}; "
            "what was trained is saved, and --resume goes on from there"
        )
        return False

    def log(self, done: int, metrics: Mapping[str, Any], sample_keys: Sequence[str]) -> None:
        """One row of metrics.jsonl and one line on the console."""
        hashes = self.ranks.all_gather(hashes_of(sample_keys))
        # Single numbers have a shape of () or (1,); those of rounds are never alone.
        numbers = {
            k: v.squeeze().tolist() if isinstance(v, Tensor) else v for k, v in metrics.items()
        }
        row = {
            "step": done,
            **numbers,
            "samples": digest_of(hashes, self.config.batch_size),
            "samples_seen": done * self.config.batch_size,
            **self.meter.read(self.config.batch_size),
            **self.spending(done),
            "checkpoint_stall_seconds": self.stall_seconds,
            "time": time.time(),
        }
        self.run_log.write_step(row)
        if "budget" in row:
            self.run_log.say(audit_line(row["budget"]))
        self.stall_seconds = 0.0

    def spending(self, done: int) -> dict[str, Any]:
        """What the run has spent, and which share of its budget that is; at its end, how that was planned."""
        config = self.config
        spent = self.meter.spent(done, config.batch_size)
        if spent is None:
            return {}
        plan = config.max_steps, config.budget
        share = spent.of(config.budget.match) / planned_amount(*plan)
        row: dict[str, Any] = {**spent_state(spent), "budget_spent": share}
        if done == config.max_steps:
            row["budget"] = audit(spent, *plan)
        return row

    def report_bad_samples(self, done: int) -> None:
        """Say, on the first rank, how many samples of this launch were left out, by shard and cause."""
        own = [[*place, count] for place, count in self.bad_samples.by_shard_and_cause.items()]
        total: Counter[tuple[str, str]] = Counter()
        for text in self.ranks.all_gather_text(json.dumps(own)):
            for shard, cause, count in json.loads(text):
                total[shard, cause] += count
        if total:
            self.run_log.write_bad_samples(done, total)

    def save(self, done: int) -> None:
        """Begin a checkpoint; the first rank writes it."""
        self.watch.mark("saving")
        self.saved_step = done
        stall = self.writer.begin(
            done,
            **self.learner.saved_parts(),
            state={
                **self.facts,
                "step": done,
                **self.learner.guard.state(),
                **spent_state(self.meter.spent(done, self.config.batch_size)),
            },
        )
        self.stall_seconds += stall
        self.run_log.say(f"step {done:>6}  checkpoint: training stood still for {stall:.3f} s")

    def finish_saves(self) -> None:
        """Wait for the last checkpoint: no rank leaves before, and none takes a failed save for success."""
        self.watch.mark("saving")
        self.writer.finish()
        self.watch.mark("exchanging the end of the run")
        self.ranks.largest(0)


def due(done: int, every: int, last: int) -> bool:
    """Whether something that happens every so many steps (0: never) and at the end happens now."""
    return done == last or (every > 0 and done % every == 0)
