"""Model folders and adapters on disk, in the ecosystem's layouts: Hugging Face folders and PEFT adapters.
Safetensors only: nothing from a file is ever executed. What is written here appears whole or not at all."""

import json
import os
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model.files import read_json
from model.lora import PROJECTIONS, adapted, add_lora, lora_tensors, remove_lora
from model.qwen2 import Qwen2, Qwen2Config

COMPANIONS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
              "special_tokens_map.json", "vocab.json", "merges.txt", "prompts.yaml")
PREFIX = "base_model.model."        # PEFT's name for the model that it wraps


def find_model(name):
    """A model folder as it is, or a hub id (ORG/NAME) downloaded to the hub's cache. Returns a Path."""
    path = Path(name)
    if path.is_dir():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) or path.exists():
        raise FileNotFoundError(f"{name}: no such model folder, and not a hub id of the form ORG/NAME")
    from huggingface_hub import snapshot_download
    try:
        return Path(snapshot_download(str(name),
                                      allow_patterns=["*.json", "*.safetensors", "*.jinja", "merges.txt"]))
    except Exception as error:
        raise FileNotFoundError(f"{name}: no such folder, and the hub did not give it "
                                f"({type(error).__name__}: {str(error).partition(chr(10))[0]})") from None


def load_config(folder):
    path = Path(folder) / "config.json"
    try:
        return Qwen2Config.from_dict(read_json(path))
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ValueError(error if str(path) in str(error) else f"{path}: {error}") from None


def tensor_files(folder):
    """{tensor name: file} of a folder with one model.safetensors, or shards and their index."""
    folder, index = Path(folder), Path(folder) / "model.safetensors.index.json"
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise ValueError(f"{index}: weight_map: expected tensor names and their files, "
                             f"found {str(names)[:60]}")
        for name, file in names.items():
            # Judge the name, not where it leads:
            # in the hub's cache every file is a symlink out of the folder.
            if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
                raise ValueError(f"{index}: weight_map[{name!r}] = {file!r} is not a .safetensors file "
                                 f"of this folder")
        return {name: folder / file for name, file in names.items()}
    single = folder / "model.safetensors"
    if not single.is_file():
        raise FileNotFoundError(f"{folder}: no weights; expected model.safetensors or "
                                f"model.safetensors.index.json")
    with open_tensors(single) as f:
        return dict.fromkeys(f.keys(), single)


def open_tensors(path):
    """A memory-mapped safetensors file."""
    try:
        return safe_open(path, "pt")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: not found") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file, perhaps cut short ({error})") from None


def complain(where, expected, found):
    """One error that lists every missing, unexpected and misshaped tensor;
    both arguments are {name: shape}."""
    lines = [f"  missing     {n} {list(s)}" for n, s in expected.items() if n not in found]
    lines += [f"  unexpected  {n} {list(s)}" for n, s in found.items() if n not in expected]
    lines += [f"  misshaped   {n} {list(found[n])}, expected {list(s)}" for n, s in expected.items()
              if n in found and tuple(found[n]) != tuple(s)]
    if lines:
        raise ValueError("\n".join([f"{where}: the tensors are not this model's:", *lines]))


def load_model(folder, device="cpu", dtype=None):
    """Qwen2 from a Hugging Face folder, weights frozen, on `device` in `dtype` (default: as stored).

    Built on the meta device and filled from memory-mapped files, so the peak is the model itself.
    """
    config = load_config(folder)
    with torch.device("meta"):
        model = Qwen2(config)
    files = tensor_files(folder)
    by_file = {}
    for name, file in files.items():
        by_file.setdefault(file, []).append(name)
    handles = {file: open_tensors(file) for file in by_file}
    absent = [f"{file}: lacks {n}, which the index places there" for file, names in by_file.items()
              for n in sorted(set(names) - set(handles[file].keys()))]
    if absent:
        raise ValueError("\n".join(absent))
    expected = {name: p.shape for name, p in model.named_parameters()}      # a tied head appears once
    found = {n: tuple(handles[f].get_slice(n).get_shape()) for n, f in files.items()}
    tied_copy = config.tie_word_embeddings and {"lm_head.weight", "model.embed_tokens.weight"} <= set(found)
    if tied_copy:                           # some tools store the tied head twice; it must be the same tensor
        head, embed = (handles[files[n]].get_tensor(n)
                       for n in ("lm_head.weight", "model.embed_tokens.weight"))
        if not torch.equal(head, embed):
            raise ValueError(f"{folder}: tie_word_embeddings is true, but lm_head.weight differs "
                             f"from the embedding")
        del found["lm_head.weight"]
    complain(folder, expected, found)
    tensors = {n: handles[files[n]].get_tensor(n).to(device=device, dtype=dtype) for n in expected}
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors, strict=True, assign=True)
    model.tie()
    return model.requires_grad_(False).eval()


def write_folder(folder, fill):
    """Call fill(path) on a fresh folder beside `folder`, then rename it into place: whole or not at all."""
    folder = Path(folder)
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    fill(aside)
    old = folder.with_name(folder.name + ".old")        # moved, not removed: a kill in between loses nothing
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(aside, folder)
    shutil.rmtree(old, ignore_errors=True)


