"""What is compared: for each case the sides, each a command and what it needs around it."""

import json
import os
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
# Windows of a batch of the step cases.
BATCH = 128
# Items of Beauty.txt.
BEAUTY_ITEMS = 12101


@dataclass
class Side:
    name: str
    command: list
    environment: dict = field(default_factory=dict)
    is_ours: bool = False
    # Whether a first process, not counted, fills a cache of compiled code.
    is_compiled: bool = False


@dataclass
class Case:
    name: str
    sides: list
    # Steps at the start of a process that do not count: warm-up, compilation.
    skipped: int = 2
    # Which figures its table has: "steps", "fits" or "trainings".
    kind: str = "steps"


@dataclass
class Setting:
    """What the command line says, and where files of made-up logs go."""

    python: str
    binary: str
    # Library with the allocator of the Python side; empty: as shipped.
    preload: str
    folder: str
    # Beauty.txt; empty: cases on it are skipped.
    log: str
    # Whether all cases are run, not those of the README's table alone.
    is_all: bool


def threads_of(n):
    names = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]
    # As the authors of `implicit` ask: its threads are its own.
    return {name: str(n) for name in names} | {"OPENBLAS_NUM_THREADS": "1"}


def with_threads(name, n):
    return f"{name}, {n} thread" + "s" * (n > 1)


def made(setting, name, make):
    """A made-up log, once."""
    path = os.path.join(setting.folder, name)
    if not os.path.exists(path):
        os.makedirs(setting.folder, exist_ok=True)
        make(path + ".part")
        os.rename(path + ".part", path)
    return path


def ours(setting, threads, log, items, model, parameters, *rest):
    command = [setting.binary, log, str(items), model, json.dumps(parameters), *rest]
    return Side("Touchstone", command, threads_of(threads), True)


def theirs(setting, threads, name, script, arguments, as_shipped=False):
    environment = threads_of(threads)
    if setting.preload and not as_shipped:
        environment["LD_PRELOAD"] = setting.preload
    command = [setting.python, os.path.join(HERE, script), *map(str, arguments)]
    return Side(name, command, environment, is_compiled="compiled" in command[-1])


def network(model, length, dropout):
    """What both sides of a case with a network have in common, as Touchstone calls it. Nothing is
    left to defaults: they may change."""
    shape = {"dimensions": 64, "layers": 2, "heads": 1, "length": length, "stride": length}
    shape |= {"inner": 64 if model == "sasrec" else 256, "dropout": dropout}
    return shape | {"learning_rate": 1e-3, "warmup": 0, "weight_decay": 0.0, "l2": 0.0}


# Steps that count.
STEPS = 15

# Model, items, length, loss, and for how many of the thread counts the case is in the README's
# table.
STEP_CASES = [
    ("sasrec", 3500, 50, "softmax", 1),
    ("sasrec", 12000, 50, "softmax", 2),
    ("sasrec", 3500, 200, "softmax", 1),
    ("sasrec", 3500, 50, "bce", 0),
    ("sasrec", 3500, 200, "bce", 0),
    ("bert4rec", 12000, 50, "softmax", 2),
    ("bert4rec", 3500, 50, "softmax", 0),
]


def steps_case(setting, model, items, length, loss, threads, is_first):
    import logs

    skipped = 2 if length < 100 else 1
    steps = STEPS + skipped
    # SASRec looks at all events but the last; BERT4Rec at all.
    events = length + (model == "sasrec")
    users = BATCH * steps
    log = made(
        setting,
        f"steps-{items}-{events}-{users}.txt",
        lambda path: logs.synthetic(path, users, items, events),
    )
    parameters = network(model, length, 0.2)
    parameters |= {"clip": 0.0, "steps": steps, "checkpoint_steps": 0}
    if model == "sasrec":
        parameters |= {"loss": loss, "negatives": 1, "batch": BATCH * length}
    else:
        # The first event of a user is nobody's target, so a window counts one row less.
        parameters |= {"mask_share": 0.3, "last_share": 0.0, "batch": BATCH * (length - 1)}
    base = [log, items, model, "--length", length, "--loss", loss, "--steps", steps]
    base += ["--threads", threads, "--inner", parameters["inner"], "--variant"]
    variants = ["eager", "compiled"]
    if loss == "softmax":
        variants += ["chunked", "compiled-chunked"]
    sides = [ours(setting, threads, log, items, model, parameters)]
    for variant in variants:
        name = f"PyTorch {variant}"
        sides.append(theirs(setting, threads, name, "torch_steps.py", [*base, variant]))
    if is_first and setting.preload:
        name = "PyTorch eager, allocator as shipped"
        side = theirs(setting, threads, name, "torch_steps.py", [*base, "eager"], as_shipped=True)
        sides.append(side)
    name = with_threads(f"{model} {loss} {items} items, length {length}", threads)
    return Case(name, sides, skipped=skipped)


