"""PyTorch's side: steps of SASRec or BERT4Rec on windows that are all full.

Batches are made before the clock starts; Touchstone makes its own within the step.
"""

import argparse

import numpy as np
import torch

import logs
import measure
from torch_models import VARIANTS, Network, Objective


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("items", type=int)
    parser.add_argument("model", choices=["sasrec", "bert4rec"])
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--loss", choices=["softmax", "bce"], default="softmax")
    parser.add_argument("--variant", choices=VARIANTS, default="eager")
    parser.add_argument("--attention", choices=["mha", "sdpa"], default="sdpa")
    parser.add_argument("--chunk", type=int, default=256, help="rows of a chunk of logits")
    parser.add_argument("--steps", type=int, default=17)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--inner", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--mask-share", type=float, default=0.3)
    parser.add_argument("--batch", type=int, default=128)
    return parser.parse_args()


def batches(options):
    """As many batches as steps, each (inputs, rows that have a loss, their targets)."""
    users = np.stack(logs.read(options.file))
    draws = np.random.default_rng(7)
    made = []
    for step in range(options.steps):
        events = users[step * options.batch : (step + 1) * options.batch]
        if options.model == "sasrec":
            inputs, targets = events[:, :-1], events[:, 1:]
            made.append((inputs, None, targets.reshape(-1)))
            continue
        # A fixed number of masks, anywhere but at first events: shapes never change.
        length = options.length
        places = np.arange(events.size).reshape(events.shape)[:, 1:].reshape(-1)
        n = round(options.mask_share * len(places))
        rows = np.sort(draws.choice(places, n, replace=False))
        inputs = events.copy()
        inputs.reshape(-1)[rows] = options.items
        assert inputs.shape[1] == length
        made.append((inputs, rows, events.reshape(-1)[rows]))
    tensor = lambda x: None if x is None else torch.from_numpy(np.ascontiguousarray(x))
    return [tuple(map(tensor, batch)) for batch in made]


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    network = Network(
        options.model,
        options.items,
        options.length,
        64,
        2,
        1,
        options.inner,
        options.dropout,
        options.attention,
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    loss_of = Objective(network, options.variant, options.loss, options.chunk)
    made = batches(options)
    watch = measure.Watch()
    for inputs, rows, targets in made:
        negatives = None
        if options.loss == "bce":
            negatives = torch.randint(0, options.items, targets.shape)
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(inputs, rows, targets, negatives)
        loss.backward()
        optimiser.step()
        watch.step()
    watch.epoch(loss.item(), None)
    watch.report()


if __name__ == "__main__":
    main()
