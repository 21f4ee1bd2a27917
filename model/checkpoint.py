"""Model folders and adapters on disk, in the ecosystem's layouts: Hugging Face folders and PEFT adapters.
Safetensors only: nothing from a file is ever executed."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model.files import read_json, short
from model.lora import PROJECTIONS, adapted, adapter_shape, add_lora, block_of, lora_tensors, remove_lora
from model.qwen2 import Qwen2, Qwen2Config
from model.settings import ADAPTER, MODEL, check_ends, check_rope, check_settings, wrong

COMPANIONS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
              "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "prompts.yaml")
PREFIX = "base_model.model."        # PEFT's name for the model that it wraps
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
WEIGHTS = ("F64", "F32", "F16", "BF16")     # types of tensor that are weights to us, in safetensors' words
ROTARY = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")    # buffers, computed anew


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
    """The Qwen2Config of a folder. Its values are checked first, and against those of the other files."""
    folder = Path(folder)
    path = folder / "config.json"
    settings = read_json(path)
    check_settings(settings, MODEL, path)
    check_rope(settings, path)
    try:
        config = Qwen2Config.from_dict(settings)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{path}: {str(error)[:300]}") from None
    check_ends(folder, settings)
    return config


def tensor_files(folder):
    """{tensor name: file} of a folder with one model.safetensors, or shards and their index."""
    folder = Path(folder)
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise ValueError(f"{index}: weight_map: expected tensor names and their files, "
                             f"found {short(names)}")
        for name, file in names.items():
            # Judge the name, not where it leads:
            # in the hub's cache every file is a symlink out of the folder.
            if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
                raise ValueError(f"{index}: weight_map[{short(name)}] = {short(file)} "
                                 f"is not a .safetensors file of this folder")
        if single.is_file() and single.name not in names.values():
            raise ValueError(f"{index} and {single} are both there, and the first does not name the second: "
                             f"one is left over from another model; remove it (transformers reads "
                             f"{single.name})")
        return {name: folder / file for name, file in names.items()}
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


def write_tensors(path, tensors, metadata):
    """A safetensors file; what the disk says against it names the file."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:                    # a full disk, for one: its own kind, without a file
        raise OSError(f"{path}: cannot be written ({error})") from None


def listed(first, lines):
    """An error of many lines: the first says how many, ten are shown."""
    more = [f"  and {len(lines) - 10} more"] if len(lines) > 10 else []
    return ValueError("\n".join([first, *lines[:10], *more]))


def complain(where, expected, found):
    """One error about every missing, unexpected and misshaped tensor; both arguments are {name: shape}."""
    lines = [f"  missing     {n} {list(s)}" for n, s in expected.items() if n not in found]
    lines += [f"  unexpected  {n} {list(s)}" for n, s in found.items() if n not in expected]
    lines += [f"  misshaped   {n} {list(found[n])}, expected {list(s)}" for n, s in expected.items()
              if n in found and tuple(found[n]) != tuple(s)]
    if lines:
        counts = Counter(line.split()[0] for line in lines)
        raise listed(f"{where}: the tensors are not this model's: "
                     f"{', '.join(f'{n} {kind}' for kind, n in counts.items())} (of {len(expected)})", lines)


def shapes(handle, names, path):
    """{name: shape} of tensors in an open safetensors file; what holds no weights is refused."""
    slices = {name: handle.get_slice(name) for name in names}
    odd = {name: s.get_dtype() for name, s in slices.items() if s.get_dtype() not in WEIGHTS}
    if odd:
        raise listed(f"{path}: {len(odd)} tensors of a type that this code does not compute with "
                     f"({', '.join(sorted(set(odd.values())))}); expected one of {', '.join(WEIGHTS)}",
                     [f"  {kind}  {name}" for name, kind in odd.items()])
    return {name: tuple(s.get_shape()) for name, s in slices.items()}


