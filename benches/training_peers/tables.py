"""Tables of results. Ratios are theirs / ours: above 1, Touchstone takes less."""

import json
import statistics

# A training has arrived at the first epoch that is this close to what all sides reach.
NEAR = 0.98


def read(paths):
    results = []
    for path in paths:
        with open(path) as lines:
            results += [json.loads(line) for line in lines]
    return results


def step_ms(field):
    return lambda result: statistics.median(result[field][result["skipped"] :])


def mib(result):
    return result["peak_kib"] / 1024


def added_mib(result):
    """Memory beyond what was resident before training: interpreter and libraries are not in it."""
    return (result["peak_kib"] - result["before_kib"]) / 1024


def of_epoch(field):
    """A figure of the epoch at which the target was reached; None if it never was."""
    return lambda result: None if result["reached"] is None else result["reached"][field]


def epochs_of(result):
    return None if result["reached"] is None else 1 + result["epochs"].index(result["reached"])


def best_of(result):
    return max(epoch["ndcg"] for epoch in result["epochs"])


# By kind: columns (heading, figure, form), the first two being those whose ratios are given.
COLUMNS = {
    "steps": [
        ("CPU ms / step", step_ms("cpu_ms"), "{:.1f}"),
        ("wall ms / step", step_ms("wall_ms"), "{:.0f}"),
        ("peak MiB", mib, "{:.0f}"),
        ("of it training", added_mib, "{:.0f}"),
    ],
    "trainings": [
        ("CPU s to target", of_epoch("cpu_seconds"), "{:.1f}"),
        ("wall s to target", of_epoch("seconds"), "{:.1f}"),
        ("epochs to target", epochs_of, "{:.0f}"),
        ("target NDCG@10", lambda result: result["target"], "{:.4f}"),
        ("best NDCG@10", best_of, "{:.4f}"),
        ("CPU s / epoch", lambda r: r["cpu_seconds"] / len(r["epochs"]), "{:.2f}"),
        ("peak MiB", mib, "{:.0f}"),
        ("of it training", added_mib, "{:.0f}"),
    ],
    "fits": [
        ("CPU s", lambda result: result["cpu_seconds"], "{:.2f}"),
        ("wall s", lambda result: result["seconds"], "{:.2f}"),
        ("CPU s / epoch", lambda r: r["cpu_seconds"] / (len(r["epochs"]) or 1), "{:.3f}"),
        ("peak MiB", mib, "{:.0f}"),
        ("of it training", added_mib, "{:.0f}"),
        ("NDCG@10", lambda result: result["ndcg"], "{:.4f}"),
    ],
}


def with_targets(results):
    """Trainings with their target, `NEAR` times the best figure of the side whose best is lowest, and
    the first epoch that reached it."""
    trainings = [result for result in results if result["kind"] == "trainings"]
    for result in trainings:
        same = [other for other in trainings if other["case"] == result["case"]]
        result["target"] = NEAR * min(map(best_of, same))
        there = (epoch for epoch in result["epochs"] if epoch["ndcg"] >= result["target"])
        result["reached"] = next(there, None)
    return results


def median_of(results, figure):
    values = [value for value in map(figure, results) if value is not None]
    return statistics.median(values) if values else None


def ratio(rows, ours, figure):
    """Median and range over rounds of theirs / ours: each round is a pair."""
    mine = {result["round"]: figure(result) for result in ours}
    pairs = [
        figure(row) / mine[row["round"]]
        for row in rows
        if mine.get(row["round"]) and figure(row) is not None
    ]
    if not pairs:
        return "-"
    middle = f"{statistics.median(pairs):.2f}"
    return middle if len(pairs) == 1 else f"{middle} ({min(pairs):.2f}-{max(pairs):.2f})"


def print_about(record):
    """What the figures depend on."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    print(f"- {record['started']}, commit {record['commit'] or 'unknown'}, {record['rustc']}")
    processors, memory = record["processors"], record["memory_gib"]
    print(f"- {record['processor']}, {processors} processors, {memory} GiB, Linux {record['system']}")
    print(f"- {versions}; allocator of the Python side: {record['allocator']}")
    print()


def render(results):
    """What was measured on what, and a table for each kind of case."""
    for record in results:
        if record["kind"] == "about":
            print_about(record)
    results = with_targets(results)
    for kind, columns in COLUMNS.items():
        chosen = [result for result in results if result["kind"] == kind]
        if not chosen:
            continue
        heads = ["case", "side", *[head for head, _, _ in columns]]
        heads += ["CPU ratio", "wall ratio", "memory ratio", "of training alone", "rounds", "load"]
        print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
        for name in dict.fromkeys(result["case"] for result in chosen):
            of_case = [result for result in chosen if result["case"] == name]
            ours = [result for result in of_case if result["is_ours"]]
            for side in dict.fromkeys(result["side"] for result in of_case):
                rows = [result for result in of_case if result["side"] == side]
                print_row([name, side], rows, ours, columns)
        print()


def print_row(cells, rows, ours, columns):
    for _, figure, form in columns:
        value = median_of(rows, figure)
        cells.append("-" if value is None else form.format(value))
    if rows[0]["is_ours"]:
        cells += ["1"] * 4
    else:
        figures = [columns[0][1], columns[1][1], mib, added_mib]
        cells += [ratio(rows, ours, figure) for figure in figures]
    cells.append(str(len(rows)))
    cells.append(f"{median_of(rows, lambda result: result['load']):.1f}")
    print("| " + " | ".join(cells) + " |")
