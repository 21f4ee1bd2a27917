"""Optimizers for K adapters side by side: every adapter has its own clipping and end, all have one rate.

torch's own cannot give slices of a tensor their own clipping and end. What the loop asks of one:

    collect()       add the micro-batch's gradients, parameter.grad, to the step's
    grads           {name: tensor}, these sums; the loop adds them up over several processes
    norms()         gradient norm of each adapter so far in this step, (K,)
    step(t, rate, alive, norms)
                    update t = 1, 2, ..., clipped by these norms; adapters not alive (K,) keep their values
    tensors()       {name: tensor} of everything that a resumed run needs
    values          {name: tensor} of the parameters' own values, fp32 or wider

Of a sharded parameter (newnews/distributed.py) all of these are this process's part; only norms see all.
"""

import torch

from newnews.distributed import add_up, is_sharded, local


PIECE = 2 ** 24         # numbers of a tensor that are squared or updated at a time: 64 MB a temporary in fp32


def give_sums(params, grads):
    """Where it can, autograd adds to these sums by itself, as parameter.grad: a micro-batch's own gradients
    would be as large as the model once more."""
    for name, g in grads.items():
        if g.dtype == params[name].dtype and not is_sharded(params[name]):
            params[name].grad = g


def add_gradients(params, grads):
    """Add the micro-batch's gradients to the step's where autograd did not, and let go of them."""
    for name, p in params.items():
        if p.grad is not None and p.grad is not grads[name]:
            grads[name] += local(p.grad)
            p.grad = None


def pieces(x):
    """x (n, K, rows, ...) in parts of at most PIECE numbers, where a row is not larger."""
    return x.split(max(1, PIECE * x.shape[2] // max(1, x.numel())), 2)


def squared(grads, params):
    """The sum of squares of gradients (n, K, ...), (K,), over all processes."""
    total = sum(some.square().sum((0, 2)) for g in grads for some in pieces(g.flatten(2)))
    if any(map(is_sharded, params.values())):
        add_up([total])
    return total


def stacks(params, bank):
    """[(names, their values as one tensor (n, K, ...), fp32 or wider)]. Adapters of one shape are stacked and
    their parameters become views: at 24 blocks 14 updates a step, not 336, which a GPU waits for longer than
    they take. Of other parameters each is its own, n = K = 1, and shares its memory where it can."""
    groups = {}
    for name, p in params.items():
        together = p.shape if bank and not is_sharded(p) else name
        groups.setdefault(together, []).append(name)
    out = []
    for names in groups.values():
        some = [local(params[n].data).to(torch.promote_types(params[n].dtype, torch.float32)) for n in names]
        value = some[0][None]
        if len(some) > 1:
            value = torch.stack(some)
            for name, view in zip(names, value):
                params[name].data = view
        out.append((names, value if bank else value[None]))
    return out


class AdamW:
    """AdamW (Loshchilov & Hutter, 1711.05101) on parameters whose first dimension is the adapter, (K, ...);
    with bank = False on any parameters, as one learner.

    Values and moments are fp32 whatever the model's dtype: a bf16 parameter has an fp32 master here, and its
    micro-batches' gradients are summed in fp32.
    """

    def __init__(self, params, recipe, bank):
        self.params, self.recipe = params, recipe
        names, values = zip(*stacks(params, bank))
        # of each stack its values, sums of gradients, first and second moments, (n, K, ...)
        self.stacks = [(value, *(torch.zeros_like(value) for _ in range(3))) for value in values]
        self.values, self.grads, self.m, self.v = (
            {n: x if bank else x[0] for some, parts in zip(names, group) for n, x in zip(some, parts)}
            for group in zip(*self.stacks))
        self.masters = [n for n, p in params.items()
                        if local(p.data).data_ptr() != self.values[n].data_ptr()]
        give_sums(params, self.grads)

    def collect(self):
        add_gradients(self.params, self.grads)

    def norms(self):
        return squared([g for _, g, _, _ in self.stacks], self.params).sqrt()

    def step(self, t, rate, alive, norms):
        recipe, scale = self.recipe, torch.ones_like(norms)
        if recipe.clip:
            scale = (recipe.clip / (norms + 1e-6)).clamp(max=1)
        for stack in self.stacks:
            for value, g, m, v in zip(*map(pieces, stack)):             # (n, K, some, ...)
                shape = (-1,) + (1,) * (value.dim() - 2)                # (K, 1, ...), against (n, K, ...)
                live = alive.view(shape)
                g.mul_(scale.view(shape)).masked_fill_(~live, 0)        # not * 0: it may be NaN
                # first and second moment, each corrected for its start at zero
                m.lerp_(g, 1 - recipe.beta1)
                v.mul_(recipe.beta2).addcmul_(g, g, value=1 - recipe.beta2)
                root = (v / (1 - recipe.beta2 ** t)).sqrt_().add_(1e-8)
                change = (m / (1 - recipe.beta1 ** t)).div_(root)
                if recipe.weight_decay and value.dim() > 3:             # matrices; not norms and biases
                    change += torch.mul(value, recipe.weight_decay, out=root)
                value -= change.mul_(rate).masked_fill_(~live, 0)
            stack[1].zero_()
        for name in self.masters:
            local(self.params[name].data).copy_(self.values[name])

    def tensors(self):
        return {f"{kind}/{name}": tensor for kind in ("values", "m", "v")
                for name, tensor in getattr(self, kind).items()}
