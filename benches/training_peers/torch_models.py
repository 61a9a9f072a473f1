"""SASRec and BERT4Rec in PyTorch, layer for layer those of crates/models.

SASRec: embeddings times sqrt(d) plus positions, dropout; per layer norm, attention, residual, norm,
perceptron with ReLU, residual; a last norm; scores with the table of the embeddings.
BERT4Rec: norms after the residual sums, GELU, a head, a bias per item.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Mha(nn.Module):
    """Attention as most published code has it: nn.MultiheadAttention with a mask."""

    def __init__(self, dim, heads, dropout, length, causal):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        mask = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
        self.register_buffer("mask", mask)

    def forward(self, x, seen=None):
        assert seen is None, "padding is for `Sdpa`"
        return self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0]


class Sdpa(nn.Module):
    """Attention with one packed projection and scaled_dot_product_attention."""

    def __init__(self, dim, heads, dropout, length, causal):
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.packed = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x, seen=None):
        batch, length, dim = x.shape
        packed = self.packed(x).view(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=seen, dropout_p=dropout, is_causal=self.causal
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


class Block(nn.Module):
    def __init__(self, attention, dim, inner, dropout, activation, post_norm):
        super().__init__()
        self.attention, self.post_norm = attention, post_norm
        self.norms = nn.ModuleList([nn.LayerNorm(dim, eps=1e-8) for _ in range(2)])
        self.inner, self.outer = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.activation, self.drop = activation, nn.Dropout(dropout)

    def perceptron(self, x):
        return self.outer(self.activation(self.inner(x)))

    def forward(self, x, seen=None):
        first, second = self.norms
        if self.post_norm:
            x = first(x + self.drop(self.attention(x, seen)))
            return second(x + self.drop(self.perceptron(x)))
        x = x + self.drop(self.attention(first(x), seen))
        return x + self.drop(self.perceptron(second(x)))


class Network(nn.Module):
    """`kind` is sasrec or bert4rec; `attention` mha or sdpa."""

    def __init__(self, kind, items, length, dim, layers, heads, inner, dropout, attention):
        super().__init__()
        self.bidirectional = kind == "bert4rec"
        self.n_items = items
        # The last row is the mask of BERT4Rec.
        self.items = nn.Embedding(items + self.bidirectional, dim)
        self.positions = nn.Embedding(length, dim)
        for table in (self.items, self.positions):
            # Cut at two standard deviations, as Touchstone does.
            nn.init.trunc_normal_(table.weight, std=0.02, a=-0.04, b=0.04)
        make = Sdpa if attention == "sdpa" else Mha
        activation = nn.GELU() if self.bidirectional else nn.ReLU()
        self.blocks = nn.ModuleList(
            Block(
                make(dim, heads, dropout, length, not self.bidirectional),
                dim,
                inner,
                dropout,
                activation,
                self.bidirectional,
            )
            for _ in range(layers)
        )
        self.norm, self.drop = nn.LayerNorm(dim, eps=1e-8), nn.Dropout(dropout)
        self.scale = 1.0 if self.bidirectional else math.sqrt(dim)
        if self.bidirectional:
            self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=1e-8))
            self.bias = nn.Parameter(torch.zeros(items))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and "items" not in name and "positions" not in name:
                nn.init.xavier_uniform_(parameter)

    def hidden(self, items, seen=None):
        """[batch, length] to [batch, length, dim]. `seen` marks what is no padding, [batch, 1, 1,
        length]; a causal network needs no marks for padding behind."""
        at = torch.arange(items.shape[1])
        x = self.items(items) * self.scale + self.positions(at)
        if self.bidirectional:
            x = self.norm(x)
        x = self.drop(x)
        for block in self.blocks:
            x = block(x, seen)
        return x if self.bidirectional else self.norm(x)

    def output(self):
        """The table of outputs, [items, dim], and their bias."""
        if self.bidirectional:
            return self.items.weight[: self.n_items], self.bias
        return self.items.weight, None


def chunk_gradient(hidden, table, bias, targets, share):
    """Of some rows: the sum of their losses, and `share` times the gradients of their logits."""
    logits = hidden @ table.T if bias is None else torch.addmm(bias, hidden, table.T)
    top = logits.max(1, keepdim=True).values
    right = logits.gather(1, targets[:, None])
    logits.sub_(top).exp_()
    sums = logits.sum(1, keepdim=True)
    loss = (sums.log() + top - right).sum()
    logits.mul_(share / sums)
    logits.scatter_add_(1, targets[:, None], (-share).expand(len(targets), 1))
    return loss, logits


class ChunkedCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of the softmax over all items, `chunk` rows at a time: gradients are made
    in the forward pass, and logits of all rows never exist together. `of_chunk` is
    `chunk_gradient`, as it is or compiled."""

    @staticmethod
    def forward(ctx, hidden, table, bias, targets, chunk, of_chunk):
        rows = hidden.shape[0]
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        grad_bias = None if bias is None else torch.zeros_like(bias)
        loss, share = hidden.new_zeros(()), hidden.new_full((), 1 / rows)
        for at in range(0, rows, chunk):
            h, t = hidden[at : at + chunk], targets[at : at + chunk]
            of_rows, logits = of_chunk(h, table, bias, t, share)
            loss += of_rows
            torch.mm(logits, table, out=grad_hidden[at : at + chunk])
            grad_table.addmm_(logits.T, h)
            if grad_bias is not None:
                grad_bias += logits.sum(0)
        ctx.save_for_backward(grad_hidden, grad_table, grad_bias)
        return loss / rows

    @staticmethod
    def backward(ctx, grad):
        grad_hidden, grad_table, grad_bias = ctx.saved_tensors
        # `grad` is 1 in training: as fused implementations do, nothing is copied.
        if grad.item() != 1.0:
            grad_hidden, grad_table = grad_hidden * grad, grad_table * grad
            grad_bias = None if grad_bias is None else grad_bias * grad
        return grad_hidden, grad_table, grad_bias, None, None, None


