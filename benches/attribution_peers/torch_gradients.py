"""PyTorch's side: gradients of single losses of SASRec, from the weights that Touchstone fitted.

Two ways to have them. `hooks`: one pass back for a batch, in which weights have no gradients; hooks
keep what goes into each layer and the gradient of what comes out, and a batched product makes each
sample's gradient, or its projection, of them. The tables' part is had from factors. `vmap`:
`torch.func.vmap` of `torch.func.grad`, which writes every gradient down. `summed` is the yardstick:
an ordinary pass back, no sample told apart.
"""

import argparse
import json
import os
import sys
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import tensor_files

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../training_peers"))
import measure
import torch_models

# Samples that are computed before clocks start.
WARM_UP = 128
LENGTH = 50


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("items", type=int)
    parser.add_argument("what", choices=["summed", "norms", "random", "gaussian"])
    parser.add_argument("--variant", choices=["hooks", "vmap", "plain"], default="hooks")
    parser.add_argument("--batch", type=int, default=64, help="samples that go back together")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


class Network(torch_models.Network):
    def forward(self, items):
        return self.hidden(items)


def our_name(name):
    """The name that Touchstone gives a parameter of `torch_models.Network`."""
    if name in ("items.weight", "positions.weight"):
        return name.split(".")[0][:-1]
    end = {"weight": "gain", "bias": "bias"}
    parts = name.split(".")
    if parts[0] == "norm":
        return f"norm.{end[parts[1]]}"
    block, rest = f"block{parts[1]}", parts[2:]
    if rest[0] == "norms":
        return f"{block}.norm{rest[1]}.{end[rest[2]]}"
    layer = {"packed": "attention", "out": "attention_out"}[rest[1]] if len(rest) == 3 else rest[0]
    return f"{block}.{layer}.{rest[-1]}"


def restored(options):
    network = Network("sasrec", options.items, LENGTH, 64, 2, 1, 64, 0.0, "sdpa").eval()
    weights = tensor_files.read(options.folder, "weights.safetensors")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            found = torch.from_numpy(weights[our_name(name)].copy())
            parameter.copy_(found.reshape(parameter.shape))
    return network


def loss_of(network, items, targets):
    """The sum of the losses at the last events."""
    last = network(items)[:, -1]
    return F.cross_entropy(last @ network.items.weight.T, targets, reduction="sum")


class Factors:
    """What one pass back tells of a batch. `keep` gets a name, the gradient of what a layer gives and
    what goes into it, as soon as both are known, and forgets neither until it returns."""

    def __init__(self, network, keep):
        self.network, self.keep = network, keep
        network.requires_grad_(False)
        for name, layer in network.named_modules():
            if isinstance(layer, (nn.Linear, nn.LayerNorm)):
                layer.register_forward_hook(self.hook(name))
        network.items.register_forward_hook(self.embedded)

    def hook(self, name):
        def forward(layer, inputs, output):
            (entering,) = inputs
            output.register_hook(lambda gradient: self.keep(name, layer, gradient, entering))

        return forward

    def embedded(self, layer, inputs, output):
        # Nothing before it has a gradient, and nothing but this makes one.
        self.looked_up = output.requires_grad_()
        return self.looked_up

    def back(self, items, targets):
        """Gradients of the items looked up, of the logits, and the hidden states they come from."""
        last = self.network(items)[:, -1]
        with torch.no_grad():
            errors = torch.softmax(last @ self.network.items.weight.T, 1)
            errors[torch.arange(len(targets)), targets] -= 1
            gradient = errors @ self.network.items.weight
        last.backward(gradient)
        return self.looked_up.grad, errors, last.detach()


def of_layer(layer, gradient, entering):
    """Each sample's gradients of a layer's weight and bias."""
    if isinstance(layer, nn.LayerNorm):
        normed = F.layer_norm(entering, layer.normalized_shape, eps=layer.eps)
        return (gradient * normed).sum(1), gradient.sum(1)
    return torch.bmm(gradient.transpose(1, 2), entering), gradient.sum(1)


class HookedNorms:
    """Lengths and products from factors."""

    def __init__(self, network, target):
        self.target = target
        self.factors = Factors(network, self.keep)

    @torch.no_grad()
    def keep(self, name, layer, gradient, entering):
        for part, found in zip(("weight", "bias"), of_layer(layer, gradient, entering)):
            found = found.flatten(1)
            self.squares += torch.linalg.vecdot(found, found)
            self.products += found @ self.target[f"{name}.{part}"].flatten()

    def __call__(self, items, targets):
        n = len(targets)
        self.squares, self.products = torch.zeros(n), torch.zeros(n)
        rows, errors, last = self.factors.back(items, targets)
        with torch.no_grad():
            table, positions = self.target["items.weight"], self.target["positions.weight"]
            scale = self.factors.network.scale
            # Of positions, each of which is looked up once.
            self.squares += rows.flatten(1).square().sum(1) / scale**2
            self.products += rows.flatten(1) @ positions.flatten() / scale
            # Of items: rows of the same item add up.
            same = (items[:, :, None] == items[:, None, :]).to(rows.dtype)
            self.squares += (torch.bmm(rows, rows.transpose(1, 2)) * same).sum((1, 2))
            self.products += (rows * table[items]).sum((1, 2))
            # Of outputs, and the mixed term of a table that is both.
            self.squares += errors.square().sum(1) * last.square().sum(1)
            along = torch.bmm(rows, last[:, :, None])[:, :, 0]
            self.squares += 2 * (errors.gather(1, items) * along).sum(1)
            self.products += ((errors @ table) * last).sum(1)
        return self.squares.clamp_min(0).sqrt(), self.products


