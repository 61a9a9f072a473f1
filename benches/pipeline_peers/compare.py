"""Runs with something and with nothing to do: Touchstone, DVC and Snakemake on the same files.

    python3 compare.py                     # the README's tables, about ten minutes
    python3 compare.py --only touchstone   # without the others, a minute
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import cases

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = ["touchstone", "dvc", "snakemake"]
# The most CPU milliseconds that we want to need.
BARS = {"chain": 20, "fan": 60, "overhead": 15}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="of runs with nothing to do")
    parser.add_argument("--only", nargs="+", choices=TOOLS, default=TOOLS)
    parser.add_argument("--case", nargs="+", choices=["chain", "fan"], default=["chain", "fan"])
    parser.add_argument("--binary", default=os.path.join(HERE, "../../target/release/touchstone"))
    parser.add_argument("--folder", help="where to work; the same disk for all  [default: a new one]")
    return parser.parse_args()


def run(command, folder):
    """CPU and wall milliseconds of a command with its children, and what it said."""
    said = tempfile.TemporaryFile()
    started = time.perf_counter()
    child = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    said.seek(0)
    text = said.read().decode(errors="replace")
    if child.returncode:
        sys.exit(f"failed: {' '.join(command)}\n{text}")
    return {
        "cpu": (used.ru_utime + used.ru_stime) * 1e3,
        "wall": wall * 1e3,
        "said": text,
        "load": os.getloadavg()[0],
    }


class Tool:
    """How one of them is set up and called."""

    def __init__(self, name, folder, case, binary):
        self.name, self.case, self.folder = name, case, os.path.join(folder, name, case)
        beside = os.path.dirname(sys.executable)
        getattr(cases, name)(self.folder, case)
        if name == "touchstone":
            self.command = [os.path.abspath(binary), "run", "pipeline.yaml"]
            self.input = os.path.join(self.folder, "data/in")
        elif name == "dvc":
            self.command = [os.path.join(beside, "dvc"), "repro", "-q"]
            self.input = os.path.join(self.folder, "in")
            for words in (
                ["init", "-q", "--no-scm"],
                ["config", "core.analytics", "false"],
                ["config", "core.check_update", "false"],
            ):
                run([self.command[0], *words], self.folder)
        else:
            self.command = [os.path.join(beside, "snakemake"), "-q", "all", "--cores", "2"]
            self.input = os.path.join(self.folder, "in")

    def run(self, *more):
        return run([*self.command, *more], self.folder)


def middle(runs, what):
    values = [one[what] for one in runs]
    return statistics.median(values), min(values), max(values)


def shown(values):
    return "{:.0f} ({:.0f}-{:.0f})".format(*values)


def stage_by_hand(tool):
    """CPU milliseconds of all of the stages of a case, started one after the other by a shell."""
    script = ["set -eu"]
    n = cases.LINKS if tool.case == "chain" else cases.LEAVES
    by_hand = os.path.join(tool.folder, "by-hand")
    shutil.rmtree(by_hand, ignore_errors=True)
    os.makedirs(by_hand)
    for number in range(n):
        config = os.path.join(by_hand, f"config-{number}")
        with open(config, "w") as file:
            json.dump({"file": "in", "number": number}, file, separators=(",", ":"))
        os.makedirs(os.path.join(by_hand, f"out-{number}"))
        given = "" if tool.case == "fan" or number == 0 else f"--in text={by_hand}/out-{number - 1}/text"
        script.append(
            f"./stage run --config {config} --out {by_hand}/out-{number} --data data {given}"
        )
    path = os.path.join(by_hand, "all")
    cases.write(path, "\n".join(script) + "\n")
    return run(["sh", path], tool.folder)["cpu"]


def overhead(tool):
    """CPU milliseconds for each executed stage beyond its own process.

    What is stored is removed, what stages say of themselves is still known: each stage is one process.
    """
    n = cases.LINKS if tool.case == "chain" else cases.LEAVES
    stages, runs = [], []
    for _ in range(3):
        for area in ("objects", "keys"):
            path = os.path.join(tool.folder, "artifacts", area)
            subprocess.run(["chmod", "-R", "u+w", path], check=True)
            shutil.rmtree(path)
        runs.append(tool.run()["cpu"])
        stages.append(stage_by_hand(tool))
    return (statistics.median(runs) - statistics.median(stages)) / n


def verify(tool):
    """Megabytes a second of CPU time that `touchstone verify` reads; nothing where it is missing."""
    listed = subprocess.run([tool.command[0], "help"], capture_output=True, text=True).stdout
    if "\n  verify" not in listed:
        return None
    size = 0
    for folder, _, files in os.walk(os.path.join(tool.folder, "artifacts/objects")):
        size += sum(os.path.getsize(os.path.join(folder, file)) for file in files)
    runs = [run([tool.command[0], "verify"], tool.folder) for _ in range(3)]
    return size / 1e6 / (min(one["cpu"] for one in runs) / 1e3), size / 1e6


def main():
    options = arguments()
    folder = options.folder or tempfile.mkdtemp(prefix="pipeline-peers-")
    tools = {
        (name, case): Tool(name, folder, case, options.binary)
        for case in options.case
        for name in options.only
    }
    first = {place: tool.run() for place, tool in tools.items()}
    # Files that were written just now are not believed to be what they were.
    time.sleep(3)
    nothing = {place: [] for place in tools}
    for place, tool in tools.items():
        tool.run()
    for _ in range(options.rounds):
        for place, tool in tools.items():
            nothing[place].append(tool.run())
    loads = [one["load"] for runs in nothing.values() for one in runs]
    print(f"load {min(loads):.1f} to {max(loads):.1f}; CPU milliseconds of all processes\n")
    print("| case | tool | first run | nothing to do | theirs / ours | nothing to do, wall |")
    print("|---|---|---|---|---|---|")
    for (name, case), runs in nothing.items():
        ours = nothing.get(("touchstone", case))
        ratio = middle(runs, "cpu")[0] / middle(ours, "cpu")[0] if ours else float("nan")
        print(
            f"| {case} | {name} | {first[name, case]['cpu']:.0f} | {shown(middle(runs, 'cpu'))}"
            f" | {ratio:.0f} | {shown(middle(runs, 'wall'))} |"
        )
    for case in options.case:
        if ours := nothing.get(("touchstone", case)):
            cpu = middle(ours, "cpu")[0]
            print(f"\n{case}, nothing to do: {cpu:.0f} ms, bar {BARS[case]}: {'met' if cpu <= BARS[case] else 'MISSED'}")
    print("\nA 10 MB input is touched (chain), then a run:\n")
    for (name, case), tool in tools.items():
        if case == "chain":
            os.utime(tool.input)
            done = tool.run()
            print(f"- {name}: {done['cpu']:.0f} ms CPU")
    if "touchstone" in options.only:
        for case in options.case:
            tool = tools["touchstone", case]
            cost = overhead(tool)
            # In `chain` a stage's output of 10 MB is hashed, too.
            bar = f", bar {BARS['overhead']}" if case == "fan" else ""
            print(f"\n{case}, overhead of an executed stage: {cost:.1f} ms CPU{bar}")
        if "chain" in options.case and (speed := verify(tools["touchstone", "chain"])):
            print(f"\nverify: {speed[0]:.0f} MB/s of CPU time on {speed[1]:.0f} MB")
    if not options.folder:
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
