"""python -m rins_mm.index search and duplicates: what they print, and the mistakes that they tell."""

import json
import shutil

import pytest
import tiny
import torch
from toy_index import build_argv

from data_pipelines.errors import UserError
from rins_mm.export.native import write_native
from rins_mm.index.__main__ import main


def test_the_search_command_answers_words_pictures_and_numbers(built, pictures, tmp_path, capsys):
    page = tmp_path / "answers.html"
    main(
        ["search", str(built), "--query", "a [b]red[/b] apple", "--minus", "leaf", "--like", "7",
         "--picture", str(pictures / "09.png"), "--where", "height<40", "--top-k", "2",
         "--text-signature", "AAB", "--html", str(page)]
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "a [b]red[/b] apple − leaf" in printed  # noqa: RUF001
    assert "1.0000   7 07.png" in printed
    assert "1.0000   9 09.png" in printed
    assert page.read_text(encoding="utf-8").count("data:image/webp") == 6
    with pytest.raises(UserError, match="--overwrite"):
        main(["search", str(built), "--query", "red", "--html", str(page)])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "nothing to look for"),
        (["--like", "5"], "no picture 5 "),
        (["--like", "7", "--minus", "x"], "takes words away"),
        (["--query", "x", "--text-signature", "ABC"], "'ABC'"),
        (["--query", "x", "--where", "size>3"], "names 'size'"),
        (["--like", "7", "--top-k", "0"], "top_k is 0"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(built, argv, words):
    with pytest.raises(UserError, match=words):
        main(["search", str(built), *argv])


def test_another_model_is_refused_in_one_line(built, pictures, tmp_path):
    other = tiny.encoder()
    with torch.no_grad():
        other.model.logit_bias.add_(1)
    write_native(other, tmp_path / "other")
    for argv in (
        ["search", str(built), "--query", "x", "--model", str(tmp_path / "other")],
        ["search", str(built), "--picture", str(pictures / "00.png"), "--model", str(tmp_path / "other")],
    ):  # fmt: skip
        with pytest.raises(UserError, match="was built with the model tiny@0") as caught:
            main(argv)
        assert "\n" not in str(caught.value)


def test_the_duplicates_command_finds_copies(model, pictures, tmp_path, capsys):
    folder, out = tmp_path / "copies", tmp_path / "index"
    folder.mkdir()
    for number in (1, 2, 3):
        shutil.copy(pictures / f"{number:02d}.png", folder)
    shutil.copy(pictures / "02.png", folder / "copy.png")
    main(build_argv(model, folder, out))
    main(["duplicates", str(out), "--threshold", "0.9999", "--json", str(tmp_path / "groups.json")])
    assert "2 of 4 pictures look like another" in capsys.readouterr().out
    assert json.loads((tmp_path / "groups.json").read_text())["groups"] == [[1, 3]]
