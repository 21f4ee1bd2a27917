"""Muon (Jordan 2024, kellerjordan.github.io/posts/muon) for the matrices of the blocks, AdamW for the rest.

The momentum of a matrix is replaced by the nearest orthogonal matrix, so every direction moves alike. Five
steps of Newton-Schulz with the quintic of the reference bring all singular values to about 1 (0.7 to 1.2).
"""

from dataclasses import replace

import torch

from newnews.optimizer import AdamW, add_gradients, give_sums, squared

QUINTIC = 3.4445, -4.7750, 2.0315
MOMENTUM = 0.95


def orthogonal(matrices):
    """(N, rows, columns) fp32 -> about U V^T of each one's singular value decomposition U S V^T."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices                   # the smaller side first: cheaper products
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """The optimizer of newnews.training.train for a whole model (no bank): the interface of AdamW there.

    Matrices of the blocks move at recipe.matrix_rate, embedding, norms and biases by AdamW at recipe.rate,
    both with the same rise and fall. Gradients of all are clipped together; Muon itself does not see their
    scale, only its changes.
    """

    def __init__(self, params, recipe, bank):
        if bank:
            raise ValueError("optimizer: muon trains a whole model; adapters are trained with adamw")
        self.params, self.recipe = params, recipe
        self.matrices = [n for n, p in params.items() if p.dim() == 2 and ".layers." in n]
        self.rest = AdamW({n: p for n, p in params.items() if n not in self.matrices},
                          replace(recipe, clip=0.0), False)
        values = {n: params[n].data.to(torch.promote_types(params[n].dtype, torch.float32))
                  for n in self.matrices}
        self.m = {n: torch.zeros_like(value) for n, value in values.items()}
        grads = {n: torch.zeros_like(value) for n, value in values.items()}
        give_sums(params, grads)
        self.values, self.grads = values | self.rest.values, grads | self.rest.grads

    def collect(self):
        add_gradients(self.params, self.grads)

    def norms(self):
        """Gradient norm of the model, (1,)."""
        return squared([g[None, None] for g in self.grads.values()], self.params).sqrt()

    def step(self, t, rate, alive, norms):
        """Update t (1, 2, ...) at AdamW's rate, clipped by the norm (1,).
        A model that is not alive keeps its values, to the bit."""
        r = self.recipe
        if r.clip:
            scale = (r.clip / (norms[0] + 1e-6)).clamp(max=1)
            for g in self.grads.values():
                g.mul_(scale)
        if bool(alive[0]):
            share = float(torch.tensor(rate)) / r.rate          # the rate in fp32, as data/pocket was grown
            self.step_matrices(share * r.matrix_rate)
        for name in self.matrices:
            self.grads[name].zero_()
        self.rest.step(t, rate, alive, norms)

    def step_matrices(self, rate):
        shapes = {}
        for name in self.matrices:                  # matrices of one shape go through the products together
            self.m[name].lerp_(self.grads[name], 1 - MOMENTUM)
            shapes.setdefault(self.m[name].shape, []).append(name)
        for (rows, columns), names in shapes.items():
            looking_ahead = [self.grads[n].lerp(self.m[n], MOMENTUM) for n in names]        # Nesterov
            changes = orthogonal(torch.stack(looking_ahead))
            for name, change in zip(names, changes):
                value = self.values[name]
                value.mul_(1 - rate * self.recipe.weight_decay)
                value.sub_(change, alpha=rate * max(1, rows / columns) ** 0.5)
                if self.params[name].data_ptr() != value.data_ptr():
                    self.params[name].data.copy_(value)

    def tensors(self):
        kept = {f"{kind}/{n}": getattr(self, kind)[n] for kind in ("values", "m") for n in self.matrices}
        return kept | self.rest.tensors()
