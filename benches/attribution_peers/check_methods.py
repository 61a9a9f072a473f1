"""What inverts a curvature, once more in NumPy and 64 bits, from the formulas at the head of each
method's file and the projected gradients of a probe; the largest difference of each from `scores`.

    python3 check_methods.py PROBE SCORES...

PROBE is the artifact of a probe with `gradients: { projection: ... }`, SCORES are artifacts with the
scores of methods on that probe, with default parameters or `solver: conjugate_gradient`. Curvature:
the empirical Fisher matrix. Exits with 1 if a score differs by more than 1e-5 of the largest:
conjugate gradients stop at a relative residual of 1e-6, all else is rounding in 64 bits.
"""

import json
import os
import sys

import numpy as np
import pyarrow.parquet as parquet

import tensor_files

DAMPING = 0.1
MOST = 1e-5
# TRAK: the least distance of a probability from 1.
LEAST_DOUBT = 1e-6


class Probe:
    """Gradients of the fitted model: rows of samples [n, width] with their positions, and the gradient
    of the mean loss of the requests [width]."""

    def __init__(self, folder):
        with open(os.path.join(folder, "projected.json")) as file:
            index = json.load(file)
        state = index["states"][-1]
        inside = os.path.join(folder, f"projected/{state['step']:08}")
        blocks = [
            tensor_files.read(inside, f"samples-{block:05}.safetensors")
            for block in range(state["blocks"])
        ]
        self.at = np.concatenate([block["sample"] for block in blocks])
        self.rows = np.concatenate([block["gradient"] for block in blocks]).astype(np.float64)
        requests = tensor_files.read(inside, "requests.safetensors")["gradient"]
        self.target = requests.astype(np.float64).sum(0) / index["n_requests"]
        self.layers = [slice(layer["start"], layer["end"]) for layer in index["layers"]]
        self.penalty = np.zeros(index["width"])
        for layer, columns in zip(index["layers"], self.layers):
            self.penalty[columns] = index["regularisation"] * layer["exact"]
        samples = parquet.read_table(os.path.join(folder, "probe_samples.parquet"))
        self.ids = samples["sample_id"].to_numpy()[self.at]
        losses = samples["loss"].to_numpy(zero_copy_only=False).astype(np.float64)
        self.losses = losses[self.at]

    def curvature(self, columns=slice(None)):
        """H + diag(ridge) of some columns."""
        rows = self.rows[:, columns]
        matrix = rows.T @ rows / len(rows)
        ridge = DAMPING * np.trace(matrix) / len(matrix) + self.penalty[columns]
        return matrix + np.diag(ridge)


def influence(probe):
    return probe.rows @ np.linalg.solve(probe.curvature(), probe.target) / len(probe.rows)


def logra(probe):
    score = 0.0
    for columns in probe.layers:
        direction = np.linalg.solve(probe.curvature(columns), probe.target[columns])
        score = score + probe.rows[:, columns] @ direction / len(probe.rows)
    return score


def datainf(probe):
    """The mean over samples of the inverses of (ridge + g g'), each by Sherman and Morrison."""
    score = 0.0
    for columns in probe.layers:
        rows, target = probe.rows[:, columns], probe.target[columns]
        squares = (rows**2).sum(1)
        ridge = DAMPING * squares.mean() / rows.shape[1] + probe.penalty[columns][0]
        direction = np.mean(
            [(target - row * (row @ target) / (ridge + s)) / ridge for row, s in zip(rows, squares)],
            axis=0,
        )
        score = score + rows @ direction / len(rows)
    return score


def trak(probe):
    doubt = np.maximum(-np.expm1(-probe.losses), LEAST_DOUBT)
    margins = -probe.rows / doubt[:, None]
    products = margins.T @ margins
    products += DAMPING * np.trace(products) / len(products) * np.eye(len(products))
    return (margins @ np.linalg.solve(products, -probe.target)) * doubt


def relat_if(probe):
    solved = np.linalg.solve(probe.curvature(), probe.rows.T).T
    return solved @ probe.target / np.sqrt((probe.rows * solved).sum(1))


def leverage(probe):
    solved = np.linalg.solve(probe.curvature(), probe.rows.T).T
    return (probe.rows * solved).sum(1) / len(probe.rows)


METHODS = {one.__name__: one for one in [influence, logra, datainf, trak, relat_if, leverage]}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    probe = Probe(sys.argv[1])
    print(f"{len(probe.rows)} gradients of {probe.rows.shape[1]} numbers")
    print("| scores of | artifact | largest difference / largest score |\n|---|---|---|")
    is_bad = False
    for folder in sys.argv[2:]:
        table = parquet.read_table(os.path.join(folder, "scores.parquet"))
        name = table["method"][0].as_py()
        method = METHODS.get(name)
        if method is None:
            sys.exit(f"no formula for method `{name}` of `{folder}`")
        scores = dict(zip(table["sample_id"].to_pylist(), table["score"].to_pylist()))
        found = np.array([scores[one] for one in probe.ids.tolist()], dtype=np.float64)
        expected = method(probe)
        difference = np.abs(found - expected).max() / np.abs(expected).max()
        is_bad |= not difference <= MOST
        artifact = os.path.basename(os.path.normpath(folder))[:8]
        print(f"| {name} | {artifact} | {difference:.1e} |")
    sys.exit(is_bad)


if __name__ == "__main__":
    main()
