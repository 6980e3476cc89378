"""The table that benchmarks/large.py has filled, for the pages."""


def large_table(figures: dict) -> str:
    """What many samples, shards and steps cost; of what has been measured so far."""
    rows = rows_of_data(figures["data"])
    if "run" in figures:
        rows |= rows_of_run(figures["run"])
    lines = ["| what | measured |", "| --- | --- |"]
    lines += [f"| {what} | {measured} |" for what, measured in rows.items()]
    lines.append(f"\nLoad average {figures['load_average']:.0f} on shared cores.")
    return "\n".join(lines)


def rows_of_data(data: dict) -> dict[str, str]:
    """What it takes to open, to begin, and to read from everywhere."""
    return {
        f"opening {data['num_samples']:,} samples in {data['num_shards']:,} indexed shards": (
            f"{data['cpu_seconds_to_open']:.1f} s of CPU, {data['megabytes']:.0f} MB, no file stays open"
        ),
        "from there to the first batch of 256": f"{data['cpu_seconds_to_first_batch']:.2f} s of CPU",
        "files open after a sample of each shard": f"{data['files_opened_by_reading_all']}",
    }


def rows_of_run(run: dict) -> dict[str, str]:
    """What a long run takes, and what becomes of what it has written."""
    stall = run["checkpoint_stall_seconds"]
    report = run["report_cpu_seconds"] - run["import_cpu_seconds"]
    resume = run["finished_resume_cpu_seconds"]
    return {
        f"a run of {run['steps']:,} steps: from its command to the first row": (
            f"{run['cpu_seconds_to_first_step']:.1f} s of CPU, imports included"
        ),
        "each further step, logged and with its share of saves": (
            f"{1000 * run['cpu_seconds_per_step']:.1f} ms of CPU"
        ),
        "memory of the trainer, files apart, after a tenth and at the end": (
            f"{run['megabytes_after_a_tenth']:.0f} and {run['megabytes_at_the_end']:.0f} MB"
        ),
        f"metrics.jsonl with all of {run['steps']:,} steps logged": (
            f"{run['metrics_bytes'] / 1e6:.1f} MB, {run['bytes_per_row']:,.0f} bytes a step"
        ),
        f"training stands still for a checkpoint of {run['checkpoint_megabytes']:.1f} MB, by the clock": (
            f"{1000 * stall['median']:.0f} ms in the median, {1000 * stall['most']:.0f} ms at most"
        ),
        "`python -m rins_mm.report` of it": (
            f"{report:.1f} s of CPU beyond its imports ({run['import_cpu_seconds']:.1f} s), "
            f"{run['report_bytes'] / 1e3:,.0f} kB"
        ),
        "`--resume` of the finished run": f"{resume:.1f} s of CPU, imports included",
    }
