"""The page of a study, read further: test_page.py's study, whose every number is known.

walk        sums stand at their options, tokens at their weights; no tokenizer, no tokens; few and light
claims      first on the page with their verdicts; groups over seeds
"""

import json
import re

import pytest
from test_browse import EVIL

from model.chat import Chat
from newnews.studies import figures, walk
from newnews.tasks.news import WAYS
from test_page import made, study       # noqa: F401 (fixtures)
from test_page import CLOSED, NEWS, POCKET, RIGHT, data_of, sums, table, written


# ---- walk ----

def test_sums_stand_at_their_options_and_replies_at_their_cells(study):
    written(study)
    data = data_of(study)
    assert [cell["name"] for cell in data["cells"]] == ["base", "naive", "self_qa"]
    assert [item["id"] for item in data["news"]] == ["zog", "zug", "zag"]       # the domains in turn
    for item, news in zip(data["news"], (NEWS[0], NEWS[2], NEWS[1])):
        for i, q in enumerate(item["questions"]):
            assert q["rehearsed"] == (item["id"] == "zog" and i == 1) and q["answer"] == i % 3
            for cell, ways in zip(("base", "naive", "self_qa"), q["answers"]):
                for way, found in zip(WAYS, ways):
                    assert found["text"][0] == found["letter"][0] == sums(cell, way, i)
                    assert found["text"][1] == max(range(3), key=found["text"][0].__getitem__)
                    assert found["free"][1] == int(RIGHT[cell, way][4 * NEWS.index(news) + i])


def test_tokens_carry_the_weights_of_training(study):
    written(study)
    naive, qa = data_of(study)["news"][0]["written"]
    assert (naive["cells"], naive["count"]) == (["naive"], 2)
    assert (qa["cells"], qa["count"], len(qa["rows"])) == (["self_qa"], 5, 3)
    chat, row = Chat(POCKET), qa["rows"][1]
    assert "".join(token for token, paid in zip(row["tokens"], row["paid"]) if paid == "1") == \
        "It rains.<|im_end|>"
    ids, weights = chat.conversation([{"role": "user", "content": f"What of zog 1? {EVIL}"},
                                      {"role": "assistant", "content": "It rains."}])
    assert row["tokens"] == [chat.tokenizer.decode([i], skip_special_tokens=False) for i in ids]
    assert [paid == "1" for paid in row["paid"]] == [w > 0 for w in weights]


def test_without_the_tokenizer_words_are_shown(study, monkeypatch):
    monkeypatch.setattr(walk, "Path", lambda model: study / "nowhere")
    written(study)
    row = data_of(study)["news"][0]["written"][1]["rows"][1]
    assert row == {"messages": [["user", f"What of zog 1? {EVIL}"], ["assistant", "It rains."]]}


@pytest.mark.parametrize("name, most, left", [("NEWS", 2, 2), ("LETTERS", 10, 1)])
def test_a_page_stays_light_and_says_so(name, most, left, study, monkeypatch):
    monkeypatch.setattr(walk, name, most)
    page, _ = written(study)
    assert len(data_of(study)["news"]) == left and f"{left} of 3 news" in page.text


# ---- claims ----

CLAIM = {"name": "c", "a": "self_qa", "b": "naive.in_context", "way": CLOSED, "format": "free",
         "direction": ">", "needs": "two_steps", "says": f"It teaches. {EVIL}", "difference": 0.3, "low": 0.1,
         "high": 0.5, "p": 0.004, "holm": 0.012, "smallest": 0.2, "n": 11, "news": 3, "verdict": "held"}
NOTHING = {**CLAIM, "verdict": "too small to tell", **dict.fromkeys(
    ("difference", "low", "high", "p", "holm", "smallest"))}


def test_claims_open_the_page(study):
    page, _ = written(study, contrasts=[CLAIM, {**CLAIM, "verdict": "not"}, NOTHING])
    text = (study / "report.html").read_text()
    first = text[text.index("<h2"):text.index("<h2", text.index("<h2") + 1)]
    assert re.findall(r'class="verdict (\w+)">([\w ]+)<', first) == [("held", "held"), ("not", "not"),
                                                                    ("unsure", "too small to tell")]
    assert "self qa, closed book minus naive, in context (free form, two steps): 0.30" in first
    assert f"It teaches. {EVIL}" in page.text \
        and "0.30 [0.10, 0.50]; p\u00a00.004; after Holm\u00a00.012" in first
    scale = figures.scale_over([0.3, 0.1, 0.5])
    assert f'class="whisker" x1="{scale.at(0.1)}" x2="{scale.at(0.5)}"' in first
    rows = table(study, "claims")
    assert [row["verdict"] for row in rows] == ["held", "not", "too small to tell"] \
        and rows[0]["smallest"] == "0.2"
    page, _ = written(study)                                # without claims: numbers, and no table of claims
    assert "names no claims" in page.text and not (study / "figures" / "claims.csv").exists()


def test_cells_of_several_seeds_are_one_line(study):
    pytest.importorskip("newnews.studies.contrasts", reason="groups come with the claims")
    index = json.loads((study / "study.json").read_text())
    first, second = index["cells"]                  # as if they were two seeds of one protocol
    second |= {"protocol": "naive", "replay": first["replay"]}
    first["name"], second["name"] = "naive seed=0", "naive seed=1"
    (study / "study.json").write_text(json.dumps(index))
    page, summary = written(study)
    assert list(summary["groups"]) == ["base", "naive"] and "Means over 2 seeds" in page.text
    kept, costs = table(study, "kept")[0], table(study, "costs")
    assert float(kept["difference"]) == pytest.approx(-1 / 24) and kept["cell"] == "naive"     # 12 count
    assert [float(row["seconds"]) for row in costs] == [(4321 + 8765) / 2]
    assert {row["cell"] for row in table(study, "accuracy")} == {
        "base", "naive", "naive seed=0", "naive seed=1"}
    assert [cell["name"] for cell in data_of(study)["cells"]] == ["base", "naive seed=0"]


def test_rows_of_other_news_are_shown_where_they_were_trained_on(study):
    index = json.loads((study / "study.json").read_text())
    index["cells"][1]["protocol"] = "self_qa_other"
    (study / "study.json").write_text(json.dumps(index))
    written(study)
    zog, zug, zag = (item["written"][1]["rows"] for item in data_of(study)["news"])
    assert "What of zag 0?" in "".join(zog[0]["tokens"]) and "What of zog 1?" in "".join(zag[1]["tokens"])
    assert zug == []                                # alone in its domain
