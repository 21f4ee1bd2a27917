"""A study as people write it: one YAML with axes, and the frozen cells that it stands for.

    model, device, dtype    who writes and who learns, and on what
    news                    where the news come from (newnews/studies/sources.py)
    ask                     in which formats (newnews/tasks/news.py)
    draws                   replay elements drawn a news item
    lora                    rank, alpha, targets of the adapters; layers: [first, last], if only these blocks
                            carry any, counted from 0 (the lowest two of 24 frozen: [2, 23])
    bank                    adapters trained side by side: what bounds memory, and the unit of resume
    recipe                  of training (newnews/training.py: Recipe)
    recipes                 what a protocol changes in it: {protocol: {key: value}}
    seed                    of self-play, of training, and of the order in which options are shown; an axis
                            over seeds leaves that order, so that all cells are asked the same
    axes                    {key: [values]}: a cell for each combination. "protocol" is one of them; others
                            are keys of the study, dots for depth: seed, draws, model, writer, lora.rank,
                            recipe.steps ...

Keys that may be left out:

    writer                  the model that writes; by default the learner's own
    learner                 the model that is trained, by default `model`: another checkpoint of the same
                            shape, whose updates are put on `model` to be asked (grafting)
    scale                   what updates are multiplied by before they are asked; 1
    neutral                 share: of the training examples that are neutral ones instead; source: a file of
                            them, or lessons, of the pocket world (newnews/neutral.py)
    tuning                  lora; or full: all weights, a whole model a news item (or a bank, with `together`)
    form                    of conversations in training: chat, all or text (newnews/protocols/form.py)
    together                true: the news of a bank share one adapter, trained on the rows of all of them;
                            then `recipe` is that of a bank, not of a news item
    stream                  news arrive one after another into one model (newnews/studies/stream.py);
                            replay_share: of the rows trained on that are about earlier ones
    also                    what else every model is asked (newnews/studies/ways.py): counterfactual, insists,
                            background, others, others_in_context, cloze, reversed, kl
    contrasts               the claims that the study is run for (newnews/studies/contrasts.py)
"""

import copy
from dataclasses import dataclass
from itertools import product

from model.lora import PROJECTIONS
from newnews.protocols import NAMES, protocols
from newnews.protocols.form import in_form
from newnews.reading import meant, plain, read_yaml, record, shown, whole
from newnews.studies.contrasts import base_names, read_contrasts
from newnews.studies.sources import source
from newnews.studies.ways import ALSO, KL, ways_of
from newnews.tasks.news import FORMATS
from newnews.training import Recipe

KEYS = {"model": str, "device": str, "dtype": str, "news": (str, dict), "ask": list, "draws": int,
        "lora": dict, "bank": int, "recipe": dict, "recipes": dict, "seed": int, "axes": dict}
OPTIONAL = {"writer": str, "learner": str, "scale": (int, float), "neutral": dict, "form": str,
            "tuning": str, "together": bool, "stream": dict, "also": list, "contrasts": list}
PLAIN_AXES = {"seed": int, "draws": int, "bank": int, "model": str, "writer": str, "learner": str,
              "form": str, "tuning": str, "scale": (int, float), "together": bool}
WANTED = {int: "whole numbers", str: "texts", bool: "true or false"}
WORDED = {str: "a text", dict: "keys with values", list: "a list", int: "a whole number",
          bool: "true or false", (str, dict): "a file or folder of news, or keys with values",
          (int, float): "a number"}


@dataclass(frozen=True)
class Cell:
    """One way of moving news into weights: everything that its replay, update and answers depend on."""
    name: str           # the protocol, and the values of other axes: "self_qa" or "self_qa seed=1"
    protocol: str
    model: str
    writer: str
    draws: int
    seed: int
    lora: tuple         # (rank, alpha, targets), or (rank, alpha, targets, (first block, last block))
    bank: int
    recipe: Recipe
    learner: str
    scale: float = 1.0
    neutral: tuple = ()         # (share, source)
    form: str = "chat"
    together: bool = False      # one adapter for all news of a bank
    stream: float | None = None     # the share of earlier rows, where news arrive one after another
    full: bool = False          # all weights are trained, not an adapter


def read_study(path, changes=()):
    """The YAML of a study with `changes` (KEY=VALUE, dots for depth) applied, checked before any work starts.

    A change of recipe.KEY holds for every protocol: what `recipes` says of KEY gives way to it.
    """
    study = read_yaml(path)
    if not isinstance(study, dict):
        raise ValueError(f"{path}: expected the keys {', '.join(KEYS)}")
    for change in changes:
        apply(study, change)
    check(study, path)
    return study


