import copy
from collections import Counter

import pytest
import torch
from torch import nn

from rins_mm.models.adapters import Adapters
from rins_mm.models.draws import (
    RecursionConfig,
    draw_calls,
    expected_calls,
    expected_rounds_without_gradient,
    most_rounds,
    reachable_signatures,
    rounds_without_gradient,
)
from rins_mm.models.recursion import RecursiveStack
from rins_mm.models.signatures import expand
from rins_mm.models.text_tower import TextTower, TextTowerConfig, initialise_text_tower

LATENT = RecursionConfig(kind="latent", signature="AB^8C", latent_gradient_rounds=3)


def drawn(config, num, tower="text", seed=0):
    return [draw_calls(config, tower=tower, seed=seed, step=step) for step in range(num)]


def test_rounds_follow_a_poisson_law_of_log_normal_rate():
    calls = drawn(LATENT, 1500)
    assert all(c == ("A", *("B" * (len(c) - 2)), "C") and len(c) > 2 for c in calls)
    rounds = torch.tensor([float(c.count("B")) for c in calls])
    # The rate has the mean 7 and the variance 49 (e^(1/4) - 1): the number adds its own 7.
    variance = 7 + 49 * (torch.tensor(0.25).exp().item() - 1)
    error = (variance / len(rounds)) ** 0.5
    assert abs(rounds.mean().item() - 8) < 5 * error
    assert rounds.var().item() == pytest.approx(variance, rel=0.25)
    assert expected_calls(LATENT) == {"A": 1.0, "B": 8.0, "C": 1.0}
    skipped = [rounds_without_gradient(LATENT, c) for c in calls]
    mean = sum(skipped) / len(skipped)
    assert expected_rounds_without_gradient(LATENT) == pytest.approx(mean, abs=5 * error)
    poisson = Counter(len(c) for c in drawn(RecursionConfig(
        kind="latent", signature="AB^2C", latent_sigma=0.0), 1500))  # fmt: skip
    assert poisson[3] / 1500 == pytest.approx(torch.tensor(-1.0).exp().item(), abs=0.06)


def test_rounds_are_a_pure_function_of_seed_tower_and_step():
    assert drawn(LATENT, 40) == drawn(LATENT, 40)
    others = [drawn(LATENT, 40, tower="image"), drawn(LATENT, 40, seed=1)]
    assert drawn(LATENT, 40) not in others
    assert reachable_signatures(LATENT) == ["ABC", "ABBC", "ABBBBC", "ABBBBBBBBC"]
    assert most_rounds(LATENT) == {"B": 8}
    assert set(drawn(RecursionConfig(kind="latent", signature="ABC"), 5)) == {("A", "B", "C")}


def small_stack():
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(6, 6), nn.Tanh()).double() for _ in range(3)]
    adapters = Adapters(LATENT, 6).double()
    stack = RecursiveStack(blocks, "AB^8C", adapters=adapters)
    begun = stack(x := torch.randn(3, 6, dtype=torch.float64))
    assert torch.equal(begun, blocks[2](blocks[1](blocks[0](x))))
    nn.init.normal_(adapters["B"].linear.weight, std=0.3)
    return stack, x


@pytest.mark.parametrize("checkpoint_calls", [False, True])
@pytest.mark.parametrize("rounds", [1, 3, 5])
def test_only_the_last_rounds_of_the_core_have_gradients(rounds, checkpoint_calls):
    stack, x = small_stack()
    stack.checkpoint_calls = checkpoint_calls
    stack.calls = expand(f"AB^{rounds}C")
    stack(x).square().sum().backward()
    found = {name: p.grad for name, p in stack.named_parameters()}
    found_map = stack.adapters["B"].linear.weight.grad

    prelude, core, coda = (copy.deepcopy(stack[n]) for n in range(3))
    weight = stack.adapters["B"].linear.weight.detach().clone().requires_grad_()
    for part in (prelude, core, coda):
        part.zero_grad()
    given = state = prelude(x)
    for number in range(rounds):
        state = state.detach() if 0 < number <= rounds - 3 else state
        state = core(state + torch.cat((state, given), -1) @ weight.T)
    coda(state).square().sum().backward()
    torch.testing.assert_close(found_map, weight.grad, rtol=1e-12, atol=1e-12)
    for number, part in enumerate((prelude, core, coda)):
        torch.testing.assert_close(found[f"{number}.0.weight"], part[0].weight.grad)


def make_tower(**settings):
    config = TextTowerConfig(
        width=32, depth=3, num_heads=2, mlp_width=64, context_length=12, recursion=LATENT, **settings
    )  # fmt: skip
    tower = TextTower(config, vocab_size=20, pad_token=0, embedding_width=8)
    initialise_text_tower(tower, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    nn.init.normal_(tower.adapters["B"].linear.weight, std=0.1)
    return tower


TOKENS = torch.arange(15, dtype=torch.int32) + 2
OFFSETS = torch.tensor([0, 3, 4, 11, 15], dtype=torch.int32)


def test_a_latent_tower_runs_at_any_number_of_rounds_and_shares_them_between_depths():
    tower = make_tower().eval()
    variants = [expand(f"AB^{n}C") for n in (1, 2, 20)]
    with torch.no_grad():
        together = tower.forward_variants(TOKENS, OFFSETS, variants)
        for calls, found in zip(variants, together, strict=True):
            assert torch.equal(found, tower(TOKENS, OFFSETS, calls))


def test_rounds_without_gradient_leave_those_with_one_theirs_in_bf16():
    # autocast keeps weights that it has cast: a copy without gradient must not serve the later rounds.
    found = []
    for kept in (torch.float32, torch.bfloat16):
        tower = make_tower()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kept == torch.bfloat16):
            tower(TOKENS, OFFSETS, expand("AB^6C")).float().square().sum().backward()
        found.append(tower.blocks[1].mlp.expand.weight.grad)
    assert found[1] is not None and found[1].norm() > 0
    assert torch.cosine_similarity(found[0].flatten(), found[1].flatten(), dim=0) > 0.98
