"""Claims that a study names before it runs, and cells pooled over seeds.

reading      what a contrast may name; each mistake is a ValueError before any work, with near names
numbers      difference, interval, p and Holm by hand, on planted answers; what each verdict needs
groups       means over seeds; a news item that diverged under one seed is left out under all, and counted;
             a question rehearsed under one seed is left out under all
table        the claims and the groups in lines of 120 columns
"""

from dataclasses import replace

import pytest
from conftest import ROOT
from test_study import CLOSED, CONTEXT, DEMO, tiny  # noqa: F401 (a fixture)
from test_summary import blocks_of, summary_of

from newnews.news import News, Question, write_news
from newnews.studies import contrasts, stages, summary
from newnews.studies.contrasts import HELD, NOT, UNCLEAR, matched, members, read_contrasts, verdict
from newnews.studies.grid import cells, read_study
from newnews.studies.report import asked, claims, sides, table
from newnews.studies.stats import crossed, holm, paired, ratio

GOOD = {"name": "gap", "a": "self_qa", "b": "naive", "format": "free", "direction": ">", "says": "More."}
NAMES = ["base", "naive seed=0", "naive seed=1", "self_qa seed=0", "self_qa seed=1"]


# ---- reading ----

def test_a_contrast_names_cells_groups_and_the_base():
    rows = [GOOD, {**GOOD, "name": "2", "a": "base.in_context", "b": "naive seed=1"},
            {**GOOD, "name": "3", "b": "self_qa.in_context", "way": "closed_book"}]
    first, second, third = read_contrasts(rows, NAMES, ["free"], "s.yaml")
    assert first.way == CLOSED and second.side(second.a) == ("base", CONTEXT)
    assert third.side(third.a) == ("self_qa", CLOSED) and third.side(third.b) == ("self_qa", CONTEXT)
    known = members(NAMES)
    assert known["self_qa"] == {"0": "self_qa seed=0", "1": "self_qa seed=1"} \
        and known["base"] == {None: "base"}
    assert matched(known["self_qa"], known["naive seed=1"]) == [("self_qa seed=1", "naive seed=1")]
    assert matched(known["base"], known["naive"]) == [("base", "naive seed=0"), ("base", "naive seed=1")]
    assert contrasts.groups(["self_qa seed=3 recipe.steps=5", "self_qa seed=10 recipe.steps=5"]) == {
        "self_qa recipe.steps=5": ["self_qa seed=3 recipe.steps=5", "self_qa seed=10 recipe.steps=5"]}


MISTAKES = [    # what is changed in a good contrast, words that the message has to have
    ({"a": "self-qa"}, ["no cell or group 'self-qa'", "is 'self_qa'", "contrasts=[]"]),
    ({"b": "naive seed=2"}, ["'naive seed=2'", "'naive seed=1'"]),
    ({"b": "base.in_contxt"}, ["'base.in_contxt'"]), ({"a": "naive"}, ["naive and naive are the same"]),
    ({"format": "letter"}, ["format", "free", "'letter'"]),
    ({"direction": "greater"}, ["direction", "> or < or =", "greater"]), ({"says": None}, ["says", "a text"]),
    ({"way": "open"}, ["way", "closed_book"]), ({"formt": 1}, ["unknown key 'formt'", "'format' meant"]),
    ({"a": "naive seed=0", "b": "self_qa seed=1"}, ["no seed in common"]),
]


@pytest.mark.parametrize("change, wanted", MISTAKES, ids=[str(list(change)[0]) for change, _ in MISTAKES])
def test_mistakes_in_a_contrast_are_refused(change, wanted):
    with pytest.raises(ValueError) as error:
        read_contrasts([{**GOOD, "name": "first"}, {**GOOD, **change}], NAMES, ["free"], "s.yaml")
    assert all(word in str(error.value) for word in ["s.yaml: contrasts: entry 2", *wanted]), error.value


def test_a_study_is_checked_with_its_contrasts():
    study = read_study(DEMO, [
        "contrasts=[{name: x, a: self_qa, b: base, format: free, direction: '>', says: y}]"])
    assert study["contrasts"][0]["a"] == "self_qa" and read_study(DEMO, ["contrasts=[]"])["contrasts"] == []
    for change, wanted in (
            ("contrasts=[{name: x}]", "entry 1: key 'a' is missing"), ("contrasts={}", "contrasts"),
            ("contrasts=[3]", "expected a mapping"),
            ("contrasts=null", "contrasts: expected a list; found None")):
        with pytest.raises(ValueError, match=wanted):
            read_study(DEMO, [change])
    with pytest.raises(ValueError, match="a second contrast 'gap'"):
        read_contrasts([GOOD, GOOD], NAMES, ["free"], "s.yaml")


