"""What does a training token teach, with the news in front of it and without? The paper's explanation of
contextual shadowing (2505.01812), tested directly.

Per supervised token of a replay element: its loss, the norm of its gradient with respect to the weights that
a given update changes, and the cosine of the step downhill, -gradient, with that update: does this token
push where training ended up? If shadowing works by explaining the answer away, then with the news in front
the loss and the norm are small; if it teaches something else, the cosine falls too.

The gradient of one weight is sum_t g_t x_t^T over the row's tokens, g_t the gradient at the module's output
and x_t its input: an Update of rank T, never formed, so its norm and cosine cost O((out + in) T^2).
"""

import torch

from model.capture import edit, hooked
from model.loss import token_losses
from newnews.probing.compare import inner
from newnews.probing.updates import Update, projections


def token_gradients(model, example, names):
    """Yield (position, loss in nats, {module name: Update of the gradient}) for every supervised token of an
    Example (ids, weights) at the base; the last item is (None, summed loss, summed gradient)."""
    ids = torch.tensor([example.ids], device=model.lm_head.weight.device)
    inputs, outputs = {}, {}

    def keep(name):
        def hook(module, args, output):
            inputs[name], outputs[name] = args[0][0].detach().cpu().double(), output
        return hook

    # all weights are frozen, so the graph begins at the embedding
    with edit(model, {"model.embed_tokens": lambda x: x.detach().requires_grad_()}), \
            hooked(model, {name: keep(name) for name in names}):
        hidden = model.model(ids, adapters=[-1])[0]                         # (T, D)
    places = [t for t in range(1, len(example.ids)) if example.weights[t]]
    losses = token_losses(hidden[[t - 1 for t in places]], ids[0, places], model.lm_head)

    def gradient(loss):
        # the last layer's outputs at other positions may not reach the loss: their gradient is zero
        found = torch.autograd.grad(loss, list(outputs.values()), retain_graph=True, materialize_grads=True)
        return {name: Update(g[0].cpu().double().T, inputs[name]) for name, g in zip(outputs, found)}

    for t, loss in zip(places, losses):
        yield t, float(loss.detach()), gradient(loss)
    yield None, float(losses.detach().sum()), gradient(losses.sum())


def against(gradient, updates, squares):
    """(norm of the gradient, {label: cosine of -gradient with each of updates {label: ...}, over the modules
    that both have}). squares {label: the update's squared norm over them}, which all gradients share."""
    own = {name: inner(g, g) for name, g in gradient.items()}      # the dearest part: T^2 (out + in), once
    cosines = {}
    for label, update in updates.items():
        names = [name for name in update if name in gradient]
        along = -sum(inner(gradient[name], update[name]) for name in names)
        size = (sum(own[name] for name in names) * squares[label]) ** 0.5
        cosines[label] = along / size if size else 0.0
    return sum(own.values()) ** 0.5, cosines


def rows(model, chat, elements, updates):
    """Rows {"element", "news": with or without, "place": of the supervised tokens, "token", "loss", "norm",
    one "cosine LABEL" for each of updates {label: ...}}. elements: [(Example without, Example with)] in
    pairs; place "all" is the whole element. Of a full update the projections are looked at."""
    first, out = next(iter(updates.values())), []
    names = [name for name in projections(first) if first[name].B.any()]
    squares = {label: sum(inner(update[name], update[name]) for name in names if name in update)
               for label, update in updates.items()}
    for number, pair in enumerate(elements):
        for news, example in zip(("without", "with"), pair):
            for i, (t, loss, gradient) in enumerate(token_gradients(model, example, names)):
                token = "" if t is None else chat.tokenizer.decode([example.ids[t]],
                                                                   skip_special_tokens=False)
                norm, cosines = against(gradient, updates, squares)
                out.append({"element": number, "news": news, "place": "all" if t is None else i,
                            "token": token, "loss": loss, "norm": norm,
                            **{f"cosine {label}": cosine for label, cosine in cosines.items()}})
    return out
