"""Results as a file, as a table for the terminal, and as one page that needs nothing beside it.

A result is the dict that `suite.run_suite` returns: CLIP_benchmark's keys and ours.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from rich.console import Group

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json
from data_pipelines.shapes import is_whole, misfit
from data_pipelines.whole_files import write_whole
from data_pipelines.words import shown
from eval.console_table import task_tables
from eval.mistakes import Thumbnail
from eval.result_shape import DOCUMENT, RESULT
from eval.task_view import overview, task_view
from eval.text_depths import TextDepths
from eval.words import short

FORMAT_VERSION = 2
"""Version 1 had no image variants, and nothing of how sure a number is or where it comes from."""

MAX_BYTES = 256 * 2**20
"""Of a file of results; one of a thousand classes has a few MB for each variant."""


def write_results(
    path: Path,
    results: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write eval.json whole or not at all. Raises UserError where the file exists already."""
    document = {
        "format_version": FORMAT_VERSION,
        "provenance": dict(provenance),
        "results": [dict(result) for result in results],
    }
    # A metric that is not a number would not be JSON; it must fail here, not in the reader's hands.
    write_whole(path, json.dumps(document, indent=2, allow_nan=False) + "\n", overwrite=overwrite)


def read_results(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The results and the provenance of an eval.json of this version or of an older one.

    Raises UserError for a file that is none.
    """
    try:
        document = read_plain_json(path, MAX_BYTES)
        _require_version(path, document)
        if where := misfit(document, DOCUMENT):
            raise ValueError(f"{where} is missing or of another kind")
        for number, result in enumerate(document["results"]):
            if where := misfit(result, RESULT):
                raise ValueError(f"result {number} has no {short(where, 200)} that can be shown")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not what evaluate writes: {error}; write it again with --overwrite"
        ) from error
    return document["results"], document["provenance"]


def _require_version(path: Path, document: Any) -> None:
    if where := misfit(document, {"format_version": is_whole}):
        raise ValueError(f"{where} is missing or of another kind")
    version = document["format_version"]
    if version not in range(1, FORMAT_VERSION + 1):
        raise UserError(
            f"{path} has format_version {short(version, 40)}; this version of rins_mm reads 1 to "
            f"{FORMAT_VERSION}"
        )


def write_page(
    path: Path,
    results: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    thumbnails: Mapping[tuple[str, int], Thumbnail] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write `results_page` whole or not at all. Raises UserError where the file exists already."""
    write_whole(path, results_page(results, provenance, thumbnails), overwrite=overwrite)


def results_tables(results: Sequence[Mapping[str, Any]]) -> Group:
    """For each task a table with one row per variant and one for chance; shares in percent."""
    return task_tables(_by_task(results))


def results_page(
    results: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    thumbnails: Mapping[tuple[str, int], Thumbnail] | None = None,
) -> str:
    """An HTML page: for each task numbers with their intervals, drawings, classes, and mistakes with
    the small copies of `mistakes.mistake_thumbnails`. It loads nothing and runs no script.
    """
    template = page_templates().get_template("page.html.jinja")
    return template.render(page_values(results, provenance, thumbnails))


def page_templates(*others: jinja2.BaseLoader) -> jinja2.Environment:
    """The templates of this package, and of others that extend them; every value is escaped."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("eval", ""), *others]),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_values(
    results: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    thumbnails: Mapping[tuple[str, int], Thumbnail] | None = None,
    depths: TextDepths | None = None,
) -> dict[str, Any]:
    """What `page.html.jinja` shows of the results. `depths` has the costs of the text tower's
    variants, where they are known: then these say where a variant stands in a drawing.
    """
    tasks = _by_task(results)
    models = {(result["model"], result.get("encoder_fingerprint", "")) for result in results}
    return {
        "tasks": [task_view(rows, thumbnails or {}, depths) for rows in tasks.values()],
        "overview": overview(tasks),
        "models": sorted((short(name, 200), short(mark, 80)) for name, mark in models),
        "provenance": [(short(key, 80), _one_line(value)) for key, value in provenance.items()],
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _by_task(results: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The results of each task, in their order; those of older versions with what they lack, empty."""
    lacking: dict[str, Any] = {"image_variant": "default", "intervals": {}, "near_ties": {},
               "per_class": [], "confusions": [], "mistakes": []}  # fmt: skip
    tasks: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        tasks.setdefault(result["name"], []).append({**lacking, **result})
    return tasks


def _one_line(value: object) -> str:
    return short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 4000)