VARIANTS = ["eager", "compiled", "chunked", "compiled-chunked"]


class Objective:
    """The loss of a batch, in one of four ways. `compiled` is one graph from items to the loss;
    `compiled-chunked` compiles the network and what happens to a chunk of logits, and loops over
    chunks in between: the strongest opponent."""

    def __init__(self, network, variant, loss="softmax", chunk=256, is_ragged=False):
        assert variant in VARIANTS
        self.network, self.loss = network, loss
        self.chunk = chunk if "chunked" in variant else 0
        self.of_chunk, self.states, self.whole = chunk_gradient, self.hidden, self.direct
        # Shapes that change from batch to batch are compiled once, for any size.
        how = {"dynamic": True} if is_ragged else {}
        if variant == "compiled":
            self.whole = torch.compile(self.direct, **how)
        if variant == "compiled-chunked":
            self.states = torch.compile(self.hidden, **how)
            self.of_chunk = torch.compile(chunk_gradient, dynamic=True)

    def hidden(self, inputs, rows, seen):
        """Hidden states of the rows that have a loss; `rows` None: all."""
        hidden = self.network.hidden(inputs, seen).flatten(0, 1)
        if rows is not None:
            hidden = hidden[rows]
        return self.network.head(hidden) if self.network.bidirectional else hidden

    def direct(self, inputs, rows, targets, negatives, seen):
        table, bias = self.network.output()
        hidden = self.hidden(inputs, rows, seen)
        if self.loss == "bce":
            return binary_loss(hidden, table, targets, negatives)
        return F.cross_entropy(F.linear(hidden, table, bias), targets)

    def __call__(self, inputs, rows, targets, negatives=None, seen=None):
        if not self.chunk:
            return self.whole(inputs, rows, targets, negatives, seen)
        table, bias = self.network.output()
        hidden = self.states(inputs, rows, seen)
        return ChunkedCrossEntropy.apply(hidden, table, bias, targets, self.chunk, self.of_chunk)


def binary_loss(hidden, table, targets, negatives):
    """Binary cross-entropy against one negative per row, mean over rows."""
    right = (hidden * F.embedding(targets, table)).sum(-1)
    wrong = (hidden * F.embedding(negatives, table)).sum(-1)
    return (F.softplus(-right) + F.softplus(wrong)).mean()
