import math
from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from data_pipelines import torchvision_cpu  # noqa: F401  (before open_clip)

# isort: split
from open_clip.loss import ClipLoss, SigLipLoss

from rins_mm.losses import LOSSES, matching_pairs

all_losses = pytest.mark.parametrize("kind", LOSSES)


@dataclass(kw_only=True)
class Rows:
    """Rows of a batch in fp64, and the four leaves that get gradients."""

    images: Tensor
    texts: Tensor
    image_keys: Tensor
    text_keys: Tensor
    valid: Tensor
    scale: Tensor
    bias: Tensor

    def loss(self, kind="sigmoid", group=None):
        return LOSSES[kind](
            self.images,
            self.texts,
            logit_scale=self.scale,
            logit_bias=self.bias,
            image_keys=self.image_keys,
            text_keys=self.text_keys,
            valid=self.valid,
            group=group,
        )

    def gradients(self, kind="sigmoid", group=None, autocast=False):
        """The value, and the gradients by name."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = self.loss(kind, group)
        names = ("images", "texts", "scale", "bias")
        found = torch.autograd.grad(value, [getattr(self, name) for name in names])
        return {"value": value.detach(), **dict(zip(names, found, strict=True))}

    def part(self, rows):
        """Other leaves with these rows of the batch."""
        return Rows(
            images=self.images.detach()[rows].requires_grad_(),
            texts=self.texts.detach()[rows].requires_grad_(),
            image_keys=self.image_keys[rows],
            text_keys=self.text_keys[rows],
            valid=self.valid[rows],
            scale=self.scale.detach().clone().requires_grad_(),
            bias=self.bias.detach().clone().requires_grad_(),
        )


def make_rows(number=7, *, seed=0, shared=True, invalid=(2, 5), dtype=torch.float64):
    """Unit vectors; where `shared`, some keys agree beyond the diagonal, in either of two columns."""
    generator = torch.Generator().manual_seed(seed)

    def vectors():
        rows = torch.randn(number, 5, generator=generator, dtype=torch.float64)
        return F.normalize(rows, dim=-1).to(dtype).requires_grad_()

    keys = torch.arange(number)[:, None] + torch.tensor([0, 1000])
    if shared:
        keys[3, 0] = keys[1, 0]
        keys[4, 1] = keys[0, 1] = keys[6, 1]
    return Rows(
        images=vectors(),
        texts=vectors(),
        image_keys=keys,
        text_keys=keys.clone(),
        valid=torch.tensor([index not in invalid for index in range(number)]),
        scale=torch.tensor([math.log(7.0)], dtype=dtype, requires_grad=True),
        bias=torch.tensor([-3.0], dtype=dtype, requires_grad=True),
    )


def sigmoid_by_hand(rows):
    """Every valid pair in a double loop."""
    scale, bias = math.exp(rows.scale.item()), rows.bias.item()
    images, texts = rows.images.tolist(), rows.texts.tolist()
    total, count = 0.0, int(rows.valid.sum())
    for i in range(len(rows.valid)):
        for j in range(len(rows.valid)):
            if rows.valid[i] and rows.valid[j]:
                cosine = sum(a * b for a, b in zip(images[i], texts[j], strict=True))
                match = any(
                    a == b for a, b in zip(rows.image_keys[i], rows.text_keys[j], strict=True)
                )
                logit = (scale * cosine + bias) * (1 if match else -1)
                total += math.log1p(math.exp(-logit))
    return total / count


def softmax_by_hand(rows):
    """Cross-entropy from each picture and from each text, in loops."""
    scale = math.exp(rows.scale.item())
    chosen = [i for i in range(len(rows.valid)) if rows.valid[i]]

    def one_way(queries, candidates):
        total = 0.0
        for i in chosen:
            logits = {j: scale * float(queries[i] @ candidates[j]) for j in chosen}
            normaliser = math.log(sum(math.exp(value) for value in logits.values()))
            matches = [j for j in chosen if (rows.image_keys[i] == rows.text_keys[j]).any()]
            total += sum(normaliser - logits[j] for j in matches) / len(matches)
        return total / len(chosen)

    images, texts = rows.images.detach(), rows.texts.detach()
    return (one_way(images, texts) + one_way(texts, images)) / 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("invalid", [(), (2, 5), (0, 1, 2, 3)])
def test_the_losses_are_what_loops_over_all_pairs_give(seed, invalid):
    rows = make_rows(seed=seed, invalid=invalid)
    for kind in ("sigmoid", "dense_sigmoid"):
        assert rows.loss(kind).item() == pytest.approx(sigmoid_by_hand(rows), rel=1e-12)
    assert rows.loss("softmax").item() == pytest.approx(softmax_by_hand(rows), rel=1e-12)


@all_losses
def test_on_the_diagonal_value_and_gradients_are_open_clips(kind):
    rows = make_rows(shared=False, invalid=())
    ours = rows.gradients(kind)
    if kind.endswith("sigmoid"):
        value = SigLipLoss()(rows.images, rows.texts, rows.scale.exp(), rows.bias)
    else:
        # A bias does not change a softmax.
        value = ClipLoss()(rows.images, rows.texts, rows.scale.exp(), rows.bias)
    leaves = (rows.images, rows.texts, rows.scale, rows.bias)
    theirs = dict(
        zip(("images", "texts", "scale", "bias"), torch.autograd.grad(value, leaves), strict=True)
    )
    torch.testing.assert_close(ours.pop("value"), value.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@all_losses
def test_gradients_are_those_of_finite_differences(kind):
    rows = make_rows()
    leaves = (rows.images, rows.texts, rows.scale, rows.bias)

    def value(images, texts, scale, bias):
        rows.images, rows.texts, rows.scale, rows.bias = images, texts, scale, bias
        return rows.loss(kind)

    assert torch.autograd.gradcheck(value, leaves)


def test_pairs_match_when_any_column_agrees():
    image_keys, text_keys = (
        torch.tensor([[1, 10], [2, 20]]),
        torch.tensor([[1, 99], [7, 20], [20, 1]]),
    )
    assert matching_pairs(image_keys, text_keys).tolist() == [
        [True, False, False],
        [False, True, False],
    ]


def test_a_shared_key_turns_a_pair_into_a_match():
    rows = make_rows(shared=False, invalid=())
    before = rows.loss()
    rows.image_keys[0, 1] = rows.text_keys[4, 1]
    logit = rows.scale.exp() * (rows.images[0] @ rows.texts[4]) + rows.bias
    # softplus(-x) - softplus(x) is -x.
    torch.testing.assert_close(rows.loss() - before, -logit[0] / 7)


@all_losses
def test_invalid_rows_count_for_nothing(kind):
    rows = make_rows()
    before = rows.gradients(kind)
    smaller = rows.part(rows.valid.nonzero()[:, 0])
    without = smaller.gradients(kind)
    torch.testing.assert_close(before["value"], without["value"], rtol=1e-13, atol=0)
    torch.testing.assert_close(before["scale"], without["scale"], rtol=1e-11, atol=1e-14)
    for name in ("images", "texts"):
        assert not before[name][~rows.valid].any()
        torch.testing.assert_close(before[name][rows.valid], without[name], rtol=1e-11, atol=1e-14)
    # Whatever an invalid row holds, also keys that agree with others.
    with torch.no_grad():
        rows.images[2] *= -3.0
    rows.text_keys[2] = rows.text_keys[0]
    torch.testing.assert_close(rows.loss(kind).detach(), before["value"], rtol=1e-13, atol=0)


@all_losses
def test_a_batch_without_a_valid_row_costs_nothing(kind):
    rows = make_rows(invalid=range(7))
    found = rows.gradients(kind)
    assert all(not value.any() for value in found.values())


@all_losses
def test_the_order_of_rows_does_not_matter(kind):
    rows = make_rows()
    order = torch.tensor([3, 0, 6, 5, 1, 2, 4])
    whole, shuffled = rows.gradients(kind), rows.part(order).gradients(kind)
    for name in ("images", "texts"):
        whole[name] = whole[name][order]
    torch.testing.assert_close(shuffled, whole, rtol=1e-11, atol=1e-14)


def test_the_softmax_loss_gives_the_bias_a_gradient_of_zero():
    found = make_rows().gradients("softmax")
    assert torch.equal(found["bias"], torch.zeros(1, dtype=torch.float64))


@all_losses
def test_autocast_changes_no_bit_of_the_loss(kind):
    rows = make_rows(64, invalid=(), dtype=torch.float32)
    expected = rows.gradients(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (rows.images @ rows.texts.T).dtype == torch.bfloat16
    under = rows.gradients(kind, autocast=True)
    exact = make_rows(64, invalid=()).gradients(kind)
    for name, value in expected.items():
        assert under[name].dtype == torch.float32
        assert torch.equal(under[name], value), name
        torch.testing.assert_close(value.double(), exact[name], rtol=1e-4, atol=1e-6)


NUM_ROWS = 8


def share(rows, rank, world_size):
    """Slots rank, rank + W, … of the batch, filled up by invalid rows to equal shares."""
    per_rank = math.ceil(NUM_ROWS / world_size)
    slots = torch.arange(rank, per_rank * world_size, world_size)
    part = rows.part(slots.clamp(max=NUM_ROWS - 1))
    part.valid = part.valid & (slots < NUM_ROWS)
    return part


@pytest.fixture(scope="module", params=[2, 3])
def shares(request, run_on_ranks):
    """For each rank, its value and gradients by (loss, invalid rows)."""
    world_size = request.param

    def on_rank(ranks):
        found = {}
        for kind in LOSSES:
            for name, invalid in CASES.items():
                part = share(make_rows(NUM_ROWS, invalid=invalid), ranks.rank, world_size)
                found[f"{kind}/{name}"] = part.gradients(kind, dist.group.WORLD)
            losses = []
            for seed in range(60):
                rows = make_rows(NUM_ROWS, seed=seed, invalid=(), dtype=torch.float32)
                # Ranks whose shares are of one size would round alike.
                rows.images = (
                    rows.images * torch.tensor([0.1, 4.0, 1.0, 0.1, 0.1, 1.0, 0.1, 4.0])[:, None]
                )
                part = share(rows, ranks.rank, world_size)
                losses.append(part.loss(kind, dist.group.WORLD).detach())
            found[f"{kind}/values"] = torch.stack(losses)
        return found

    return run_on_ranks(on_rank, world_size)


# Row 7 is the last one: at three ranks its rank has a filling besides. Rows 0, 3 and 6 are all that
# the first of three ranks has.
CASES = {"all valid": (), "some invalid": (2, 5, 7), "a rank without any": (0, 3, 6)}


@pytest.mark.parametrize("case", CASES)
@all_losses
def test_ranks_together_give_the_value_and_gradients_of_one_process(shares, kind, case):
    world_size = len(shares)
    alone = make_rows(NUM_ROWS, invalid=CASES[case]).gradients(kind)
    found = [one[f"{kind}/{case}"] for one in shares]
    for one in found:
        torch.testing.assert_close(one["value"], alone["value"], rtol=1e-12, atol=1e-12)
    for name in ("scale", "bias"):
        total = sum(one[name] for one in found)
        torch.testing.assert_close(total, alone[name], rtol=1e-12, atol=1e-12)
    for name in ("images", "texts"):
        for rank, one in enumerate(found):
            own = alone[name][rank::world_size]
            torch.testing.assert_close(one[name][: len(own)], own, rtol=1e-12, atol=1e-12)
            assert not one[name][len(own) :].any()


@all_losses
def test_the_value_has_the_same_bits_on_every_rank(shares, kind):
    first, *others = (one[f"{kind}/values"] for one in shares)
    for values in others:
        assert torch.equal(values, first)
