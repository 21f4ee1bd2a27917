"""TRAIN: how one news item becomes training conversations. One object a protocol.

    naive         user: a neutral request       assistant: the news, word for word
    paraphrase    user: the same request        assistant: the news, restated by the writer
    implication   user: the same request        assistant: a consequence that the writer drew
    self_qa       user: the writer's question   assistant: the writer's answer
                                                (asked anew, with the news in sight)
    mixed         all of these
    X_shadowed    as X, with the news put before the conversation
    self_qa_other, self_qa_wrong    negative controls: about another news item; wrong answers

Rivals, each in a file that says where it comes from and where it differs:

    rewrite_lines, implication_lines, spa, entigraph, active_reading    plain texts by the writer
    self_tuning, memorise                                               cut out of the news by rules

A new protocol is a class in a file of this folder and a line in `protocols`.
"""

from newnews.protocols.active import ActiveReading
from newnews.protocols.base import Protocol
from newnews.protocols.entities import EntiGraph
from newnews.protocols.mixed import Mixed, OtherNews, WrongAnswers
from newnews.protocols.rehearse import Implication, Naive, Paraphrase, SelfQA
from newnews.protocols.rewrites import SPA, ImplicationLines, RewriteLines
from newnews.protocols.rote import Memorise
from newnews.protocols.shadow import Shadowed
from newnews.protocols.tasks_from_text import SelfTuning

RIVALS = (RewriteLines, ImplicationLines, EntiGraph, ActiveReading, SPA, SelfTuning, Memorise)
__all__ = ["NAMES", "WRITTEN", "Protocol", "protocols"]


def protocols(prompts):
    """{name: protocol} of all that there are, asking in the words of `prompts` (newnews.prompts.Prompts)."""
    written = [kind(prompts) for kind in (Naive, Paraphrase, Implication, SelfQA)]
    plain, self_qa = [*written, Mixed(written)], written[-1]
    rivals = [kind(prompts) for kind in RIVALS]
    controls = [OtherNews(self_qa), WrongAnswers(self_qa)]
    return {p.name: p for p in [*plain, *map(Shadowed, plain), *controls, *rivals]}


NAMES = tuple(protocols(None))      # all that can be trained on
WRITTEN = tuple(name for name, p in protocols(None).items() if p.sources == (p,))   # those that write rows
