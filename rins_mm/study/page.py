"""The page of a study: what was asked, what was measured, and one sentence for each claim."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jinja2

from eval.report import page_templates, page_values
from rins_mm.study.contrasts import HOW_INTERPOLATED, SPENDINGS, Record, by_seed
from rins_mm.study.design import StudyConfig
from rins_mm.study.drawing import Curves, Points, draw_curves

WORDS = {
    "flops": "equal FLOPs",
    "samples": "equal samples",
    "layer_steps": "equal layer-steps",
}
ACROSS = {"flops": "training FLOPs", "samples": "samples seen", "layer_steps": "layer-steps"}


def study_page(
    study: StudyConfig, results: Mapping[str, Any], runs: Sequence[Record], command: str
) -> str:
    """An HTML page that loads nothing and runs no script; every value in it is escaped."""
    template = page_templates(jinja2.PackageLoader("rins_mm", "")).get_template("study.html.jinja")
    matches = {arm["name"]: arm["match"] for arm in results["arms"]}
    provenance = {"command": command, **(runs[0]["versions"] if runs else {})}
    return template.render(
        page_values([], provenance),
        study=results,
        sentences=[sentence(claim) for claim in results["claims"]],
        rows=[arm_row(arm) for arm in results["arms"]],
        contrasts=[
            contrast_row(contrast)
            for contrast in results["contrasts"]
            # Runs that spent equally were compared at their ends.
            if contrast["at"] != matches[contrast["arm"]]
        ],
        dials=[dial_rows(one) for one in results["dial"]],
        charts=charts(study, runs),
        how=HOW_INTERPOLATED,
        interval=interval,
        number=number,
    )


def number(value: float | None) -> str:
    """A number as tables show it."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def interval(found: Mapping[str, Any]) -> str:
    """A mean with its interval: +0.0120 [0.0040, 0.0200]."""
    return " ".join(mean_and_ends(found)).rstrip()


def mean_and_ends(found: Mapping[str, Any]) -> tuple[str, str]:
    """The same in two parts, for narrow columns."""
    if found["num_seeds"] == 0:
        return "\N{EN DASH}", ""
    ends = f"[{number(found['low'])}, {number(found['high'])}]"
    return number(found["mean"]), ends if found["num_seeds"] > 1 else "(one seed)"


def sentence(claim: Mapping[str, Any]) -> dict[str, str]:
    """A claim in one sentence, and what it stands on."""
    reason = f", because {claim['reason']}" if claim["reason"] else ""
    depth = "" if claim["depth"] == "trained" else f" at the depth {claim['depth']}"
    return {
        "verdict": claim["verdict"],
        "words": (
            f"{claim['claim']}: {claim['verdict']}{reason}. {claim['arm']}{depth} less "
            f"{claim['control']} by {claim['endpoint']}: {interval(claim)}, "
            f"95 % over {claim['num_seeds']} seeds; "
            f"delta {claim['delta']:g}, corrected p {claim['p_for']:.3g} for the claim and "
            f"{claim['p_against']:.3g} against it."
        ),
        "rule": str(claim["rule"]),
        "others": "; ".join(
            f"{other['endpoint']}: {interval(other)}" for other in claim["other_endpoints"]
        ),
    }


def arm_row(arm: Mapping[str, Any]) -> dict[str, Any]:
    """An arm as the table shows it."""
    share = arm["spent_of_control"]
    return {
        **arm,
        "match_words": WORDS[arm["match"]] if arm["control"] else "",
        "share": ", ".join(f"{share[name]:.3f}" for name in SPENDINGS) if share else "",
        "cells": [
            (
                *mean_and_ends(one),
                f"items ± {number(one['over_items'])}" if one["over_items"] else "",
            )
            for one in arm["endpoints"]
        ],
    }


def contrast_row(contrast: Mapping[str, Any]) -> dict[str, str]:
    """A contrast as the table shows it."""
    at = f"end of the runs ({WORDS[contrast['match']]})" if contrast["at"] == "end" else ""
    unfinished = contrast["unfinished"]
    mean, ends = mean_and_ends(contrast)
    return {
        "pair": f"{contrast['arm']} less {contrast['control']}",
        "role": contrast["role"],
        "endpoint": contrast["endpoint"],
        "at": at or WORDS[contrast["at"]],
        "mean": mean,
        "ends": ends,
        "seeds": str(contrast["num_seeds"]),
        "note": f"before the end of {', '.join(unfinished)}" if unfinished else "",
    }


def dial_rows(dial: Mapping[str, Any]) -> dict[str, Any]:
    """The depths of one arm, each with its difference from the one before."""
    steps = [None, *dial["adjacent"]]
    return {
        "title": f"{dial['arm']} by {dial['endpoint']}",
        "rows": [
            (one["depth"], interval(one), interval(step) if step else "")
            for one, step in zip(dial["depths"], steps, strict=True)
        ],
    }


def charts(study: StudyConfig, runs: Sequence[Record]) -> list[dict[str, Any]]:
    """The primary endpoint during training, and the training loss, over what was spent."""
    drawn: list[Curves | None] = []
    endpoint = study.endpoints[0]
    for spending in SPENDINGS:
        curves = {
            arm.name: points
            for arm in study.arms
            if (points := endpoint_curve(runs, arm.name, endpoint.task, endpoint.metric, spending))
        }
        drawn.append(draw_curves(endpoint.title, ACROSS[spending], curves))
    for index, across in enumerate(("samples", "flops")):
        losses = {
            arm.name: mean_curve([[(p[index], p[2]) for p in r["losses"]] for r in records])
            for arm in study.arms
            if (records := by_seed(runs, arm.name).values())
        }
        drawn.append(draw_curves("training loss", ACROSS[across], losses))
    return [asdict(chart) for chart in drawn if chart is not None]


def endpoint_curve(
    runs: Sequence[Record], arm: str, task: str, metric: str, spending: str
) -> Points:
    """The mean over seeds of an endpoint at each evaluation; nothing where training did not measure it."""
    curves = []
    for record in by_seed(runs, arm).values():
        datasets = [r["dataset"] for r in record["results"] if r["name"] == task]
        key = f"{datasets[0]}/{record['trained_depth']}/{metric}" if datasets else ""
        curves.append(
            [(p[spending], p["metrics"][key]) for p in record["curve"] if key in p["metrics"]]
        )
    return mean_curve(curves)


def mean_curve(curves: Sequence[Points]) -> Points:
    """The mean of curves point by point, as far as all of them go."""
    whole = [curve for curve in curves if curve]
    return [
        (sum(x for x, _ in some) / len(some), sum(y for _, y in some) / len(some))
        for some in zip(*whole, strict=False)
    ]
