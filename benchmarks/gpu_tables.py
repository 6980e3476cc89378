"""The tables of gpu.py from its figures: ratios first. No torch, so that the pages can be made anywhere."""

from collections.abc import Sequence
from statistics import median
from typing import Any

NO_TIME = "no time was left"
OUT_OF_MEMORY = "out of memory"
NONE = "\N{EN DASH}"
Row = dict[str, Any]
OPEN_CLIP = {
    "trainer": "open_clip", "signature": "AB", "skip_probability": 0.0, "layout": "padded",
    "micro_batch_size": 0,
}  # fmt: skip
"""What a step of open_clip's is called."""


def is_settled(row: Row) -> bool:
    """Whether a case need not be tried again."""
    return row.get("left_out", OUT_OF_MEMORY) == OUT_OF_MEMORY


def is_alike(row: Row, other: Row) -> bool:
    """Whether two cases probably take equally long."""
    names = ("kind", "trainer", "compiler")
    return all(row.get(name) == other.get(name) for name in names)


def gpu_tables(figures: dict[str, Any]) -> str:
    """Bars, steps, losses, the loader, and what was not measured."""
    rows = figures["cases"]
    steps, losses, loaders = (
        [row for row in rows if row["kind"] == kind] for kind in ("step", "loss", "loader")
    )
    peak = figures["peak"]["flops_per_second"]
    tables = [
        bars_table(steps, losses, peak),
        steps_table([row for row in steps if "seconds" in row], peak),
        loss_table([row for row in losses if "left_out" not in row]),
        loader_table([row for row in loaders if "left_out" not in row], steps),
        "\n".join(f"- Not measured: {words_of(row)}: {row['left_out']}." for row in rows if "left_out" in row),
    ]  # fmt: skip
    return "\n\n".join(table for table in tables if table)


def bars_table(steps: Sequence[Row], losses: Sequence[Row], peak: float) -> str:
    """The few figures that matter most, beside what was aimed at."""
    plain = next((row for row in steps if row["trainer"] == "rins_mm"), None)
    deep = counterpart(steps, plain, signature="A^3B")
    theirs = [
        counterpart(steps, plain, **OPEN_CLIP, compiler=by)
        for by in ("off", plain["compiler"] if plain else "off")
    ]
    quickest = min((row["seconds"] for row in theirs if row and "seconds" in row), default=None)
    padded = seconds_of(counterpart(steps, plain, layout="padded"))
    utilisation = mfu(plain, peak) if plain and "seconds" in plain else None
    rows: list[tuple[str, float | None, str]] = [
        ("MFU of AB, packed", utilisation, "0.45"),
        ("samples/s, AB packed : open_clip at its best", ratio(quickest, seconds_of(plain)), "1.3"),
        ("samples/s, A^3B packed : AB padded", ratio(padded, seconds_of(deep)), "1"),
        ("time : operations, A^3B over AB", times_operations(steps, deep), "at most 1.03"),
    ]
    for row in (row for row in losses[:1] if "left_out" not in row):
        times, memory = forms_of(row)
        form = "compiled" if "compiled" in times else "tiled"
        of_products = ratio(times.get(form), times.get("products"))
        of_open_clip = ratio(memory.get(form), memory.get("open_clip"))
        name = f"{form} loss at {row['loss_batch_size']:,}"
        rows.append((f"{name}, time : three products", of_products, "at most 1.25"))
        rows.append((f"{name}, memory : open_clip's", of_open_clip, "at most 0.1"))
    lines = ["| what | measured | aim |", "| --- | ---: | ---: |"]
    return "\n".join(
        [*lines, *(f"| {what} | {number(it, '.2f')} | {aim} |" for what, it, aim in rows)]
    )


