"""A look into a few steps: a trace to open in a browser, and the largest costs in words."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

WARM_UP_STEPS = 3
"""Steps that are not profiled: allocators fill, kernels are chosen, workers start."""
NUM_COSTS = 10


class StepProfile:
    """Profiles `num_steps` steps after the first few of a launch; with 0 it does nothing."""

    def __init__(
        self, folder: Path, num_steps: int, device: torch.device, say: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.num_steps = num_steps
        self.say = say
        self.sort_by = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self.activities = activities
        self.steps_done = 0
        self.last_step = 0
        self.profiler: profile | None = None

    def step_done(self, done: int) -> bool:
        """A step has been taken, the `done`-th of the run; True when time went into beginning or ending a trace."""
        self.steps_done += 1
        self.last_step = done
        if self.num_steps and self.steps_done == WARM_UP_STEPS:
            self.profiler = profile(
                activities=self.activities,
                # One more step warms the profiler itself up.
                schedule=schedule(wait=0, warmup=1, active=self.num_steps, repeat=1),
                on_trace_ready=self.write,
            )
            self.profiler.start()
            return True
        if self.profiler is None:
            return False
        self.profiler.step()
        is_last = self.steps_done == WARM_UP_STEPS + 1 + self.num_steps
        if is_last:
            self.close()
        return is_last

    def close(self) -> None:
        """End the profile: steps that were profiled until now are written."""
        if self.profiler is not None:
            self.profiler.stop()
            self.profiler = None

    def write(self, profiler: profile) -> None:
        """The trace into the folder, and the largest costs to whoever watches."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"until-step-{self.last_step}.json"
        profiler.export_chrome_trace(str(path))
        rows = profiler.key_averages()
        costs = {
            "Python and waiting" if row.key.startswith("ProfilerStep") else row.key: row
            for row in rows
        }
        total = sum(getattr(row, self.sort_by) for row in rows) or 1.0
        largest = sorted(costs.items(), key=lambda item: -getattr(item[1], self.sort_by))
        self.say(
            f"the largest costs of the steps in {path} (open it in Perfetto or chrome://tracing):"
        )
        self.say(f"{'operation':<50} {'share':>6} {'ms/step':>9} {'calls/step':>11}")
        for name, row in largest[:NUM_COSTS]:
            cost = getattr(row, self.sort_by)
            self.say(
                f"{name[:50]:<50} {cost / total:>6.1%} {cost / 1e3 / self.num_steps:>9.2f} "
                f"{row.count / self.num_steps:>11.1f}"
            )
