import copy
from collections import Counter

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from data_pipelines.errors import UserError
from rins_mm.models.recursion import RecursiveStack, main, run_shared
from rins_mm.models.signatures import MAX_CALLS, expand, group_sizes


def outcome(function, *arguments):
    """What a function returns and "", or None and what it says against its arguments."""
    try:
        return function(*arguments), ""
    except UserError as error:
        return None, str(error)


counts = st.integers(1, 3)
marks = st.sampled_from(["", "^"])


def spelled(part: tuple[str, list[str]], count: int, mark: str) -> tuple[str, list[str]]:
    """A part with its count behind it, and the calls that this means."""
    text, calls = part
    return (text if count == 1 else f"{text}{mark}{count}"), calls * count


letters = st.sampled_from("ABC").map(lambda letter: (letter, [letter]))
sequences = st.recursive(
    st.lists(st.builds(spelled, letters, counts, marks), min_size=1, max_size=4),
    lambda inner: st.lists(
        st.builds(
            spelled,
            inner.map(
                lambda parts: (
                    f"({''.join(text for text, _ in parts)})",
                    [call for _, calls in parts for call in calls],
                )
            ),
            counts,
            marks,
        ),
        min_size=1,
        max_size=3,
    ),
    max_leaves=4,
)
small_signatures = st.sampled_from(["AB", "A^3B", "ABAB", "A", "A^4", "ABC", "AAB^2C", "(AB)^2C"])


@given(sequences)
def test_a_written_signature_means_the_calls_that_it_was_written_from(parts):
    signature = "".join(text for text, _ in parts)
    calls = [call for _, calls in parts for call in calls]
    assume(set(calls) in ({"A"}, {"A", "B"}, {"A", "B", "C"}) and len(calls) <= MAX_CALLS)
    assert expand(signature) == tuple(calls)
    assert expand("".join(calls)) == tuple(calls)


@given(st.text("ABCZab()^_0123 é²", max_size=12))
def test_any_text_is_read_or_refused_by_its_name(text):
    calls, error = outcome(expand, text)
    if error:
        assert repr(text) in error
        assert "A^3B" in error
    else:
        assert 1 <= len(calls) <= MAX_CALLS
        assert sorted(set(calls)) == list("ABC"[: len(set(calls))])


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        ("", "the letters must be"),
        ("BA^2C^", "a number must follow"),
        ("AC", "the letters must be"),
        ("A0B", "count of 0"),
        ("A000B", "count of 0"),
        ("(AB", "not closed"),
        ("AB)", "was not expected"),
        ("A()B", "was not expected"),
        ("aB", "was not expected"),
        ("A^257", "more than 256 calls"),
        ("(A^100B)^3", "more than 256 calls"),
        ("A" * 257, "more than 256 calls"),
        ("A^" + "9" * 900, "more than 256 calls"),
        ("(" * 400 + "A" + ")" * 400, "deep"),
        ("A^" + "9" * 5000, "has 5,002 characters, more than 1,000"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(signature, reason):
    with pytest.raises(UserError, match=reason):
        expand(signature)


def test_the_bound_on_calls_itself_is_allowed():
    assert len(expand("A^256")) == len(expand("(A2)^128")) == 256


def test_zeros_before_a_count_do_not_change_it():
    assert expand("A^00003B") == expand("A^0000000003B") == ("A", "A", "A", "B")


@given(small_signatures, st.integers(-3, 60))
def test_groups_share_the_depth_equally_or_the_error_names_depths_that_can(signature, depth):
    calls = expand(signature)
    num_letters = len(set(calls))
    sizes, error = outcome(group_sizes, signature, depth)
    if error:
        nearest = [int(word) for word in error.split("nearest depth that can is ")[1].split(" or ")]
        assert all(group_sizes(signature, near) for near in nearest)
        # One below and one above, or only the smallest there is.
        assert nearest == [num_letters] or nearest[0] < depth < nearest[1]
        assert all(abs(near - max(depth, 0)) <= num_letters for near in nearest)
        assert repr(signature) in error
        assert str(depth) in error
    else:
        assert sum(sizes.values()) == depth
        assert list(sizes) == sorted(set(calls))
        repeats = len(calls) > num_letters
        assert len(set(sizes.values())) == 1 or not repeats
        assert min(sizes.values()) >= 1


def test_an_odd_depth_is_cut_unevenly_only_where_nothing_repeats():
    assert group_sizes("AB", 27) == {"A": 13, "B": 14}
    with pytest.raises(UserError, match="26 or 28"):
        group_sizes("A^2B", 27)


class Note(nn.Module):
    """A block that notes its calls."""

    def __init__(self, number, log):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6, dtype=torch.float64) / 3)
        self.number, self.log = number, log

    def forward(self, x):
        self.log.append(self.number)
        return x + torch.tanh(x @ self.weight)


def make_stack(signature, depth=4):
    torch.manual_seed(0)
    log = []
    return RecursiveStack([Note(number, log) for number in range(depth)], signature), log


def test_a_stack_runs_the_groups_in_the_order_of_its_calls():
    stack, log = make_stack("A^3B")
    stack.calls = expand("AABA")
    stack(torch.randn(2, 6, dtype=torch.float64))
    assert log == [0, 1, 0, 1, 2, 3, 0, 1]
    assert len(list(stack)) == 8