def save_model(folder, config, tensors, source=None, shard_bytes=5 * 10 ** 9):
    """Write {name: tensor} as a folder that transformers loads unchanged;
    more than shard_bytes become shards.

    tensors comes from model.state_dict() or merged_tensors.
    source: a model folder whose tokenizer files are copied.
    """
    tensors = {n: t.detach().contiguous() for n, t in tensors.items()       # tied: stored once, as HF does
               if not (config.tie_word_embeddings and n == "lm_head.weight")}
    shards, size = [{}], 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes

    def fill(path):
        dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
        (path / "config.json").write_text(
            json.dumps({**config.to_dict(), "torch_dtype": dtype}, indent=2) + "\n")
        if len(shards) == 1:
            save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        else:
            names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
            for file, shard in zip(names, shards):
                save_file(shard, path / file, metadata={"format": "pt"})
            index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
                     "weight_map": {n: file for file, shard in zip(names, shards) for n in shard}}
            (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
        for name in COMPANIONS if source else ():
            if (Path(source) / name).is_file():
                shutil.copyfile(Path(source) / name, path / name)

    write_folder(folder, fill)


def save_adapter(folder, model, k=0, base="", dtype=None):
    """Adapter k of the model's bank as a PEFT folder; base: the name of the model it belongs to."""
    modules = adapted(model)
    first = next(iter(modules.values()))
    rank = first.lora_A.shape[1]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base),
              "r": rank, "lora_alpha": first.scale * rank, "lora_dropout": 0.0, "bias": "none",
              "target_modules": sorted({n.rpartition(".")[2] for n in modules}), "inference_mode": True}

    def fill(path):
        (path / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
        tensors = {PREFIX + n: t.to(dtype).contiguous() for n, t in lora_tensors(model, k).items()}
        save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt"})

    write_folder(folder, fill)


# adapter_config.json settings that change nothing, or nothing at inference.
# Any other setting must be empty or false.
HARMLESS = {"peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "lora_dropout",
            "target_modules", "inference_mode", "init_lora_weights", "revision", "auto_mapping",
            "peft_version", "megatron_core", "qalora_group_size", "eva_config", "ensure_weight_tying"}
# Ways to start that leave the base alone. PiSSA, OLoRA and their kin change the base weights as well.
HARMLESS_STARTS = (None, True, False, "gaussian", "orthogonal", "eva", "mica")


def load_adapter(folder, model):
    """Put the PEFT adapter in `folder` on the model (as a bank of one).
    Refuses what LoRALinear does not compute."""
    folder = Path(folder)
    path = folder / "adapter_config.json"
    config = read_json(path)
    refused = [f"{key} = {value!r}" for key, value in config.items()
               if key not in HARMLESS and value not in (None, False, {}, [], "", "none")]
    if config.get("init_lora_weights") not in HARMLESS_STARTS:
        refused.append(f"init_lora_weights = {config['init_lora_weights']!r} "
                       f"(it changes the base weights too)")
    if config.get("peft_type") != "LORA":
        refused.insert(0, f"peft_type = {config.get('peft_type')!r}")
    targets, rank, alpha = config.get("target_modules"), config.get("r"), config.get("lora_alpha")
    if not isinstance(targets, list) or not targets or set(targets) - set(PROJECTIONS):
        refused.append(f"target_modules = {targets!r} (expected a list of {', '.join(PROJECTIONS)})")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, (int, float)):
        refused.append(f"r = {rank!r}, lora_alpha = {alpha!r}")
    if refused:
        raise ValueError(f"{path}: not supported: {'; '.join(refused)}")
    with open_tensors(folder / "adapter_model.safetensors") as f:
        tensors = {n.removeprefix(PREFIX): f.get_tensor(n) for n in f.keys()}
    expected = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in targets and isinstance(module, torch.nn.Linear):
            expected[f"{name}.lora_A.weight"] = (rank, module.in_features)
            expected[f"{name}.lora_B.weight"] = (module.out_features, rank)
    complain(f"{folder}: an adapter for another model?", expected,
             {n: tuple(t.shape) for n, t in tensors.items()})
    add_lora(model, targets, rank, alpha)
    for name, module in adapted(model).items():
        for side in "AB":
            factor = getattr(module, f"lora_{side}")
            factor.data[0] = tensors[f"{name}.lora_{side}.weight"].to(factor)
    return model.requires_grad_(False)


def load_bank(folders, model):
    """Put the PEFT adapters in `folders` side by side on the model: adapter k of the bank is folders[k].
    They must have one rank, one alpha and the same targets."""
    # 1. Read each as the single adapter that it is, with all of its checks.
    kept, kinds = [], {}
    for folder in folders:
        load_adapter(folder, model)
        modules = adapted(model)
        first = next(iter(modules.values()))
        kinds[first.lora_A.shape[1], first.scale, tuple(modules)] = folder      # rank, scale, where
        kept.append(lora_tensors(model))
        remove_lora(model)
    if len(kinds) > 1:
        raise ValueError(f"{' and '.join(map(str, kinds.values()))} differ in rank, alpha or targets, so they "
                         f"cannot form one bank")
    # 2. A bank of that kind, filled with them.
    (rank, scale, names), = kinds
    add_lora(model, {name.rpartition(".")[2] for name in names}, rank, scale * rank, range(len(folders)))
    for k, tensors in enumerate(kept):
        for name, module in adapted(model).items():
            module.lora_A.data[k] = tensors[f"{name}.lora_A.weight"]
            module.lora_B.data[k] = tensors[f"{name}.lora_B.weight"]
    return model.requires_grad_(False)
