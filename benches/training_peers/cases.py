"""What is compared: for each case the sides, each a command and what it needs around it."""

import json
import os
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
BATCH = 128


@dataclass
class Side:
    name: str
    command: list
    environment: dict = field(default_factory=dict)
    is_ours: bool = False


@dataclass
class Case:
    name: str
    sides: list
    # Steps at the start of a process that do not count: warm-up, compilation.
    skipped: int = 2
    # Which figures its table has: "steps" or "fits".
    kind: str = "steps"


@dataclass
class Setting:
    """What the command line says, and where files of made-up logs go."""

    python: str
    binary: str
    preload: str
    folder: str
    log: str


def threads_of(n):
    names = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]
    # As the authors of `implicit` ask: its threads are its own.
    return {name: str(n) for name in names} | {"OPENBLAS_NUM_THREADS": "1"}


def made(setting, name, make):
    """A made-up log, once."""
    path = os.path.join(setting.folder, name)
    if not os.path.exists(path):
        make(path + ".part")
        os.rename(path + ".part", path)
    return path


def ours(setting, threads, log, items, model, parameters, *rest):
    command = [setting.binary, log, str(items), model, json.dumps(parameters), *rest]
    return Side("Touchstone", command, threads_of(threads), True)


def theirs(setting, threads, name, script, arguments):
    environment = threads_of(threads)
    if setting.preload:
        environment["LD_PRELOAD"] = setting.preload
    command = [setting.python, os.path.join(HERE, script), *map(str, arguments)]
    return Side(name, command, environment)


def steps_case(setting, model, items, length, loss, threads):
    import logs

    steps = 7 if length < 100 else 5
    # SASRec looks at all events but the last; BERT4Rec at all.
    events = length + (model == "sasrec")
    log = made(
        setting,
        f"steps-{items}-{events}.txt",
        lambda path: logs.synthetic(path, BATCH * 7, items, events),
    )
    inner = 64 if model == "sasrec" else 256
    parameters = {
        "length": length,
        "stride": length,
        "inner": inner,
        "dropout": 0.2,
        "clip": 0.0,
        "steps": steps,
        "checkpoint_steps": 0,
    }
    if model == "sasrec":
        parameters |= {"loss": loss, "batch": BATCH * length}
    else:
        # The first event of a user is nobody's target, so a window counts one row less.
        parameters |= {"mask_share": 0.3, "last_share": 0.0, "batch": BATCH * (length - 1)}
    base = [log, items, model, "--length", length, "--loss", loss, "--steps", steps]
    base += ["--threads", threads, "--inner", inner]
    variants = ["eager", "compiled"] + ["chunked"] * (loss == "softmax")
    sides = [ours(setting, threads, log, items, model, parameters)]
    for variant in variants:
        name = f"PyTorch {variant}"
        sides.append(theirs(setting, threads, name, "torch_steps.py", [*base, "--variant", variant]))
    name = f"{model} {loss} {items} items, length {length}, {threads} thread" + "s" * (threads > 1)
    return Case(name, sides, skipped=2 if length < 100 else 1)


STEPS = [
    ("sasrec", 3500, 50, "softmax"),
    ("sasrec", 3500, 50, "bce"),
    ("sasrec", 12000, 50, "softmax"),
    ("sasrec", 3500, 200, "softmax"),
    ("sasrec", 3500, 200, "bce"),
    ("bert4rec", 3500, 50, "softmax"),
    ("bert4rec", 12000, 50, "softmax"),
]


def fits_case(setting, model, which, threads):
    import logs

    if which == "beauty":
        log = setting.log
        items = 12101
    else:
        items = 20000
        log = made(
            setting,
            "million.txt",
            lambda path: logs.communities(path, 30000, items, 1_100_000),
        )
    if model == "ials":
        parameters = {"dimensions": 64, "epochs": 8, "unobserved_weight": 0.01, "regularisation": 0.01}
    elif model == "bpr":
        epochs = 100 if which == "beauty" else 20
        parameters = {
            "dimensions": 64,
            "epochs": epochs,
            "learning_rate": 0.05,
            "regularisation": 0.01,
        }
    else:
        parameters = {"neighbours": 20}
    sides = [ours(setting, threads, log, items, model, parameters, "leave-one-out")]
    arguments = [log, items, model, "--threads", threads]
    if "epochs" in parameters:
        arguments += ["--epochs", parameters["epochs"]]
    sides.append(theirs(setting, threads, "implicit", "implicit_fits.py", arguments))
    if model == "ials":
        arguments = [*arguments, "--exact"]
        sides.append(theirs(setting, threads, "implicit exact", "implicit_fits.py", arguments))
    name = f"{model} on {which}, {threads} thread" + "s" * (threads > 1)
    return Case(name, sides, kind="fits")


def all_cases(setting, threads):
    for n in threads:
        for model, items, length, loss in STEPS:
            yield steps_case(setting, model, items, length, loss, n)
    for which in ["beauty", "million"]:
        for model in ["itemknn", "ials", "bpr"]:
            for n in threads:
                if which != "beauty" or setting.log:
                    yield fits_case(setting, model, which, n)
