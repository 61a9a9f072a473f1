"""Logs of `user item item ...` lines, items from 1: read, held out, made up, ranked."""

import numpy as np


def read(path):
    """Items of each user, oldest first, from 0."""
    with open(path) as lines:
        return [np.array(line.split()[1:], dtype=np.int64) - 1 for line in lines]


def synthetic(path, users, items, length, seed=1):
    """Skewed items (a square of a uniform number). `length` is exact; None: 2 and more, mean 40."""
    draws = np.random.default_rng(seed)
    with open(path, "w") as out:
        for user in range(users):
            n = length or 2 + draws.geometric(1 / 38)
            chosen = 1 + (items * draws.random(n) ** 2).astype(np.int64)
            out.write(" ".join(map(str, [user + 1, *chosen])) + "\n")


def communities(path, users, items, interactions, seed=1):
    """A log with taste: a user mostly takes items of one of 100 kinds, popular ones more often, none
    twice. Histories are as skewed as in shops: half the mean is typical, some are ten times longer.
    """
    draws = np.random.default_rng(seed)
    kind_of_item = draws.integers(0, 100, items)
    popularity = 1 / (1 + np.arange(items)) ** 0.6
    draws.shuffle(popularity)
    everything = np.cumsum(popularity) / popularity.sum()
    kinds = []
    for kind in range(100):
        own = np.flatnonzero(kind_of_item == kind)
        kinds.append((own, np.cumsum(popularity[own]) / popularity[own].sum()))
    mean = interactions / users
    with open(path, "w") as out:
        for user in range(users):
            n = int(max(3, min(mean * draws.lognormal(-0.5, 1.0), 600)))
            own, shares = kinds[draws.integers(0, 100)]
            inside = own[np.searchsorted(shares, draws.random(n))]
            outside = np.searchsorted(everything, draws.random(n))
            chosen = np.where(draws.random(n) < 0.7, inside, outside)
            chosen = np.minimum(chosen, items - 1)
            chosen = list(dict.fromkeys(chosen.tolist()))
            if len(chosen) >= 3:
                out.write(" ".join(map(str, [user + 1, *[item + 1 for item in chosen]])) + "\n")


def gains(scores, histories, relevant):
    """HR@10 and NDCG@10 summed over rows of scores; ties get the middle rank; seen items are out."""
    hits = gain = 0.0
    for row, history, item in zip(scores, histories, relevant):
        row[history] = -np.inf
        score = row[item]
        if score == -np.inf:
            continue
        place = (row > score).sum() + ((row == score).sum() - 1) / 2
        if place < 10:
            hits += 1
            gain += 1 / np.log2(place + 2)
    return hits, gain
