import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from rins_mm.distributed import GradientBuffer, gather, sum_over_ranks


def make_model():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "used": nn.Linear(4, 3),
            "unused": nn.Linear(4, 3),
            "frozen": nn.Linear(3, 3).requires_grad_(False),
        }
    )


def backward(model, factor=1.0):
    x = torch.arange(8.0).view(2, 4) * factor
    model["frozen"](model["used"](x)).square().sum().backward()


def test_the_buffer_holds_what_backward_would_have_left_on_each_parameter():
    plain, buffered = make_model(), make_model()
    buffer = GradientBuffer(buffered.parameters())
    for _ in range(2):
        buffer.zero()
        plain.zero_grad()
        backward(plain)
        backward(buffered)
    for name, parameter in plain["used"].named_parameters():
        assert torch.equal(buffered["used"].get_parameter(name).grad, parameter.grad)
    assert buffer.flat.numel() == 2 * (4 * 3 + 3)
    # The gradients are parts of the buffer, not copies.
    buffer.flat.fill_(7.0)
    assert (buffered["used"].weight.grad == 7.0).all()


def test_a_parameter_that_a_step_does_not_use_has_a_gradient_of_zero_not_none():
    model = make_model()
    GradientBuffer(model.parameters())
    backward(model)
    for parameter in model["unused"].parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
    assert all(parameter.grad is None for parameter in model["frozen"].parameters())


def test_gradients_add_up_until_they_are_zeroed():
    model = make_model()
    buffer = GradientBuffer(model.parameters())
    backward(model)
    once = buffer.flat.clone()
    backward(model)
    assert torch.equal(buffer.flat, 2 * once)
    buffer.zero()
    assert not buffer.flat.any()


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clipping_is_torchs_clipping(max_norm):
    plain, buffered = make_model(), make_model()
    buffer = GradientBuffer(buffered.parameters())
    backward(plain)
    backward(buffered)
    expected = torch.nn.utils.clip_grad_norm_(plain.parameters(), max_norm)
    torch.testing.assert_close(buffer.clip(max_norm), expected)
    for name, parameter in plain["used"].named_parameters():
        torch.testing.assert_close(buffered["used"].get_parameter(name).grad, parameter.grad)


def test_a_bound_of_zero_measures_and_does_not_clip():
    model = make_model()
    buffer = GradientBuffer(model.parameters())
    backward(model)
    before = buffer.flat.clone()
    assert buffer.clip(0.0) == before.norm() > 0
    assert torch.equal(buffer.flat, before)


def test_without_a_group_nothing_travels():
    rows = torch.randn(3, 2)
    assert gather(rows, None) is rows
    assert torch.equal(sum_over_ranks(rows, None), rows)
    buffer = GradientBuffer([nn.Parameter(torch.zeros(2))])
    buffer.flat.fill_(3.0)
    buffer.sum_over_ranks(None)
    assert (buffer.flat == 3.0).all()


@pytest.fixture(scope="module")
def three_ranks(run_on_ranks):
    def on_rank(ranks):
        rank = ranks.rank
        model = make_model()
        buffer = GradientBuffer(model.parameters())
        backward(model, factor=rank + 1.0)
        share = buffer.flat.clone()
        buffer.sum_over_ranks(dist.group.WORLD)
        voting = GradientBuffer(make_model().parameters(), num_votes=2)
        voting.votes.copy_(torch.tensor([2.0 + rank, float("nan") if rank == 1 else 2.0]))
        voting.sum_over_ranks(dist.group.WORLD)
        rows = torch.full((2, 3), float(rank), dtype=torch.float64, requires_grad=True)
        gathered = gather(rows, dist.group.WORLD)
        # Rank r weighs the rows of rank s by (r + 1) * (s + 1).
        weights = (rank + 1.0) * torch.tensor([1, 1, 2, 2, 3, 3])[:, None]
        (gathered * weights).sum().backward()
        total = sum_over_ranks(torch.tensor([rank + 1.0], requires_grad=True), dist.group.WORLD)
        return {
            "share": share, "sum": buffer.flat, "gathered": gathered.detach(), "gradient": rows.grad,
            "votes": voting.votes, "total": total, "total_requires_grad": total.requires_grad,
        }  # fmt: skip

    return run_on_ranks(on_rank, 3)


def test_the_buffers_of_all_ranks_become_their_sum_with_the_same_bits(three_ranks):
    expected = sum(copy.copy(one["share"]).double() for one in three_ranks)
    for one in three_ranks:
        assert torch.equal(one["sum"], three_ranks[0]["sum"])
        torch.testing.assert_close(one["sum"].double(), expected, rtol=1e-6, atol=1e-6)


def test_a_loss_that_one_rank_has_lost_is_lost_on_all(three_ranks):
    for one in three_ranks:
        assert one["votes"][0] == 9.0
        assert one["votes"][1].isnan()


def test_gathered_rows_stand_in_the_order_of_ranks_and_gradients_are_summed(three_ranks):
    for rank, one in enumerate(three_ranks):
        assert one["gathered"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
        assert (one["gradient"] == (1 + 2 + 3) * (rank + 1)).all()


def test_a_sum_over_ranks_carries_no_gradient(three_ranks):
    for one in three_ranks:
        assert one["total"].item() == 6.0
        assert not one["total_requires_grad"]


def test_gradients_without_a_finite_norm_stay_as_they_are():
    buffer = GradientBuffer([nn.Parameter(torch.zeros(3))])
    for broken in (torch.nan, torch.inf):
        buffer.flat.copy_(torch.tensor([3.0, broken, 4.0]))
        assert not buffer.clip(1.0).isfinite()
        assert buffer.flat[[0, 2]].tolist() == [3.0, 4.0]
