"""A model of a few hundred weights with its optimizer, for tests of what is saved of a run."""

import torch
from torch import nn

from rins_mm.checkpoint import checkpoint_folder, load_weights
from rins_mm.checkpoint_writer import CheckpointWriter
from rins_mm.distributed import GradientBuffer
from rins_mm.optim import OptimizerConfig, build_optimizer, set_learning_rate
from rins_mm.optimizer_state import restore_optimizer


class SmallRun:
    """A small model with its optimizer, trained on numbers that depend on the step alone."""

    def __init__(self, name="adamw"):
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 20), nn.LayerNorm(20)
        )
        self.optimizer = build_optimizer(OptimizerConfig(name=name), self.model)
        self.gradients = GradientBuffer(self.model.parameters())

    def train(self, steps):
        for step in steps:
            x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            self.gradients.zero()
            (self.model(x) - 1.0).square().mean().backward()
            set_learning_rate(self.optimizer, 1e-3 * (step + 1))
            self.optimizer.step()
        return self

    def parts(self, average=None):
        return {"model": self.model, "average": average, "optimizer": self.optimizer}

    def save(self, run_dir, step, *, keep=2, average=None, **state):
        writer = CheckpointWriter(run_dir, keep=keep, asynchronous=False)
        writer.begin(step, **self.parts(average), state={"seed": 0, **state})
        return checkpoint_folder(run_dir, step)

    def restore(self, checkpoint):
        load_weights(self.model, checkpoint.model_weights(), checkpoint.folder)
        restore_optimizer(self.optimizer, self.model, checkpoint)
        return self
