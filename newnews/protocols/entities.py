"""EntiGraph (arXiv 2409.07431): the writer names the entities of a text, then says of every pair and every
triple of them how they bear on each other in the light of the text. Plain texts, loss on every token.

Where we differ: EntiGraph asks for JSON, with a summary, until it parses; small models write lists better, so
we ask for a list, up to three times, and keep what the text really names. It uses every pair and triple
once; a news item has few entities, so the n draws take pairs, then triples, in a drawn order, and begin anew
with other noise when there are no more. It writes 350 tokens a token of source, with a larger model.
"""

from itertools import combinations
from random import Random

from newnews.protocols.rewrites import Texts, lines
from newnews.randomness import stream
from newnews.words import whole

TRIES = 3           # at a list of at least two entities
MOST = 12           # entities of one text; 12 give 66 pairs and 220 triples


class EntiGraph(Texts):
    name, words = "entigraph", (*Texts.words, "entities", "relation")

    def write(self, item, n):
        prompts = self.prompts
        for attempt in range(TRIES):
            listed, = yield self.ask(item, [prompts.said("entities")], 1, [f"{item.id}/{attempt}"])
            known = entities(listed or "", item.statement)
            if len(known) >= 2:
                break
        else:
            return [], {"drawn": n, "unusable": n, "repeated": 0, "kept": 0}
        groups = in_turn(known, item.id)
        asked = [prompts.relate(groups[i % len(groups)]) for i in range(n)]
        written = yield self.ask(item, asked, 2, [f"{item.id}/{i}" for i in range(n)])
        return self.rows(item, asked, written)


def entities(listed, statement):
    """The entries of the writer's list that the news really names, each once, at most MOST."""
    named = {}
    for part in (part.strip(" .\"'`") for line in lines(listed) for part in line.split(", ")):
        if part and whole(part).search(statement):
            named.setdefault(part.lower(), part)
    return list(named.values())[:MOST]


def in_turn(known, name):
    """All pairs, then all triples, each in an order that the name of the news item decides."""
    rng = Random(stream("entigraph", name))
    groups = []
    for size in (2, 3):
        some = list(combinations(known, size))
        groups += rng.sample(some, len(some))
    return groups
