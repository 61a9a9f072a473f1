"""PyTorch's side of a whole training: SASRec or BERT4Rec on a log, the last two items of each user
held out, NDCG@10 on the item before the last after each epoch with the clocks stopped.

Model, batches, optimiser and clipping are those of Touchstone: windows of at most `--length` events
that start at its multiples, shuffled, cut into groups of 32 batches, sorted by length within a group,
taken into batches of `--batch` events. Both sides make their batches within the clock. Compilation is
over before the clock starts: the network takes some steps, and begins anew.
"""

import argparse
import copy

import numpy as np
import torch

import logs
import measure
from torch_models import VARIANTS, Network, Objective

# Batches whose windows are sorted by length together.
GROUP = 32
# Requests that are scored together.
BLOCK = 512
# Steps before the clock starts.
WARM_UP = 12


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file")
    parser.add_argument("items", type=int)
    parser.add_argument("model", choices=["sasrec", "bert4rec"])
    parser.add_argument("--variant", choices=VARIANTS, default="chunked")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--batch", type=int, default=2048, help="events of a batch")
    parser.add_argument("--inner", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--mask-share", type=float, default=0.3)
    parser.add_argument("--last-share", type=float, default=0.2)
    parser.add_argument("--chunk", type=int, default=256, help="rows of a chunk of logits")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


class Windows:
    """Windows of the training events of users, by the place of their first event in `events`."""

    def __init__(self, parts, length):
        self.events = np.concatenate(parts)
        begins = np.cumsum([0] + [len(part) for part in parts[:-1]])
        starts, sizes = [], []
        for begin, part in zip(begins, parts):
            # The last event is nobody's history.
            for start in range(0, len(part) - 1, length):
                starts.append(begin + start)
                sizes.append(min(length, len(part) - 1 - start))
        self.starts, self.sizes = np.array(starts), np.array(sizes)

    def batches(self, rows, draws):
        """The batches of an epoch, each an array of windows."""
        order = draws.permutation(len(self.starts))
        mean = max(1, -(-int(self.sizes.sum()) // len(order)))
        group, made = -(-GROUP * rows // mean), []
        for at in range(0, len(order), group):
            some = order[at : at + group]
            some = some[np.argsort(self.sizes[some], kind="stable")]
            first = 0
            for to, size in enumerate(self.sizes[some]):
                if to > first and (to - first + 1) * size > rows:
                    made.append(some[first:to])
                    first = to
            made.append(some[first:])
        return [made[at] for at in draws.permutation(len(made))]

    def padded(self, chosen, more):
        """Events of windows with `more` further ones, padded behind by item 0, and what is none."""
        sizes = self.sizes[chosen] + more
        at = np.arange(sizes.max())
        valid = at < sizes[:, None]
        places = np.minimum(self.starts[chosen][:, None] + at, len(self.events) - 1)
        return np.where(valid, self.events[places], 0), valid


def masks(valid, options, draws):
    """Which events of windows are masked: each but the first with a probability, or the last."""
    chosen = draws.random(valid.shape) < options.mask_share
    last = valid.sum(1) - 1
    only_last = np.flatnonzero(draws.random(len(valid)) < options.last_share)
    chosen[only_last] = False
    chosen[only_last, last[only_last]] = True
    chosen[:, 0] = False
    return chosen & valid


def tensors(windows, chosen, options, draws):
    """Inputs, rows that have a loss, their targets, and marks of padding where it matters."""
    if options.model == "sasrec":
        events, _ = windows.padded(chosen, 1)
        _, valid = windows.padded(chosen, 0)
        inputs, targets, is_read = events[:, :-1], events[:, 1:], valid
        seen = None
    else:
        events, valid = windows.padded(chosen, 1)
        is_read = masks(valid, options, draws)
        inputs, targets = np.where(is_read, options.items, events), events
        seen = None if valid.all() else torch.from_numpy(valid)[:, None, None, :]
    rows = np.flatnonzero(is_read.reshape(-1))
    targets = targets.reshape(-1)[rows]
    arrays = (np.ascontiguousarray(inputs), rows, targets)
    return (*map(torch.from_numpy, arrays), seen)


@torch.no_grad()
def ndcg(network, asked, relevant, options):
    """NDCG@10 of a full ranking, as `ranking.rs`."""
    network.eval()
    mask = [options.items] if network.bidirectional else []
    order = np.argsort([min(len(history), options.length) for history in asked], kind="stable")
    gain = 0.0
    for at in range(0, len(order), BLOCK):
        some = order[at : at + BLOCK]
        seen = [np.concatenate([asked[user][-options.length :], mask]) for user in some]
        sizes = np.array([len(history) for history in seen])
        inputs = np.zeros((len(some), sizes.max()), dtype=np.int64)
        for row, history in zip(inputs, seen):
            row[: len(history)] = history
        valid = torch.from_numpy(np.arange(sizes.max()) < sizes[:, None])[:, None, None, :]
        hidden = network.hidden(torch.from_numpy(inputs), valid if network.bidirectional else None)
        hidden = hidden[torch.arange(len(some)), torch.from_numpy(sizes - 1)]
        table, bias = network.output()
        if network.bidirectional:
            hidden = network.head(hidden)
        scores = hidden @ table.T if bias is None else torch.addmm(bias, hidden, table.T)
        histories = [asked[user] for user in some]
        gain += logs.gains(scores.numpy(), histories, [relevant[user] for user in some])[1]
    network.train()
    return gain / len(asked)


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    users = logs.read(options.file)
    parts = [items[:-2] for items in users]
    relevant = [items[-2] for items in users]
    windows = Windows(parts, options.length)
    before = measure.status("VmRSS")
    # The mask at the end of a full history is one more.
    length = options.length + (options.model == "bert4rec")
    shape = (options.model, options.items, length, 64, 2, 1, options.inner, options.dropout, "sdpa")
    network = Network(*shape)
    loss_of = Objective(network, options.variant, chunk=options.chunk, is_ragged=True)
    parameters = list(network.parameters())
    make = lambda: torch.optim.AdamW(
        parameters, lr=options.learning_rate, weight_decay=0.0, fused=True
    )

    def step(optimiser, chosen, draws):
        inputs, rows, targets, seen = tensors(windows, chosen, options, draws)
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(inputs, rows, targets, seen=seen)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, options.clip, foreach=True)
        optimiser.step()
        return loss.item() * len(rows), len(rows)

    kept, draws = copy.deepcopy(network.state_dict()), np.random.default_rng(0)
    optimiser = make()
    for chosen in windows.batches(options.batch, draws)[:WARM_UP]:
        step(optimiser, chosen, draws)
    network.load_state_dict(kept)
    optimiser, draws = make(), np.random.default_rng(options.seed)

    watch = measure.Watch(before)
    for _ in range(options.epochs):
        losses = [step(optimiser, chosen, draws) for chosen in windows.batches(options.batch, draws)]
        loss = sum(loss for loss, _ in losses) / sum(rows for _, rows in losses)
        with watch.validation():
            found = ndcg(network, parts, relevant, options)
        watch.epoch(loss, found)
    watch.report()


if __name__ == "__main__":
    main()
