"""The flags of train: short where people need them, and none that torchrun takes for its own."""

import re

import pytest
from torch.distributed.run import get_args_parser

from rins_mm.train import parse

SHORT = [
    "--run-dir", "--max-steps", "--batch-size", "--seed", "--checkpoint-every", "--eval-every", "--resume",
]  # fmt: skip


@pytest.fixture
def help_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        parse(["--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


def flags(help_text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*", help_text))


@pytest.mark.parametrize("flag", SHORT)
def test_what_people_change_most_has_a_short_flag(flag: str, help_text: str) -> None:
    assert flag in flags(help_text)


def test_no_flag_of_ours_is_swallowed_by_torchrun(help_text: str) -> None:
    ours = sorted(flags(help_text) - {"--help"})
    assert len(ours) > 60
    for flag in ours:
        behind = ["emoji", flag, "7"]
        arguments = get_args_parser().parse_args(
            ["--nproc-per-node", "2", "-m", "rins_mm.train", *behind]
        )
        assert arguments.training_script_args == behind, flag
        assert arguments.nproc_per_node == "2"


def test_help_says_what_each_flag_means_and_in_which_units(help_text: str) -> None:
    for words in (
        "Pairs per optimizer step",
        "in samples",
        "p_s",
        "Steps between checkpoints",
        "default: 256",
    ):
        assert words in help_text
