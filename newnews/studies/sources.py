"""Where the news of a study come from. A source has

    load()          the news, [News]
    keys(text)      what a text asks or states, as a set of hashable keys: two texts that share a key ask or
                    state the same thing, in whatever words
"""

from newnews import first_world
from newnews.news import read_news
from newnews.tasks.judge import normalise


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
        return first_world.make_news(**self.spec)

    def keys(self, text):
        key = first_world.question_key(text)
        return {normalise(text)} | ({key} if key else set())


def source(spec, where):
    """The source that a study's `news` names: a path, {path, world}, or {split, per_domain, questions, seed}."""
    if isinstance(spec, str):
        return Files(spec)
    if set(spec) == {"path", "world"}:
        return Files(**spec)
    counts = [spec.get(k) for k in ("per_domain", "questions", "seed")]
    if set(spec) != {"split", "per_domain", "questions", "seed"} or spec["split"] not in first_world.SPLITS \
            or not all(type(c) is int and low <= c <= 10 ** 6 for c, low in zip(counts, (1, 1, 0))):
        raise ValueError(f"{where}: news: expected a path, or path and world, or split "
                         f"({', '.join(first_world.SPLITS)}), per_domain, questions and seed; found {spec!r}")
    return PocketWorld(**spec)
