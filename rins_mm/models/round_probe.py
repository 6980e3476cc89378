"""What a step looks like from call to call: norms, how much a call turns its input, and gradients."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


class RoundProbe:
    """Looks at what enters and leaves the calls of a stack; the numbers are those of the last pass it saw.

    Nothing is computed differently, and nothing waits for the device until the numbers are read.
    """

    def __init__(self) -> None:
        self.positions: Callable[[Tensor], Tensor] | None = None
        """The vectors that norms and cosines are of; None: all. A text tower takes those that it pools."""

    def begin(self, x: Float[Tensor, "... W"]) -> None:
        """A pass begins with these vectors."""
        self._before = self._seen(x)
        self._norms: list[Tensor] = []
        self._cosines: list[Tensor] = []
        self._gradient_norms: list[Tensor] = []

    def see(self, x: Float[Tensor, "... W"]) -> None:
        """A call ends with these vectors."""
        now = self._seen(x)
        self._norms.append(now.norm(dim=-1).mean())
        self._cosines.append(torch.cosine_similarity(now, self._before, dim=-1).mean())
        self._before = now
        number = len(self._gradient_norms)
        gradient_norms = self._gradient_norms
        gradient_norms.append(torch.zeros_like(self._norms[-1]))

        def keep(gradient: Tensor) -> None:
            gradient_norms[number] = gradient.float().norm()

        if x.requires_grad:
            x.register_hook(keep)

    def _seen(self, x: Tensor) -> Tensor:
        x = x.detach()
        return (x if self.positions is None else self.positions(x)).float()

    def numbers(self) -> dict[str, Float[Tensor, " calls"]]:
        """One number for each call: the mean norm of its outcome, the mean cosine of its outcome and its input, and
        the norm of the loss's gradient with respect to its outcome (zero for calls without gradient)."""
        return {
            "round_norms": torch.stack(self._norms),
            "round_cosines": torch.stack(self._cosines),
            "round_gradient_norms": torch.stack(self._gradient_norms),
        }
