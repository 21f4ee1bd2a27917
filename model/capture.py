"""Read and edit activations by name, in any torch module; hooks are there within the block only.

    with capture(model, ["layers.0.resid_pre", "layers.3.z"]) as seen:
        logits = model(ids)
    seen["layers.3.z"]                                      # (B, T, H, Dh)

    with edit(model, {"layers.3.resid_post": lambda x: x + direction}):
        logits = model(ids)

In Qwen2 each block has resid_pre, resid_mid, resid_post (B, T, D); its attention rot_q (B, H, T, Dh) and
rot_k (B, G, T, Dh) after rotation, z (B, T, H, Dh) per head before o_proj, and under eager_attention(model)
pattern (B, H, T, S). Every other module's output has its name too: "layers.0.mlp", "layers.0.q_proj", "norm".
"""

from contextlib import contextmanager
from difflib import get_close_matches


class Captured(dict):
    """{name: output}, filled by the model's calls; a later call replaces what an earlier one left."""

    def __missing__(self, name):
        raise KeyError(f"{name}: the block has not seen its output; was the model called in it? "
                       f"(pattern needs eager_attention(model))")


def find(model, name):
    """The module that `name` means: its full name, or some parts of it in order, the last among them, if no
    other module has them all: layers.0.z for model.layers.0.self_attn.z."""
    modules = dict(model.named_modules())
    if name in modules:
        return modules[name]
    found = [full for full in modules if abbreviates(name.split("."), full.split("."))]
    if len(found) == 1:
        return modules[found[0]]
    if found:
        more = f" and {len(found) - 4} more" if len(found) > 4 else ""
        raise ValueError(f"{name!r} may be {', '.join(found[:4])}{more}")
    # near names by their last parts, as many of them as were typed
    parts, tails = name.count(".") + 1, {}
    for full in modules:
        tails.setdefault(".".join(full.split(".")[-parts:]), full)
    near = [tails[tail] for tail in get_close_matches(name, tails, 4, 0.3)]
    raise ValueError(f"no module is named {name!r}; the nearest are {', '.join(near) or 'none'}")


def abbreviates(short, full):
    """Whether the parts in `short` are some of those in `full`, in order, and the last parts are the same."""
    rest = iter(full)
    return short[-1] == full[-1] and all(part in rest for part in short)


@contextmanager
def hooked(model, hooks):
    """Forward hooks {name: hook} within the block; all names are looked up before the first one is set."""
    handles = []
    try:
        for module, hook in [(find(model, name), hook) for name, hook in hooks.items()]:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def capture(model, names):
    """Within the block the outputs of the named modules are kept, as they are, with their graph: a dict by
    the names given. Of a module that returns a tuple the first element. ValueError for a name that means no
    module, or several."""
    seen = Captured()

    def keep(name):
        def hook(module, args, output):
            seen[name] = output[0] if isinstance(output, tuple) else output
        return hook

    with hooked(model, {name: keep(name) for name in names}):
        yield seen


@contextmanager
def edit(model, changes):
    """Within the block fn(output) goes on in the place of the output: changes = {name: fn}. A capture opened
    inside an edit sees what was edited. ValueError at the end of the block for a name that was never computed
    in it: nothing would have changed, and nobody would know."""
    seen = set()

    def change(name, fn):
        def hook(module, args, output):
            seen.add(name)
            whole = isinstance(output, tuple)
            new = fn(output[0] if whole else output)
            if new is None:             # torch would go on with the old output, and nobody would know
                raise ValueError(f"edit of {name}: the function returned nothing")
            return (new, *output[1:]) if whole else new
        return hook

    with hooked(model, {name: change(name, fn) for name, fn in changes.items()}):
        yield
    if unseen := [name for name in changes if name not in seen]:
        raise ValueError(f"edit of {', '.join(unseen)}: nothing was edited; was the model called in the "
                         f"block? (pattern needs eager_attention(model))")


@contextmanager
def eager_attention(model):
    """Within the block our attention spells its softmax out, so `pattern` can be read and edited; slower."""
    switches = [module for module in model.modules() if hasattr(module, "eager")]
    before = [module.eager for module in switches]
    for module in switches:
        module.eager = True
    try:
        yield model
    finally:
        for module, eager in zip(switches, before):
            module.eager = eager
