"""The table of inputs by commands, from the rows of hostile_session:  python tests/helpers/hostile_table.py ROWS …

Writes docs/results/hostile.json and the table in docs/hostile_inputs.md. What stands there of commands
and kinds that are not among the rows stays.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import hostile_session
from hostile_targets import TARGETS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results" / "hostile.json"
PAGE = ROOT / "docs" / "hostile_inputs.md"
BEGIN, END = "<!-- table -->\n", "<!-- end table -->"


def inputs_there() -> Counter[tuple[str, str, str]]:
    """How many inputs there are for each command, thing and kind, tried or not."""
    known = hostile_session.inputs()
    return Counter(
        (target.name, thing, one.kind)
        for target in TARGETS
        for thing in target.things()
        for one in known[thing]
    )


def table_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each command, thing and kind: how many inputs, what came of them, and the greatest costs."""
    there = inputs_there()
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] != "sound":
            groups.setdefault((row["command"], row["thing"], row["kind"]), []).append(row)
    return [
        {
            "command": command,
            "thing": thing,
            "kind": kind,
            "inputs": len(some),
            "of": there[command, thing, kind],
            "outcomes": dict(Counter(row["outcome"].partition(":")[0] for row in some)),
            "most_seconds": max(row["seconds"] for row in some),
            "most_megabytes": max(row["megabytes"] for row in some),
            "breaches": sum(len(row["breaches"]) for row in some),
        }
        for (command, thing, kind), some in groups.items()
    ]


def with_earlier(
    table: list[dict[str, Any]], earlier: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The table, and what an earlier one says of commands and kinds that are not in it; in the order of commands."""
    there = inputs_there()
    rows = {(row["command"], row["thing"], row["kind"]): row for row in [*earlier, *table]}
    return [
        row | {"of": there[group]}
        for group, row in sorted(rows.items(), key=lambda one: _place(*one[0]))
        if group in there
    ]


def _place(command: str, thing: str, kind: str) -> tuple[int, str, str]:
    names = [target.name for target in TARGETS]
    return (names.index(command) if command in names else len(names)), thing, kind


def page_table(table: list[dict[str, Any]]) -> str:
    """A row for each command."""
    lines = [
        "| command | inputs | of | refused | used | wrong said | else | s over | MB over | breaches |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    there: Counter[str] = Counter()
    for (command, _, _), number in inputs_there().items():
        there[command] += number
    tried = {row["command"] for row in table}
    for command in [target.name for target in TARGETS if target.name in tried]:
        some = [row for row in table if row["command"] == command]
        counts: Counter[str] = Counter()
        for row in some:
            counts.update(row["outcomes"])
        inputs = sum(row["inputs"] for row in some)
        fine = sum(counts[outcome] for outcome in ("refused", "accepted", "told"))
        lines.append(
            f"| `{command}` | {inputs:,} | {there[command]:,} | {counts['refused']:,} | "
            f"{counts['accepted']:,} | {counts['told']:,} | {inputs - fine:,} | "
            f"{max(row['most_seconds'] for row in some):.1f} | {max(row['most_megabytes'] for row in some):.0f} | "
            f"{sum(row['breaches'] for row in some)} |"
        )
    return "\n".join(lines) + "\n"


def main(paths: list[str]) -> None:
    """Write both."""
    rows = {}
    for path in paths:
        for line in Path(path).read_text().splitlines():
            row = json.loads(line)
            # A trial that was made again counts as it came out at last.
            rows[row["command"], row["thing"], row["kind"], row["name"]] = row
    table = with_earlier(table_of(list(rows.values())), json.loads(RESULTS.read_text()))
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(row) for row in table) + "\n]\n")
    pattern = re.compile(f"(?<={BEGIN}).*?(?={END})", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: page_table(table), PAGE.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
