"""TRAIN: how one news item becomes training conversations. One object a protocol.

    naive         user: a neutral request       assistant: the news, word for word
    paraphrase    user: the same request        assistant: the news, restated by the writer
    implication   user: the same request        assistant: a consequence that the writer drew
    self_qa       user: the writer's question   assistant: the writer's answer
                                                (asked anew, with the news in sight)
    mixed         naive, paraphrase, implication and self_qa together
    masked        user: the news with holes     assistant: the whole news. Controls: _t0 without holes,
                                                _half half of the tokens, _random other tokens for holes
    masked_paraphrase           the same, of paraphrase's texts in place of the news
    distill       as self_qa; the target is what the model with the news in sight would say. Also _top20,
                  _reverse (the KL), _student (at the student's own answers), _student_reverse
    X_shadowed    as X, with the news put before the conversation
    self_qa_shadowed_other, _shuffled, _unrelated, _after       its controls (newnews/protocols/shadow.py)
    self_qa_choice                  as self_qa, with options, answered by the letter
    self_qa_other, self_qa_wrong    negative controls: about another news item; wrong answers

Rivals, each in a file that says where it comes from and where it differs:

    rewrite_lines, implication_lines, spa, entigraph, active_reading    plain texts by the writer
    self_tuning, memorise                                               cut out of the news by rules

A new protocol is a class in a file of this folder, imported here, and a line in `protocols` or a name in
RIVALS (which tests/test_rivals.py lists). What an older edition of it wrote or trained is kept by a study,
which says so; with another --out or --store it is made anew.
"""

from newnews.protocols.active import ActiveReading
from newnews.protocols.base import Protocol
from newnews.protocols.distill import Distill
from newnews.protocols.entities import EntiGraph
from newnews.protocols.masked import Masked
from newnews.protocols.mixed import AsChoice, OtherNews, WrongAnswers
from newnews.protocols.rehearse import Implication, Naive, Paraphrase, SelfQA
from newnews.protocols.rewrites import SPA, ImplicationLines, RewriteLines
from newnews.protocols.rote import Memorise
from newnews.protocols.shadow import Control, Shadowed
from newnews.protocols.tasks_from_text import SelfTuning

RIVALS = (RewriteLines, ImplicationLines, EntiGraph, ActiveReading, SPA, SelfTuning, Memorise)
__all__ = ["NAMES", "WRITTEN", "Protocol", "protocols"]


def protocols(prompts):
    """{name: protocol} of all that there are, asking in the words of `prompts` (newnews.prompts.Prompts)."""
    written = [kind(prompts) for kind in (Naive, Paraphrase, Implication, SelfQA)]
    naive, paraphrase, _, self_qa = written
    plain = [*written, Protocol(prompts, "mixed", tuple(written))]
    shadowed = [Shadowed(prompts, f"{p.name}_shadowed", p.sources) for p in plain]
    controls = [Control(self_qa, kind) for kind in ("other", "shuffled", "unrelated", "after")]
    masked = [Masked(naive, "masked"), Masked(naive, "masked_t0", 0), Masked(naive, "masked_half", 0.5),
              Masked(naive, "masked_random", random_fill=True), Masked(paraphrase, "masked_paraphrase")]
    distilled = [Distill(self_qa, "distill"), Distill(self_qa, "distill_reverse", reverse=True),
                 Distill(self_qa, "distill_top20", top=20), Distill(self_qa, "distill_student", own=True),
                 Distill(self_qa, "distill_student_reverse", reverse=True, own=True)]
    others = [kind(prompts, name, self_qa.sources) for kind, name in
              ((AsChoice, "self_qa_choice"), (OtherNews, "self_qa_other"), (WrongAnswers, "self_qa_wrong"))]
    rivals = [kind(prompts) for kind in RIVALS]
    return {p.name: p for p in [*plain, *shadowed, *controls, *others, *masked, *distilled, *rivals]}


NAMES = tuple(protocols(None))      # all that can be trained on
WRITTEN = tuple(name for name, p in protocols(None).items() if p.sources == (p,))   # those that write rows
