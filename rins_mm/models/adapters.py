"""What the rounds of a repeated group do not share: adapters, and the injection of latent thinking."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rins_mm.models.draws import CORE, RecursionConfig, draw_calls, most_rounds
from rins_mm.models.signatures import Calls

Use = tuple[str, int]
"""The group and the round that an adapter belongs to."""

MEAN_OF_DRAWS = 1000
"""Draws of which means are taken where there is no simple formula."""


def uses_between(config: RecursionConfig, before: Calls, following: str | None) -> list[Use]:
    """The adapters that run after the calls `before` and ahead of the next one (None: of the tower's head).

    Rounds are counted over all calls so far, so that what runs never depends on later calls. Rounds beyond
    those of the signature use the last adapter.
    """
    if config.adapter == "none":
        return []
    trained = most_rounds(config)
    every_round = config.adapter_index == "round"
    if config.adapter == "lora" or config.adapter_place == "between_rounds":
        letters, every_round = [] if following is None else [following], False
    elif config.adapter_place == "before_next_group":
        letters = list(before[-1:]) if before[-1:] != (following,) else []
    else:
        letters = list(trained) if following is None else []
    found = []
    for letter in letters:
        if letter not in trained:
            continue
        # A call that follows is a round of its own.
        last = before.count(letter) + (letter == following)
        first = config.adapter_first_round
        rounds = range(first, last + 1) if every_round else range(max(first, last), last + 1)
        found += [(letter, min(number, trained[letter])) for number in rounds]
    return found


def uses(config: RecursionConfig, calls: Calls) -> list[Use]:
    """All adapters that these calls run, in order."""
    followings = [*calls, None]
    return [
        use
        for number, following in enumerate(followings)
        for use in uses_between(config, calls[:number], following)
    ]


def expected_uses(config: RecursionConfig) -> dict[str, float]:
    """How often the adapters of each group run in a training step: the mean of a thousand draws."""
    if config.adapter == "none":
        return {}
    is_random = config.skip_probability or config.skip_probabilities or config.patterns
    steps = MEAN_OF_DRAWS if is_random else 1
    counts: dict[str, float] = {}
    for step in range(steps):
        for letter, _ in uses(config, draw_calls(config, tower="mean", seed=0, step=step)):
            counts[letter] = counts.get(letter, 0.0) + 1 / steps
    return counts


class LinearAdapter(nn.Module):
    """x + W(norm(x)); W starts at zero."""

    def __init__(self, width: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = norm
        self.linear = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Float[Tensor, "... W"]) -> Float[Tensor, "... W"]:
        # A gain and a bias of the norm would say nothing that W does not.
        normed = F.layer_norm(x, x.shape[-1:], eps=1e-6) if self.norm else x
        return x + self.linear(normed)


class ScaleAdapter(nn.Module):
    """Each element times a factor of its own, which starts at 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "... W"]) -> Float[Tensor, "... W"]:
        return x * self.scale


class LowRank(nn.Module):
    """A linear map of low rank; it starts at zero."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        return self.up(self.down(x))


class LinearOfRounds(nn.Linear):
    """A linear layer that is changed a little in the rounds that have a change; the same names and weights."""

    def __init__(self, shared: nn.Linear, rounds: Iterable[int], rank: int) -> None:
        inputs, outputs = shared.in_features, shared.out_features
        super().__init__(inputs, outputs, bias=shared.bias is not None, device="meta")
        self.weight, self.bias = shared.weight, shared.bias
        self.changes = nn.ModuleDict({str(n): LowRank(inputs, outputs, rank) for n in rounds})
        self.round = 0
        """The round that runs; 0: one without a change."""

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        y = super().forward(x)
        return y + self.changes[str(self.round)](x) if self.round else y


class Injection(nn.Module):
    """x and what the prelude gave, side by side, through a linear map onto x; the map starts at zero.

    So that training starts from plain repetition (the reference starts from a random map and a random state).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(
        self, x: Float[Tensor, "... W"], given: Float[Tensor, "... W"]
    ) -> Float[Tensor, "... W"]:
        return x + self.linear(torch.cat((x, given), dim=-1))


class Adapters(nn.ModuleDict):
    """The adapters of a tower by group and round: the weights adapters.A.2… and on."""

    def __init__(self, config: RecursionConfig, width: int) -> None:
        super().__init__()
        self.recursion = config
        if config.kind == "latent":
            self[CORE] = Injection(width)
        elif config.adapter in ("linear", "scale"):
            for letter, rounds in rounds_with_adapters(config).items():
                self[letter] = nn.ModuleDict({str(n): self._adapter(width) for n in rounds})

    def _adapter(self, width: int) -> nn.Module:
        if self.recursion.adapter == "scale":
            return ScaleAdapter(width)
        return LinearAdapter(width, norm=self.recursion.adapter_norm)

    @property
    def is_empty(self) -> bool:
        """Whether rounds share everything."""
        return self.recursion.adapter == "none" and self.recursion.kind == "signature"

    def injects(self, letter: str) -> bool:
        """Whether this group is given what the prelude gave in each of its rounds."""
        return self.recursion.kind == "latent" and letter == CORE

    def forward(
        self,
        x: Float[Tensor, "... W"],
        before: Calls,
        following: str | None,
        injected: Float[Tensor, "... W"] | None = None,
    ) -> Float[Tensor, "... W"]:
        """x after what runs between these calls and the next one."""
        if following is not None and self.injects(following):
            return self[following](x, injected)
        if self.recursion.adapter in ("linear", "scale"):
            for letter, number in uses_between(self.recursion, before, following):
                rounds = self[letter]
                assert isinstance(rounds, nn.ModuleDict)
                x = rounds[str(number)](x)
        return x

    def install(self, letter: str, blocks: Sequence[nn.Module]) -> None:
        """Give each linear layer of a group's blocks the changes of low rank of its rounds."""
        rounds = rounds_with_adapters(self.recursion).get(letter)
        if self.recursion.adapter != "lora" or rounds is None:
            return
        for block in blocks:
            layers = [(n, m) for n, m in block.named_modules() if isinstance(m, nn.Linear)]
            for name, layer in layers:
                parent, _, own = name.rpartition(".")
                changed = LinearOfRounds(layer, rounds, self.recursion.adapter_rank)
                setattr(block.get_submodule(parent), own, changed)

    def choose(self, blocks: Sequence[nn.Module], before: Calls, letter: str) -> None:
        """Tell the layers of a group's blocks which of their changes the next call uses."""
        if self.recursion.adapter != "lora":
            return
        used = uses_between(self.recursion, before, letter)
        for block in blocks:
            for layer in block.modules():
                if isinstance(layer, LinearOfRounds):
                    layer.round = used[0][1] if used else 0


def rounds_with_adapters(config: RecursionConfig) -> dict[str, range]:
    """The rounds of each group that have an adapter of their own."""
    if config.adapter == "none":
        return {}
    return {
        letter: range(config.adapter_first_round, most + 1)
        for letter, most in most_rounds(config).items()
    }


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by which a model differs from one without adapters and injection, by name."""
    return {
        f"{path}.{name}": parameter
        for path, module in model.named_modules()
        if isinstance(module, Adapters | LowRank)
        for name, parameter in module.named_parameters()
    }
