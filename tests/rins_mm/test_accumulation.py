import copy
import dataclasses
import math

import pytest
import torch
import toy

from data_pipelines.batch import ImageTextBatch
from eval.ranks import Ranks
from rins_mm.accumulation import find_gradients, split
from rins_mm.learner import Learner
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.locking import lock
from rins_mm.models.siglip import build_model
from rins_mm.models.signatures import expand
from rins_mm.watch import Watch

KINDS = ("sigmoid", "softmax")
NUM_SLOTS = 12
ALONE = Ranks(rank=0, world_size=1)
CALLS = {"image_calls": expand("AB"), "text_calls": expand("A^3B")}


def make_batch():
    """Captions of many lengths, two holes, and positives beyond the diagonal."""
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(2, 14, (NUM_SLOTS,), generator=generator, dtype=torch.int32)
    keys = torch.arange(NUM_SLOTS)[:, None] + torch.tensor([0, 1000])
    keys[9, 0], keys[4, 1] = keys[1, 0], keys[7, 1]
    valid = torch.ones(NUM_SLOTS, dtype=torch.bool)
    valid[[3, 10]] = False
    return ImageTextBatch(
        images=torch.randint(
            0, 256, (NUM_SLOTS, 3, 32, 32), generator=generator, dtype=torch.uint8
        ),
        tokens=torch.randint(3, 60, (int(lengths.sum()),), generator=generator, dtype=torch.int32),
        offsets=torch.cat(
            (torch.zeros(1, dtype=torch.int32), lengths.cumsum(0, dtype=torch.int32))
        ),
        image_keys=keys,
        text_keys=keys.clone(),
        valid=valid,
        row_seeds=torch.randint(0, 2**40, (NUM_SLOTS,), generator=generator),
        sample_keys=tuple(map(str, range(NUM_SLOTS))),
    )


def make_learner(*, ranks=ALONE, dtype=torch.float64, image=None, locked=False, **changes):
    config = dataclasses.replace(toy.config(), **changes)
    image = config.image if image is None else image
    model = build_model(image, config.text, vocab_size=60, pad_token=0, seed=1).to(dtype)
    if locked:
        lock(model.image_tower)
    with torch.no_grad():
        model.logit_scale += 1.0
        model.logit_bias += 6.0
    return Learner(
        config, model, ranks=ranks, device=torch.device("cpu"), watch=Watch(ranks, 60.0), say=print
    )


def gradients(learner, batch):
    """The loss, the features and the gradients of one share, by name."""
    learner.model.train()
    learner.gradients.zero()
    found = learner.find_gradients(3, batch, *CALLS.values())
    learner.gradients.sum_over_ranks(learner.group)
    trained = {name: p for name, p in learner.model.named_parameters() if p.requires_grad}
    named = {name: p.grad.clone() for name, p in trained.items()}
    return {**named, **dataclasses.asdict(found)}


