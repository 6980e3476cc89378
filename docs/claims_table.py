"""The README's table of the paper's claims: what each is, what was measured of it here, and by which study."""

import json
from pathlib import Path
from typing import Any, NamedTuple

STUDIES = Path(__file__).parent / "studies"
NOT_COVERED = "not yet covered"


class PapersClaim(NamedTuple):
    """A claim of arXiv 2502.07503."""

    words: str
    study: str
    """The study that tests it; empty: none does."""
    decided_by: str = ""
    """The study's claim that is about it; empty: it has no verdict, only numbers in its report."""


CLAIMS = (
    PapersClaim(
        "Repeating the first half of the text tower helps at equal training compute",
        "study_confirmatory",
        "Recursion in the text tower helps",
    ),
    PapersClaim(
        "So it does with rounds drawn at random and linear adapters",
        "study_confirmatory",
        "Drawn rounds in the text tower help",
    ),
    PapersClaim(
        "Drawn rounds cost nothing when recursion is then switched off (no regret)",
        "study_confirmatory",
        "Drawn rounds cost nothing at AB",
    ),
    PapersClaim(
        "The image tower does not profit",
        "study_vision_rins",
        "Recursion in the image tower does not profit",
    ),
    PapersClaim("Scaling laws: a better exponent, or a lower floor", "study_scaling"),
    PapersClaim("It beats some 55 other ways of sharing blocks", "study_signatures"),
    PapersClaim("Language models profit", ""),
    PapersClaim("Rounds can share a cache of keys and values", ""),
    PapersClaim("It beats a baseline with longer sequences at equal compute", ""),
)


def claims_table() -> str:
    """A row for each claim of the paper."""
    lines = ["| claim of the paper | measured here | study |", "| --- | --- | --- |"]
    for claim in CLAIMS:
        study = f"`{claim.study}`" if claim.study else ""
        lines.append(f"| {claim.words} | {_status(claim)} | {study} |")
    return "\n".join(lines)


def _status(claim: PapersClaim) -> str:
    if not claim.study:
        return NOT_COVERED
    path = STUDIES / claim.study.removeprefix("study_") / "results.json"
    if not path.is_file():
        return "the study is there; not yet run"
    results = json.loads(path.read_text(encoding="utf-8"))
    if claim.decided_by:
        (found,) = (one for one in results["claims"] if one["claim"] == claim.decided_by)
        return _verdict(found)
    comparisons = [words for fit in results["scaling"] for words in fit["comparisons"]]
    return "; ".join(comparisons) or f"{results['num_runs']} exploratory runs, no verdict"


def _verdict(found: dict[str, Any]) -> str:
    reason = f" ({found['reason']})" if found["reason"] else ""
    numbers = ""
    if found["num_seeds"] > 1:
        low, high = 100 * found["low"], 100 * found["high"]
        numbers = (
            f": {100 * found['mean']:+.2f} points of accuracy [{low:+.2f}, {high:+.2f}] over "
            f"{found['num_seeds']} seeds, margin {100 * found['delta']:g}"
        )
    return f"**{found['verdict']}**{reason}{numbers}"
