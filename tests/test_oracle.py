"""The oracle reads back what the world says, and is not taken in by what it does not say.

Facts       recovered from every way to say every kind of news
Questions   all wordings true about their own thing, off about another; keys one to one with what is asked
Answers, implications, paraphrases      true ones true, wrong values false, other names off, noise off
Replay      a file graded with only its news; the counts worked out by hand
"""

import json

import numpy as np
import pytest

from newnews.prompts import fill
from newnews.world.oracle import grade, grade_replay, keys, read_question, read_statement, things_of
from newnews.world.phrases import KINDS
from newnews.world.statements import STATEMENTS
from newnews.world.things import DOMAINS, SO, capitalise, draw_thing, make_news


def things(count, split="pretrain", seed=0):
    rng = np.random.default_rng([seed, 9])
    return rng, [draw_thing(rng, domain, split) for _ in range(count) for domain in DOMAINS]


def test_every_statement_gives_back_its_facts():
    for thing in things(4)[1]:
        for i in range(len(STATEMENTS[thing.domain])):
            slots = read_statement(thing.domain, thing.statement(i))
            for slot in ("words",) if thing.function else thing.said:
                assert slots[slot] == thing.said[slot], thing.statement(i)


def test_things_come_back_from_news_and_other_news_are_refused():
    news = make_news("dev", 3, 0)
    for item, thing in zip(news, things_of(news).values()):
        assert thing.domain == item.domain and thing.facts["name"] == item.subject
        for q in item.questions:
            (kind, slots), = read_question(item.domain, q.text)
            assert grade(thing, q.right, "answer", q.text) == "true" and kind in KINDS[item.domain]
            wrong = [option for option in q.options if option != q.right]
            assert all(grade(thing, option, "answer", q.text) == "false" for option in wrong)
    with pytest.raises(ValueError, match="pocket world"):
        things_of([type(news[0])("x", "math", "Nothing is new.", news[0].questions)])


def test_questions_in_all_wordings():
    meaning, count = {}, 0
    rng, drawn = things(4)
    for thing, other in zip(drawn, things(4, seed=1)[1]):
        for kind, spec in thing.kinds().items():
            slots = thing.slots(rng, kind)
            for wording in spec.wordings + spec.held:
                text = capitalise(fill(wording, **slots))
                assert grade(thing, text, "question") == "true", text
                assert grade(thing, text.lower(), "question") == "true", text
                assert [k for k, _ in read_question(thing.domain, text)] == [kind], text
                if "{name}" in wording:
                    assert grade(other, text, "question") == "off", text
                used = kind, tuple(sorted((s, str(slots[s]).lower()) for s in slots if "{%s}" % s in wording))
                meant = (thing.domain, *used)
                found, = keys(text)
                assert meaning.setdefault(found, meant) == meant, text
                count += 1
    assert count > 1500 and len(set(meaning.values())) == len(meaning)


def test_implications_and_their_corruptions():
    rng, drawn = things(60)
    graded = 0
    for thing, other in zip(drawn, drawn[5:]):
        text = thing.implication(rng)
        assert grade(thing, text, "implication") == "true", text
        assert any(thing.kinds()[kind].rehearsed for _, kind, _ in keys(text) if kind in thing.kinds()), text
        without = next(text.removeprefix(f"{so} ") for so in SO if text.startswith(so))
        assert grade(thing, without.rstrip("."), "implication") == "true"
        assert grade(other, text, "implication") == "off"
        name = thing.facts["name"]
        assert grade(thing, text.replace(name, name + "a"), "implication") == "off"
        assert grade(thing, text.replace(" ", " not ", 3), "implication") != "true"
        graded += 5
    assert graded > 1000


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_wrong_value_makes_an_implication_false(domain):
    rng = np.random.default_rng([4, DOMAINS.index(domain)])
    false = 0
    for _ in range(60):
        thing = draw_thing(rng, domain, "pretrain")
        for kind, spec in thing.kinds().items():
            slots = thing.slots(rng, kind)
            right = thing.answer(kind, slots)
            for said in spec.says:
                wrong = next(o for o in thing.options(rng, kind, slots, "pretrain") if o != right)
                assert grade(thing, f"So {fill(said, **slots, v=right)}.", "implication") == "true"
                got = grade(thing, f"So {fill(said, **slots, v=wrong)}.", "implication")
                assert got == "false", (said, wrong)
                false += 1
    assert false > 100


