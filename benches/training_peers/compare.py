"""Runs the sides of each case in turn, each time in a fresh process, and prints tables.

    python3 compare.py --beauty Beauty.txt             # the README's table
    python3 compare.py --beauty Beauty.txt --all       # every case, hours
    python3 compare.py --only 'sasrec softmax 3500' --threads 1 --rounds 5
    python3 compare.py --resume results.jsonl          # goes on where it was interrupted
    python3 compare.py --render results.jsonl          # tables again

Every process is appended to the results at once, so an interrupted comparison keeps what it has.
"""

import argparse
import glob
import json
import os
import platform
import subprocess
import sys
import tempfile
import time

import cases
import tables

HERE = os.path.dirname(os.path.abspath(__file__))
# Allocators that PyTorch is quicker with, the first that is found being taken.
ALLOCATORS = ["libtcmalloc_minimal.so.4", "libjemalloc.so.2", "libmimalloc.so.2"]
LIBRARIES = ["/usr/lib/*/", "/usr/lib64/", "/usr/local/lib/", "/usr/lib/"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1, help="of steps and fits; trainings run once")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--all", action="store_true", help="cases beyond those of the README's table")
    parser.add_argument("--only", nargs="+", help="words of which a case's name holds at least one")
    parser.add_argument(
        "--preload",
        default="auto",
        help="allocator library for the Python side; `auto`: what is found; `none`: as shipped",
    )
    parser.add_argument("--beauty", default="", help="Beauty.txt: `user item item ...` lines")
    parser.add_argument(
        "--folder",
        default=os.path.join(tempfile.gettempdir(), "training_peers"),
        help="where made-up logs go",
    )
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--binary", default="", help="Touchstone's side; built if not given")
    parser.add_argument("--results", default="", help="a new file; by default named after the time")
    parser.add_argument("--resume", default="", help="results that an interrupted comparison left")
    parser.add_argument("--render", nargs="+", help="only print tables of these results")
    return parser.parse_args()


def build(bench="training_peers"):
    """The Rust side, built with the features of the whole workspace, as `just build` does."""
    command = f"cargo build --release --locked --workspace --bench {bench}"
    command += " --message-format json"
    out = subprocess.run(command.split(), cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    for line in out.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == bench and message.get("executable"):
            return message["executable"]
    sys.exit(f"cargo built no executable `{bench}`")


def allocator(asked):
    """The library that is preloaded on the Python side; empty if none."""
    if asked == "none":
        return ""
    if asked != "auto":
        if not os.path.exists(asked):
            sys.exit(f"`{asked}`, asked for by --preload, is not there")
        return asked
    for name in ALLOCATORS:
        for folder in LIBRARIES:
            for path in glob.glob(folder + name):
                return path
    names = ", ".join(ALLOCATORS)
    print(f"no allocator found ({names}): PyTorch runs with the system's", file=sys.stderr)
    return ""


def said(command):
    """What a command prints; empty if it fails."""
    try:
        done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        return ""
    return "" if done.returncode else done.stdout.strip()


def processor():
    """The model of the processor, if the system tells."""
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def about(options, preload):
    """What the figures depend on, as the first record of the results."""
    versions = "import json, sys, torch, implicit, numpy, scipy\n"
    versions += "modules = [torch, implicit, numpy, scipy]\n"
    versions += "found = {module.__name__: module.__version__ for module in modules}\n"
    versions += "found |= {'python': sys.version.split()[0], 'simd': torch.backends.cpu.get_cpu_capability()}\n"
    versions += "print(json.dumps(found))"
    changed = said(["git", "status", "--porcelain"])
    return {
        "kind": "about",
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "commit": said(["git", "rev-parse", "HEAD"]) + (" with changes" if changed else ""),
        "processor": processor(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.release(),
        "rustc": said(["rustc", "--version"]),
        "versions": json.loads(said([options.python, "-c", versions]) or "{}"),
        "allocator": os.path.basename(preload) or "as shipped",
        "threads": options.threads,
        "rounds": options.rounds,
    }


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


def opened(options, record):
    """The file that results are appended to, and those that it holds already."""
    if options.resume:
        before = tables.read([options.resume])
        for key in ["commit", "processor", "allocator", "versions"]:
            if before[0].get(key) != record[key]:
                sys.exit(
                    f"`{options.resume}` was measured with another {key}, not "
                    f"{record[key]}: start anew without --resume"
                )
        return options.resume, before
    path = options.results or time.strftime("results-%Y%m%d-%H%M%S.jsonl")
    if os.path.exists(path):
        sys.exit(f"`{path}` holds another run: --resume it, or name another file by --results")
    append(path, record)
    return path, [record]


def append(path, record):
    with open(path, "a") as out:
        out.write(json.dumps(record) + "\n")


def compare(case, options, path, results):
    """All rounds of a case that are not in the results yet."""
    done = {(one["side"], one["round"]) for one in results if one.get("case") == case.name}
    rounds = 1 if case.kind == "trainings" else options.rounds
    for number in range(rounds):
        for side in case.sides:
            if (side.name, number) in done:
                continue
            # What is compiled is kept between processes, so that no process waits for it. Whole
            # trainings compile before their clock starts.
            if side.is_compiled and number == 0 and case.kind == "steps":
                run(case, side, -1)
            result = run(case, side, number)
            append(path, result)
            results.append(result)


def main():
    options = arguments()
    if options.render:
        tables.render(tables.read(options.render))
        return
    preload = allocator(options.preload)
    setting = cases.Setting(
        python=options.python,
        binary=options.binary or build(),
        preload=preload,
        folder=options.folder,
        log=options.beauty,
        is_all=options.all,
    )
    if not setting.log:
        print("without --beauty, all cases on Amazon Beauty are skipped", file=sys.stderr)
    elif not os.path.exists(setting.log):
        sys.exit(f"`{setting.log}`, named by --beauty, is not there: see data/SOURCES.yaml")
    path, results = opened(options, about(options, preload))
    for case in cases.all_cases(setting, options.threads):
        if options.only and not any(words in case.name for words in options.only):
            continue
        compare(case, options, path, results)
        print(f"{time.strftime('%H:%M:%S')} {case.name}", file=sys.stderr, flush=True)
    tables.render(results)
    print(f"results are in {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
