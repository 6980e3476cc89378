"""The table of inputs by commands, from the rows of hostile_session:  python tests/helpers/hostile_table.py ROWS …

Writes docs/results/hostile.json and the table in docs/hostile_inputs.md.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results" / "hostile.json"
PAGE = ROOT / "docs" / "hostile_inputs.md"
BEGIN, END = "<!-- table -->\n", "<!-- end table -->"


def table_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each command, thing and kind: how many inputs, what came of them, and the greatest costs."""
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
            # Of every so many inputs one was tried.
            "share": max(row.get("share", 1) for row in some),
            "outcomes": dict(Counter(row["outcome"].partition(":")[0] for row in some)),
            "most_seconds": max(row["seconds"] for row in some),
            "most_megabytes": max(row["megabytes"] for row in some),
            "breaches": sum(len(row["breaches"]) for row in some),
        }
        for (command, thing, kind), some in groups.items()
    ]


def page_table(table: list[dict[str, Any]]) -> str:
    """A row for each command."""
    lines = [
        "| command | share | inputs | refused | used | wrong said | else | s over | MB over | breaches |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for command in dict.fromkeys(row["command"] for row in table):
        some = [row for row in table if row["command"] == command]
        counts: Counter[str] = Counter()
        for row in some:
            counts.update(row["outcomes"])
        share, inputs = max(row["share"] for row in some), sum(row["inputs"] for row in some)
        fine = sum(counts[outcome] for outcome in ("refused", "accepted", "told"))
        lines.append(
            f"| `{command}` | {'all' if share == 1 else f'1 in {share}'} | {inputs:,} | {counts['refused']:,} | "
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
    table = table_of(list(rows.values()))
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(row) for row in table) + "\n]\n")
    pattern = re.compile(f"(?<={BEGIN}).*?(?={END})", re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: page_table(table), PAGE.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
