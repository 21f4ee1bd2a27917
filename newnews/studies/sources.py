"""Where the news of a study come from. A source has

    load()          the news, [News]
    keys(text)      what a text asks or states, as a set of hashable keys: two texts that share a key ask or
                    state the same thing, in whatever words
"""

from collections import Counter

from newnews.news import read_news
from newnews.reading import whole
from newnews.tasks.judge import normalise
from newnews.world import oracle, things


class Files:
    """News that people wrote: equal texts are equal, after normalisation."""

    def __init__(self, path, world=0, per_domain=None):
        self.path, self.world, self.per_domain = path, world, per_domain

    def load(self):
        """All of them, or the first `per_domain` of each domain, as they stand in the file."""
        news, seen = [], Counter()
        for item in read_news(self.path, self.world):
            seen[item.domain] += 1
            if self.per_domain is None or seen[item.domain] <= self.per_domain:
                news.append(item)
        return news

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
    """The source that a study's `news` names: a path; {path, world, per_domain}, of which world (that is
    true, 0 if left out) and per_domain (all) may be missing; or {split, per_domain, questions, seed} for the
    pocket world."""
    if isinstance(spec, str):
        return Files(spec)
    if "path" in spec and set(spec) <= {"path", "world", "per_domain"} and isinstance(spec["path"], str) \
            and type(spec.get("world", 0)) is int and type(spec.get("per_domain", 1)) is int \
            and spec.get("per_domain", 1) >= 1:
        return Files(**spec)
    if set(spec) != {"split", "per_domain", "questions", "seed"} or spec["split"] not in list(things.SPLITS):
        raise ValueError(f"{where}: news: expected a path; or path, world and per_domain; or split "
                         f"({', '.join(things.SPLITS)}), per_domain, questions and seed; found {spec!r}")
    try:
        for name, low, high in (("per_domain", 1, things.MOST), ("questions", 1, 1000), ("seed", 0, 2 ** 53)):
            whole(name, spec[name], low, high)
    except ValueError as error:
        raise ValueError(f"{where}: news: {error}") from None
    return PocketWorld(**spec)