def apply(study, change):
    key, equals, value = change.partition("=")
    *parents, last = key.split(".", 1 if key.startswith("axes.") else -1)       # an axis is named recipe.rate
    place = study
    if not equals:
        raise ValueError(f"--set {change}: expected KEY=VALUE, dots for depth, e.g. news.split=dev")
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ValueError(f"--set {change}: {parent} is {place!r}, which has no keys; give all of it, "
                             f"e.g. --set \"{parent}={{{last}: {value}}}\"")
    place[last] = plain(value)
    if parents == ["recipe"] and isinstance(study.get("recipes"), dict):
        for recipe in study["recipes"].values():
            if isinstance(recipe, dict):
                recipe.pop(last, None)


def check(study, path):
    odd = sorted(set(study) - set(OPTIONAL) ^ set(KEYS), key=str)
    if odd:
        raise ValueError(f"{path}: missing or unknown keys: {', '.join(map(str, odd))}"
                         f"{meant(odd[0], {*KEYS, *OPTIONAL} - set(study))}; "
                         f"expected {', '.join(KEYS)}, and perhaps {', '.join(OPTIONAL)}")
    for key, kind in {**KEYS, **OPTIONAL}.items():
        if key in OPTIONAL and key not in study:
            continue
        value = study[key]
        empty = value in ("", [], {}) and key not in ("recipes", "contrasts")
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool) or empty:
            raise ValueError(f"{path}: {key}: expected {WORDED[kind]}{', not empty' * bool(empty)}; found "
                             f"{shown(value)}")
    unknown = [f for f in study["ask"] if f not in FORMATS]
    if unknown or len(set(study["ask"])) != len(study["ask"]):
        raise ValueError(f"{path}: ask: expected some of {', '.join(FORMATS)}, once each; "
                         f"found {study['ask']!r}")
    alone = {**study, "recipe": {"steps": 1, "rate": 1.0, **study["recipe"]}, "recipes": {}}
    recipe_of(alone, "every protocol", path)    # also what each of them changes
    for protocol, recipe in study["recipes"].items():
        if protocol not in NAMES or not isinstance(recipe, dict):
            raise ValueError(f"{path}: recipes: expected {{protocol: {{key: value}}}} with protocols out of "
                             f"{', '.join(NAMES)}; found {protocol!r}: {recipe!r}")
        recipe_of(study, protocol, path)        # also of protocols that are not run: a slip there is a slip
    for key, values in study["axes"].items():
        if not isinstance(key, str):
            raise ValueError(f"{path}: axes: unknown axis {key!r}; expected the name of a key")
        if not isinstance(values, list) or not values or len(set(map(str, values))) != len(values):
            raise ValueError(f"{path}: axes: {key}: expected a list of different values, found {values!r}")
    if "protocol" not in study["axes"]:
        raise ValueError(f"{path}: axes: protocol is missing: which protocols are run?")
    news = source(study["news"], path)
    lora_of(study["lora"], path)                # also where an axis varies it
    every = cells(study, path)
    check_also(study, every, path)
    bases = base_names(dict.fromkeys(cell.model for cell in every)).values()
    read_contrasts(study.get("contrasts", []), [*bases, *(cell.name for cell in every)], study["ask"], path,
                   news.load, ways_of(study))


def check_also(study, every, path):
    also = study.get("also", [])
    if any(way not in ALSO for way in also) or len(set(also)) < len(also):
        raise ValueError(f"{path}: also: expected some of {', '.join(ALSO)}, once each; found {also!r}")
    if KL in also and "source" not in study.get("neutral", {}):
        raise ValueError(f"{path}: also: {KL} reads neutral texts; say which: neutral: {{share: 0, source: a "
                         f"file, or lessons}}")
    if KL in also and any(cell.full for cell in every):
        raise ValueError(f"{path}: also: {KL} compares adapters with their base; it is not for tuning: full")
    shared = [way for way in also if way.startswith("others")]
    if shared and any(cell.together for cell in every):
        raise ValueError(f"{path}: also: {shared[0]}: where news share an adapter, it was trained on the "
                         f"others too")


def recipe_of(study, protocol, path="recipe"):
    where = f"{path}: recipe of {protocol}"
    row = {"seed": study["seed"], **study["recipe"], **study["recipes"].get(protocol, {})}
    recipe = record(Recipe, row, where)
    if recipe.optimizer == "muon":
        raise ValueError(f"{where}: optimizer = 'muon' is for whole models; adapters are trained by adamw")
    return recipe


