"""Gradients of single losses, ours and PyTorch's in turn, each time in a fresh process; checks that
they are the same and prints a table.

    python3 compare.py                      # the README's table
    python3 compare.py --rounds 5
    python3 compare.py --only norms         # some cases
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import numpy as np

import tensor_files

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../training_peers"))
import cases as training_cases
import compare as training
import logs
import tables

ITEMS, LENGTH, REQUESTS = 3500, 50, 128
# What is computed, and the variants of the other side.
CASES = {
    "summed": ["plain"],
    "norms": ["hooks", "vmap"],
    "random": ["hooks", "vmap"],
    "gaussian": ["hooks", "vmap"],
}
# Largest difference that passes: of norms relative to themselves, of products relative to both
# lengths, of projected rows relative to their length. Both sides add up some 10^5 products of 32 bits
# in orders of their own.
MOST = 1e-4


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=2048, help="a multiple of 128")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--preload", default="auto", help="as in ../training_peers/compare.py")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--binary", default="", help="Touchstone's side; built if not given")
    return parser.parse_args()


def run(command, environment):
    """What a process printed last."""
    load = os.getloadavg()[0]
    command = list(map(str, command))
    done = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    return json.loads(done.stdout.strip().splitlines()[-1]) | {"load": load}


def check(folder, what, variant):
    """The largest differences of one case, which must be small."""
    ours = tensor_files.read(folder, f"{what}-ours.safetensors")
    theirs = np.load(os.path.join(folder, f"{what}-{variant}.npz"))
    if what == "norms":
        lengths = ours["norm"] * ours["target_norm"]
        found = {
            "norms": np.abs(theirs["norm"] / ours["norm"] - 1).max(),
            "products": (np.abs(theirs["product"] - ours["product"]) / lengths).max(),
        }
    else:
        lengths = np.linalg.norm(ours["rows"], axis=1)
        found = {"rows": (np.linalg.norm(theirs["rows"] - ours["rows"], axis=1) / lengths).max()}
    for name, largest in found.items():
        if not largest <= MOST:
            sys.exit(f"{name} of `{what}` differ from those of {variant} by {largest:.1e}")
    return ", ".join(f"{name} {largest:.0e}" for name, largest in found.items())


def compare(options, binary, preload, folder):
    """Results by (case, side), a list over rounds each, and agreement by the same."""
    log = os.path.join(folder, "log.txt")
    logs.synthetic(log, options.samples + REQUESTS, ITEMS, LENGTH + 1)
    threads = training_cases.threads_of(options.threads)
    parameters = training_cases.network("sasrec", LENGTH, 0.0)
    parameters |= {"loss": "softmax", "clip": 0.0, "checkpoint_steps": 0}
    parameters |= {"batch": 128 * LENGTH}
    per_epoch = options.samples // 128
    ours = lambda mode, *rest: run([binary, mode, log, ITEMS, folder, *rest], threads)
    ours("prepare", json.dumps(parameters | {"steps": 3 * per_epoch}))
    preloaded = threads | ({"LD_PRELOAD": preload} if preload else {})
    script = os.path.join(HERE, "torch_gradients.py")
    results, agreement = {}, {}
    for _ in range(options.rounds):
        # Two steps more: they do not count.
        steps = json.dumps(parameters | {"steps": per_epoch + 2})
        results.setdefault(("training", "ours"), []).append(ours("training", steps))
        for what in options.only:
            values = os.path.join(folder, f"{what}-ours.safetensors")
            if os.path.exists(values):
                os.remove(values)
            results.setdefault((what, "ours"), []).append(ours(what))
            for variant in CASES[what]:
                command = [options.python, script, folder, ITEMS, what, "--variant", variant]
                command += ["--threads", options.threads]
                found = run(command, preloaded)
                results.setdefault((what, variant), []).append(found)
                if what != "summed":
                    agreement[what, variant] = check(folder, what, variant)
    return results, agreement


def render(results, agreement):
    """A row for each side; ratios are of two processes of the same round."""

    def ratio(above, below, figure):
        pairs = [figure(one) / figure(other) for one, other in zip(above, below)]
        middle = statistics.median(pairs)
        if len(pairs) == 1:
            return f"{middle:.2f}"
        return f"{middle:.2f} ({min(pairs):.2f}-{max(pairs):.2f})"

    cpu = lambda result: result["cpu_ms"] / result["n"]
    wall = lambda result: result["wall_ms"] / result["n"]
    heads = ["what", "side", "CPU ms / sample", "CPU ratio", "wall ratio", "of training", "of summed"]
    heads += ["peak MiB", "of it added", "load", "largest difference"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for (what, side), rows in results.items():
        mine = results[what, "ours"]
        cells = [what, side, f"{statistics.median(map(cpu, rows)):.3f}"]
        cells += [ratio(rows, mine, cpu), ratio(rows, mine, wall)]
        for yardstick in ["training", "summed"]:
            base = results.get((yardstick, "ours"))
            cells.append(ratio(rows, base, cpu) if base and side == "ours" else "")
        cells += [f"{statistics.median(map(of, rows)):.0f}" for of in (tables.mib, tables.added_mib)]
        cells.append(f"{statistics.median(row['load'] for row in rows):.1f}")
        cells.append(agreement.get((what, side), ""))
        print("| " + " | ".join(cells) + " |")


def main():
    options = arguments()
    preload = training.allocator(options.preload)
    binary = options.binary or training.build("attribution_peers")
    options.rounds = max(options.rounds, 1)
    tables.print_about(training.about(options, preload))
    with tempfile.TemporaryDirectory(prefix="attribution_peers") as folder:
        render(*compare(options, binary, preload, folder))


if __name__ == "__main__":
    main()
