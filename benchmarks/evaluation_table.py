"""The figures of benchmarks/evaluation.py as the table that it prints and the page shows."""

import statistics


def evaluation_table(results: dict) -> str:
    """Times and memory as ratios, in Markdown."""
    settings = results["settings"]
    rows = ["| work | times as fast as CLIP_benchmark | memory, ours : theirs |"]
    rows.append("| --- | ---: | ---: |")
    for row in results["classifiers"]:
        rows += [
            f"| class vectors, text tower of width {row['width']}: {name} | {ratio:.2f} | |"
            for name, ratio in row["times_as_fast"].items()
        ]
    if retrieval := results["retrieval"]:
        ours, theirs = (
            statistics.median(cost["megabytes"] for cost in retrieval["costs"][side])
            for side in ("ours", "theirs")
        )
        rows.append(
            f"| recall both ways, {settings['num_pictures']:,} pictures x "
            f"{retrieval['num_texts']:,} texts of width {settings['feature_width']} "
            f"| {retrieval['times_as_fast']:.2f} | {ours:,.0f} MB : {theirs:,.0f} MB "
            f"({retrieval['times_less_memory']:.0f} times less) |"
        )
    rows.append(
        f"\n{settings['num_classes']} classes in {settings['num_templates']} sentences each, "
        f"{settings['depth']} blocks. Medians of {settings['rounds']} and of "
        f"{settings['retrieval_rounds']} rounds of fresh processes in turn, CPU time; memory at the "
        "peak beyond the features."
    )
    return "\n".join(rows)
