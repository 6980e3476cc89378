"""The model card: what is exported, how it was trained, what each depth scores, and the licence."""

import exported
import pytest

from rins_mm.export.card import snippet_of, write_card
from rins_mm.export.formats import FORMATS, ExportJob


def card(tmp_path, name: str = "hf", **settings) -> str:
    job = ExportJob(encoder=exported.encoder(), text_signature="A^3B", source="mine@20", **settings)
    write_card(name, job, tmp_path)
    return (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_a_card_with_python_that_can_be_run(name, tmp_path):
    text = card(tmp_path, name)
    compile(snippet_of(text), name, "exec")
    assert f"library_name: {FORMATS[name].library}" in text
    assert "FOLDER" in snippet_of(text)


def test_the_card_shows_scores_at_each_depth_and_marks_the_exported_one(tmp_path):
    results = [
        {"name": "zero_shot:mine", "variant": depth, "metrics": {"acc1": share, "n": 3.0}}
        for depth, share in (("AB", 0.25), ("AAAB", 0.5))
    ]
    text = card(tmp_path, evaluations=results)
    assert "| zero_shot:mine | AB | 25.0 |" in text
    assert "| zero_shot:mine | **AAAB** (exported) | 50.0 |" in text
    assert "None was recorded" in card(tmp_path)


def test_the_card_tells_growth_training_and_licence(tmp_path):
    text = card(tmp_path, training={"shards": "emoji:train"}, license="apache-2.0")
    assert "text tower's 2 blocks are 4 layers" in text
    assert "- source: mine@20\n- shards: emoji:train" in text
    assert "license: apache-2.0" in text and "Licence of the weights: apache-2.0" in text
    assert "none was stated" in card(tmp_path)
    assert "text tower" not in card(tmp_path, "native").split("## Use")[0]
    assert "the image encoder alone" in card(tmp_path, "timm")


def test_words_of_a_run_or_an_evaluation_stay_words_in_markdown(tmp_path):
    hostile = "a ![x](http://evil.example/x.png) <img src=y> `c` | d\n```python\nimport os"
    row = {"name": hostile, "variant": "AB", "metrics": {"acc1": 0.5}}
    text = card(tmp_path, evaluations=[row], training={"shards": hostile})
    (table,) = (line for line in text.splitlines() if "evil" in line and line.startswith("|"))
    assert len(table.replace(r"\|", "").split("|")) == 5
    assert text.count("```") == 2 and "import os" not in snippet_of(text)
    assert r"!\[x\](http" in text and r"\<img" in text