def cells(study, path="study"):
    """The cells of a study, one for each combination of its axes' values."""
    axes, out = study["axes"], []
    for values in product(*axes.values()):
        point, mine = dict(zip(axes, values)), copy.deepcopy(study)
        protocol = point.pop("protocol")
        if protocol not in NAMES:
            raise ValueError(f"{path}: axes: unknown protocol {protocol!r}{meant(protocol, NAMES)}; known "
                             f"are {', '.join(NAMES)}")
        for key, value in point.items():
            set_axis(mine, key, value, path)
        for key, low, high in (("draws", 1, 10 ** 6), ("bank", 1, 10 ** 4), ("seed", 0, 2 ** 63 - 1)):
            whole(f"{path}: {key}", mine[key], low, high)
        varied = "".join(f" {key}={words(value)}" for key, value in point.items() if len(axes[key]) > 1)
        learner, scale = mine.get("learner", mine["model"]), mine.get("scale", 1.0)
        if not abs(scale) < 1e6:            # not so for a NaN
            raise ValueError(f"{path}: scale: expected a number, found {scale!r}")
        form = mine.get("form", "chat")
        try:
            in_form(protocols(None)[protocol], form)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        stream = stream_of(mine.get("stream"), path)
        full = mine.get("tuning", "lora") == "full"
        if mine.get("tuning", "lora") not in ("lora", "full"):
            raise ValueError(f"{path}: tuning: expected lora or full, found {mine['tuning']!r}")
        not_whole = {"scaled": scale != 1, "put on another model": learner != mine["model"],
                     "tuned as a stream": stream is not None,
                     f"tuned by {protocol}'s loss": protocols(None)[protocol].loss is not None}
        if full and any(not_whole.values()):
            first = next(what for what, asked in not_whole.items() if asked)
            raise ValueError(f"{path}: tuning: full makes whole models, which cannot be {first}; that is for "
                             f"lora")
        out.append(Cell(protocol + varied, protocol, mine["model"], mine.get("writer", learner),
                        mine["draws"], mine["seed"], lora_of(mine["lora"], path), mine["bank"],
                        recipe_of(mine, protocol, path), learner, scale,
                        neutral_of(mine.get("neutral"), path), form,
                        mine.get("together", False) or stream is not None, stream, full))
    return out


def words(value):
    """A value as it stands in a cell's name: [q_proj, v_proj] as q,v, True as true."""
    if isinstance(value, list):
        return ",".join(str(v).removesuffix("_proj") for v in value)
    return str(value).lower() if isinstance(value, bool) else value


def grid_in_words(study):
    """How many cells there are, and of which axes: "4: protocol naive, self_qa; seed 0, 1"."""
    axes = [f"{key} {', '.join(str(words(value)) for value in values)}"
            for key, values in study["axes"].items()]
    return f"{len(cells(study))}: {'; '.join(axes)}"


def set_axis(study, key, value, path):
    """Put one axis's value into the study. What a protocol's own recipe says of the key gives way to it."""
    group, dot, last = key.partition(".")
    if key in PLAIN_AXES:
        kind = PLAIN_AXES[key]
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            raise ValueError(f"{path}: axes: {key}: expected {WANTED.get(kind, 'numbers')}, found {value!r}")
        study[key] = value
    elif group in ("lora", "recipe", "neutral", "stream") and last:
        study.setdefault(group, {})[last] = value
        for recipe in study["recipes"].values() if group == "recipe" else ():
            recipe.pop(last, None)
    else:
        raise ValueError(f"{path}: axes: unknown axis {key!r}; expected protocol, {', '.join(PLAIN_AXES)}, "
                         f"lora.KEY, recipe.KEY, neutral.KEY or stream.KEY")


def lora_of(lora, path):
    rank, alpha, targets = (lora.get(key) for key in ("rank", "alpha", "targets"))
    if set(lora) - {"layers"} != {"rank", "alpha", "targets"} \
            or type(rank) is not int or not 1 <= rank <= 4096 \
            or isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < 1e6 \
            or not isinstance(targets, list) or not targets or set(map(str, targets)) - set(PROJECTIONS) \
            or len(set(map(str, targets))) < len(targets):
        raise ValueError(f"{path}: lora: expected rank >= 1, alpha > 0 and targets out of "
                         f"{', '.join(PROJECTIONS)}, once each; found {shown(lora)}")
    if "layers" not in lora:
        return rank, alpha, tuple(targets)
    layers = lora["layers"]
    if not isinstance(layers, list) or [type(n) for n in layers] != [int, int] \
            or not 0 <= layers[0] <= layers[1]:
        raise ValueError(f"{path}: lora: layers: expected the numbers of the first and the last block that "
                         f"carry adapters, found {shown(layers)}")
    return rank, alpha, tuple(targets), tuple(layers)


def neutral_of(neutral, path):
    """(share, source), or () where there is none: a share of 0 is the study without."""
    if neutral is None:
        return ()
    share, source = neutral.get("share"), neutral.get("source")
    if set(neutral) != {"share", "source"} or isinstance(share, bool) or not isinstance(source, str) \
            or not isinstance(share, (int, float)) or not 0 <= share < 1:
        raise ValueError(f"{path}: neutral: expected share, from 0 to below 1, and source, a file or "
                         f"lessons; found {shown(neutral)}")
    return (share, source) if share else ()


def stream_of(stream, path):
    """The share of earlier rows; None where news do not arrive one after another."""
    if stream is None:
        return None
    share = stream.get("replay_share")
    if set(stream) != {"replay_share"} or isinstance(share, bool) or not isinstance(share, (int, float)) \
            or not 0 <= share < 1:
        raise ValueError(f"{path}: stream: expected replay_share, from 0 to below 1; found {shown(stream)}")
    return float(share)
