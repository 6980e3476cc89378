import torch

from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import build_model
from rins_mm.models.signatures import expand
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.round_telemetry import observed_rounds

TOKENS = torch.arange(15, dtype=torch.int32) + 2
OFFSETS = torch.tensor([0, 3, 4, 11, 15], dtype=torch.int32)


def make_model(image_signature="ABAB", **recursion):
    return build_model(
        ImageTowerConfig(
            image_size=16, patch_size=8, width=32, depth=2, num_heads=2,
            recursion=RecursionConfig(signature=image_signature),
        ),
        TextTowerConfig(
            width=32, depth=2, num_heads=2, mlp_width=64, context_length=12,
            recursion=RecursionConfig(signature="A^3B", **recursion),
        ),
        vocab_size=20, pad_token=0, seed=3,
    )  # fmt: skip


def take_step(model, *, wanted, image_calls="ABAB"):
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with observed_rounds(model, wanted=wanted) as numbers:
        calls = expand(image_calls), expand("AAAB")
        image_features, text_features = model(images, TOKENS, OFFSETS, *calls)
        (image_features @ text_features.T).square().sum().backward()
    return numbers, [p.grad for p in model.parameters() if p.grad is not None]


def test_looking_changes_nothing_and_is_over_after_the_step():
    model = make_model()
    numbers, seen = take_step(model, wanted=True)
    nothing, unseen = take_step(make_model(), wanted=False)
    assert nothing == {}
    assert all(torch.equal(*pair) for pair in zip(seen, unseen, strict=True))
    assert model.text_tower.blocks.probe is None and model.image_tower.stack.probe is None
    assert {name: len(value) for name, value in numbers.items()} == {
        f"{tower}_round_{kind}": 4
        for tower in ("image", "text")
        for kind in ("norms", "cosines", "gradient_norms")
    }


def test_a_tower_that_repeats_nothing_is_not_looked_at():
    numbers, _ = take_step(make_model("AB"), wanted=True, image_calls="AB")
    assert {name.partition("_")[0] for name in numbers} == {"text"}


def test_numbers_are_those_of_the_vectors_after_each_call():
    model = make_model(adapter="linear")
    numbers, _ = take_step(model, wanted=True)
    tower, outcomes = model.text_tower, []
    x, mask, last = tower._embed(TOKENS, OFFSETS)
    outcomes.append(x)
    for letter in "AAAB":
        for block in tower.blocks.group(letter):
            x = block(x, mask)
        x.retain_grad()
        outcomes.append(x)
    pooled = [x.flatten(0, 1)[last] for x in outcomes]
    norms = torch.stack([x.norm(dim=-1).mean() for x in pooled[1:]])
    cosines = [
        torch.cosine_similarity(*pair, dim=-1).mean()
        for pair in zip(pooled[1:], pooled[:-1], strict=True)
    ]
    torch.testing.assert_close(numbers["text_round_norms"], norms)
    torch.testing.assert_close(numbers["text_round_cosines"], torch.stack(cosines))
    features = torch.nn.functional.normalize(tower.head(tower.norm(pooled[-1])), dim=-1)
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    picture_features = torch.nn.functional.normalize(model.image_tower(images, expand("ABAB")))
    (picture_features @ features.T).square().sum().backward()
    gradient_norms = torch.stack([x.grad.norm() for x in outcomes[1:]])
    torch.testing.assert_close(
        numbers["text_round_gradient_norms"], gradient_norms, rtol=1e-4, atol=1e-6
    )