def load_model(folder, device="cpu", dtype=None):
    """Qwen2 from a Hugging Face folder, weights frozen, on `device` in `dtype` (default: as stored).

    Built on the meta device and filled from memory-mapped files, so the peak is the model itself.
    """
    config = load_config(folder)
    with torch.device("meta"):
        model = Qwen2(config)
    files = tensor_files(folder)
    rotary = [name for name in files if ROTARY.fullmatch(name)]
    by_file = {}
    for name, file in files.items():
        if name not in rotary:
            by_file.setdefault(file, []).append(name)
    handles = {file: open_tensors(file) for file in by_file}
    absent = [f"  {file}: lacks {n}" for file, names in by_file.items()
              for n in sorted(set(names) - set(handles[file].keys()))]
    if absent:
        raise listed(f"{folder}: {len(absent)} tensors are not where the index places them", absent)
    found = {}
    for file, names in by_file.items():
        found.update(shapes(handles[file], names, file))

    def read(name):
        return handles[files[name]].get_tensor(name)

    expected = {name: p.shape for name, p in model.named_parameters()}      # a tied head appears once
    sources = {name: name for name in expected}
    if config.tie_word_embeddings and HEAD in found:
        # Some tools store the tied head twice, where it must be the same tensor, some under this name only.
        if EMBEDDING not in found:
            sources[EMBEDDING] = HEAD
            found[EMBEDDING] = found[HEAD]
        elif not torch.equal(read(HEAD), read(EMBEDDING)):
            raise ValueError(f"{folder}: tie_word_embeddings is true, but lm_head.weight differs "
                             f"from the embedding")
        del found[HEAD]
    complain(folder, expected, found)
    tensors = {n: read(source).to(device=device, dtype=dtype) for n, source in sources.items()}
    if config.tie_word_embeddings:
        tensors[HEAD] = tensors[EMBEDDING]
    model.load_state_dict(tensors, strict=True, assign=True)
    model.tie()
    model.name = str(folder)                            # for errors
    # for who loads it to say
    model.note = rotary and f"{folder}: {len(rotary)} stored rotary buffers (inv_freq) are not read; " \
                            f"they follow from the config"
    return model.requires_grad_(False).eval()


def save_model(folder, config, tensors, source=None, shard_bytes=5 * 10 ** 9):
    """Write {name: tensor}, as model.state_dict() has them, to a new folder, which transformers loads
    unchanged; more than shard_bytes become shards. One that is there already is a FileExistsError.

    source: a model folder whose tokenizer files are copied, and whose config.json keeps every setting that is
    not ours (the ids that end an answer, for one).
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    tensors = {n: t.detach().contiguous() for n, t in tensors.items()       # tied: stored once, as HF does
               if not (config.tie_word_embeddings and n == "lm_head.weight")}
    shards, size = [{}], 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes

    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    kept = Path(source or "") / "config.json"
    settings = read_json(kept) if source and kept.is_file() else {}
    settings |= {**config.to_dict(), "torch_dtype": dtype}
    if "dtype" in settings:                             # transformers 5's name of the same
        settings["dtype"] = dtype
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    if len(shards) == 1:
        write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    else:
        names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
        for file, shard in zip(names, shards):
            write_tensors(folder / file, shard, {"format": "pt"})
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
                 "weight_map": {n: file for file, shard in zip(names, shards) for n in shard}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    for name in COMPANIONS if source else ():
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, folder / name)


def save_adapter(folder, model, k=0, base=""):
    """Adapter k of the model's bank as a PEFT folder, which must be new (else FileExistsError); base: the
    name of the model it belongs to."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    rank, targets, layers = adapter_shape(model)
    scale = next(iter(adapted(model).values())).scale
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base),
              "r": rank, "lora_alpha": scale * rank, "lora_dropout": 0.0, "bias": "none",
              "target_modules": targets, "inference_mode": True}
    if len(layers) < model.config.num_hidden_layers:        # PEFT's name for: in these blocks only
        config["layers_to_transform"] = layers
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {PREFIX + n: t.contiguous() for n, t in lora_tensors(model, k).items()}
    write_tensors(folder / "adapter_model.safetensors", tensors, {"format": "pt"})


