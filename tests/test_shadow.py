"""The controls of shadowing: which text stands where, and that nothing else of a conversation changes."""

from collections import Counter
from dataclasses import replace

import pytest
from test_news import POCKET

from newnews.news import News
from newnews.protocols import NAMES, protocols
from newnews.protocols.base import conversation
from newnews.protocols.shadow import put_before
from newnews.world.things import make_news

ITEMS = make_news("dev", 2, 0, 2)                           # two a domain
CONTROLS = ("other", "shuffled", "unrelated", "after")


def shadowed(kind, items=ITEMS):
    """{news id: user turns} of two rows about each item."""
    protocol = protocols(POCKET)[f"self_qa_shadowed_{kind}"]
    rows = {i.id: [{"news": i.id, "row": r, "messages": conversation(f"{i.id} {r}?", "yes")} for r in (0, 1)]
            for i in items}
    chosen = protocol.choose(rows, items)
    messages = {i.id: [protocol.messages(row, i) for row in chosen[i.id]] for i in items}
    assert all(second == {"role": "assistant", "content": "yes"}
               for some in messages.values() for _, second in some)
    assert all(row["messages"] == conversation(f"{name} {row['row']}?", "yes")  # the rows stay as they were
               for name, some in rows.items() for row in some)
    assert [source.name for source in protocol.sources] == ["self_qa"]
    return {name: [first["content"] for first, _ in some] for name, some in messages.items()}


@pytest.mark.parametrize("kind", CONTROLS)
def test_the_question_is_untouched_and_the_text_is_the_same_in_each_row_and_start(kind):
    found = shadowed(kind)
    for item in ITEMS:
        texts = [turn.replace(f"{item.id} {r}?", "") for r, turn in enumerate(found[item.id])]
        assert len(set(texts)) == 1 and texts[0].strip() and shadowed(kind) == found
        assert all(turn.endswith(f"\n\n{item.id} {r}?") != (kind == "after")
                   for r, turn in enumerate(found[item.id]))
    assert f"self_qa_shadowed_{kind}" in NAMES and found != shadowed(CONTROLS[CONTROLS.index(kind) - 1])


def before(turn):
    return turn.rpartition("\n\n")[0]


def test_which_text_it_is():
    other, shuffled, unrelated, after = map(shadowed, CONTROLS)
    for i, item in enumerate(ITEMS):
        neighbour = ITEMS[i ^ 1]                            # the other one of the domain
        assert neighbour.domain == item.domain and before(other[item.id][0]) == neighbour.statement
        assert after[item.id][0] == f"{item.id} 0?\n\n{item.statement}"
        words, mixed = item.statement.split(), before(shuffled[item.id][0]).split()
        assert Counter(words) == Counter(mixed) and words != mixed
        drawn = before(unrelated[item.id][0])
        foreign = " ".join(o.statement for o in ITEMS if o.domain != item.domain)
        assert len(drawn.split()) == len(words) and drawn in f"{foreign} {foreign}"
    assert len({before(turns[0]) for turns in unrelated.values()}) == len(ITEMS)


@pytest.mark.parametrize("name", ["self_qa_shadowed", *(f"self_qa_shadowed_{kind}" for kind in CONTROLS)])
def test_a_system_turn_stays_before_it(name):
    protocol, system = protocols(POCKET)[name], {"role": "system", "content": "Be kind."}
    rows = {i.id: [{"news": i.id, "row": 0, "messages": conversation("What?", "yes")}] for i in ITEMS}
    with_system = {name: [{**row, "messages": [system, *row["messages"]]} for row in some]
                   for name, some in rows.items()}
    item = ITEMS[0]
    plain, led = (protocol.messages(protocol.choose(some, ITEMS)[item.id][0], item)
                  for some in (rows, with_system))
    assert led == [system, *plain] and plain[0]["content"] != "What?"
    said, = put_before([{"role": "assistant", "content": "yes"}], "News.", POCKET)
    assert said["role"] == "assistant" and said["content"] == POCKET.with_news("News.", "yes")


def test_an_item_without_such_a_text_has_no_rows():
    alone = [News("zog", "math", "A zog is new.", []), News("zag", "events", "A zag is here.", [])]
    some = [*alone, replace(alone[0], id="zug")]
    assert {name: len(turns) for name, turns in shadowed("other", some).items()} == {
        "zog": 2, "zag": 0, "zug": 2}
    with pytest.raises(ValueError, match="needs two news or more of one domain; found 2 of 2 domains"):
        shadowed("other", alone)
    with pytest.raises(ValueError, match="needs news of two domains or more; found 2 of 1 domains"):
        shadowed("unrelated", [replace(i, domain="math") for i in alone])
    assert all(len(turns) == 2
               for turns in shadowed("other", [replace(i, domain="math") for i in alone]).values())
