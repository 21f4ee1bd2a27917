"""Where the news of a study come from. A source has

    load()          the news, [News]
    keys(text)      what a text asks or states, as a set of hashable keys: two texts that share a key ask or
                    state the same thing, in whatever words
    version(item)   another version of a news item, and of its questions those that it answers otherwise
    clozes(item)    questions whose options are sentences that differ in one place
    background()    questions about what no news changes
    truth(rows, news)   the share of replay rows that say what is true, questions left out; None: not known
"""

from collections import Counter
from dataclasses import replace

import numpy as np

from newnews.news import Question, read_locality, read_news
from newnews.randomness import stream
from newnews.reading import whole
from newnews.tasks.judge import normalise
from newnews.world import oracle, things
from newnews.world.retention import background_questions


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

    def version(self, item):
        """The next of its worlds, whose answers are options of the same questions."""
        if not item.worlds:
            raise ValueError(f"{self.path}: news {item.id} has no other version (worlds)")
        return item.in_world((item.world + 1) % len(item.statements))

    def clozes(self, item):
        """One: which of its worlds is true?"""
        if not item.worlds:
            raise ValueError(f"{self.path}: news {item.id} has no other version (worlds)")
        return [Question(f"{item.id}-cloze", item.headline or item.id, item.statements, item.world)]

    def background(self):
        """Of the folder's locality/."""
        questions = read_locality(self.path)
        if not questions:
            raise ValueError(f"{self.path}: has no questions about what no news changes, locality/*.yaml")
        return questions

    def truth(self, rows, news):
        return None


class PocketWorld:
    """News of the pocket world, whose questions and statements can be read back."""

    def __init__(self, **spec):
        self.spec = spec

    def load(self):
        return things.make_news(**self.spec)

    def keys(self, text):
        return {normalise(text)} | oracle.keys(text)

    def others(self, item):
        """Things of that name, every other fact another one, without end."""
        thing = oracle.things_of([item])[item.id]
        rng = np.random.default_rng(stream("version", item.id))
        while True:
            said = {**things.draw_facts(rng, item.domain, self.spec["split"]), "name": thing.said["name"]}
            if all(said[slot] != thing.said[slot] for slot in said if slot != "name"):
                yield things.Thing(item.domain, said)

    def version(self, item):
        """The same name and wording, with other facts. Questions that name a fact (reversal) or have the same
        answer are left out. Of the options one that was wrong gives way to what is right now, where that is
        none of them."""
        thing, other, questions = oracle.things_of([item])[item.id], next(self.others(item)), []
        for q in item.questions:
            kinds = [(kind, slots) for kind, slots in oracle.read_question(item.domain, q.text)
                     if oracle.truth(thing, kind, slots) == q.right and oracle.about(other, slots)]
            right = oracle.truth(other, *kinds[0]) if kinds else None
            if right not in (None, q.right):
                place = q.options.index(right) if right in q.options else (q.answer + 1) % len(q.options)
                options = [right if i == place else option for i, option in enumerate(q.options)]
                questions.append(replace(q, options=options, answer=place, forms=[], why=""))
        return replace(item, statement=other.statement(wording(thing, item)), questions=questions)

    def clozes(self, item):
        """One for each fact: the news in the next wording, true, and with three other values there. A rule,
        and the points of two systems, are one fact."""
        thing, out = oracle.things_of([item])[item.id], []
        how, facts = wording(thing, item) + 1, [slot for slot in thing.said if slot != "name"]
        parts = [facts] if thing.function else [[slot] for slot in facts if slot not in ("points", "rival")]
        parts += [["points", "rival"]] * ("points" in facts)
        for part in parts:
            options = [thing.statement(how)]
            for other in self.others(item):
                said = {**thing.said, **{slot: other.said[slot] for slot in part}}
                options = list(dict.fromkeys([*options, things.Thing(item.domain, said).statement(how)]))
                if len(options) == 4:
                    break
            out.append(Question(f"{item.id}-{part[0]}", f"Which {part[0]}?", options, 0, needs="recall"))
        return out

    def truth(self, rows, news):
        counts = oracle.grade_rows([row for row in rows if row["protocol"] in oracle.GRADED],
                                   oracle.things_of(news))
        said = {key: n for key, n in counts.items() if key[1] != "question"}
        true = sum(n for (*_, verdict), n in said.items() if verdict == "true")
        return true / sum(said.values()) if said else None

    def background(self):
        """All that the pocket model knows of the world."""
        return [Question(row["id"], row["question"], row["options"], row["answer"], needs="background")
                for row in background_questions()]


def chosen(protocol, rows, news):
    """{news id: rows} that a protocol trains on, out of all rows that were written about the news."""
    by_news = {item.id: [] for item in news}
    for row in rows:
        by_news[row["news"]].append(row)
    return protocol.choose(by_news, news)


def wording(thing, item):
    """The number of the wording in which a news item of the pocket world is told."""
    return next(i for i in range(len(things.STATEMENTS[item.domain])) if thing.statement(i) == item.statement)


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
    for name, low, high in (("per_domain", 1, things.MOST), ("questions", 1, 1000), ("seed", 0, 2 ** 53)):
        whole(f"{where}: news: {name}", spec[name], low, high)
    return PocketWorld(**spec)
