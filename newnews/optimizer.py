"""Optimizers for K adapters side by side: every adapter has its own clipping, rate and end.

torch's own cannot give slices of a tensor their own rate, clipping and end. What the loop asks of one:

    collect()               add the micro-batch's gradients, parameter.grad, to the step's
    grads                   {name: tensor}, these sums; the loop adds them up over several processes
    norms()                 gradient norm of each adapter so far in this step, (K,)
    step(t, rates, alive)   update t = 1, 2, ... with rates (K,); adapters not alive (K,) keep their values
    tensors()               {name: tensor} of everything that a resumed run needs
    values                  {name: tensor} of the parameters' own values, fp32 or wider

Of a sharded parameter (newnews/distributed.py) all of these are this process's part; only norms see all.
"""

import torch

from newnews.distributed import add_up, is_sharded, local


PIECE = 2 ** 24         # numbers of a tensor that are squared or updated at a time: 64 MB a temporary in fp32


def zero_gradients(params, values):
    """{name: zeros like the values}, the step's sums of gradients. Where it can, autograd adds to them by
    itself, as parameter.grad: a micro-batch's own gradients would be as large as the model once more."""
    grads = {name: torch.zeros_like(value) for name, value in values.items()}
    for name, g in grads.items():
        if g.dtype == params[name].dtype and not is_sharded(params[name]):
            params[name].grad = g
    return grads


def add_gradients(params, grads):
    """Add the micro-batch's gradients to the step's where autograd did not, and let go of them."""
    for name, p in params.items():
        if p.grad is not None and p.grad is not grads[name]:
            grads[name] += local(p.grad)
            p.grad = None


def squared(params, grads, rows=lambda t: t[None]):
    """The sum of squares of all gradients, rows(gradient) (K, ...) -> (K,), over all processes."""
    total = sum(some.square().sum(1) for g in grads.values() for some in rows(g).flatten(1).split(PIECE, 1))
    if any(map(is_sharded, params.values())):
        add_up([total])
    return total


class AdamW:
    """AdamW (Loshchilov & Hutter, 1711.05101) on parameters whose first dimension is the adapter, (K, ...);
    with bank = False on any parameters, as one learner.

    Values and moments are fp32 whatever the model's dtype: a bf16 parameter has an fp32 master here, and its
    micro-batches' gradients are summed in fp32.
    """

    def __init__(self, params, recipe, bank):
        self.params, self.recipe = params, recipe
        self.rows = (lambda t: t) if bank else (lambda t: t[None])      # (K, ...) views
        self.values = {n: local(p.data).to(torch.promote_types(p.dtype, torch.float32))
                       for n, p in params.items()}
        self.m = {n: torch.zeros_like(v) for n, v in self.values.items()}
        self.v = {n: torch.zeros_like(v) for n, v in self.values.items()}
        self.grads = zero_gradients(params, self.values)

    def collect(self):
        add_gradients(self.params, self.grads)

    def norms(self):
        return squared(self.params, self.grads, self.rows).sqrt()

    def step(self, t, rates, alive):
        recipe, norms = self.recipe, self.norms()
        scale = torch.ones_like(norms)
        if recipe.clip:
            scale = (recipe.clip / (norms + 1e-6)).clamp(max=1)
        for name, p in self.params.items():
            whole = [self.rows(x[name]) for x in (self.values, self.grads, self.m, self.v)]
            some = max(1, PIECE * whole[0].shape[1] // whole[0].numel())
            for value, g, m, v in zip(*(x.split(some, 1) for x in whole)):      # (K, some, ...)
                shape = (-1,) + (1,) * (value.dim() - 1)                # (K, 1, ...), against (K, ...)
                live, rate = alive.view(shape), rates.to(value).view(shape)
                g.mul_(scale.view(shape)).masked_fill_(~live, 0)        # not * 0: it may be NaN
                # first and second moment, each corrected for its start at zero
                m.lerp_(g, 1 - recipe.beta1)
                v.mul_(recipe.beta2).addcmul_(g, g, value=1 - recipe.beta2)
                root = (v / (1 - recipe.beta2 ** t)).sqrt_().add_(1e-8)
                change = (m / (1 - recipe.beta1 ** t)).div_(root)
                if recipe.weight_decay and value.dim() > 2:             # matrices; not norms and biases
                    change += torch.mul(value, recipe.weight_decay, out=root)
                value -= change.mul_(rate).masked_fill_(~live, 0)
            if local(p.data).data_ptr() != self.values[name].data_ptr():    # the value is a master copy
                local(p.data).copy_(self.values[name])
            self.grads[name].zero_()

    def tensors(self):
        return {f"{kind}/{name}": tensor for kind in ("values", "m", "v")
                for name, tensor in getattr(self, kind).items()}
