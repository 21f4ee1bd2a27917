"""Where the news of a study come from. A source has

    load()          the news, [News]
    keys(text)      what a text asks or states, as a set of hashable keys: two texts that share a key ask or
                    state the same thing, in whatever words
"""

from newnews import first_world
from newnews.news import read_news
from newnews.reading import whole
from newnews.tasks.judge import normalise
from newnews.world import oracle, things


class Files:
    """News that people wrote: equal texts are equal, after normalisation."""

    def __init__(self, path, world=0):
        self.path, self.world = path, world

    def load(self):
        return read_news(self.path, self.world)

    def keys(self, text):
        return {normalise(text)}


class PocketWorld:
    """News of a pocket world, whose questions and statements can be read back."""

    def __init__(self, make, keys, spec):
        self.make, self.read_back, self.spec = make, keys, spec

    def load(self):
        return self.make(**self.spec)

    def keys(self, text):
        return {normalise(text)} | self.read_back(text)


def first_keys(text):
    return {first_world.question_key(text)} - {None}


WORLDS = {"first": (first_world.make_news, first_keys), "second": (things.make_news, oracle.keys)}


def source(spec, where):
    """The source that a study's `news` names: a path, {path, world} for news with counter-worlds, or
    {world: first or second, split, per_domain, questions, seed} for a pocket world."""
    if isinstance(spec, str):
        return Files(spec)
    if set(spec) == {"path", "world"} and isinstance(spec["path"], str) and type(spec["world"]) is int:
        return Files(**spec)
    rest = {"world": "first", **spec}
    world, expected = rest.pop("world"), {"split", "per_domain", "questions", "seed"}
    if world not in WORLDS or set(rest) != expected or rest["split"] not in things.SPLITS:
        raise ValueError(f"{where}: news: expected a path; or path and world (a number); or world "
                         f"({' or '.join(WORLDS)}), split ({', '.join(things.SPLITS)}), per_domain, questions and "
                         f"seed; found {spec!r}")
    try:
        for name, low in (("per_domain", 1), ("questions", 1), ("seed", 0)):
            whole(name, rest[name], low, 10 ** 6)
    except ValueError as error:
        raise ValueError(f"{where}: news: {error}") from None
    return PocketWorld(*WORLDS[world], rest)