def test_a_contrast_may_be_about_one_kind_of_question():
    """The kinds are those of the study's news, which are read only if a contrast names one."""
    backwards = "{name: x, a: self_qa, b: base, format: free, direction: '>', says: y, needs: %s}"
    study = read_study(DEMO, [f"contrasts=[{backwards % 'reversal'}]"])
    assert study["contrasts"][0]["needs"] == "reversal"
    with pytest.raises(ValueError, match=r"entry 1 \(x\): needs: expected one of background, computation, "
                                         r"recall, reversal, which.*found 'reversed'"):
        read_study(DEMO, [f"contrasts=[{backwards % 'reversed'}]"])
    with pytest.raises(ValueError, match="needs: expected a text"):
        read_study(DEMO, [f"contrasts=[{backwards % '[reversal]'}]"])
    read_study(DEMO, ["news=/no/such/file", f"contrasts=[{backwards.replace(', needs: %s', '')}]"])


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_studies_in_the_repository_are_whole(path):
    study = read_study(path)
    assert len(cells(study)) >= 2 and study["contrasts"]
    assert all(c["says"].endswith(".") for c in study["contrasts"])
    read_study(path, ["axes.seed=[0]", "news.per_domain=1"])          # its quick size


# ---- numbers ----

def rows(answers, format="free"):
    """Verdicts of one cell: two questions each about news a, b, c, ...; 0 and 1 for wrong and right."""
    return [{"news": "abcdefghijkl"[i // 2], "domain": "math", "question": f"q{i}", "format": format,
             "needs": "recall", "steps": 0,
             "right": x == "1", "exact": x == "1"} for i, x in enumerate(answers)]


def seeded(**answers):
    """{(cell, way): verdicts} of the cells NAMES; in context all are right."""
    closed = {("base", CLOSED): rows("0" * 24), **{(f"{name} seed={seed}", CLOSED): rows(text)
              for name, texts in answers.items() for seed, text in enumerate(texts)}}
    return {**closed, **{(name, CONTEXT): rows("1" * 24) for name, _ in closed}}


PLANTED = seeded(naive=["1" * 2 + "0" * 22, "0" * 22 + "1" * 2],
                 self_qa=["1" * 20 + "0" * 4, "1" * 22 + "0" * 2])


def test_differences_are_paired_over_questions_and_crossed_with_seeds():
    found = summary_of({"q0"}, PLANTED, ["free"], [
        GOOD, {**GOOD, "name": "2", "a": "base"},
        {**GOOD, "name": "3", "b": "self_qa.in_context", "direction": "="}])
    a, b, clusters = ([[int(x) for x in text[1:]] for text in texts] for texts in (
        ("1" * 20 + "0" * 4, "1" * 22 + "0" * 2), ("1" * 2 + "0" * 22, "0" * 22 + "1" * 2), ["0" * 24]))
    by_hand = paired(a, b, [i // 2 for i in range(1, 24)])
    first, second, third = found["contrasts"]
    assert {k: first[k] for k in ("low", "high", "p", "n")} == \
        {k: by_hand[k] for k in ("low", "high", "p", "n")}
    assert first["difference"] == by_hand["mean"] \
        and (first["n"], first["news"], first["seeds"]) == (23, 12, 2)
    assert [c["holm"] for c in found["contrasts"]] == holm([c["p"] for c in found["contrasts"]])
    assert first["verdict"] == HELD and second["difference"] < 0 and third["verdict"] == UNCLEAR
    assert first["smallest"] > first["difference"] - first["low"]   # what an interval hides cannot be seen
    assert {**GOOD, "way": CLOSED} == {k: first[k] for k in (*GOOD, "way")}


def test_so_few_news_cannot_hold_a_claim_and_no_effect_is_said_to_be_seen():
    """Of five news the least p is 1/16; eight news and two claims: 1/64."""
    few = {key: mine[:10] for key, mine in PLANTED.items()}
    two = [GOOD, {**GOOD, "name": "2", "direction": "="}]
    first, same = summary_of((), few, ["free"], two)["contrasts"]
    assert first["news"] == 5 and first["smallest"] is None and same["smallest"] > 0
    assert "could see nothing" in table(summary_of((), few, ["free"], two))
    enough = {key: mine[:16] for key, mine in PLANTED.items()}
    first, _ = summary_of((), enough, ["free"], two)["contrasts"]
    assert first["news"] == 8 and first["smallest"] > 0


def test_a_contrast_counts_the_questions_of_its_kind_only():
    """Every third question is backward; q0 of them is rehearsed."""
    kinds = {key: [{**row, "needs": "recall" if i % 3 else "reversal"} for i, row in enumerate(mine)]
             for key, mine in PLANTED.items()}
    rest = [Question(f"q{i}", "?", ["a", "b"], 0, needs=need)
            for i, need in enumerate(("reversal", "recall"))]
    item = News("n", "math", "s", rest)
    backwards = {**GOOD, "needs": "reversal"}
    read = read_contrasts([GOOD, {**backwards, "name": "2"}], NAMES, ["free"], "s.yaml", lambda: [item])
    both = contrasts.contrasted(read, NAMES, lambda cell, way, _: kinds[cell, way][1:])
    a, b = ([[int(text[i]) for i in range(3, 24, 3)] for text in texts] for texts in (
        ("1" * 20 + "0" * 4, "1" * 22 + "0" * 2), ("1" * 2 + "0" * 22, "0" * 22 + "1" * 2)))
    by_hand = paired(a, b, [i // 2 for i in range(3, 24, 3)])
    assert [c["n"] for c in both] == [23, 7] and (both[0]["needs"], both[1]["needs"]) == ("", "reversal")
    assert {k: both[1][k] for k in ("low", "high", "p", "n")} == \
        {k: by_hand[k] for k in ("low", "high", "p", "n")}
    assert both[1]["difference"] == by_hand["mean"] and both[1]["news"] == 7
    first, second = "\n".join(claims(both)).split("self_qa - naive, free form, closed book")[1:]
    assert first.startswith(": +0.80 ") and second.split()[:3] == [",", "reversal:", "+0.93"]
    none = contrasts.contrasted(
        read, NAMES, lambda cell, way, _: kinds[cell, way][:1] if way == CONTEXT else [])
    assert [c["verdict"] for c in none] == [UNCLEAR] * 2 and none[1]["n"] == 0  # all of them were rehearsed


@pytest.mark.parametrize("direction, low, high, holm, wanted", [
    (">", 0.02, 0.3, 0.01, HELD), (">", 0.02, 0.06, 0.01, HELD), (">", 0.02, 0.3, 0.06, UNCLEAR),
    (">", -0.02, 0.3, 0.01, UNCLEAR), (">", -0.3, 0.09, 0.5, NOT), (">", -0.3, 0.11, 0.5, UNCLEAR),
    (">", -0.3, -0.1, 0.01, NOT), ("<", -0.3, -0.02, 0.01, HELD), ("<", -0.09, 0.2, 0.5, NOT),
    ("<", -0.11, 0.2, 0.5, UNCLEAR), ("<", 0.02, 0.3, 0.01, NOT), ("=", -0.05, 0.09, 0.9, HELD),
    ("=", 0.01, 0.09, 0.01, HELD), ("=", -0.05, 0.11, 0.9, UNCLEAR), ("=", 0.1, 0.2, 0.01, NOT),
    ("=", -0.2, -0.1, 0.01, NOT), (">", None, None, None, UNCLEAR)])
def test_what_became_of_a_claim(direction, low, high, holm, wanted):
    assert verdict({"direction": direction, "low": low, "high": high, "holm": holm}) == wanted


# ---- groups ----

def test_a_group_is_the_mean_over_its_seeds():
    found = summary_of((), PLANTED, ["free"])
    assert list(found["groups"]) == ["base", "naive", "self_qa"] and list(found["cells"]) == NAMES
    group, clusters = found["groups"]["self_qa"], [i // 2 for i in range(24)]
    values = [[1] * 20 + [0] * 4, [1] * 22 + [0] * 2]
    closed = {k: group[CLOSED]["free"][k] for k in ("mean", "low", "high", "n", "seeds")}
    assert closed == {**crossed(values, clusters), "seeds": 2} and closed["mean"] == pytest.approx(21 / 24)
    assert group["recovered"]["free"] == {**ratio(values, [1] * 24, clusters), "n": 24}
    assert group["cells"] == NAMES[3:]
    assert found["groups"]["base"][CLOSED]["free"]["seeds"] == 1
    one = summary_of((), {key: some for key, some in PLANTED.items() if "seed=1" not in key[0]}, ["free"])
    cell = one["cells"]["self_qa seed=0"]                   # one seed: the numbers of its cell
    assert {k: one["groups"]["self_qa"][k] for k in cell} == cell


def test_what_diverged_under_one_seed_is_left_out_under_all_of_them(tiny, monkeypatch):
    train_bank = stages.train_bank

    def bad(*args):
        manifest = train_bank(*args)
        seed = manifest["run"]["recipe"]["seed"]
        return {**manifest, "stopped": {n: 2 for n in manifest["names"] if (n, seed) == ("zag", 1)}}

    monkeypatch.setattr(stages, "train_bank", bad)
    write_news(tiny.file, [replace(item, questions=[replace(q, needs="reversal") for q in item.questions])
                           for item in tiny.items])
    found = tiny.run("axes={protocol: [naive], seed: [0, 1, 2]}", "ask=[free]",
                     "contrasts=[{name: x, a: naive, b: base, format: free, direction: '>', says: y, "
                     "needs: reversal}]")
    assert [found["cells"][f"naive seed={s}"][CLOSED]["free"]["n"] for s in range(3)] == [3, 2, 3]
    group = found["groups"]["naive"]
    assert (group[CLOSED]["free"]["n"], group[CLOSED]["free"]["seeds"], group["left_out"]) == (2, 3, ["zag"])
    assert found["contrasts"][0]["n"] == 2 and found["contrasts"][0]["seeds"] == 3
    assert "naive seed=1: 1 of 3 news diverged and are left out, under every seed: zag" in table(found)


def test_a_loss_that_is_no_number_ends_its_adapter_and_not_the_study(tiny):
    """At this rate the first step ends all numbers; the second one finds no loss."""
    found = tiny.run("axes={protocol: [naive], recipe.rate: [0.01, 9e29]}", "ask=[free]")
    sick, well = (f"naive recipe.rate={rate}" for rate in (9e29, 0.01))
    assert set(found["about"][sick]["diverged"]) == {"zog", "zag", "zug"} == \
        set(found["groups"][sick]["left_out"])
    assert found["groups"][sick][CLOSED]["free"]["mean"] is None \
        and found["groups"][well][CLOSED]["free"]["n"] == 3
    assert f"{sick}: 3 of 3 news diverged and are left out: zog (step 1), zag (step 1), zug" in table(found)


def test_a_question_rehearsed_under_one_seed_is_left_out_under_all(tiny, monkeypatch):
    """Seeds write different rows; the questions of every file of rows count as seen."""
    files = []
    monkeypatch.setattr(summary, "rehearsed", lambda paths, *_: files.extend(paths) or {"zag-1"})
    found = tiny.run("axes={protocol: [naive], seed: [0, 1]}", "ask=[free]")
    assert len(files) == 2 and all(found["cells"][f"naive seed={s}"][CLOSED]["free"]["n"] == 2
                                   for s in (0, 1))
    assert "1 of 3 test questions were asked in self-play too (word for word; other wordings, and answers, " \
        "are not recognised), under one seed or another" in table(found)


# ---- table ----

def test_the_table_shows_claims_and_groups():
    found = summary_of((), PLANTED, ["free"], [
        GOOD, {**GOOD, "name": "2", "a": "base.in_context", "direction": "<", "b": "self_qa.in_context",
               "says": "None is better."}])
    claims, closed, *_, notes = blocks_of(found)
    assert claims[0] == "Claims:"
    assert claims[1].split(maxsplit=1) == [HELD, "More."] \
        and "self_qa - naive, free form, closed book: +0." in claims[2]
    assert "n 24 / 12 news" in claims[2] and "base.in_context - self_qa.in_context, free form" in claims[4]
    whole = {**GOOD, "way": CLOSED, "needs": ""}
    assert asked(whole) == "free form, closed book" and sides(whole) == ["self_qa", "naive"]
    for a, b, wanted in (("base.in_context", "naive", ["base.in_context", "naive.closed_book"]),
                         ("naive", "base.in_context", ["naive.closed_book", "base.in_context"])):
        claim = {**whole, "a": a, "b": b}
        assert sides(claim) == wanted and asked(claim) == "free form"
    assert [line.split()[0] for line in closed[1:]] == ["base", "naive", "self_qa", "n"]
    assert "means over 2 seeds" in " ".join(notes)
    assert max(map(len, table(found).split("\n"))) <= 120
    nothing = seeded(naive=["0" * 2] * 2, self_qa=["1" * 2] * 2)        # one news item
    assert "2 questions about 1 news say nothing" in table(summary_of((), nothing, ["free"], [GOOD]))
