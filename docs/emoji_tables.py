"""Tables of runs on emoji: the demo's, and the recipe with a locked tower beside it."""

import json
import statistics
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
EMOJI_COLUMNS = {
    ("zero_shot:emoji-style", "acc1"): "style top-1",
    ("zero_shot:emoji-style", "acc5"): "style top-5",
    ("retrieval:emoji-test", "text_retrieval_recall@1"): "image→text R@1",
    ("retrieval:emoji-test", "text_retrieval_recall@5"): "R@5",
    ("retrieval:emoji-test", "text_retrieval_recall@10"): "R@10",
    ("retrieval:emoji-test", "image_retrieval_recall@1"): "text→image R@1",
    ("retrieval:emoji-test", "image_retrieval_recall@5"): "R@5 ",
    ("retrieval:emoji-test", "image_retrieval_recall@10"): "R@10 ",
}


def demo_results() -> str:
    """The demo's held-out accuracy over its seeds, at each depth of the text tower."""
    runs, columns = _results("emoji")["runs"], EMOJI_COLUMNS
    variants = list(dict.fromkeys(result["variant"] for result in runs[0]["results"]))
    rows = ["| text depth | " + " | ".join(title.strip() for title in columns.values()) + " |"]
    rows.append("| --- |" + " ---: |" * len(columns))
    for variant in variants:
        cells = [_cell(runs, task, variant, "metrics", metric) for task, metric in columns]
        rows.append(f"| {variant} | " + " | ".join(cells) + " |")
    chance = [_cell(runs, task, variants[0], "chance", metric) for task, metric in columns]
    rows.append("| chance | " + " | ".join(chance) + " |")
    seeds = ", ".join(str(run["seed"]) for run in runs)
    rows.append(f"\nPercent, mean ± standard deviation over the seeds {seeds}.")
    return "\n".join(rows)


def lit_results() -> str:
    """The recipe with a locked tower beside the demo, at the depth that both were trained at."""
    rows = [
        "| recipe | pairs | seeds | " + " | ".join(t.strip() for t in EMOJI_COLUMNS.values()) + " |"
    ]
    rows.append("| --- |" + " ---: |" * (2 + len(EMOJI_COLUMNS)))
    for name in ("emoji", "lit_emoji"):
        runs = _results(name)["runs"]
        cells = [_mean(runs, task, "AAAB", metric) for task, metric in EMOJI_COLUMNS]
        pairs = f"{runs[0]['samples_seen']:,} | {len(runs)}"
        rows.append(f"| `{name}` | {pairs} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
    command = _results("lit_emoji")["command"]
    rows.append(f"\nPercent, means over the seeds, text AAAB. `{command}`.")
    return "\n".join(rows)


def _cell(runs: list[dict], task: str, variant: str, kind: str, metric: str) -> str:
    values = [
        100 * result[kind][metric]
        for run in runs
        for result in run["results"]
        if result["name"] == task and result["variant"] == variant
    ]
    if kind == "chance":
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def _mean(runs: list[dict], task: str, variant: str, metric: str) -> float:
    values = [
        100 * result["metrics"][metric]
        for run in runs
        for result in run["results"]
        if (result["name"], result["variant"]) == (task, variant)
    ]
    return statistics.mean(values)


def _results(name: str) -> dict:
    results: dict = json.loads((RESULTS / f"{name}.json").read_text())
    return results
