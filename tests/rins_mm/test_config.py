import dataclasses
import json
import os
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError
from data_pipelines.plain_values import from_plain
from rins_mm import train
from rins_mm.augment import AugmentationConfig
from rins_mm.config import (
    EvaluationConfig,
    LossConfig,
    TokenizerConfig,
    TrainConfig,
    build_tokenizer,
)
from rins_mm.guard import GuardConfig
from rins_mm.index.layout import IndexShard
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.optim import OptimizerConfig
from rins_mm.recipes import load_config, recipe_names
from rins_mm.recorded_config import read_config, write_config
from rins_mm.schedules import ScheduleConfig
from rins_mm.validation import validate


def through_json(config):
    return from_plain(type(config), json.loads(json.dumps(dataclasses.asdict(config))))


def leaves_of(hint):
    """Values of a type; of a configuration, those of every field by the types that the fields declare."""
    if dataclasses.is_dataclass(hint):
        return st.fixed_dictionaries(
            {name: leaves_of(field) for name, field in get_type_hints(hint).items()}
        )
    item = next(iter(get_args(hint)), None)
    if dataclasses.is_dataclass(item):
        return st.lists(leaves_of(item), max_size=3)
    return st.from_type(hint)


def build(hint, leaves):
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{name: build(hints[name], value) for name, value in leaves.items()})
    if isinstance(leaves, list):
        return tuple(build(get_args(hint)[0], item) for item in leaves)
    return leaves


@settings(max_examples=40, deadline=None)
@given(leaves_of(TrainConfig))
def test_any_configuration_comes_back_from_json_as_it_was(leaves):
    config = build(TrainConfig, leaves)
    # By its text, since a float may be nan.
    assert repr(through_json(config)) == repr(config)


def test_a_recorded_configuration_is_the_one_that_was_written(tmp_path):
    config = TrainConfig(
        run_dir="a b/ü", ema_decay=0.1 + 0.2, image=ImageTowerConfig(stem_channels=(1, 2), width=None),
        text=TextTowerConfig(recursion=RecursionConfig(signature="A^3B", skip_probability=1 / 3)),
    )  # fmt: skip
    write_config(config, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == config
    assert load_config(str(tmp_path)) == config
    assert load_config(str(tmp_path / "config.json")) == config


def test_what_a_record_leaves_out_has_its_default():
    assert from_plain(TrainConfig, {"text": {"depth": 6}}) == TrainConfig(
        text=TextTowerConfig(depth=6)
    )


@pytest.mark.parametrize(
    ("plain", "names"),
    [
        ({"max_stepz": 3}, "max_stepz"),
        ({"text": {"recursion": {"p_s": 0.5}}}, "p_s"),
        ({"text": {"width": 1, "colour": 2, "breadth": 3}}, "breadth, colour"),
        ({"__class__": "os.system"}, "__class__"),
    ],
)
def test_unknown_names_are_errors_that_name_them(plain, names):
    with pytest.raises(ValueError, match=names):
        from_plain(TrainConfig, plain)


@pytest.mark.parametrize(
    ("plain", "name"),
    [
        ({"max_steps": "3"}, "max_steps"),
        ({"max_steps": 3.0}, "max_steps"),
        ({"max_steps": True}, "max_steps"),
        ({"max_steps": None}, "max_steps"),
        ({"tensorboard": 1}, "tensorboard"),
        ({"ema_decay": "0.9"}, "ema_decay"),
        ({"ema_decay": True}, "ema_decay"),
        ({"precision": "fp16"}, "precision"),
        ({"precision": ["fp32"]}, "precision"),
        ({"run_dir": 3}, "run_dir"),
        ({"text": []}, "text"),
        ({"text": None}, "text"),
        ({"text": {"recursion": "A^3B"}}, "recursion"),
        ({"image": {"width": "64"}}, "width"),
        ({"image": {"stem_channels": 3}}, "stem_channels"),
        ({"image": {"stem_channels": "33"}}, "stem_channels"),
        ({"image": {"stem_channels": [1, "2"]}}, "stem_channels"),
        ({"image": {"mean": [0.5, 0.5]}}, "mean"),
        ({"data": {"positives": ["caption", "diagonal"]}}, "positives"),
        ({"ema_decay": 10**400}, "ema_decay"),
    ],
)
def test_values_of_a_wrong_type_are_errors_that_name_the_field(plain, name):
    with pytest.raises(ValueError, match=name):
        from_plain(TrainConfig, plain)


def test_whole_numbers_are_accepted_where_a_float_is_meant():
    made = from_plain(TrainConfig, {"ema_decay": 0, "image": {"mean": [0, 1, 0.5]}})
    assert (made.ema_decay, made.image.mean) == (0.0, (0.0, 1.0, 0.5))
    assert type(made.ema_decay) is float


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "3",
        "null",
        "{}",
        '{"format_version": 4}',
        '{"format_version": 3, "seed": "x"}',
        "[" * 100_000,
        '{"format_version": 1, "data": []}',
        '{"format_version": 3, "data": %s}' % ("[" * 900 + "]" * 900),
        '{"format_version": 3, "run_dir": "x", "ema_decay": %s}'
        % ('{"a":' * 480 + "1" + "}" * 480),
        '{"format_version": 1, "data": {"captions": "text"}}',
        '{"format_version": 1, "data": {"captions": [1]}}',
        '{"format_version": 3, "loss": {"tile_size": true}}',
        '{"format_version": 3, "augmentation": {"min_scale": %s}}' % ("9" * 400),
    ],
)
def test_a_record_that_cannot_be_read_is_refused_by_its_path(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"config.json"):
        read_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"config.json"):
        read_config(path)


