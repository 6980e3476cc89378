"""The table that benchmarks/index_search.py has filled, for the pages."""

NONE = "\N{EN DASH}"


def index_search_table(results: dict) -> str:
    """What an index costs, and what accelerators miss."""
    settings, exact = results["settings"], results["exact"]
    rows = [
        "| search | CPU ms of a query, p50 | p99 | by the clock, p50 | p99 | recall@10, pictures "
        "| recall@10, texts | build, CPU s | MB |",
        "| --- |" + " ---: |" * 8,
    ]

    def row(name: str, query: dict, recall: dict, build: str, size: str) -> str:
        figures = [
            f"{query[f'{clock}_{part}_ms']:.1f}"
            for clock in ("cpu", "clock")
            for part in ("p50", "p99")
        ]
        figures += [f"{recall[kind]:.3f}" for kind in ("pictures", "texts")]
        return f"| {name} | " + " | ".join([*figures, build, size]) + " |"

    whole = {"pictures": 1.0, "texts": 1.0}
    rows.append(row("exact", exact["query"], whole, NONE, NONE))
    rows.append(row("exact, one condition", exact["query_where"], whole, NONE, NONE))
    for kind, found in results["accelerated"].items():
        size = f"{found['megabytes']:.0f}"
        build = f"{found['build']['cpu_seconds']:.0f}"
        rows.append(row(kind, found["query"], found["recall_at_10"], build, size))
    float16 = exact["recall_of_float16_at_10"]
    rows.append(
        f"\n{settings['num_pictures']:,} made-up vectors of {settings['width']} numbers, the ten best, "
        f"{settings['threads']} thread, one query at a time; load average "
        f"{results['load_average']:.0f}, so the clock tells little.\n"
        f"Recall is against exact search, which itself finds {float16['pictures']:.4f} (pictures) and "
        f"{float16['texts']:.4f} (texts) of what float32 vectors give.\n"
        f"Building took {results['build']['cpu_seconds']:.0f} s of CPU without the model (pictures of 8 x 8 "
        f"pixels are read, decoded and hashed), adding {settings['num_added']:,} more "
        f"{results['add']['cpu_seconds']:.1f} s, opening {results['open']['cpu_seconds']:.2f} s, the first query "
        f"{exact['first_query']['cpu_seconds']:.2f} s; {results['megabytes']:.0f} MB on the disk. "
        "`benchmarks/index_search.py` makes these figures."
    )
    return "\n".join(rows)