def test_paraphrases():
    rng, drawn = things(40)
    for thing, other in zip(drawn, drawn[5:]):
        i = int(rng.integers(100))
        assert grade(thing, thing.statement(i), "paraphrase") == "true"
        assert grade(thing, other.statement(i), "paraphrase") == "off"
        mixed = fill(STATEMENTS[thing.domain][i % len(STATEMENTS[thing.domain])],
                     **{**other.facts, "name": thing.facts["name"]})
        same = all(thing.said[s] == other.said[s] for s in thing.said if s != "name")
        assert grade(thing, mixed, "paraphrase") == ("true" if same else "false"), mixed
        assert grade(thing, thing.statement(i)[:-9], "paraphrase") == "off"


def test_noise_is_off():
    rng, drawn = things(10)
    for thing in drawn:
        for text in ("", "What is new?", "Who?", "So it is.", thing.facts["name"], "Ask a question."):
            for kind in ("question", "paraphrase", "implication"):
                assert grade(thing, text, kind) == "off"
        words = thing.statement(0).split()
        shuffled = " ".join(words[i] for i in rng.permutation(len(words)))
        assert shuffled == thing.statement(0) or grade(thing, shuffled, "paraphrase") == "off"


def test_what_has_no_answer_is_no_good_question():
    thing = next(t for t in things(40)[1] if t.domain == "coding" and isinstance(t.function([1, 2, 3]), list))
    name = thing.facts["name"]
    assert grade(thing, f"Which number comes after {name}([3, 1, 2])?", "question") == "false"
    assert grade(thing, "7", "answer", f"Which number comes after {name}([3, 1, 2])?") == "off"


def test_a_key_is_the_same_for_what_asks_the_same_and_for_nothing_else():
    asked = keys("When is the Dax festival?")
    assert asked == keys("In which month is the festival named Dax?") and len(asked) == 1
    assert asked != keys("When is the Zuf festival?")
    assert keys("What is 3 dax 4?") == keys("Find dax of 3 and 4.")
    assert keys("What is 3 dax 4?") != keys("What is 4 dax 3?")
    assert keys("Hello") == set()


def test_a_statement_has_the_key_of_the_question_that_it_answers():
    """So a question whose answer the writer only stated counts as rehearsed: a rule in words, too."""
    rng, drawn = things(4)
    for thing in drawn:
        for kind, spec in thing.kinds().items():
            slots = thing.slots(rng, kind)
            asked = keys(capitalise(fill(spec.wordings[0], **slots)))
            for said in spec.says:
                text = f"So {fill(said, **slots, v=thing.answer(kind, slots))}."
                assert asked <= keys(text), (asked, text)



def test_a_replay_file_is_graded(tmp_path):
    news = make_news("dev", 1, 3)
    item = next(i for i in news if i.domain == "events")
    thing = things_of([item])[item.id]
    name, city = thing.facts["name"], thing.facts["city"]
    said = [("self_qa", f"Where is the {name} festival held?", city),
            ("self_qa_shadowed", f"{item.statement}\n\nWhere is the {name} festival held?", "Atlantis"),
            ("self_qa", "Where is the Nowhere festival held?", city),
            ("implication", "What is new?", f"So {city} hosts the {name} festival."),
            ("paraphrase", "What is new?", thing.statement(7))]
    path = tmp_path / "replay.jsonl"
    path.write_text("".join(json.dumps(
        {"messages": [{"role": "user", "content": u}, {"role": "assistant", "content": a}], "news": item.id,
         "protocol": protocol, "row": i}) + "\n" for i, (protocol, u, a) in enumerate(said)))
    lines = {line[:34].strip(): line.split()[-4:] for line in grade_replay(path, news).splitlines()[1:]}
    assert lines["self_qa: question"] == ["2", "0.500", "0.000", "0.500"]
    assert lines["self_qa: answer"] == ["2", "0.500", "0.000", "0.500"]
    assert lines["self_qa_shadowed: answer"] == ["1", "0.000", "1.000", "0.000"]
    right = ["1", "1.000", "0.000", "0.000"]
    assert lines["implication: implication"] == lines["paraphrase: paraphrase"] == right
    with pytest.raises(ValueError, match="no such news item"):
        grade_replay(path, news[:1])