def test_a_stack_is_the_plain_sequence_until_it_is_told_otherwise():
    stack, log = make_stack("A^3B")
    x = torch.randn(2, 6, dtype=torch.float64)
    plain = nn.Sequential(*[stack[number] for number in range(4)])
    assert torch.equal(stack(x), plain(x))
    assert log == [0, 1, 2, 3] * 2


def test_a_stack_registers_each_block_once_under_its_number():
    sizes = {}
    for signature in ("AB", "A^3B", "ABAB", "A", "A^7", "(A^3B)^2"):
        stack, _ = make_stack(signature)
        sizes[signature] = sum(p.numel() for p in stack.parameters())
        assert list(stack.state_dict()) == [f"{number}.weight" for number in range(4)]
        assert len(stack) == 4
    assert set(sizes.values()) == {4 * 36}


def test_gradients_of_shared_blocks_are_the_sums_over_unrolled_copies():
    stack, _ = make_stack("A^3B")
    stack.calls = expand("A^3B")
    unrolled = nn.ModuleList(copy.deepcopy(block) for block in stack)
    assert len(unrolled) == 8
    x = torch.randn(3, 6, dtype=torch.float64)
    stack(x).square().sum().backward()
    y = x
    for block in unrolled:
        y = block(y)
    assert torch.equal(y, stack(x))
    y.square().sum().backward()
    for number, copies in enumerate([(0, 2, 4), (1, 3, 5), (6,), (7,)]):
        total = sum(unrolled[index].weight.grad for index in copies)
        torch.testing.assert_close(stack[number].weight.grad, total, rtol=1e-12, atol=1e-12)


def test_calls_of_groups_that_a_stack_has_not_are_refused_by_name():
    stack, _ = make_stack("A^3B")
    stack.check(("A", "B"))
    with pytest.raises(UserError, match="AC"):
        stack.check(("A", "C"))


variant_lists = st.lists(
    st.lists(st.sampled_from("ABC"), max_size=5).map(tuple), min_size=1, max_size=5
)


@given(variant_lists)
def test_shared_rounds_give_what_separate_runs_give_and_each_prefix_runs_once(variants):
    ran = []

    def run_group(letter, state):
        ran.append(state + letter)
        return state + letter

    assert run_shared(run_group, "", variants) == ["".join(calls) for calls in variants]
    prefixes = {calls[:end] for calls in variants for end in range(1, len(calls) + 1)}
    assert sorted(ran) == sorted("".join(prefix) for prefix in prefixes)


def test_three_depths_together_cost_three_runs_of_a_and_three_of_b():
    ran = Counter()

    def run_group(letter, x):
        ran[letter] += 1
        return x

    run_shared(run_group, 0, [expand(s) for s in ("AB", "AAB", "AAAB")])
    assert ran == {"A": 3, "B": 3}


def test_the_command_prints_calls_groups_and_costs(capsys):
    main(["A^3B", "--depth", "12"])
    out = capsys.readouterr().out
    assert "A A A B" in out
    assert "2: A 6 blocks, B 6 blocks" in out
    assert "unique blocks 12\nblock runs    24, 2 times those" in out


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["AB"],
        ["AB", "--depth"],
        ["AB", "--depth", "x"],
        ["AB", "--depth", "²"],
        ["AB", "--d", "3"],
    ],
)
def test_the_command_says_how_it_is_called(argv, capsys):
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2
    assert "--depth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("signature", "calls"),
    [
        ("(A^3B)_2", "AAABAAABAAABCCCD"),
        ("(AB)_3", "ABCDEFGH"),
        ("(ABAB)_1", "ABAB"),
        ("(AAB)_2", "AABAABCCD"),
        ("(ABCB)_2", "ABCBDEFEGHIHDEFE"),
    ],
)
def test_a_degree_builds_each_group_by_the_same_signature(signature, calls):
    assert "".join(expand(signature)) == calls


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        ("AB_2", "behind parentheses around the whole"),
        ("(AB)(AB)_2", "behind parentheses around the whole"),
        ("(AB)_", "a degree from 1 to 16"),
        ("(AB)_0", "a degree from 1 to 16"),
        ("(AB)_99", "a degree from 1 to 16"),
        ("(AB)_5", "more than 26 groups"),
        ("(A^9B)_3", "more than 256 calls"),
    ],
)
def test_a_degree_that_cannot_be_is_refused_with_the_signature(signature, told):
    with pytest.raises(UserError, match=told) as error:
        expand(signature)
    assert repr(signature) in str(error.value)


def test_groups_have_the_sizes_of_a_split():
    assert group_sizes("A^3B", 12, (4, 8)) == {"A": 4, "B": 8}
    for split in ((4, 9), (12,), (0, 12), (3, 3, 6)):
        with pytest.raises(UserError, match="does not cut 12 blocks into the 2 groups A B"):
            group_sizes("A^3B", 12, split)


def test_zeros_before_a_degree_hide_no_number_without_end():
    assert expand("(A^3B)_0002") == expand("(A^3B)_2")
    with pytest.raises(UserError, match="a degree from 1 to"):
        expand("(ABC)_000999999999999999999999999999999")
