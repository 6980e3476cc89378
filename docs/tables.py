"""Fill the maps and tables of the pages from the code and the committed JSON:  python docs/tables.py

The text between `<!-- NAME -->` and `<!-- end NAME -->` is replaced; everything else is left alone.
"""

import ast
import importlib
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
TOPICS = (
    "recipes", "data", "performance", "reliability", "evaluation", "weights", "search", "fuzzing",
)  # fmt: skip
PAGES = ("README.md", *(f"docs/{topic}.md" for topic in TOPICS))
NONE = "\N{EN DASH}"
ROOMS = ("data_pipelines", "eval", "rins_mm", "configs", "benchmarks", "docs")

SCRIPTS = {
    "benchmarks": "What things cost, each in one command; what is measured is kept in docs/results.",
    "docs": "The pages, and the scripts that fill their tables.",
}
"""Rooms that are no packages, with what an __init__.py would say."""


def house_map() -> str:
    """Each file of the house with the first line of its docstring."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *ROOMS],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    lines = []
    for room in ROOMS:
        if room in SCRIPTS:
            lines.append(f"{room + '/':<34} {SCRIPTS[room]}")
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


def decoding_difference() -> str:
    """How far the pixels of scaled decoding lie from those of full decoding."""
    rows = ["| JPEG | scale | mean | root mean square | more than 8 | largest |"]
    rows.append("| ---: |" + " ---: |" * 5)
    for row in _results("data")["sizes"]:
        if row["scale"] > 1:
            levels = row["scaled_difference"]
            rows.append(
                f"| {row['size']:,} px | 1/{row['scale']} | {levels['mean']:.2f} "
                f"| {levels['root_mean_square']:.2f} | {100 * levels['share_above_8']:.1f}% "
                f"| {levels['largest']:.0f} |"
            )
    return "\n".join(rows)


def data_speed() -> str:
    """Pictures per second of the loader beside open_clip's path, and with one and two workers."""
    results = _results("data")
    rows = [
        "| JPEG | open_clip | full | scaled | full : open_clip | scaled : open_clip "
        "| full : kernels | scaled : kernels |"
    ]
    rows.append("| ---: |" + " ---: |" * 7)
    for row in results["sizes"]:
        # At scale 1 both are the same work.
        kinds = ("full", "scaled") if row["scale"] > 1 else ("full",)
        cells = [f"{row['pictures_per_cpu_second'][kind]:,.0f}" for kind in ("open_clip", *kinds)]
        cells += [NONE] * (3 - len(cells))
        for ratios in (row["times_open_clip"], row["share_of_kernels"]):
            cells += [f"{ratios[kind]:.2f}" for kind in kinds] + [NONE] * (2 - len(kinds))
        rows.append(f"| {row['size']:,} px | " + " | ".join(cells) + " |")
    workers = results["workers"]
    one, two = (statistics.median(workers["pictures_per_second"][count]) for count in ("1", "2"))
    rates = next(row for row in results["sizes"] if row["size"] == 512)["pictures_per_cpu_second"]
    full, scaled = (rates[f"{kind} kernels"] / rates["open_clip"] for kind in ("full", "scaled"))
    rows.append(
        f"\nBy the clock, at 512 px with full decoding: one worker process {one:,.0f} pictures per "
        f"second, two {two:,.0f}\n({workers['two_to_one']:.2f} times as many; {workers['cores']} "
        f"cores, load average {workers['load_average']:.1f} at the end). The bare kernels are at "
        f"512 px\nthemselves no more than {full:.1f} and {scaled:.1f} times as quick as open_clip's "
        "path (full and scaled)."
    )
    return "\n".join(rows)


def data_scale() -> str:
    """What many shards, samples and epochs cost."""
    results = _results("data_scale")
    rows = ["| what | measured | bar |", "| --- | --- | --- |"]
    for row in results["indexing"]:
        rows.append(
            f"| indexing, pictures of {row['picture_bytes'] / 1024:.0f} KiB, per second of CPU "
            f"| {row['megabytes_per_second']:,.0f} MB, {row['samples_per_second']:,.0f} samples; "
            f"{row['share_of_sha256']:.2f} of SHA-256 alone "
            f"({row['sha256_megabytes_per_second']:,.0f} MB) | {NONE} |"
        )
    first, index, epochs = (results[name] for name in ("first_batch", "index_memory", "epochs"))
    growth = epochs["megabytes_per_epoch"]
    begin, end = epochs["megabytes"][epochs["slope_from_epoch"] - 1], epochs["megabytes"][-1]
    return "\n".join(
        [
            *rows,
            f"| from the call to the first batch, {first['num_shards']:,} indexed shards of "
            f"{first['samples_per_shard']} samples | {first['seconds']:.2f} s "
            f"({first['seconds_to_open']:.2f} s to open the data set, "
            f"{first['seconds_to_batch_after_opening']:.2f} s for the batch) | under 2 s |",
            f"| index of {index['num_samples']:,} samples in {index['num_shards']:,} shards "
            f"| {index['megabytes_per_million_samples']:.0f} MB per million samples in each "
            f"process; opened in {index['seconds_to_open']:.2f} s | under 100 MB |",
            f"| memory of trainer and {epochs['num_workers']} workers, epoch "
            f"{epochs['slope_from_epoch']} to {len(epochs['megabytes'])} | {begin['all']:.0f} to "
            f"{end['all']:.0f} MB, {growth['all']:+.2f} MB per epoch (without the pages of "
            f"libraries {begin['own']:.0f} to {end['own']:.0f} MB, {growth['own']:+.2f}) | flat |",
            f"\nTimes are medians; {results['cores']} cores, load average "
            f"{results['load_average']:.1f} at the start.",
        ]
    )


