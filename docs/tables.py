"""Fill the maps and tables of the pages from the code and the committed JSON:  python docs/tables.py

The text between `<!-- NAME -->` and `<!-- end NAME -->` is replaced; everything else is left alone.
"""

import ast
import json
import re
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("data_pipelines", "eval", "rins_mm", "configs", "benchmarks", "docs")


def house_map() -> str:
    """Each file of the house with the first line of its docstring."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *ROOMS],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    lines = []
    for room in ROOMS:
        modules = sorted(
            Path(name) for name in listed if name.startswith(f"{room}/") and name.endswith(".py")
        )
        for module in modules:
            if not (ROOT / module).exists():
                continue
            docstring = ast.get_docstring(ast.parse((ROOT / module).read_text())) or ""
            name = (
                str(module.parent) + "/"
                if module.name == "__init__.py"
                else f"  {module.relative_to(room)}"
            )
            lines.append(f"{name:<34} {docstring.splitlines()[0]}")
    return "```\n" + "\n".join(lines) + "\n```"


def demo_results() -> str:
    """The demo's held-out accuracy over its seeds, at each depth of the text tower."""
    runs = json.loads((ROOT / "docs" / "results" / "emoji.json").read_text())["runs"]
    columns = {
        ("zero_shot:emoji-style", "acc1"): "style top-1",
        ("zero_shot:emoji-style", "acc5"): "style top-5",
        ("retrieval:emoji-test", "text_retrieval_recall@1"): "image→text R@1",
        ("retrieval:emoji-test", "text_retrieval_recall@5"): "R@5",
        ("retrieval:emoji-test", "text_retrieval_recall@10"): "R@10",
        ("retrieval:emoji-test", "image_retrieval_recall@1"): "text→image R@1",
        ("retrieval:emoji-test", "image_retrieval_recall@5"): "R@5 ",
        ("retrieval:emoji-test", "image_retrieval_recall@10"): "R@10 ",
    }
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


def recipe_costs() -> str:
    """Parameters, operations and predicted hours of every recipe."""
    # Imported here: the other tables need no torch.
    from rins_mm.budget import estimate
    from rins_mm.flops import PEAK_FLOPS
    from rins_mm.recipes import load_config, recipe_names

    rows = ["| recipe | text | parameters | GFLOPs per pair | pairs | H100 hours |"]
    rows.append("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in recipe_names():
        config = load_config(name)
        budget = estimate(config, caption_tokens=float(config.text.context_length))
        hours = budget.total_flops / (0.4 * PEAK_FLOPS["h100"]) / 3600
        recursion = config.text.recursion
        depth = recursion.signature + (
            f", p_s {recursion.skip_probability}" if recursion.skip_probability else ""
        )
        rows.append(
            f"| `{name}` | {depth} | {budget.parameters:,} | {budget.flops_per_pair / 1e9:.2f} "
            f"| {budget.samples / 1e6:,.1f} M | {hours:,.2f} |"
        )
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


TABLES: dict[str, Callable[[], str]] = {
    "map": house_map,
    "emoji results": demo_results,
    "recipes": recipe_costs,
}


def filled(text: str) -> str:
    """The text with every marked part made anew."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if pattern.search(text):
            made = make()
            text = pattern.sub(lambda found, made=made: f"{found[1]}{made}\n{found[2]}", text)
    return text


if __name__ == "__main__":
    for page in (ROOT / "README.md", ROOT / "docs" / "recipes.md"):
        page.write_text(filled(page.read_text()))
