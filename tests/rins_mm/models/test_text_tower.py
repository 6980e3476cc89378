import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data_pipelines.errors import UserError
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.packing import lay_out, pack, pad_left, pad_right
from rins_mm.models.signatures import expand
from rins_mm.models.text_tower import TextTower, TextTowerConfig, initialise_text_tower

PAD, END = 0, 1
# Not the same number in every channel: a norm would take it away.
CHANGE = torch.linspace(-2, 3, 24)


def make_tower(seed=0, **changes):
    settings = {"width": 24, "depth": 4, "num_heads": 3, "mlp_width": 40, "context_length": 9}
    config = TextTowerConfig(**{**settings, **changes})
    tower = TextTower(config, vocab_size=50, pad_token=PAD, embedding_width=16)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # Biases and norms too: at their initial values they would hide a mistake.
        for parameter in tower.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return tower.eval()


def captions(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = [[*torch.randint(2, 50, (n - 1,), generator=generator).tolist(), END] for n in lengths]
    return joined(rows)


def joined(rows):
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
    return tokens, torch.tensor([0, *map(len, rows)]).cumsum(0).int()


LAYOUTS = {
    "packed": {"padding": "masked"},
    "padded": {"padding": "masked", "packing": False},
    "siglip": {"padding": "siglip"},
}


def by_hand(tower, tokens, offsets, blocks, layout):
    """The tower as a loop over the given blocks."""
    length, last = tower.config.context_length, None
    if layout == "siglip":
        ids, mask = pad_right(tokens, offsets, length=length, pad_token=PAD), None
        positions = torch.arange(length)
    elif layout == "padded":
        length = int(offsets.diff().max())
        ids, real = pad_left(tokens, offsets, length=length, pad_token=PAD)
        mask, positions = real[:, None, None, :], torch.arange(9 - length, 9)
    else:
        packing = pack(offsets, context_length=length, width=tower.config.width)
        ids, positions, mask, last = lay_out(
            tokens, offsets, packing, context_length=length, pad_token=PAD
        )
    x = tower.token_embedding(ids) + tower.positions[positions]
    for block in blocks:
        x = block(x, mask)
    return tower.head(tower.norm(x[:, -1] if last is None else x.flatten(0, 1)[last]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("signature", "order"),
    [("AB", (0, 1, 2, 3)), ("AAB", (0, 1, 0, 1, 2, 3)), ("AAAB", (0, 1) * 3 + (2, 3))],
)
def test_a_signature_is_bit_for_bit_the_loop_over_its_blocks(layout, signature, order):
    tower = make_tower(**LAYOUTS[layout], recursion=RecursionConfig(signature="A^3B"))
    tokens, offsets = captions(4, 1, 7)
    blocks = [tower.blocks[index] for index in order]
    with torch.no_grad():
        expected = by_hand(tower, tokens, offsets, blocks, layout)
        assert torch.equal(tower(tokens, offsets, expand(signature)), expected)


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=40)


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, signature=st.sampled_from(["AB", "AAAB"]))
def test_packed_captions_have_the_vectors_and_gradients_of_padded_ones(lengths, signature):
    tokens, offsets = captions(*lengths)
    weights = torch.linspace(-1, 1, 16)
    found = {}
    for layout in ("packed", "padded"):
        tower = make_tower(**LAYOUTS[layout], recursion=RecursionConfig(signature="A^3B"))
        vectors = tower(tokens, offsets, expand(signature))
        (vectors @ weights).sin().mean().backward()
        found[layout] = vectors, [parameter.grad for parameter in tower.parameters()]
    torch.testing.assert_close(*(found[name][0] for name in found), rtol=0, atol=1e-5)
    for packed, padded in zip(*(found[name][1] for name in found), strict=True):
        torch.testing.assert_close(packed, padded, rtol=0, atol=1e-5)


