"""Settings of a model folder, checked by type and range before anything is built from them: a list, a NaN
or a billion layers is one clear line. What is checked here needs no other knowledge; what a Qwen2 can be is
in model/qwen2.py."""

import math

from model.files import read_json, short

# key: (kind, smallest, largest). The ranges are far wider than any model: they only keep a slip from hanging.
MODEL = {
    "vocab_size": (int, 1, 10 ** 7), "hidden_size": (int, 1, 10 ** 6), "intermediate_size": (int, 1, 10 ** 7),
    "num_hidden_layers": (int, 1, 1000), "num_attention_heads": (int, 1, 10 ** 4),
    "num_key_value_heads": (int, 1, 10 ** 4), "head_dim": (int, 1, 10 ** 5),
    "max_position_embeddings": (int, 1, 10 ** 9), "rms_norm_eps": (float, 1e-20, 0.1),
    "rope_theta": (float, 2, 10 ** 11), "initializer_range": (float, 1e-9, 1), "tie_word_embeddings": (bool,),
    "use_sliding_window": (bool,), "layer_types": (list,), "rope_parameters": (dict,),
}
ADAPTER = {"r": (int, 1, 10 ** 5), "lora_alpha": (float, 1e-6, 10 ** 6), "lora_dropout": (float, 0, 1)}
NAMES = {bool: "true or false", list: "a list of texts", dict: "an object",
         int: "a whole number from {:,} to {:,}", float: "a number from {:,} to {:,}"}


def wrong(settings, table):
    """[(key, value, what was expected)] of the values of the wrong kind or size. A value that is absent or
    null is for the caller to judge."""
    found = []
    for key, (kind, *limits) in table.items():
        value = settings.get(key)
        if kind is list:
            fine = type(value) is list and all(type(v) is str for v in value)
        elif limits:
            kinds = (int,) if kind is int else (int, float)
            fine = type(value) in kinds and limits[0] <= value <= limits[1]     # not so for a NaN
        else:
            fine = type(value) is kind
        if value is not None and not fine:
            found.append((key, value, NAMES[kind].format(*limits)))
    return found


def check_settings(settings, table, path):
    """One clear line about the first wrong value."""
    for key, value, expected in wrong(settings, table):
        raise ValueError(f"{path}: {key}: found {short(value)}, expected {expected}")


def check_rope(settings, path):
    """rope_theta stands at the top (transformers 4) or in rope_parameters (5): in both the same."""
    inner = settings.get("rope_parameters") or {}
    check_settings(inner, {"rope_theta": MODEL["rope_theta"]}, f"{path}: rope_parameters")
    thetas = settings.get("rope_theta"), inner.get("rope_theta")
    if None not in thetas and thetas[0] != thetas[1]:
        raise ValueError(f"{path}: rope_theta is {thetas[0]!r} at the top and {thetas[1]!r} in "
                         f"rope_parameters; the weights were made for one of them: delete the other")


def end_ids(settings, path):
    """eos_token_id of a config as a list of ids."""
    eos = settings.get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if not all(type(i) is int and i >= 0 for i in ids):
        raise ValueError(f"{path}: eos_token_id: found {short(eos)}, expected a token id or a list of them")
    return ids


def check_ends(folder, settings):
    """eos_token_id of config.json and generation_config.json: ids of the vocabulary, and one among them in
    common (Qwen2.5 Instruct has 151645 in the first, and 151643 as well in the second)."""
    found = {folder / "config.json": settings}
    path = folder / "generation_config.json"
    if path.is_file():
        found[path] = read_json(path)
    ends = {path: end_ids(config, path) for path, config in found.items()}
    for path, ids in ends.items():
        if max(ids, default=0) >= (settings.get("vocab_size") or math.inf):
            raise ValueError(f"{path}: eos_token_id: found {max(ids)}, expected an id below the vocab_size "
                             f"{settings['vocab_size']}")
    one, other = (ends.get(p, []) for p in (folder / "config.json", folder / "generation_config.json"))
    if one and other and not set(one) & set(other):
        raise ValueError(f"{folder / 'config.json'} and {path} disagree: eos_token_id is {short(one)} in the "
                         f"first, {short(other)} in the second; an answer would end at the wrong token")
