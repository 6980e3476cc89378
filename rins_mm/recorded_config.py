"""The configuration that a run was started with: config.json in its folder, also of earlier versions."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json
from data_pipelines.plain_values import from_plain, refuse_commands
from rins_mm.config import TrainConfig

FORMAT_VERSION = 3


def write_config(config: TrainConfig, path: Path) -> None:
    """Record the resolved configuration."""
    data = {"format_version": FORMAT_VERSION, **dataclasses.asdict(config)}
    # A run without a readable config.json is lost to every later command: whole or not there.
    unfinished = path.with_name(f".{path.name}.partial")
    unfinished.write_text(json.dumps(data, indent=2) + "\n")
    unfinished.replace(path)


def read_config(path: Path) -> TrainConfig:
    """A recorded configuration. It is data: nothing is executed, and unknown names are errors."""
    try:
        data = read_plain_json(path)
    except (ValueError, OSError) as error:
        raise UserError(
            f"cannot read the recorded configuration {path}: {error}; name a run folder whose config.json is whole"
        ) from error
    version = data.pop("format_version", None) if isinstance(data, dict) else None
    try:
        if version not in (1, 2, FORMAT_VERSION):
            raise UserError(
                f"{path} has format_version {version!r}; this version of rins_mm reads 1 to {FORMAT_VERSION}"
            )
        if version == 1:
            _to_version_2(data)
        if version in (1, 2):
            _to_version_3(data)
        config = from_plain(TrainConfig, data)
        # The folder's own name may be anything: it is the user who names it.
        refuse_commands(dataclasses.asdict(dataclasses.replace(config, run_dir="")))
        return config
    # Captions of earlier versions are changed before anything is checked.
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} is no configuration that can be read here ({error}); use another copy of the run"
        ) from error


def _to_version_2(data: dict[str, Any]) -> None:
    """Captions from one field of the json have become templates."""
    captions = data.get("data", {}).get("captions", {})
    field = captions.pop("field", "caption")
    if captions.get("kind") == "json_field":
        captions.update(kind="template", templates=[f"{{{field}}}"])


def _to_version_3(data: dict[str, Any]) -> None:
    """One name of initial weights has become several settings."""
    data["init"] = {"model": data.pop("init_from", "")}
