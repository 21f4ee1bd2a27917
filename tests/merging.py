"""An adapter as a change of the weights: what LoRALinear computes beside them, written out."""

from model.lora import adapted


def delta(module, k=0):
    """The update dW = scale * B A of adapter k of a LoRALinear, (out, in)."""
    return module.scale * module.lora_B[k] @ module.lora_A[k]


def merged_tensors(model, k=0):
    """The model's state dict with adapter k added into the weights: fp32 sum, rounded once.
    Changes nothing in place."""
    modules = adapted(model)
    merged = {}
    for name, tensor in model.state_dict().items():
        owner, _, last = name.rpartition(".")
        if owner in modules and last == "weight":
            change = delta(modules[owner], k)
            tensor = (tensor.to(change.dtype) + change).to(tensor.dtype)
        if last not in ("lora_A", "lora_B"):
            merged[name] = tensor.detach()
    return merged