def loss_cost() -> str:
    """Time and memory of the sigmoid loss beside its three matrix products and open_clip's."""
    rows = [
        "| width | batch | tiled : three products | open_clip : tiled | memory, tiled "
        "| memory, open_clip | tiled : open_clip |",
        "| ---: |" + " ---: |" * 6,
    ]
    timed = _results("loss")
    theirs: dict[tuple[int, int], float] = {}
    for row in timed["sizes"]:
        width, batch, memory = row["width"], row["batch"], row["memory_bytes"]
        measured = "open_clip" in memory and not row["open_clip_memory_is_estimated"]
        dense = memory["open_clip"] if measured else 4 * theirs[width, batch // 2]
        theirs[width, batch] = dense
        ratios = (row.get(name) for name in ("times_products", "open_clip_times_tiled"))
        cells = [NONE if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        mark = "" if measured else " (estimated)"
        rows.append(
            f"| {width} | {batch:,} | {' | '.join(cells)} | {memory['tiled'] / 2**20:,.0f} MiB "
            f"| {dense / 2**20:,.0f} MiB{mark} | {memory['tiled'] / dense:.3f} |"
        )
    rows.append(
        f"\nForward and backward in fp32, {timed['threads']} thread; time {timed['time']}, medians of rounds in "
        f"turn; load average {timed['load_average']:.1f} at the start."
    )
    return "\n".join(rows)


def _results(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def train_cpu() -> str:
    """This trainer beside open_clip's: the ratios first, then what they are of."""
    rows = [
        "| captions | processes x batch | trainer | samples per CPU second, times open_clip's "
        "| samples/s, times open_clip's | memory, times open_clip's | per CPU second | samples/s | MB |",
        "|" + " --- |" * 9,
    ]
    figures = ("samples_per_cpu_second", "samples_per_second", "peak_megabytes")
    for case in _results("train_cpu")["cases"]:
        for side, medians in case["medians"].items():
            ratios = case["ratios_to_open_clip"].get(side)
            rows.append(
                f"| {case['captions']} | {case['processes']} x {case['batch_size_per_process']} | {side} | "
                + " | ".join(f"**{ratios[name]:.2f}**" if ratios else "" for name in figures)
                + " | "
                + " | ".join(f"{medians[name]:,.0f}" for name in figures)
                + " |"
            )
    loads = [case["load_average"] for case in _results("train_cpu")["cases"]]
    rows.append(
        f"\nOn two cores with a load average of {min(loads):.0f} to {max(loads):.0f} at the ends of the "
        "cases: where it is above two, what is by the clock tells little."
    )
    return "\n".join(rows)


def gpu_speed() -> str:
    """What benchmarks/gpu.py has shown on each GPU, as it prints it."""
    gpu_tables = _neighbour("benchmarks", "gpu_tables").gpu_tables
    parts = []
    for path in sorted((RESULTS / "gpu").glob("*.json")):
        figures = json.loads(path.read_text())
        parts.append(f"**{figures['device']}**, torch {figures['versions']['torch']}:")
        parts.append(gpu_tables(figures))
    return "\n\n".join(parts) or "No GPU has been measured yet."


def _neighbour(folder: str, name: str) -> ModuleType:
    sys.path.insert(0, str(ROOT / folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def fuzzing() -> str:
    """What the last long search in each reader tried and found."""
    rows = [
        "| target | CPU minutes | inputs | accepted | outcomes | slowest | memory | growth | found |"
    ]
    rows.append("| --- |" + " ---: |" * 8)
    for name, row in sorted(_results("fuzz").items()):
        rows.append(
            f"| `{name}` | {row['cpu_minutes']:.1f} | {row['executions']:,} "
            f"| {row['accepted']:,} | {row['distinct_outcomes']} | {row['slowest_cpu_seconds']:.3f} s "
            f"| {row['peak_megabytes_over_rest']:.0f} MB | {row['resident_megabytes_per_minute']:.2f} MB/min "
            f"| {len(row['findings'])} |"
        )
    return "\n".join(rows)


TABLES: dict[str, Callable[[], str]] = {
    "map": house_map,
    "emoji results": lambda: _neighbour("docs", "emoji_tables").demo_results(),
    "lit results": lambda: _neighbour("docs", "emoji_tables").lit_results(),
    "recipes": recipe_costs,
    "decoding difference": decoding_difference,
    "data speed": data_speed,
    "data scale": data_scale,
    "loss cost": loss_cost,
    "train cpu": train_cpu,
    "gpu speed": gpu_speed,
    "evaluation cost": lambda: _neighbour("benchmarks", "evaluation_table").evaluation_table(
        _results("evaluation")
    ),
    "index search": lambda: _neighbour("benchmarks", "index_search_table").index_search_table(
        _results("index_search")
    ),
    "soak": lambda: _neighbour("benchmarks", "soak_table").soak_table(_results("soak")),
    "large": lambda: _neighbour("benchmarks", "large_table").large_table(_results("large")),
    "fuzzing": fuzzing,
    "paper's claims": lambda: _neighbour("docs", "claims_table").claims_table(),
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
    for page in (ROOT / name for name in PAGES):
        page.write_text(filled(page.read_text()))
