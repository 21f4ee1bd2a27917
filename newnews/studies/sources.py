"""Where the news of a study come from. A source has

    load()          the news, [News]
    keys(text)      what a text asks or states, as a set of hashable keys: two texts that share a key ask or
                    state the same thing, in whatever words
"""

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
    """News of the pocket world, whose questions and statements can be read back."""

    def __init__(self, **spec):
        self.spec = spec

    def load(self):
        return things.make_news(**self.spec)

    def keys(self, text):
        return {normalise(text)} | oracle.keys(text)


def source(spec, where):
    """The source that a study's `news` names: a path, {path, world} for news with counter-worlds, or
    {split, per_domain, questions, seed} for the pocket world."""
    if isinstance(spec, str):
        return Files(spec)
    if set(spec) == {"path", "world"} and isinstance(spec["path"], str) and type(spec["world"]) is int:
        return Files(**spec)
    if set(spec) != {"split", "per_domain", "questions", "seed"} or spec["split"] not in list(things.SPLITS):
        raise ValueError(f"{where}: news: expected a path; or path and world (a number); or split "
                         f"({', '.join(things.SPLITS)}), per_domain, questions and seed; found {spec!r}")
    try:
        for name, low, high in (("per_domain", 1, things.MOST), ("questions", 1, 1000), ("seed", 0, 2 ** 53)):
            whole(name, spec[name], low, high)
    except ValueError as error:
        raise ValueError(f"{where}: news: {error}") from None
    return PocketWorld(**spec)