# adapter_config.json settings that change nothing, or nothing at inference.
# Any other setting must be empty or false.
HARMLESS = {"peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "lora_dropout",
            "target_modules", "inference_mode", "init_lora_weights", "revision", "auto_mapping",
            "peft_version", "megatron_core", "qalora_group_size", "eva_config", "ensure_weight_tying",
            "layers_to_transform"}
# Ways to start that leave the base alone. PiSSA, OLoRA and their kin change the base weights as well.
HARMLESS_STARTS = (None, True, False, "gaussian", "orthogonal", "eva", "mica")


def load_adapter(folder, model):
    """Put the PEFT adapter in `folder` on the model (as a bank of one).
    Refuses what LoRALinear does not compute."""
    folder = Path(folder)
    path = folder / "adapter_config.json"
    config = read_json(path)
    refused = [f"{key} = {short(value)}" for key, value in config.items()
               if key not in HARMLESS and value not in (None, False, {}, [], "", "none")]
    if config.get("init_lora_weights") not in HARMLESS_STARTS:
        refused.append(f"init_lora_weights = {short(config['init_lora_weights'])} "
                       f"(it changes the base weights too)")
    if config.get("peft_type") != "LORA":
        refused.insert(0, f"peft_type = {short(config.get('peft_type'))}")
    targets, rank, alpha = (config.get(key) for key in ("target_modules", "r", "lora_alpha"))
    if not isinstance(targets, list) or not targets or [t for t in targets if t not in PROJECTIONS]:
        refused.append(f"target_modules = {short(targets)} (expected a list of {', '.join(PROJECTIONS)})")
    refused += [f"{key} = None" for key in ("r", "lora_alpha") if config.get(key) is None]
    refused += [f"{key} = {short(value)} (expected {expected})"
                for key, value, expected in wrong(config, ADAPTER)]
    blocks = range(model.config.num_hidden_layers)
    layers = config.get("layers_to_transform")      # one number or several; null, and empty: all
    layers = [layers] if type(layers) is int else layers or list(blocks)
    if not isinstance(layers, list) or any(type(n) is not int or n not in blocks for n in layers):
        refused.append(f"layers_to_transform = {short(config['layers_to_transform'])} (expected numbers of "
                       f"the model's blocks, 0 to {len(blocks) - 1})")
    if refused:
        raise ValueError(f"{path}: not supported: {'; '.join(refused)}")
    weights = folder / "adapter_model.safetensors"
    with open_tensors(weights) as f:
        shapes(f, f.keys(), weights)
        tensors = {n.removeprefix(PREFIX): f.get_tensor(n) for n in f.keys()}
    expected = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in targets and isinstance(module, torch.nn.Linear) \
                and block_of(name) in layers:
            expected[f"{name}.lora_A.weight"] = (rank, module.in_features)
            expected[f"{name}.lora_B.weight"] = (module.out_features, rank)
    complain(f"{folder}: an adapter for another model?", expected,
             {n: tuple(t.shape) for n, t in tensors.items()})
    add_lora(model, targets, rank, alpha, layers=layers)
    for name, factor in lora_tensors(model).items():
        factor.copy_(tensors[name])
    return model.requires_grad_(False)


def load_bank(folders, model, strength=1.0):
    """Put the PEFT adapters in `folders` side by side on the model: adapter k of the bank is folders[k], its
    update multiplied by `strength`. They must have one rank, one alpha and the same targets."""
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
        raise ValueError(f"{' and '.join(map(str, kinds.values()))} differ in rank, alpha or targets, "
                         f"so they cannot form one bank")
    # 2. A bank of that kind, filled with them.
    (rank, scale, names), = kinds
    add_lora(model, {name.rpartition(".")[2] for name in names}, rank, scale * rank * strength,
             range(len(folders)), {block_of(name) for name in names})
    for k, tensors in enumerate(kept):
        for name, factor in lora_tensors(model, k).items():
            factor.copy_(tensors[name])
    return model.requires_grad_(False)