def steps_table(steps: Sequence[Row], peak: float) -> str:
    """Each step with its ratio to open_clip's eager one on the same batch."""
    lines = [
        "| times open_clip | times AB : operations | MFU | trainer | text | p_s | captions | layout "
        "| compiled | batch | samples/s | ms | GiB |",
        "|" + " ---: |" * 3 + " --- |" * 7 + " ---: |" * 3,
    ]
    for row in steps:
        theirs = seconds_of(counterpart(steps, row, **OPEN_CLIP, compiler="off"))
        batch = f"{row['batch_size']:,}"
        if row["micro_batch_size"]:
            batch += f" by {row['micro_batch_size']:,}"
        words = (
            row["trainer"], row["signature"], f"{row['skip_probability']:g}", row["captions"],
            row["layout"], row["compiler"], batch, f"{row['batch_size'] / row['seconds']:,.0f}",
            f"{1e3 * row['seconds']:,.1f}", gibibytes(row["peak_bytes"]),
        )  # fmt: skip
        lines.append(
            f"| {number(ratio(theirs, row['seconds']), '.2f')} | {number(times_operations(steps, row), '.3f')} "
            f"| {mfu(row, peak):.1%} | {' | '.join(words)} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def loss_table(losses: Sequence[Row]) -> str:
    """Each form's time beside the three products', and its memory."""
    lines = [
        "| times three products | memory, of open_clip's | loss at batch | form | ms | GiB |",
        "|" + " ---: |" * 3 + " --- | ---: | ---: |",
    ]
    for row in losses:
        times, memory = forms_of(row)
        for form, seconds in times.items():
            lines.append(
                f"| {number(ratio(seconds, times.get('products')), '.2f')} "
                f"| {number(ratio(memory[form], memory.get('open_clip')), '.3f')} "
                f"| {row['loss_batch_size']:,} | {form} | {1e3 * seconds:,.2f} | {gibibytes(memory[form])} |"
            )
        for form, cause in row["forms_left_out"].items():
            lines.append(f"| {cause} | | {row['loss_batch_size']:,} | {form} | | |")
    return "\n".join(lines) if len(lines) > 2 else ""


def loader_table(loaders: Sequence[Row], steps: Sequence[Row]) -> str:
    """What the loader gives, beside what the quickest step takes."""
    rates = [row["batch_size"] / row["seconds"] for row in steps if "seconds" in row]
    lines = [
        "| times the quickest step's | pictures/s of the loader | per worker | workers | cores |",
        "|" + " ---: |" * 5,
    ]
    for row in loaders:
        rate, workers = row["pictures_per_second"], row["num_workers"]
        lines.append(
            f"| {number(ratio(rate, max(rates, default=None)), '.2f')} | {rate:,.0f} "
            f"| {rate / workers:,.0f} | {workers} | {row['cpus']} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def counterpart(steps: Sequence[Row], row: Row | None, **changes: Any) -> Row | None:
    """The step that differs from this one in these points alone."""
    if row is None:
        return None
    names = (*OPEN_CLIP, "compiler", "captions", "batch_size")
    wanted = {**{name: row[name] for name in names}, **changes}
    return next((other for other in steps if wanted.items() <= other.items()), None)


def times_operations(steps: Sequence[Row], row: Row | None) -> float | None:
    """How much longer than AB a recursive step takes, as a multiple of how many more operations it has."""
    plain = counterpart(steps, row, signature="AB", skip_probability=0.0)
    if row is None or plain is None or plain is row or "left_out" in row or "left_out" in plain:
        return None
    return row["seconds"] / plain["seconds"] * plain["flops_per_step"] / row["flops_per_step"]


def mfu(row: Row, peak: float) -> float:
    """The share of the peak that the operations of the median step had."""
    return row["flops_per_second"] / peak


def forms_of(row: Row) -> tuple[dict[str, float], dict[str, int | None]]:
    """Median seconds, and bytes at the peak, of each form of the loss."""
    times = {form: median(seconds) for form, seconds in row["seconds_by_turn"].items()}
    return times, row["peak_bytes_by_form"]


def words_of(row: Row) -> str:
    """What a case is called, for people."""
    kept = {
        name: value
        for name, value in row.items()
        if name not in ("kind", "left_out", "case_seconds") and value not in (0, 0.0)
    }
    return f"{row['kind']} ({', '.join(f'{name} {value}' for name, value in kept.items())})"


def seconds_of(row: Row | None) -> float | None:
    """Seconds of a step; None where it was not measured."""
    return None if row is None else row.get("seconds")


def ratio(one: float | None, other: float | None) -> float | None:
    """None where one of them is not known."""
    return None if one is None or not other else one / other


def number(value: float | None, form: str) -> str:
    """A dash where nothing was measured."""
    return NONE if value is None else format(value, form)


def gibibytes(size: int | None) -> str:
    """Two places; a dash where nothing was measured."""
    return number(None if size is None else size / 2**30, ".2f")
