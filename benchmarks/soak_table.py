"""The table that benchmarks/soak.py has filled, for the pages."""


def soak_table(results: dict) -> str:
    """How a soaked run kept to each rule."""
    rows = ["| what | measured | bar |", "| --- | --- | --- |"]
    for rule in results["rules"]:
        kept = "" if rule["kept"] else " (**not kept**)"
        rows.append(f"| {rule['what']} | {rule['measured']} | {rule['bar']}{kept} |")
    looks = results["looks"]
    rows.append(
        f"\n{results['minutes']:g} minutes, {results['ranks']} ranks with {results['workers']} loader workers each: "
        f"{results['steps']:,} steps, {results['checkpoints']:,} saves, {results['evaluations']:,} evaluations; "
        f"{len(looks['seconds']):,} looks from outside. The first {results['warm_up']:.0%} of the time is warm-up.\n"
        f"metrics.jsonl came to {looks['metrics_bytes'][-1] / 1e6:.1f} MB, the run's folder to "
        f"{looks['run_folder_bytes'][-1] / 1e6:.1f} MB. {results['cores']} cores, load average "
        f"{results['load_average']:.0f} at the start."
    )
    return "\n".join(rows)
