"""Spoilt files for tests/fuzz.py: one thing wrong in a valid tree, JSON and YAML text, safetensors."""

import copy
import json
import math

import torch
from safetensors.torch import load, save_file

NAN, INF = math.nan, math.inf
ODD = {str: [None, True, 7, 1.5, ["x"], {"a": "x"}, NAN, "\ud800"], bool: ["yes", 2, [], {}, NAN],
       int: [None, True, "x", "3", 1.5, NAN, INF, [], {}, -1, 10 ** 12, 10 ** 400],
       float: [None, True, "x", NAN, INF, -INF, [], {}, 10 ** 400, -1.0],
       list: [None, True, 7, "x", {}, {"a": 1}, [None], [[]], [10 ** 12]],
       dict: [None, True, 7, "x", [], ["x"], {"": 0}], type(None): [7, ["x"], NAN]}


# Mutations --------------------------------------------------------------------------------------------------

def places(tree, path=()):
    """The paths of all values in a tree of dicts and lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def spoil(rng, tree, only=None, unknown=True):
    """(a copy with one thing wrong, what, the key that an error should name or ""). only: keys at the top."""
    tree = copy.deepcopy(tree)
    path = rng.choice([p for p in places(tree) if only is None or p[0] in only])
    *parents, last = path
    place = tree
    for key in parents:
        place = place[key]
    named = str([k for k in path if isinstance(k, str)][-1]) if any(isinstance(k, str) for k in path) else ""
    how = rng.choice(["value"] * 6 + ["delete", "unknown"])
    if how == "unknown" and isinstance(place, dict) and unknown:
        place["unknwon"] = 1
        return tree, f"{path[:-1]}: an unknown key", "unknwon"
    if how == "delete":
        del place[last]
        return tree, f"{path} deleted", ""
    place[last] = rng.choice(ODD[type(place[last])])
    return tree, f"{path} = {str(ascii(place[last]))[:60]}", named


def spoil_json(rng, text):
    """(bytes, what): JSON of an object that is none any more."""
    how = rng.choice(["cut", "byte", "deep", "twice", "list", "empty", "comma", "number", "bom"])
    made = {"cut": text[:rng.randrange(len(text.rstrip()) - 1)], "deep": '{"x": ' + "[" * 10 ** 5,
            "twice": text.rstrip()[:-1] + ', "zz": 1, "zz": 2}', "list": f"[{text}]", "empty": " ",
            "comma": text.rstrip()[:-1] + ",}", "number": '{"x": ' + "9" * 5000 + "}", "byte": text,
            "bom": "\ufeff\ufeff" + text}[how].encode()
    if how == "byte":
        at = rng.randrange(1, len(made))
        made = made[:at] + rng.choice([b"\xff", b"\xc3\x28", b"\x00", b"\xed\xa0\x80"]) + made[at:]
    return made, f"JSON: {how}"


def spoil_yaml(rng, text):
    """(bytes, what): YAML that must not be read."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi"))
    how, made = rng.choice(sorted({
        "byte": text[:9] + "\udcff" + text[9:], "control": text[:9] + "\x07" + text[9:], "alias bomb": bomb,
        "deep": "[" * 5000, "deep mapping": "".join(" " * i + "a:\n" for i in range(200)),
        "python": "- !!python/object/apply:os.system [true]\n", "timestamp": "- !!timestamp foo\n",
        "date": "- 2024-13-45\n", "quote": text + '\n"open', "tab": text.replace("  ", "\t", 1),
        "two documents": f"{text}\n---\n{text}", "long line": "a" * 10 ** 7, "complex key": "? [a]\n: b\n",
        "merge": "<<: 7\n", "empty": "# nothing\n", "scalar": "words", "binary": "- !!binary 7\n",
        "colon": "- text: Where?, here: there\n", "twice": twice(text), "set": "!!set {a, b}\n",
        "digits": "- " + "9" * 5000 + "\n", "bool": "- !!bool foo\n", "int": "- !!int x\n"}.items()))
    return made.encode(errors="surrogateescape"), f"YAML: {how}"


def twice(text):
    """A key of the top, or of one more entry of a list, is there twice."""
    return text + ("- id: a\n  id: a\n" if text.startswith("- ") else text.partition(":")[0] + ": 1\n")


def spoil_tensors(rng, path):
    """Spoil a safetensors file; what was done. Headers by hand, the rest through the library."""
    data = path.read_bytes()
    how = rng.choice(["cut", "header", "length", "kind", "shape", "lost", "more", "nan", "offsets", "name",
                      "empty", "scalar", "pickle"])
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    tensors = load(data)         # no map of the file, which is about to be cut
    name = rng.choice(sorted(tensors))
    if how in ("cut", "empty"):
        path.write_bytes(data[:rng.randrange(len(data)) if how == "cut" else 0])
    elif how == "length":
        path.write_bytes((rng.choice([0, 10 ** 12, size - 1, 2 ** 63])).to_bytes(8, "little") + data[8:])
    elif how == "pickle":
        torch.save(tensors, path)
    elif how in ("header", "offsets"):
        if how == "offsets":
            header[name]["data_offsets"] = rng.choice([[0, 10 ** 12], [8, 0], [-1, 4], ["a", 4], [0]])
        else:
            header[name] = rng.choice([None, {}, [], {**header[name], "dtype": "F99"},
                                       {**header[name], "shape": [-1]},
                                       {**header[name], "shape": [2 ** 62, 4]}])
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size:])
    else:
        if how == "kind":
            tensors[name] = tensors[name].to(rng.choice([torch.int64, torch.bool, torch.complex64,
                                                         torch.uint8, torch.float8_e4m3fn]))
        elif how == "nan":
            tensors[name].flatten()[0] = rng.choice([NAN, INF])
        elif how == "shape":
            tensors[name] = rng.choice([tensors[name][:-1].clone(), tensors[name][None].clone(),
                                        torch.zeros(0)])
        elif how == "scalar":
            tensors[name] = torch.tensor(1.0)
        elif how == "lost":
            del tensors[name]
        else:
            tensors[f"{name}.x" if how == "name" else "extra"] = tensors.pop(name) if how == "name" else \
                torch.zeros(1)
        save_file(tensors, path)
    return f"{name}: {how}"