def test_packed_depths_in_one_pass_equal_padded_ones():
    variants = [expand(s) for s in ("AB", "AAB", "AAAB")]
    tokens, offsets = captions(4, 1, 7, 9, 2, 2, 3)
    with torch.no_grad():
        packed, padded = (
            make_tower(**LAYOUTS[layout], recursion=RecursionConfig(signature="A^3B"))
            .double().forward_variants(tokens, offsets, variants)
            for layout in ("packed", "padded")
        )  # fmt: skip
    for one, other in zip(packed, padded, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_packed_captions_in_a_row_do_not_feel_each_other():
    tower = make_tower()
    tokens, offsets = captions(5, 2, 1)
    assert pack(offsets, context_length=9, width=24).num_rows == 1
    with torch.no_grad():
        before = tower(tokens, offsets, ("A", "B"))
        tokens[5] += 1
        after = tower(tokens, offsets, ("A", "B"))
    assert [torch.equal(*rows) for rows in zip(before, after, strict=True)] == [True, False, True]


def test_ab_gives_the_same_bits_whatever_signature_the_tower_was_made_for():
    tokens, offsets = captions(4, 1, 7)
    plain, recursive = make_tower(), make_tower(recursion=RecursionConfig(signature="A^3B"))
    with torch.no_grad():
        assert torch.equal(
            plain(tokens, offsets, ("A", "B")), recursive(tokens, offsets, ("A", "B"))
        )


def test_depths_in_one_pass_equal_separate_passes_bit_for_bit_and_share_rounds():
    tower = make_tower(recursion=RecursionConfig(signature="A^3B"))
    tokens, offsets = captions(4, 1, 7)
    variants = [expand(s) for s in ("AAAB", "AB", "AAB", "AB")]
    runs = []
    handles = [
        tower.blocks[number].register_forward_hook(lambda *_, number=number: runs.append(number))
        for number in range(4)
    ]
    with torch.no_grad():
        together = tower.forward_variants(tokens, offsets, variants)
        for handle in handles:
            handle.remove()
        for calls, vectors in zip(variants, together, strict=True):
            assert torch.equal(vectors, tower(tokens, offsets, calls))
    assert [runs.count(number) for number in range(4)] == [3, 3, 3, 3]
    assert not torch.allclose(together[0], together[1])


def test_a_shared_block_gets_the_gradients_of_all_its_rounds():
    tower = make_tower(recursion=RecursionConfig(signature="A^2B")).double()
    unrolled = make_tower(depth=6).double()
    order = (0, 1, 0, 1, 2, 3)
    with torch.no_grad():
        for copy, original in enumerate(order):
            unrolled.blocks[copy].load_state_dict(tower.blocks[original].state_dict())
    rest = {n: v for n, v in tower.state_dict().items() if not n.startswith("blocks.")}
    unrolled.load_state_dict(rest, strict=False)
    tokens, offsets = captions(4, 1, 7)
    for model, calls in ((tower, "AAB"), (unrolled, "AB")):
        model(tokens, offsets, expand(calls)).sin().sum().backward()
    for number in range(4):
        for name, parameter in tower.blocks[number].named_parameters():
            total = sum(
                unrolled.blocks[copy].get_parameter(name).grad
                for copy, original in enumerate(order)
                if original == number
            )
            torch.testing.assert_close(parameter.grad, total, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        tower.token_embedding.weight.grad,
        unrolled.token_embedding.weight.grad,
        rtol=1e-10,
        atol=1e-12,
    )


def test_recursion_adds_no_parameters():
    signatures = ("AB", "A^3B", "ABAB", "A^9")
    towers = [make_tower(recursion=RecursionConfig(signature=s)) for s in signatures]
    assert len({tuple(tower.state_dict()) for tower in towers}) == 1
    assert len({sum(p.numel() for p in tower.parameters()) for tower in towers}) == 1


@pytest.mark.parametrize("company", [(3,), (9,), (1, 9, 2), (3, 3, 3)])
def test_a_masked_caption_does_not_feel_what_else_is_in_the_batch(company):
    tower = make_tower()
    rows = [[7, 8, END], *([5] * (length - 1) + [END] for length in company)]
    with torch.no_grad():
        alone = tower(*joined(rows[:1]), ("A", "B"))
        among = tower(*joined(rows), ("A", "B"))
    torch.testing.assert_close(among[:1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("padding", "feels"), [("masked", False), ("siglip", True)])
def test_only_siglips_padding_feels_the_vector_of_the_pad_token(padding, feels):
    tower = make_tower(padding=padding)
    tokens, offsets = captions(4, 1, 7)
    with torch.no_grad():
        before = tower(tokens, offsets, ("A", "B"))
        tower.token_embedding.weight[PAD] += CHANGE
        after = tower(tokens, offsets, ("A", "B"))
    # The end token closes every row; the pad token itself does not occur.
    assert (tokens != PAD).all()
    assert torch.equal(before, after) is not feels
    assert torch.allclose(before, after, atol=1e-3) is not feels


def test_masked_positions_count_from_the_end():
    tower = make_tower()
    tokens, offsets = captions(4, 2)
    with torch.no_grad():
        before = tower(tokens, offsets, ("A", "B"))
        tower.positions[: 9 - 4] += CHANGE
        assert torch.equal(tower(tokens, offsets, ("A", "B")), before)
        tower.positions[9 - 4] += CHANGE
        after = tower(tokens, offsets, ("A", "B"))
    assert not torch.allclose(after[0], before[0])
    torch.testing.assert_close(after[1], before[1])


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_masked_padding_gives_finite_gradients_and_none_to_the_pad_token(layout):
    tower = make_tower(**LAYOUTS[layout])
    tokens, offsets = captions(1, 9, 2)
    tower(tokens, offsets, ("A", "B")).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in tower.parameters())
    assert not tower.token_embedding.weight.grad[PAD].any()


def test_a_full_caption_is_the_same_under_both_paddings():
    tokens, offsets = captions(9, 9)
    masked, attended = make_tower(padding="masked"), make_tower(padding="siglip")
    with torch.no_grad():
        torch.testing.assert_close(
            masked(tokens, offsets, ("A", "B")),
            attended(tokens, offsets, ("A", "B")),
            rtol=0,
            atol=1e-6,
        )


def test_a_caption_that_is_too_long_is_refused_with_both_lengths():
    tower = make_tower()
    with pytest.raises(UserError, match=r"10 tokens.*context_length of 9"):
        tower(*captions(2, 10), ("A", "B"))


def test_calls_of_a_group_that_is_not_there_are_refused():
    with pytest.raises(UserError, match="ABC"):
        make_tower()(*captions(2), ("A", "B", "C"))


def test_the_initialisation_is_big_visions_and_a_function_of_the_generator():
    config = TextTowerConfig(width=64, depth=2, num_heads=4, mlp_width=128, context_length=32)

    def made(seed):
        tower = TextTower(config, vocab_size=400, pad_token=PAD, embedding_width=48)
        initialise_text_tower(tower, torch.Generator().manual_seed(seed))
        return tower

    tower = made(0)
    for parameter in (tower.token_embedding.weight, tower.positions, tower.head.weight):
        assert math.isclose(parameter.std().item(), 1 / 8, rel_tol=0.05)
    assert not tower.head.bias.any()
    assert tower.norm.eps == 1e-6
    assert all(m.eps == 1e-6 for m in tower.modules() if isinstance(m, nn.LayerNorm))
    same, other = made(0).state_dict(), made(1).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in tower.state_dict().items())
    assert not torch.equal(other["blocks.1.mlp.expand.weight"], same["blocks.1.mlp.expand.weight"])


def test_a_bf16_pass_stays_near_the_fp32_pass():
    tower = make_tower(recursion=RecursionConfig(signature="A^3B"))
    tokens, offsets = captions(4, 1, 7)
    with torch.no_grad():
        exact = tower(tokens, offsets, expand("A^3B"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = tower(tokens, offsets, expand("A^3B")).float()
    cosines = nn.functional.cosine_similarity(exact, rough)
    assert (cosines > 0.999).all()
