"""What every model of a study is asked: its news closed book and in context, and what it lists as `also`.

    counterfactual      another version of the news in context, the same subject with other facts: right is
                        what that text says
    insists             the same answers; "right" is what the news said that was trained on
    background          facts that no news changes, FACTS of them a news item, closed book
    others              the questions about the next news item of the study, which this adapter has never
                        seen, closed book: a negative control
    others_in_context   the same with that next item in context: does it read what is new to it?
    cloze               the news (pocket world: in another wording) among three texts that differ in one fact,
                        or among the texts of its worlds, each scored as the answer to a neutral request,
                        closed book. Rehearsed or not, no fact is left out
    reversed            the question of the news file that asks for the name; options: names of other news
    kl                  nats a token between what base and tuned model expect next, KL(base || tuned), on
                        TEXTS neutral texts a news item (`neutral.source`, newnews/neutral.py)

All but `kl` are newnews.tasks.news.NewsTask about news whose statement, questions or right answers were
replaced. Ids and domains stay those of the news item that an adapter was trained on, which stands or falls
with all of its answers. No torch.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from newnews.news import News, Question
from newnews.randomness import stream
from newnews.tasks.news import CLOZE, WAYS, NewsTask

KL = "kl"
FACTS, TEXTS = 20, 20


class Way(NamedTuple):
    title: str
    in_context: bool
    news: object            # (source, news) -> what is asked, an item for each of the news
    file: str               # ways of one file are one asking, judged twice
    formats: tuple = ()     # formats of its own, instead of the study's


def versions(source, news):
    return [source.version(item) for item in news]


def insisting(source, news):
    """Other versions whose right answers are still those of the news."""
    def judged(item, other):
        own = {q.id: q.answer for q in item.questions}
        return replace(other, worlds=[], world=0,
                       questions=[replace(q, answer=own[q.id]) for q in other.questions])

    return [judged(item, source.version(item)) for item in news]


def with_background(source, news):
    facts = source.background()

    def some(item):
        order = np.random.default_rng(stream("background", item.id)).permutation(len(facts))
        return News(item.id, item.domain, item.statement, [facts[i] for i in order[:FACTS]])

    return [some(item) for item in news]


def others(source, news):
    if len(news) < 2:
        raise ValueError("one news item has no next one; ask about two or more")
    return [replace(other, id=item.id, domain=item.domain) for item, other in zip(news, [*news[1:], news[0]])]


def clozes(source, news):
    return [News(item.id, item.domain, item.statement, source.clozes(item)) for item in news]


def backwards(source, news):
    """From the properties to the name; the other options are the names of up to 3 next news of the domain."""
    def asked(item):
        some = [other for other in news if other.domain == item.domain]
        place = some.index(item)
        names = [other.reversed.accept[0] for other in some[place + 1:] + some[:place] if other.reversed][:3]
        if item.reversed is None or not names:
            raise ValueError(f"news {item.id} has no reversed question, or is alone with it")
        right, *forms = item.reversed.accept
        question = Question(f"{item.id}-reversed", item.reversed.ask, [right, *names], 0, needs="reversal",
                            forms=forms)
        return News(item.id, item.domain, item.statement, [question])

    return [asked(item) for item in news]


CLOSED, CONTEXT = WAYS
EVERY = {               # of each the page says what its differences are: sections.KEPT
    CLOSED: Way("closed book", False, lambda source, news: news, CLOSED),
    CONTEXT: Way("in context", True, lambda source, news: news, CONTEXT),
    "counterfactual": Way("other version", True, versions, "counterfactual"),
    "insists": Way("insists on the news", True, insisting, "counterfactual"),
    "background": Way("background", False, with_background, "background"),
    "others": Way("other news", False, others, "others"),
    "others_in_context": Way("others, in context", True, others, "others_in_context"),
    CLOZE: Way("cloze", False, clozes, CLOZE, (CLOZE,)),
    "reversed": Way("reversed", False, backwards, "reversed"),
    KL: Way("KL, nats", False, lambda source, news: news, KL, (KL,)),
}
ALSO = tuple(EVERY)[len(WAYS):]


def ways_of(study):
    return (*WAYS, *study.get("also", ()))


def news_of(study, source, news):
    """{way: what is asked, an item for each of the news}."""
    def asked(way):
        try:
            return EVERY[way].news(source, news)
        except ValueError as error:
            raise ValueError(f"also: {way}: {error}") from None

    return {way: asked(way) for way in ways_of(study)}


def task_of(way, study, prompts):
    return NewsTask(prompts, EVERY[way].in_context, study["seed"], formats_of(way, study["ask"]))


def formats_of(way, formats):
    """In which formats it is asked: those of the study, or its own."""
    return EVERY[way].formats or formats