# Model, dropout, learning rate, epochs, and the variants of the README's table: those that are
# quickest. SASRec's rate is three times the usual one, so that few epochs go far; norms after the
# sums, as BERT4Rec has them, do not stand it.
TRAININGS = [
    ("sasrec", 0.5, 3e-3, 12, ["chunked", "compiled-chunked"]),
    ("bert4rec", 0.3, 1e-3, 24, ["chunked"]),
]


def training_case(setting, model, dropout, rate, epochs, variants, threads):
    parameters = network(model, 50, dropout) | {"learning_rate": rate}
    parameters |= {"batch": 2048, "clip": 5.0, "checkpoint_steps": 0}
    parameters |= {"epochs": epochs, "patience": 0, "validate_every": 1}
    if model == "sasrec":
        parameters |= {"loss": "softmax"}
    else:
        parameters |= {"mask_share": 0.3, "last_share": 0.2}
    log, items = setting.log, BEAUTY_ITEMS
    sides = [ours(setting, threads, log, items, model, parameters, "leave-one-out")]
    base = [log, items, model, "--epochs", epochs, "--dropout", dropout, "--threads", threads]
    base += ["--inner", parameters["inner"], "--batch", 2048, "--learning-rate", rate, "--variant"]
    more = ["chunked", "compiled-chunked", "eager", "compiled"]
    for variant in [*variants, *(one for one in more if setting.is_all and one not in variants)]:
        name = f"PyTorch {variant}"
        sides.append(theirs(setting, threads, name, "torch_train.py", [*base, variant]))
    name = with_threads(f"{model} on beauty, {epochs} epochs", threads)
    return Case(name, sides, kind="trainings")


def fits_case(setting, model, which, threads, steps=None):
    """`steps`: those of conjugate gradients on our side; `implicit` takes three unless told to be
    exact."""
    import logs

    if which == "beauty":
        log, items = setting.log, BEAUTY_ITEMS
    else:
        items = 20000
        log = made(
            setting,
            "million.txt",
            lambda path: logs.communities(path, 30000, items, 1_100_000),
        )
    if model == "ials":
        parameters = {"dimensions": 64, "epochs": 8, "unobserved_weight": 0.01, "regularisation": 0.01}
        if steps:
            parameters |= {"solver": "conjugate_gradient", "conjugate_gradient_steps": steps}
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
    # Exact solutions of a million cells take minutes.
    if model == "ials" and not steps and (which == "beauty" or setting.is_all):
        arguments = [*arguments, "--exact"]
        sides.append(theirs(setting, threads, "implicit exact", "implicit_fits.py", arguments))
    name = f"{model} by {steps} steps" if steps else model
    return Case(with_threads(f"{name} on {which}", threads), sides, kind="fits")


def all_cases(setting, threads):
    for at, n in enumerate(threads):
        for case, (model, items, length, loss, n_counts) in enumerate(STEP_CASES):
            if at < n_counts or setting.is_all:
                is_first = at == case == 0
                yield steps_case(setting, model, items, length, loss, n, is_first)
    # Whole trainings take minutes: on the most threads alone, unless all are asked for.
    for training in TRAININGS if setting.log else []:
        for n in threads if setting.is_all else threads[-1:]:
            yield training_case(setting, *training, n)
    for which in ["beauty", "million"]:
        for model, steps in [("itemknn", None), ("ials", None), ("ials", 3), ("bpr", None)]:
            for n in threads:
                if which != "beauty" or setting.log:
                    yield fits_case(setting, model, which, n, steps)