class HookedRows:
    """Projected gradients from factors, without tables; columns by layer in the order of our names."""

    def __init__(self, network, matrices):
        self.matrices = matrices
        self.factors = Factors(network, self.keep)

    @torch.no_grad()
    def keep(self, name, layer, gradient, entering):
        ours = our_name(f"{name}.weight")
        outputs = self.matrices.get(f"{ours}/outputs")
        if outputs is None:
            weight, bias = of_layer(layer, gradient, entering)
        else:
            inputs = self.matrices[f"{ours}/inputs"]
            thin = (gradient @ outputs.T).transpose(1, 2)
            self.found[ours] = torch.bmm(thin, entering @ inputs.T).flatten(1)
            weight, bias = None, gradient.sum(1)
        for part, found in (("weight", weight), ("bias", bias)):
            if found is not None:
                part = our_name(f"{name}.{part}")
                self.found[part] = projected(self.matrices, part, found)

    def __call__(self, items, targets):
        self.found = {}
        self.factors.back(items, targets)
        return (torch.cat([self.found[name] for name in sorted(self.found)], 1),)


def projected(matrices, name, gradient):
    """Whole gradients of one parameter, a sample each, made short."""
    if f"{name}/outputs" in matrices:
        outputs, inputs = matrices[f"{name}/outputs"], matrices[f"{name}/inputs"]
        return (outputs @ gradient @ inputs.T).flatten(1)
    flat = gradient.flatten(1)
    return flat @ matrices[name].T if name in matrices else flat


class Vmapped:
    """Every gradient written down, by `vmap` of `grad`."""

    def __init__(self, network, chosen):
        parameters = {name: one.detach() for name, one in network.named_parameters()}
        free = {name: one for name, one in parameters.items() if chosen(name)}
        rest = {name: one for name, one in parameters.items() if not chosen(name)}

        def loss(free, items, target):
            all_of_them = free | rest
            hidden = torch.func.functional_call(network, all_of_them, (items[None],))
            logits = hidden[:, -1] @ all_of_them["items.weight"].T
            return F.cross_entropy(logits, target[None])

        gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
        self.gradients = lambda items, targets: gradients(free, items, targets)
        # Fused attention has no rule for `vmap` and goes sample by sample, which is still quicker
        # than attention that is not fused: nothing to be warned of.
        warnings.filterwarnings("ignore", "There is a performance drop")


class VmappedNorms(Vmapped):
    def __init__(self, network, target):
        super().__init__(network, lambda name: True)
        self.target = target

    def __call__(self, items, targets):
        squares, products = torch.zeros(len(targets)), torch.zeros(len(targets))
        for name, gradient in self.gradients(items, targets).items():
            gradient = gradient.flatten(1)
            squares += torch.linalg.vecdot(gradient, gradient)
            products += gradient @ self.target[name].flatten()
        return squares.sqrt(), products


class VmappedRows(Vmapped):
    def __init__(self, network, matrices):
        super().__init__(network, lambda name: name not in ("items.weight", "positions.weight"))
        self.matrices = matrices

    def __call__(self, items, targets):
        gradients = self.gradients(items, targets)
        gradients = {our_name(name): gradient for name, gradient in gradients.items()}
        rows = [projected(self.matrices, name, gradients[name]) for name in sorted(gradients)]
        return (torch.cat(rows, 1),)


class Summed:
    """The gradient of all losses together."""

    def __init__(self, network):
        self.network = network

    def __call__(self, items, targets):
        loss_of(self.network, items, targets).backward()
        return ()


def target_of(network, samples):
    """The gradient of the mean loss of the requests, by name."""
    network.requires_grad_(True)
    history, item = samples["request_history"], samples["request_item"]
    (loss_of(network, history, item) / len(item)).backward()
    gradient = {name: one.grad for name, one in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    return gradient


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    network = restored(options)
    samples = tensor_files.read(options.folder, "samples.safetensors")
    samples = {name: torch.from_numpy(one.astype(np.int64)) for name, one in samples.items()}
    history, item = samples["history"], samples["item"]
    matrices = {}
    if options.what in ("random", "gaussian"):
        matrices = tensor_files.read(options.folder, f"{options.what}.safetensors")
        matrices = {name: torch.from_numpy(one.copy()) for name, one in matrices.items()}
    before = measure.status("VmRSS")

    def batches(of, n):
        found = []
        for at in range(0, n, options.batch):
            found.append(of(history[at : at + options.batch], item[at : at + options.batch]))
        return [torch.cat(columns) for columns in zip(*found)]

    if options.what == "summed":
        of = Summed(network)
    elif options.what == "norms":
        make = HookedNorms if options.variant == "hooks" else VmappedNorms
        of = make(network, target_of(network, samples))
    else:
        make = HookedRows if options.variant == "hooks" else VmappedRows
        of = make(network, matrices)
    batches(of, WARM_UP)
    # Hooks would take part in the pass for the requests: it has a network of its own.
    plain = restored(options)
    started, clock = time.perf_counter(), time.process_time()
    if options.what == "norms":
        of.target = target_of(plain, samples)
    found = batches(of, len(item))
    wall, cpu = time.perf_counter() - started, time.process_time() - clock
    report = {"wall_ms": wall * 1e3, "cpu_ms": cpu * 1e3, "n": len(item)}
    report |= {"before_kib": before, "peak_kib": measure.status("VmHWM")}
    names = {"summed": [], "norms": ["norm", "product"]}.get(options.what, ["rows"])
    name = f"{options.what}-{options.variant}.npz"
    values = {name: one.numpy() for name, one in zip(names, found)}
    if values:
        np.savez(os.path.join(options.folder, name), **values)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
