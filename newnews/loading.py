"""A model, its chat format and what to say about them, from what a user types."""

from model.chat import Chat
from model.checkpoint import find_model, load_adapter, load_model
from newnews.console import choose_device
from newnews.outputs import model_digest


def load(name, adapter=None, device="auto", dtype="auto"):
    """(model, chat, about):
    about = {"model", "folder", "parameters", "digest", "device", "dtype", ["adapter"]}."""
    folder = find_model(name)
    chat = Chat(folder)
    device, dtype, reason = choose_device(device, dtype)
    model = load_model(folder, device, dtype)
    count = sum(p.numel() for p in model.parameters())
    about = {"model": str(name), "folder": str(folder), "parameters": f"{count:,}",
             "digest": model_digest(folder), "device": device,
             "dtype": f"{str(dtype).removeprefix('torch.')} ({reason})"}
    if len(chat.tokenizer.get_vocab()) > model.config.vocab_size:
        raise ValueError(f"{folder}: tokenizer.json has {len(chat.tokenizer.get_vocab())} tokens, more than "
                         f"the model's vocab_size {model.config.vocab_size}")
    if adapter is not None:
        load_adapter(adapter, model)
        about["adapter"] = f"{adapter} {model_digest(adapter)}"
    return model, chat, about


def parameters(model):
    return sum(p.numel() for name, p in model.named_parameters() if not name.endswith(("lora_A", "lora_B")))


def default_rate(count, full):
    """A learning rate that suits a model of `count` parameters.

    LoRA: 3e-3 on the pocket models (swept, docs/log.md), 4e-4, 2e-4, 1e-4 from 30M, 2B, 20B up (LoRA recipes
    of the field: 1e-3 to 1e-4, falling with size). Full: a tenth of it, from 2B a twentieth: 1e-5 at 7B.
    """
    rate = next(rate for limit, rate in ((3e7, 3e-3), (2e9, 4e-4), (2e10, 2e-4), (float("inf"), 1e-4))
                if count < limit)
    return rate / (20 if count >= 2e9 else 10) if full else rate
