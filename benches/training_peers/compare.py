"""Runs the sides of each case in turn, each time in a fresh process, and prints tables.

    python3 compare.py --results results.jsonl            # everything, hours
    python3 compare.py --only 'sasrec softmax 3500' --threads 1 --rounds 5
    python3 compare.py --render results.jsonl             # tables again

Every run is appended to the results at once: an interrupted comparison keeps what it has.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import cases

HERE = os.path.dirname(os.path.abspath(__file__))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", help="words of which a case's name holds at least one")
    parser.add_argument("--preload", default="", help="allocator library for the Python side")
    parser.add_argument("--log", default="", help="Beauty.txt: `user item item ...` lines")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where made-up logs go")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--binary", default="", help="Touchstone's side; built if not given")
    parser.add_argument("--results", default="results.jsonl")
    parser.add_argument("--render", nargs="+", help="only print tables of these results")
    return parser.parse_args()


def build():
    """The Rust side, built by cargo."""
    command = "cargo build --release -p models --bench training_peers --message-format json"
    out = subprocess.run(command.split(), cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    for line in out.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "training_peers" and message.get("executable"):
            return message["executable"]
    sys.exit("cargo built no executable `training_peers`")


def run(case, side, number):
    """One process; what it printed, with the load of the machine before it."""
    load = os.getloadavg()[0]
    started = time.time()
    done = subprocess.run(
        side.command, env=os.environ | side.environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"{side.name} failed in {case.name}: {' '.join(side.command)}")
    printed = json.loads(done.stdout.strip().splitlines()[-1])
    return printed | {
        "case": case.name,
        "kind": case.kind,
        "side": side.name,
        "is_ours": side.is_ours,
        "round": number,
        "skipped": case.skipped,
        "load": load,
        "process_seconds": time.time() - started,
    }


def median_of(results, figure):
    values = [figure(result) for result in results]
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else float("nan")


def step_ms(field):
    return lambda result: statistics.median(result[field][result["skipped"] :])


def mib(result):
    return result["peak_kib"] / 1024


def added_mib(result):
    """Memory beyond what was resident before training: interpreter and libraries are not in it."""
    return (result["peak_kib"] - result["before_kib"]) / 1024


def ratio(rows, ours, figure):
    """Median and range over rounds of (theirs / ours): each round is a pair."""
    mine = {result["round"]: figure(result) for result in ours}
    pairs = [figure(row) / mine[row["round"]] for row in rows if row["round"] in mine]
    if not pairs:
        return "-"
    return f"{statistics.median(pairs):.2f} ({min(pairs):.2f}-{max(pairs):.2f})"


COLUMNS = {
    "steps": [
        ("CPU ms / step", step_ms("cpu_ms"), "{:.1f}"),
        ("wall ms / step", step_ms("wall_ms"), "{:.0f}"),
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


def render(results):
    """A table for each kind of case. Ratios are theirs / ours: above 1, Touchstone takes less."""
    for kind, columns in COLUMNS.items():
        chosen = [result for result in results if result["kind"] == kind]
        if not chosen:
            continue
        cpu, wall, _ = columns[0][1], columns[1][1], None
        heads = ["case", "side", *[head for head, _, _ in columns]]
        heads += ["CPU ratio (range)", "wall ratio (range)", "memory ratio", "rounds", "load"]
        print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
        for name in dict.fromkeys(result["case"] for result in chosen):
            of_case = [result for result in chosen if result["case"] == name]
            ours = [result for result in of_case if result["is_ours"]]
            for side in dict.fromkeys(result["side"] for result in of_case):
                rows = [result for result in of_case if result["side"] == side]
                cells = [name, side]
                cells += [form.format(median_of(rows, figure)) for _, figure, form in columns]
                if rows[0]["is_ours"]:
                    cells += ["1", "1", "1"]
                else:
                    cells += [ratio(rows, ours, figure) for figure in (cpu, wall)]
                    cells.append(f"{median_of(rows, mib) / median_of(ours, mib):.1f}")
                cells.append(str(len(rows)))
                cells.append(f"{median_of(rows, lambda result: result['load']):.1f}")
                print("| " + " | ".join(cells) + " |")
        print()


def read(paths):
    results = []
    for path in paths:
        with open(path) as lines:
            results += [json.loads(line) for line in lines]
    return results


def main():
    options = arguments()
    if options.render:
        render(read(options.render))
        return
    setting = cases.Setting(
        python=options.python,
        binary=options.binary or build(),
        preload=options.preload,
        folder=options.folder,
        log=options.log,
    )
    for case in cases.all_cases(setting, options.threads):
        if options.only and not any(words in case.name for words in options.only):
            continue
        # A first run of each side, not counted, warms files and caches of compilers.
        for number in range(-1, options.rounds):
            for side in case.sides:
                result = run(case, side, number)
                if number < 0:
                    continue
                with open(options.results, "a") as out:
                    out.write(json.dumps(result) + "\n")
        print(f"{time.strftime('%H:%M:%S')} {case.name}", file=sys.stderr, flush=True)
    render(read([options.results]))


if __name__ == "__main__":
    main()