def test_a_record_of_version_1_is_read_with_its_field_as_a_template(tmp_path):
    path = tmp_path / "config.json"
    captions = {"kind": "json_field", "num_keywords": 2, "field": "long"}
    path.write_text(json.dumps({"format_version": 1, "seed": 3, "data": {"captions": captions}}))
    config = read_config(path)
    assert (config.seed, config.data.captions.num_keywords) == (3, 2)
    assert config.data.captions.kind == "template"
    assert config.data.captions.templates == ("{long}",)


@pytest.mark.parametrize(("record", "named"), [({}, ""), ({"init_from": "runs/old"}, "runs/old")])
def test_a_record_of_version_2_is_read_with_its_initial_weights(tmp_path, record, named):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"format_version": 2, **record}))
    assert read_config(path).init.model == named


def test_a_recipe_by_path_is_read_as_python_and_a_record_is_not(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from rins_mm.config import TrainConfig\ndef config():\n    return TrainConfig(seed=5)\n"
    )
    assert load_config(str(recipe)).seed == 5
    (tmp_path / "config.json").write_text(recipe.read_text())
    with pytest.raises(UserError, match="cannot read the recorded configuration"):
        load_config(str(tmp_path))


@pytest.mark.parametrize("body", ["", "config = 3", "def config():\n    return 3"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, body):
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(UserError, match=r"mine\.py.*no function config"):
        load_config(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("wrong", "near"), [("emojy", "emoji"), ("siglip_b61", "siglip_b16"), ("zzz", "emoji")]
)
def test_an_unknown_recipe_is_refused_with_the_nearest_names(wrong, near):
    with pytest.raises(UserError, match=f"{wrong}.*{near}"):
        load_config(wrong)


def test_recipes_are_known_by_the_names_of_their_files():
    assert "emoji" in recipe_names()
    assert "__init__" not in recipe_names()
    assert recipe_names() == sorted(recipe_names())


GOOD = TrainConfig()
AAB = RecursionConfig(signature="AAB")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(GOOD, max_steps=0), "max_steps is 0"),
        (replace(GOOD, batch_size=0), "batch_size is 0"),
        (replace(GOOD, keep_checkpoints=0), "keep_checkpoints is 0"),
        (replace(GOOD, eval_every=-1), "eval_every is -1"),
        (replace(GOOD, batch_size=3), "4 ranks cannot share a batch_size of 3"),
        (replace(GOOD, ema_decay=1.0), "ema_decay is 1.0"),
        (replace(GOOD, ema_decay=float("nan")), "ema_decay is nan"),
        (replace(GOOD, guard=GuardConfig(max_in_a_row=0)), "max_in_a_row is 0"),
        (replace(GOOD, guard=GuardConfig(spike_sigmas=-1.0)), "spike_sigmas is -1.0"),
        (replace(GOOD, guard=GuardConfig(spike_sigmas=float("nan"))), "spike_sigmas is nan"),
        (replace(GOOD, guard=GuardConfig(spike_window=1)), "spike_window is 1"),
        (replace(GOOD, text=TextTowerConfig(num_heads=7)), "768.*7 heads"),
        (
            replace(GOOD, text=TextTowerConfig(recursion=RecursionConfig(skip_probability=1.5))),
            "text.*1.5",
        ),
        (
            replace(GOOD, image=ImageTowerConfig(recursion=RecursionConfig(skip_probability=-0.1))),
            "image.*-0.1",
        ),
        (replace(GOOD, evaluation=EvaluationConfig(text_signatures=("A^",))), "'A\\^'"),
        (replace(GOOD, optimizer=OptimizerConfig(name="adamx")), "'adamx'"),
        (
            replace(
                GOOD,
                schedule=ScheduleConfig(shape="rsqrt", warmup_samples=256_000, cooldown_samples=1),
            ),
            "256000.*1000 steps",
        ),
        (
            replace(GOOD, schedule=ScheduleConfig(cooldown_samples=7)),
            "cooldown_samples is 7.*rsqrt",
        ),
        (replace(GOOD, loss=LossConfig(initial_scale=0.0)), "initial_scale is 0.0"),
        (replace(GOOD, augmentation=AugmentationConfig(min_scale=0.0)), "min_scale is 0.0"),
        (replace(GOOD, evaluation=EvaluationConfig(text_signatures=("ABC",))), "'ABC'.*no C"),
        (replace(GOOD, text=TextTowerConfig(depth=5, recursion=AAB)), "depth of 5.*4 or 6"),
        (replace(GOOD, image=ImageTowerConfig(std=(0.5, 0.0, 0.5))), "image.std is .0.5, 0.0"),
        (
            replace(GOOD, image=ImageTowerConfig(std=(0.5, float("inf"), 1.0))),
            "image.std is .0.5, inf",
        ),
        (
            replace(GOOD, image=ImageTowerConfig(mean=(0.5, float("nan"), 1.0))),
            "image.mean is .0.5, nan",
        ),
        (replace(GOOD, sharding="fsdp", compile="inductor"), "fsdp.*inductor"),
        (
            replace(GOOD, run_dir=os.fsdecode(b"runs/\xff")),
            r"run folder 'runs/\\udcff' is not UTF-8",
        ),
    ],
)
def test_what_cannot_run_is_refused_with_its_value(config, said):
    with pytest.raises(UserError, match=said):
        validate(config, world_size=4)
    validate(GOOD, world_size=4)


