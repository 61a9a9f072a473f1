"""`implicit`'s side: iALS, BPR or ItemKNN on a log, the last two items of each user held out.

Settings are those of `cases.fits_case`, translated: in iALS `implicit` gives what was not observed
the weight 1 and what was observed its confidence, so an unobserved weight of a and an observed one of
1 + a become a confidence of (1 + a) / a, with regularisation over a. (Touchstone also scales it by
the frequency of a row; `implicit` cannot, so the constant below was chosen by quality.)
"""

import argparse
import os
import time

import numpy as np
from scipy.sparse import csr_matrix

import logs
import measure

BLOCK = 1024


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("items", type=int)
    parser.add_argument("model", choices=["ials", "bpr", "itemknn"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--epochs", type=int, help="iALS 8, BPR 100")
    parser.add_argument("--exact", action="store_true", help="iALS by Cholesky, not three CG steps")
    parser.add_argument("--confidence", type=float, default=101.0, help="of an observed cell (iALS)")
    parser.add_argument("--regularisation", type=float, help="iALS 10, BPR 0.01")
    parser.add_argument("--learning-rate", type=float, default=0.05)
    return parser.parse_args()


def matrix(parts, items):
    """Users by items, 1 where a user chose an item."""
    users = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    chosen = np.concatenate(parts)
    cells = csr_matrix(
        (np.ones(len(chosen), dtype=np.float32), (users, chosen)), shape=(len(parts), items)
    )
    # Sorts them too, as implicit wants them.
    cells.sum_duplicates()
    cells.data[:] = 1
    return cells


def fit(options, cells, watch):
    """The fitted model and the seconds from asking for it until it is there."""
    import implicit

    watch.restart()
    note = lambda *_: watch.epoch(None, None)
    common = {"factors": options.factors, "num_threads": options.threads, "random_state": 1}
    if options.model == "ials":
        model = implicit.als.AlternatingLeastSquares(
            iterations=options.epochs or 8,
            use_cg=not options.exact,
            regularization=10.0 if options.regularisation is None else options.regularisation,
            use_gpu=False,
            **common,
        )
        model.fit((cells * np.float32(options.confidence)).tocsr(), show_progress=False, callback=note)
    elif options.model == "bpr":
        model = implicit.bpr.BayesianPersonalizedRanking(
            iterations=options.epochs or 100,
            learning_rate=options.learning_rate,
            regularization=0.01 if options.regularisation is None else options.regularisation,
            use_gpu=False,
            **common,
        )
        model.fit(cells, show_progress=False, callback=note)
    else:
        model = implicit.nearest_neighbours.CosineRecommender(K=20, num_threads=options.threads)
        model.fit(cells, show_progress=False)
    return model


def quality(options, model, parts, asked, relevant):
    """HR@10 and NDCG@10 of the last items, histories with the item before them."""
    hits = gain = 0.0
    history = matrix(asked, options.items)
    for at in range(0, len(asked), BLOCK):
        rows = slice(at, at + BLOCK)
        if options.model == "itemknn":
            scores = (history[rows] @ model.similarity.T).toarray()
        elif options.model == "ials":
            users = np.arange(len(asked))[rows]
            cells = history[rows] * np.float32(options.confidence)
            factors = model.recalculate_user(users, cells)
            scores = np.asarray(factors) @ model.item_factors.T
        else:
            scores = model.user_factors[rows] @ model.item_factors.T
        one = logs.gains(scores, asked[rows], relevant[rows])
        hits, gain = hits + one[0], gain + one[1]
    return hits / len(asked), gain / len(asked)


def main():
    options = arguments()
    import implicit  # noqa: F401  (loading is not training)

    users = logs.read(options.file)
    parts = [items[:-2] for items in users]
    cells = matrix(parts, options.items)
    watch = measure.Watch()
    model = fit(options, cells, watch)
    seconds, cpu, peak = watch.seconds(), watch.cpu_seconds(), measure.status("VmHWM")
    asked, relevant = [items[:-1] for items in users], [items[-1] for items in users]
    found = quality(options, model, parts, asked, relevant)
    watch.report(seconds, cpu, peak, found)


if __name__ == "__main__":
    main()
