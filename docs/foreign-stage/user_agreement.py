#!/usr/bin/env python3
"""A Touchstone stage in Python: how unusual a sample's loss is among those of its user.

    describe                                   what it takes, gives and is told, as JSON
    check --config F [--offers ROLE=F ...]     all that can be checked without data
    run --config F --in ROLE=DIR ... --out DIR

A stage is any executable that answers these three. Data are Parquet files in the directories of its
inputs; what it writes below `--out`, a directory for each output, becomes an artifact. Exit codes: 2 a
wrong configuration, 3 bad data, 4 the environment; messages go to standard error. It sees no
environment but PATH, HOME and the like, and must give the same bytes for the same key: no clock, no
hash order, no chance without a seed.

The score is minus the difference between a sample's loss and the median loss of its sequence, over one
plus the spread of that sequence (median absolute deviation): low where a target surprises the model
more than the rest of what the same user did.
"""

import argparse
import json
import sys

DESCRIPTION = {
    "protocol": 1,
    "name": "user_agreement",
    "revision": 1,
    "doc": "Loss of a sample against those of its user.",
    "uses_seed": False,
    "uses_floats": True,
    "inputs": [{"role": "probe", "kinds": ["probe"], "doc": "losses of samples"}],
    "outputs": [{"role": "scores", "kind": "scores", "doc": "a score per training sample"}],
    "config": [
        {
            "name": "at_least",
            "kind": "integer",
            "default": "3",
            "doc": "fewest samples of a sequence that are compared; the others get no score",
        }
    ],
}


def fail(code, message, hint=""):
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    sys.exit(code)


def configuration(path):
    """The configuration with defaults filled in; it enters the key in this form."""
    with open(path) as file:
        given = json.load(file)
    config = {"at_least": 3} | given
    unknown = sorted(set(config) - {"at_least"})
    if unknown:
        fail(2, f"unknown field `{unknown[0]}`", "the only field is `at_least`")
    at_least = config["at_least"]
    if not isinstance(at_least, int) or isinstance(at_least, bool) or at_least < 2:
        fail(2, f"`at_least` is a whole number from 2 up, not {at_least!r}")
    return config


def pairs(texts):
    """`ROLE=PATH` words as a dictionary; a role that takes several is written `ROLE[label]`."""
    return dict(text.split("=", 1) for text in texts)


def check(arguments):
    config = configuration(arguments.config)
    for path in pairs(arguments.offers).values():
        with open(path) as file:
            offer = json.load(file)
        if offer["kind"] == "probe" and "losses" not in offer.get("capabilities", []):
            # Inside an axis such a pair is skipped and listed; written out singly it is an error.
            json.dump({"not_applicable": "the model gives no losses"}, sys.stdout)
            return
    offers = {"scores": [{"kind": "scores", "capabilities": [], "facts": {"method": "user_agreement"}}]}
    json.dump({"config": config, "offers": offers}, sys.stdout)


def median(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def scores(sequences, losses, at_least):
    """One score, or None, per sample."""
    of_sequence = {}
    for sequence, loss in zip(sequences, losses):
        if loss is not None:
            of_sequence.setdefault(sequence, []).append(loss)
    centres = {}
    for sequence, values in of_sequence.items():
        if len(values) >= at_least:
            centre = median(values)
            centres[sequence] = centre, median([abs(value - centre) for value in values])
    found = []
    for sequence, loss in zip(sequences, losses):
        centre, spread = centres.get(sequence, (None, None))
        found.append(None if loss is None or centre is None else (centre - loss) / (1 + spread))
    return found


def run(arguments):
    import os

    import pyarrow as pa
    import pyarrow.parquet as pq

    config = configuration(arguments.config)
    probe = pairs(arguments.inputs)["probe"]
    table = pq.read_table(os.path.join(probe, "probe_samples.parquet"))
    columns = {name: table.column(name).to_pylist() for name in ["sample_id", "sequence", "loss"]}
    found = scores(columns["sequence"], columns["loss"], config["at_least"])
    # Every sample has a row, sorted by its id.
    rows = sorted(zip(columns["sample_id"], found))
    n = len(rows)
    n_scored = sum(score is not None for _, score in rows)
    word = pa.dictionary(pa.int8(), pa.string())
    out = os.path.join(arguments.out, "scores")
    os.makedirs(out)
    write = lambda name, fields, values: pq.write_table(
        pa.table(values, schema=pa.schema([pa.field(*field) for field in fields])),
        os.path.join(out, name + ".parquet"),
    )
    write(
        "scores",
        [
            ("method", pa.string(), False),
            ("sample_id", pa.uint64(), False),
            ("score", pa.float64(), True),
            ("std_error", pa.float64(), True),
            ("n_updates", pa.uint64(), False),
            ("suspect", word, False),
        ],
        [
            ["user_agreement"] * n,
            [sample for sample, _ in rows],
            [score for _, score in rows],
            [None] * n,
            [1] * n,
            pa.array(["low"] * n, word),
        ],
    )
    write(
        "methods",
        [
            ("method", pa.string(), False),
            ("family", pa.string(), False),
            ("revision", pa.uint32(), False),
            ("is_signed", pa.bool_(), False),
            ("suspect", word, False),
            ("estimand", pa.string(), False),
            ("paper", pa.string(), False),
            ("parameters", pa.string(), False),
            ("n_scored", pa.uint64(), False),
            ("n_unscored", pa.uint64(), False),
        ],
        [
            ["user_agreement"],
            ["dynamics"],
            [1],
            [False],
            pa.array(["low"], word),
            ["Minus the loss of a sample, centred and scaled by that of its user."],
            ["None."],
            [json.dumps(config, sort_keys=True)],
            [n_scored],
            [n - n_scored],
        ],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["describe", "check", "run"])
    parser.add_argument("--config")
    parser.add_argument("--offers", action="append", default=[])
    parser.add_argument("--in", dest="inputs", action="append", default=[])
    parser.add_argument("--out")
    # The runner also says --data and --threads; a stage takes what it needs.
    arguments, _ = parser.parse_known_args()
    if arguments.command == "describe":
        json.dump(DESCRIPTION, sys.stdout)
    elif arguments.command == "check":
        check(arguments)
    else:
        run(arguments)


if __name__ == "__main__":
    main()
