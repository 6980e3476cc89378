"""Where a configuration comes from: a recipe by name or by path, or a run's record."""

import difflib
import importlib
import importlib.util
import runpy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from rins_mm.config import TrainConfig
from rins_mm.recorded_config import read_config


def recipe_names() -> list[str]:
    """The recipes of the package `configs`; its studies are none: they are many runs."""
    spec = importlib.util.find_spec("configs")
    folders = spec.submodule_search_locations if spec is not None else None
    files = [path for folder in folders or [] for path in Path(folder).glob("*.py")]
    stems = (path.stem for path in files)
    return sorted(stem for stem in stems if stem != "__init__" and not stem.startswith("study_"))


def load_config(source: str) -> TrainConfig:
    """A recipe by name or by path, the recorded config.json of a run, or a run folder that holds one."""
    if source in recipe_names():
        return _from_recipe(f"configs.{source}", vars(importlib.import_module(f"configs.{source}")))
    path = Path(source)
    if path.is_dir():
        path = path / "config.json"
    if path.suffix == ".json" and path.is_file():
        return read_config(path)
    if path.suffix == ".py" and path.is_file():
        return _from_recipe(source, runpy.run_path(str(path)))
    nearest = difflib.get_close_matches(Path(source).stem, recipe_names(), n=3) or recipe_names()
    raise UserError(
        f"there is no recipe, run folder or file named {source!r}; recipes are {', '.join(nearest)}"
    )


def config_to_train(source: str) -> TrainConfig:
    """The configuration that `train` begins with: it writes into the folder that the user names, or the recipe."""
    config = load_config(source)
    if source in recipe_names():
        return config
    if Path(source).is_dir():
        # The folder may have been moved since it was written.
        return replace(config, run_dir=source)
    # The folder that a record names is its writer's, who may be anybody.
    return replace(config, run_dir="") if source.endswith(".json") else config


def require_folder(config: TrainConfig) -> None:
    """Raise UserError where no folder is named, as by a record of somebody's run."""
    if not config.run_dir:
        raise UserError(
            "no folder is named for the run; add --run-dir FOLDER (a recorded config.json names its writer's)"
        )


def _from_recipe(source: str, names: Mapping[str, Any]) -> TrainConfig:
    function = names.get("config")
    made = function() if callable(function) else None
    if not isinstance(made, TrainConfig):
        raise UserError(
            f"the recipe {source!r} has no function config() that returns a TrainConfig; "
            "see configs/emoji.py for the form"
        )
    return made