def assert_equal(found, expected, tolerance):
    """Norm-wise, each tensor for itself."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = (found[name] - value).norm() / value.norm().clamp(min=1e-3)
        assert error <= tolerance, f"{name} is off by {error:.2g}"


def part_of_rank(value, rank, world_size):
    return value[rank::world_size] if value.dim() == 2 and len(value) == NUM_SLOTS else value


def with_loss(kind):
    return {"loss": dataclasses.replace(toy.config().loss, kind=kind)}


def test_the_parts_of_a_batch_are_split_for_a_locked_tower_too():
    batch = make_batch()
    whole = gradients(make_learner(locked=True), batch)
    learner = make_learner(locked=True, micro_batch_size=5)
    assert_equal(gradients(learner, batch), whole, 1e-12)
    assert not any(name.startswith("image_tower") for name in whole)
    assert all(p.grad is None for p in learner.model.image_tower.parameters())
    of_trained = gradients(make_learner(), batch)
    assert_equal({name: of_trained[name] for name in whole}, whole, 1e-12)


def test_slots_taken_from_a_batch_have_their_own_captions():
    batch = make_batch()
    for slots in (slice(0, 5), slice(5, 99), slice(1, None, 3), slice(4, 4)):
        taken = batch.take(slots)
        chosen = list(range(NUM_SLOTS))[slots]
        captions = taken.tokens.tensor_split(taken.offsets[1:-1].long()) if chosen else ()
        for caption, slot in zip(captions, chosen, strict=True):
            assert torch.equal(caption, batch.tokens[batch.offsets[slot] : batch.offsets[slot + 1]])
        assert torch.equal(taken.images, batch.images[chosen])
        assert taken.sample_keys == tuple(map(str, chosen))


@pytest.mark.parametrize(("size", "sizes"), [(0, [12]), (12, [12]), (99, [12]), (5, [5, 5, 2])])
def test_a_share_is_split_in_order_with_a_smaller_part_at_the_end(size, sizes):
    parts = split(make_batch(), size)
    assert [len(part.valid) for part in parts] == sizes
    assert [key for part in parts for key in part.sample_keys] == list(map(str, range(NUM_SLOTS)))


@pytest.mark.parametrize("size", [1, 5, 6])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_split_batch_gives_the_gradients_of_the_whole(kind, size, dtype, tolerance):
    batch = make_batch()
    whole = gradients(make_learner(dtype=dtype, **with_loss(kind)), batch)
    learner = make_learner(dtype=dtype, micro_batch_size=size, **with_loss(kind))
    assert_equal(gradients(learner, batch), whole, tolerance)


@pytest.fixture(scope="module", params=[2, 3])
def on_ranks(request, run_on_ranks):
    """What each rank found by loss and micro-batch size."""
    world_size = request.param

    def on_rank(ranks):
        share = make_batch().take(slice(ranks.rank, None, world_size))
        found = {}
        for kind in KINDS:
            for size in (0, 1, 3):
                learner = make_learner(ranks=ranks, micro_batch_size=size, **with_loss(kind))
                found[f"{kind}/{size}"] = gradients(learner, share)
        return found

    return run_on_ranks(on_rank, world_size)


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_that_split_their_shares_give_the_gradients_of_one_process(on_ranks, kind, size):
    alone = gradients(make_learner(**with_loss(kind)), make_batch())
    for rank, found in enumerate(on_ranks):
        own = {name: part_of_rank(value, rank, len(on_ranks)) for name, value in alone.items()}
        assert_equal(found[f"{kind}/{size}"], own, 1e-12)


RANDOM = ImageTowerConfig(
    image_size=32, patch_size=8, width=64, depth=2, num_heads=2, drop_path=0.4, patch_dropout=0.5
)


def test_both_runs_of_a_part_leave_out_the_same_branches_and_patches():
    batch = make_batch()
    learner = make_learner(image=RANDOM, micro_batch_size=5)
    found = gradients(learner, batch)

    # The same parts with the same draws in one graph, kept whole.
    def encode_whole(_):
        features = []
        for number, part in enumerate(split(batch, 5)):
            torch.manual_seed(seeds[number])
            features.append(learner.encode(part, **CALLS))
        return tuple(torch.cat(rows) for rows in zip(*features, strict=True))

    seeds = []
    original, torch.manual_seed = torch.manual_seed, seeds.append
    try:
        learner.find_gradients(3, batch, *CALLS.values())
    finally:
        torch.manual_seed = original
    assert seeds[:3] == seeds[3:] and len(set(seeds)) == 3
    learner.gradients.zero()
    expected = find_gradients(
        encode_whole,
        lambda images, texts: learner.loss(images, texts, batch),
        [batch],
        seed=lambda number: None,
    )
    named = {name: p.grad.clone() for name, p in learner.model.named_parameters()}
    assert_equal(found, {**named, **dataclasses.asdict(expected)}, 1e-12)
    # With other draws it would not be equal, and without any the comparison would show nothing.
    plain = gradients(make_learner(micro_batch_size=5), batch)
    assert not torch.allclose(plain["image_features"], found["image_features"])
    assert torch.equal(gradients(learner, batch)["loss"], found["loss"])


def test_statistics_of_batches_count_each_part_once():
    image = ImageTowerConfig(name="resnet18", image_size=32)
    learner = make_learner(image=image, micro_batch_size=4)
    once = copy.deepcopy(learner.model).train()
    for part in split(make_batch(), 4):
        pixels = learner.pixels(part)
        with torch.no_grad():
            once(pixels, part.tokens, part.offsets, *CALLS.values())
    gradients(learner, make_batch())
    for name, buffer in once.named_buffers():
        torch.testing.assert_close(learner.model.get_buffer(name), buffer, rtol=0, atol=0)
    assert learner.running_statistics[-1] == 3


def test_the_loss_sees_the_whole_share_and_is_called_once():
    seen = []
    learner = make_learner(micro_batch_size=5)
    original = learner.loss

    def loss(images, texts, batch):
        seen.append(len(images))
        return original(images, texts, batch)

    learner.loss = loss
    gradients(learner, make_batch())
    assert seen == [NUM_SLOTS]


def test_a_split_step_without_finite_loss_is_left_out_and_described(tmp_path):
    learner = make_learner(dtype=torch.float32, micro_batch_size=5, run_dir=str(tmp_path))
    with torch.no_grad():
        learner.model.logit_scale.fill_(math.nan)
    before = copy.deepcopy(learner.model.text_tower.state_dict())
    metrics = learner.train_step(0, make_batch())
    assert metrics is not None and metrics["skipped_steps"] == 1
    for name, value in learner.model.text_tower.state_dict().items():
        assert torch.equal(value, before[name])
    (path,) = (tmp_path / "bad_steps").iterdir()
    assert '"pixels": {\n  "non_finite": 0' in path.read_text()


def test_a_step_of_a_split_batch_ends_in_the_same_weights():
    def weights_after(size):
        learner = make_learner(micro_batch_size=size)
        for step in range(2):
            learner.train_step(step, make_batch())
        return torch.cat([p.detach().flatten() for p in learner.model.parameters()])

    torch.testing.assert_close(weights_after(5), weights_after(0), rtol=1e-9, atol=1e-9)
