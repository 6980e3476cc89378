"""Recursion: a tower's blocks, registered once, and run as often as a signature says.

python -m rins_mm.models.recursion "(A^3B)_2" --depth 12
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import torch
import tyro
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data_pipelines.errors import UserError, run_command
from rins_mm.models.adapters import Adapters
from rins_mm.models.draws import RecursionConfig, rounds_without_gradient
from rins_mm.models.round_probe import RoundProbe
from rins_mm.models.signatures import Calls, expand, group_sizes, parse


@dataclass(frozen=True, kw_only=True)
class Running:
    """Where a pass stands: what a call needs to know of those before it, and of nothing after it."""

    x: Tensor
    calls: Calls = ()
    """The calls that have run."""
    injected: Tensor | None = None
    """Latent thinking: what the prelude gave."""
    without_gradient: int = 0
    """Latent thinking: how many of the first rounds of the core run forward alone."""


class RecursiveStack(nn.Sequential):
    """The blocks of a tower, registered once and named 0 … depth-1, run in the order of `calls`.

    A drop-in for the `blocks` of a timm model: calling it, or iterating over it, follows `calls`. With
    `checkpoint_calls` each call of a group keeps only its input, and runs again in the backward pass.
    What rounds do not share is in `adapters`, which the tower registers.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        signature: str,
        *,
        split: Sequence[int] = (),
        checkpoint_calls: bool = False,
        adapters: Adapters | None = None,
    ) -> None:
        super().__init__(*blocks)
        self.checkpoint_calls = checkpoint_calls
        sizes = group_sizes(signature, len(blocks), split)
        ends = dict(zip(sizes, accumulate(sizes.values()), strict=True))
        self.groups = {
            letter: range(ends[letter] - sizes[letter], ends[letter]) for letter in sizes
        }
        self.calls: Calls = tuple(self.groups)
        self.probe: RoundProbe | None = None
        """Who looks at the outcome of each call; None: nobody."""
        # In a tuple, so that they are not weights of the stack too.
        none = Adapters(RecursionConfig(signature=signature), 0)
        self._adapters = (none if adapters is None else adapters,)
        for letter in self.groups:
            self.adapters.install(letter, self.group(letter))
        self._remembered: dict[Calls, Running] | None = None

    @property
    def adapters(self) -> Adapters:
        """What the rounds of a group do not share."""
        return self._adapters[0]

    def check(self, calls: Calls) -> None:
        """Refuse calls of groups that this tower does not have."""
        if unknown := sorted(set(calls) - self.groups.keys()):
            raise UserError(
                f"the tower has the groups {' '.join(self.groups)} but {''.join(calls)!r} calls "
                f"{' '.join(unknown)}; use these letters only"
            )

    def group(self, letter: str) -> list[nn.Module]:
        """The blocks of one group."""
        return [self[index] for index in self.groups[letter]]

    def begin(self, x: Tensor, variants: Sequence[Calls]) -> Running:
        """The start of a pass that will run these sequences of calls."""
        if self.probe is not None:
            self.probe.begin(x)
        config = self.adapters.recursion
        skipped = min(rounds_without_gradient(config, calls) for calls in variants)
        return Running(x=x, without_gradient=skipped if torch.is_grad_enabled() else 0)

    def run_call(self, letter: str, running: Running, *arguments: Any, **settings: Any) -> Running:
        """One call: the blocks of a group one after the other, each with the same further arguments."""
        is_core = self.adapters.injects(letter)
        if is_core and running.injected is None:
            running = replace(running, injected=running.x)
        if is_core and running.calls.count(letter) < running.without_gradient:
            with torch.no_grad():
                x = self._run_group(letter, running, *arguments, **settings)
        else:
            x = self._run_group(letter, running, *arguments, **settings)
        if self.probe is not None:
            self.probe.see(x)
        return replace(running, x=x, calls=(*running.calls, letter))

    def end(self, running: Running) -> Tensor:
        """What the tower's head is given."""
        return self.adapters(running.x, running.calls, None)

    def _run_group(self, letter: str, running: Running, *arguments: Any, **settings: Any) -> Tensor:
        def run(x: Tensor) -> Tensor:
            x = self.adapters(x, running.calls, letter, running.injected)
            self.adapters.choose(self.group(letter), running.calls, letter)
            for block in self.group(letter):
                x = block(x, *arguments, **settings)
            return x

        if self.checkpoint_calls and torch.is_grad_enabled():
            # What a block draws (stochastic depth) is drawn again, the same.
            return checkpoint(run, running.x, use_reentrant=False)
        return run(running.x)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Around several passes over one input at different `calls`: what they share runs once.

        For evaluation alone: what training would draw for each pass is drawn once.
        """
        self._remembered = {}
        try:
            yield
        finally:
            self._remembered = None

    def _by_call(self) -> Iterator[Callable[..., Tensor]]:
        """One function for each call, and one for what follows the last."""
        running: Running | None = None

        def run(letter: str, x: Tensor, *arguments: Any, **settings: Any) -> Tensor:
            nonlocal running
            before = self.begin(x, [self.calls]) if running is None else replace(running, x=x)
            known = {} if self._remembered is None else self._remembered
            key = (*before.calls, letter)
            running = known.get(key) or self.run_call(letter, before, *arguments, **settings)
            known[key] = running
            return running.x

        def end(x: Tensor, *_: Any, **__: Any) -> Tensor:
            return x if running is None else self.end(replace(running, x=x))

        yield from (partial(run, letter) for letter in self.calls)
        yield end

    def _run_or_remember(
        self,
        calls: Calls,
        block: nn.Module,
        ends_call: bool,
        x: Tensor,
        *rest: Any,
        **settings: Any,
    ) -> Tensor:
        """One block of the last of these calls; the outcome of all of them where it is known already."""
        assert self._remembered is not None
        if calls in self._remembered:
            # The further blocks of this call are given it, and give it back.
            return self._remembered[calls].x
        x = block(x, *rest, **settings)
        if ends_call:
            self._remembered[calls] = Running(x=x, calls=calls)
        return x

    def __iter__(self) -> Iterator[Any]:
        if self.checkpoint_calls or self.probe is not None or not self.adapters.is_empty:
            return self._by_call()
        # Block by block: some models give each block of its own (mixed rotary positions).
        if self._remembered is None:
            return (block for letter in self.calls for block in self.group(letter))
        return (
            partial(self._run_or_remember, self.calls[:end], block, block is group[-1])
            for end in range(1, len(self.calls) + 1)
            for group in [self.group(self.calls[end - 1])]
            for block in group
        )


State = TypeVar("State")


def run_shared(
    run_group: Callable[[str, State], State], start: State, variants: Sequence[Calls]
) -> list[State]:
    """The outcome of each sequence of calls; what several have in common from the start runs once.

    AB, AAB and AAAB together cost three runs of A and three of B.
    """
    outcomes: dict[int, State] = {index: start for index, calls in enumerate(variants) if not calls}
    for letter in dict.fromkeys(calls[0] for calls in variants if calls):
        members = [index for index, calls in enumerate(variants) if calls and calls[0] == letter]
        rests = [variants[index][1:] for index in members]
        branch = run_shared(run_group, run_group(letter, start), rests)
        outcomes.update(zip(members, branch, strict=True))
    return [outcomes[index] for index in range(len(variants))]


@dataclass(frozen=True, kw_only=True)
class DescribeCommand:
    """What a signature means for a tower of a given depth."""

    signature: tyro.conf.Positional[str]
    """Such as AB, A^3B, (AB)^2 or (A^3B)_2."""
    depth: int
    """Blocks of the tower, each counted once."""
    split: tuple[int, ...] = ()
    """Blocks in each group; none: equal groups."""


def main(argv: list[str]) -> None:
    """Print the calls, the groups and the cost."""
    command = tyro.cli(DescribeCommand, args=argv, prog="python -m rins_mm.models.recursion")
    sizes = group_sizes(command.signature, command.depth, command.split)
    calls = expand(command.signature)
    num_runs = sum(sizes[letter] for letter in calls)
    degree = parse(command.signature).degree
    print(f"calls         {' '.join(calls)}")
    print(f"degree        {degree}")
    print(f"groups        {len(sizes)}: " + ", ".join(f"{n} {k} blocks" for n, k in sizes.items()))
    print(f"unique blocks {command.depth}")
    print(f"block runs    {num_runs}, {num_runs / command.depth:.3g} times those of a plain tower")


if __name__ == "__main__":
    run_command(main)
