"""The recorded configuration of a run, of every version."""

import dataclasses
import json
from pathlib import Path
from random import Random

from byte_mutations import raw_bytes
from json_mutations import mutated_json
from target import Files, Target, laid_down

from data_pipelines import plain_values
from data_pipelines.errors import UserError
from rins_mm import recorded_config
from rins_mm.config import TrainConfig
from rins_mm.recipes import load_config, recipe_names
from rins_mm.recorded_config import read_config, write_config


def seeds() -> list[Files]:
    """The configurations of some recipes, and what earlier versions wrote."""
    made = []
    for name in list(recipe_names())[:4]:
        data = dataclasses.asdict(load_config(name))
        made.append({"format_version": 3, **data})
    first = json.loads(json.dumps(made[0]))
    del first["init"]
    first |= {"format_version": 1, "init_from": "hf:folder"}
    first["data"]["captions"] = {"kind": "json_field", "field": "label"}
    second = {**json.loads(json.dumps(made[0])), "format_version": 2, "init_from": ""}
    del second["init"]
    small = [{"format_version": version, "seed": 1} for version in (1, 2, 3)]
    small[0]["data"] = {"captions": {"field": "x"}}
    return [
        {"config.json": json.dumps(data, indent=2).encode()}
        for data in (*made, first, second, *small)
    ]


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """Values of other kinds, fields lost and renamed; now and then any bytes."""
    if draws.random() < 0.01:
        return {"config.json": raw_bytes(draws)}
    return {
        "config.json": mutated_json(files["config.json"], draws, other["config.json"])[:200_000]
    }


def attempt(files: Files, folder: Path) -> str:
    """Read it; written down and read again it is the same, and every value is of its kind."""
    laid_down(files, folder)
    config = read_config(folder / "config.json")
    assert type(config) is TrainConfig
    write_config(config, folder / "again.json")
    again = read_config(folder / "again.json")
    # As text, since a number that is none is not equal to itself.
    assert repr(again) == repr(config)
    return "read"


TARGET = Target(
    name="config",
    what="read_config; what is accepted is the same after write_config and read_config",
    attempt=attempt,
    seeds=seeds,
    mutate=mutate,
    traced=(recorded_config, plain_values),
    documented=(UserError,),
)