def test_a_tokenizer_of_another_size_is_refused_with_the_flag_that_mends_it():
    own = GOOD.tokenizer.vocab_size
    config = replace(GOOD, tokenizer=TokenizerConfig(vocab_size=own + 1))
    with pytest.raises(
        UserError, match=f"{own} ids, not {own + 1}; set --tokenizer.vocab-size {own}"
    ):
        build_tokenizer(config)
    tokenizer = build_tokenizer(replace(GOOD, text=TextTowerConfig(context_length=7)))
    assert (tokenizer.vocab_size, tokenizer.context_length) == (own, 7)


def test_what_has_no_default_is_missed_by_its_name():
    with pytest.raises(ValueError, match="IndexShard lacks metadata_sha256, num_numbers"):
        from_plain(IndexShard, {"first_number": 0, "num_pictures": 1, "vectors_sha256": ""})


TURNED = "a\x1b[2J\u202e.tar"


def test_a_record_with_words_that_a_terminal_would_obey_is_refused_unless_they_are_the_folders_own(
    tmp_path,
):
    told = replace(TrainConfig(), data=replace(TrainConfig().data, shards=(TURNED,)))
    write_config(told, tmp_path / "config.json")
    with pytest.raises(UserError, match=r"holds characters that a terminal would obey"):
        read_config(tmp_path / "config.json")
    with pytest.raises(UserError, match=r"a terminal would obey; give another name"):
        validate(told, world_size=1)
    write_config(replace(TrainConfig(), run_dir=TURNED), tmp_path / "config.json")
    assert read_config(tmp_path / "config.json").run_dir == TURNED


def test_line_breaks_in_a_template_of_captions_are_none_of_them(tmp_path):
    captions = CaptionConfig(kind="template", templates=("{title}\n\t{text}",))
    config = replace(TrainConfig(), data=replace(TrainConfig().data, captions=captions))
    write_config(config, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == config


def test_a_run_of_a_record_alone_writes_into_no_folder_that_the_record_names(tmp_path):
    write_config(replace(toy.config(), run_dir=str(tmp_path / "theirs")), tmp_path / "config.json")
    assert train.parse([str(tmp_path / "config.json")]).config.run_dir == ""
    with pytest.raises(UserError, match=r"add --run-dir FOLDER"):
        train.main([str(tmp_path / "config.json")])
    assert not (tmp_path / "theirs").exists()
    assert train.parse([str(tmp_path)]).config.run_dir == str(tmp_path)
