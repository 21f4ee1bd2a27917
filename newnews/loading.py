"""A model, its chat format and what to say about them, from what a user types."""

from contextlib import suppress
from pathlib import Path

import torch

from model.chat import Chat
from model.checkpoint import find_model, load_adapter, load_config, load_model
from model.files import read_json
from model.lora import adapted
from model.memory import parameter_count
from newnews.console import choose_device, say
from newnews.identity import model_digest

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load(name, adapter=None, device="auto", dtype="auto", place=None):
    """(model, chat, about): about = {"model", "folder", "parameters", "digest", "device",
    "dtype" (fp32 or bf16), "dtype_reason", ["adapter"]}. place: where the weights lie, if not on device."""
    _, chat, about = describe(name, device, dtype)
    model = load_model(about["folder"], place or about["device"], DTYPES[about["dtype"]])
    if model.note:
        say(warning=model.note)
    if adapter is not None:
        put_adapter(adapter, model, about["digest"])
        model.name = f"{about['folder']} with {adapter}"
        about["adapter"] = f"{adapter} {model_digest(adapter)}"
    return model, chat, about


def put_adapter(adapter, model, digest):
    """load_adapter, and on stderr what speaks against this adapter. digest: of the model's folder."""
    load_adapter(adapter, model)
    for note in doubts(adapter, model, digest):
        say(warning=f"{adapter}: {note}")


def describe(name, device="auto", dtype="auto"):
    """(config, chat, about) of a model, as `load` has them: all but its weights."""
    folder = find_model(name)
    chat, config = Chat(folder), load_config(folder)
    largest = max(chat.tokenizer.get_vocab().values())
    if largest >= config.vocab_size:
        raise ValueError(f"{folder}: tokenizer.json has ids up to {largest}, config.json has vocab_size "
                         f"{config.vocab_size}")
    count = parameter_count(config)
    device, dtype, reason = choose_device(device, dtype, count)
    return config, chat, {
        "model": str(name), "folder": str(folder), "parameters": f"{count:,}", "digest": model_digest(folder),
        "device": device, "dtype": next(k for k, v in DTYPES.items() if v == dtype), "dtype_reason": reason}


def doubts(adapter, model, digest):
    """What speaks against an adapter that fits: another base than it was trained on, as far as its manifest
    says (its shapes would not), or no effect at all."""
    own, above = (folder / "manifest.json" for folder in (Path(adapter), Path(adapter).resolve().parent))
    run = read_json(own).get("run") if own.is_file() else None
    trained = run.get("model_digest") if isinstance(run, dict) else None
    if not own.is_file():       # of a study: one for its bank, above; a foreign one says nothing
        with suppress(OSError, ValueError):
            run = read_json(above).get("run")
            trained = run.get("model") if isinstance(run, dict) and run.get("stage") == "update" else None
    if trained not in (None, digest):
        yield (f"was trained on another model than this one ({trained}, this one is {digest}), "
               f"so it may be noise")
    if not any(module.lora_B.any() for module in adapted(model).values()):
        yield "changes nothing: its lora_B are all zero"


def default_rate(count, full):
    """A learning rate that suits a model of `count` parameters.

    LoRA: 3e-3 on the pocket models (swept, docs/log.md), 4e-4, 2e-4, 1e-4 from 30M, 2B, 20B up (LoRA recipes
    of the field: 1e-3 to 1e-4, falling with size). Full: a tenth of it, from 2B a twentieth: 1e-5 at 7B.
    """
    rate = next(rate for limit, rate in ((3e7, 3e-3), (2e9, 4e-4), (2e10, 2e-4), (float("inf"), 1e-4))
                if count < limit)
    return rate / (20 if count >= 2e9 else 10) if full else rate
