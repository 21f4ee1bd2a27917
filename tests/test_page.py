"""The page of a study, from files made up here: no model runs, so every number is known.

whole       well-formed, nothing fetched, only its own script runs, every text escaped, no torch or matplotlib
numbers     the CSVs are the summary's; what is drawn stands where it should; kept and costs by hand
files       only ours are replaced; refused before a run begins

Its figures by themselves: test_figures.py; its walk and claims: test_page_walk.py.
"""

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
from cli import refused
from conftest import ROOT
from test_browse import EVIL, Page

from newnews.news import News, Question, write_news
from newnews.outputs import Rows
from newnews.prompts import read_prompts
from newnews.studies import sections
from newnews.studies.page import check_report, write_report
from newnews.studies.summary import Finished, judged, summarise
from newnews.tasks.news import WAYS, NewsTask, shown_order
from newnews.tasks.settings import requests_digest

CLOSED, CONTEXT = WAYS
POCKET = ROOT / "data" / "pocket"
NEWS = [News(id, domain, f"The {id} is one. {EVIL}", headline=f"H {EVIL}", questions=[
    Question(f"{id}-{i}", f"Is {id} {i} wet? {EVIL}", [f"yes{i}", f"no{i}", f"{EVIL} {i}"], i % 3,
             needs="recall") for i in range(4)])
    for id, domain in (("zog", "math"), ("zag", "math"), ("zug", f"events {EVIL}"))]
# free form; 3 news, 4 questions
RIGHT = {("base", CLOSED): "000000000001", ("base", CONTEXT): "111111111011",
         ("naive", CLOSED): "000100000001", ("naive", CONTEXT): "111101110011",
         ("self_qa", CLOSED): "110111111111", ("self_qa", CONTEXT): "111111111111"}
SECONDS = {"naive": 4321.0, "self_qa": 8765.0}


def sums(cell, way, q):
    """Planted log-probabilities of the options of question number q."""
    return [-1.0 - (3 * q + 5 * k + len(cell) + len(way)) % 11 for k in range(3)]


def responses(task, cell, way):
    for n, item in enumerate(NEWS):
        for request in task.requests(item):
            name, _, format = request.id.rpartition("/")
            i = int(name[-1])
            row = {"item": item.id, "id": request.id}
            if format == "free":
                right = RIGHT[cell, way][4 * n + i] == "1"
                text = f"yes{i}" if right == (i % 3 == 0) else f"no{i}"
                text = f"{EVIL} {i}" if right and i % 3 == 2 else text
                yield {**row, "text": text, "stopped": True, "tokens": 3}
            else:
                order = shown_order(item.questions[i], 0) if format == "letter" else range(3)
                planted = sums(cell, way, i)
                yield {**row, "logprobs": [planted[k] for k in order], "tokens": [1] * 3}


def rows_file(path, run, rows, **totals):
    file = Rows(path, run)
    file.add(rows, **totals)
    file.finish()
    return f"{path.parent.name}/{path.name}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study's folder as run_study leaves it: base, naive, self_qa, asked free form, by text and letter."""
    out = tmp_path_factory.mktemp("made") / "study"
    out.mkdir()
    shutil.copyfile(POCKET / "prompts.yaml", out / "prompts.yaml")
    write_news(out / "news.yaml", NEWS)
    settings = {"model": str(POCKET), "news": str(out / "news.yaml"), "ask": ["free", "text", "letter"],
                "seed": 0}
    prompts, answers = read_prompts(out / "prompts.yaml"), {}
    for cell, way in RIGHT:
        task = NewsTask(prompts, way == CONTEXT, 0, settings["ask"])
        answers.setdefault(cell, {})[way] = rows_file(
            out / "answers" / f"{cell}.{way}.jsonl", {"requests": requests_digest(task, NEWS)},
            list(responses(task, cell, way)))
    said = [{"news": item.id, "protocol": "self_qa", "row": i, "messages": [
        {"role": "user", "content": f"What of {item.id} {i}? {EVIL}"},
        {"role": "assistant", "content": "It rains."}]} for item in NEWS for i in range(5)]
    said[0]["messages"][0]["content"] = NEWS[0].questions[1].ask        # zog-1 was rehearsed
    files = {"naive": [rows_file(out / "replay" / "n.jsonl", {}, [
        {**said[0], "protocol": "naive", "row": row, "messages": [
            {"role": "user", "content": "What is new?"},
            {"role": "assistant", "content": NEWS[0].statement}]} for row in (0, 1)])],
             "self_qa": [rows_file(out / "replay" / "q.jsonl", {}, said, new_tokens=77, flops=5000)]}
    cells = [{"name": name, "protocol": name, "model": str(POCKET), "answers": answers[name],
              "replay": files[name], "seconds": SECONDS[name], "flops": 10 ** (10 + k), "tokens": 1000 + k,
              "diverged": {}, "empty": [], "course": [[0, 2.0 + k, 8.0], [30, 0.5, None], [59, 0.001, 0.02]]}
             for k, name in enumerate(SECONDS)]
    (out / "study.json").write_text(json.dumps({
        "study": settings, "prompts": {str(POCKET): "prompts.yaml"}, "base": {str(POCKET): answers["base"]},
        "cells": cells, "seconds": 9999.0, "git": f"abc {EVIL}"}))
    return out


@pytest.fixture
def study(made, tmp_path):
    return shutil.copytree(made, tmp_path / "study")


def written(out, **changes):
    """(the page, parsed; the summary it is about)"""
    done = Finished(out)
    summary = {**summarise(done), **changes}
    write_report(done, summary)
    return Page((out / "report.html").read_text()), summary


def data_of(out):
    return json.loads(re.search(r'id="walk-data">(.*?)</script>', (out / "report.html").read_text(), re.S)[1])


def table(out, name):
    with open(out / "figures" / f"{name}.csv", newline="") as f:
        return list(csv.DictReader(f))


# ---- whole ----

def test_well_formed_and_every_text_is_escaped(study):
    page, _ = written(study)
    assert page.open == [] and page.tags.count("script") == 2 and "h1" in page.tags
    assert not any(name.startswith("on") or "alert" in (value or "") and name not in ("title", "aria-label")
                   for name, value in page.attributes)
    assert all(text in page.text for text in (f"abc {EVIL}", f"events {EVIL}", f"H {EVIL}"))
    item = data_of(study)["news"][0]
    assert item["statement"] == NEWS[0].statement and item["questions"][2]["options"][2] == f"{EVIL} 2"


def test_nothing_is_fetched_and_only_its_own_script_may_run(study):
    (study / "probes" / "one").mkdir(parents=True)
    (study / "probes" / "one" / "lens.png").write_bytes(b"\x89PNG picture")
    (study / "probes" / "one" / "lens.csv").write_text("a\n1\n")
    (study / "probes" / "one" / "else.csv").write_text("not a probe")
    page, _ = written(study)
    text = (study / "report.html").read_text()
    assert set(page.tags).isdisjoint({"link", "iframe", "object", "base", "form"})
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttp", text)
    links = [value for name, value in page.attributes if name == "href"]
    assert all(link[0] == "#" and f'id="{link[1:]}"' in text or (study / link).is_file() for link in links)
    assert "probes/one/lens.csv" in links and "Probability and rank of the right answer by layer" in page.text
    source, = (value for name, value in page.attributes if name == "src")
    assert b64decode(source.removeprefix("data:image/png;base64,")) == b"\x89PNG picture"
    script_text = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = b64encode(hashlib.sha256(script_text[0].encode()).digest()).decode()
    policy, = (v for name, v in page.attributes if name == "content" and "default-src" in v)
    assert "default-src 'none'" in policy and policy.endswith(f"script-src 'sha256-{digest}'")


def test_a_probe_has_its_reading_with_nulls_its_pictures_and_a_table_that_sorts(study):
    folder = study / "probes" / "one"
    folder.mkdir(parents=True)
    for name in ("gate.png", "gate_more.png"):
        (folder / name).write_bytes(name.encode())
    rows = [f"{EVIL},0,1.5", f"{EVIL},1,-2.5", "null: random twin,1,0.125", "null: random twin,2,",
            "base,1,0"]
    (folder / "gate.csv").write_text("\n".join(["update,layer,gain", *rows, *["base,3,0"] * 600]))
    page, _ = written(study)
    assert f"gain, farthest from 0: {EVIL} -2.5; null: random twin 0.12; base 0. Numbers: " in page.text
    assert "605 rows, the first 200 here" in page.text and "one / gate" in page.text
    sources = [b64decode(v.partition(",")[2]).decode() for name, v in page.attributes if name == "src"]
    assert sources == ["gate.png", "gate_more.png"]
    values = [v for name, v in page.attributes if name == "data-value"]
    assert ["1.0", "-2.5", "1.0", "0.125", "2.0", ""] == values[-len(values) + values.index("-2.5") - 1:][:6]


def test_a_probe_names_its_news_and_stands_only_where_the_study_has_them(study):
    for name, news in (("mine", NEWS[0].id), ("theirs", "another"), ("none", None)):
        (study / "probes" / name).mkdir(parents=True)
        (study / "probes" / name / "lens.csv").write_text("a\n1\n")
        (study / "probes" / name / "lens.manifest.json").write_text(json.dumps({"run": {"news": news}}))
    (study / "probes" / "none" / "gate.csv").write_text("a\n1\n")
    (study / "probes" / "none" / "gate.manifest.json").write_text('{"run": []}')
    page, _ = written(study)
    assert f"News: {NEWS[0].id}" in page.text and "theirs / lens" not in page.text
    assert all(f"{name} / " in page.text for name in ("mine", "none")) and "none / gate" in page.text


def test_a_page_says_its_commands_as_they_are_typed(study, tmp_path):
    page, _ = written(study)
    assert f"report {study.name}" in page.text and f"--out {study.name}" in page.text
    (tmp_path / "runs").mkdir()
    page, _ = written(study.rename(tmp_path / "runs" / "mine"))
    assert "report runs/mine" in page.text


def test_the_command_works_without_torch_and_matplotlib_and_writes_the_same_again(study):
    code = ("import sys, runpy; sys.modules.update(torch=None, matplotlib=None); "
            f"sys.argv = ['newnews', 'report', {str(study)!r}]; "
            "runpy.run_module('newnews', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and f"{study}/report.html" in done.stdout, done.stderr
    made = {path.name: path.read_bytes() for path in (study / "figures").iterdir()}
    page = (study / "report.html").read_bytes()
    written(study)
    assert {path.name: path.read_bytes() for path in (study / "figures").iterdir()} == made
    assert (study / "report.html").read_bytes() == page and not list(study.rglob("*.part"))


def test_each_file_of_answers_is_judged_once(study, monkeypatch):
    files = []
    monkeypatch.setattr("newnews.studies.summary.judged", lambda file, *rest: (
        files.append(file), judged(file, *rest))[1])
    written(study)
    assert len(files) == len(set(files)) == len(RIGHT)


# ---- numbers ----

def test_the_tables_are_the_summary(study):
    _, summary = written(study)
    rows = table(study, "accuracy")
    assert len(rows) == 3 * 2 * 3 * 3               # cells, ways, formats, all and two domains
    for row in rows:
        found = summary["cells"][row["cell"]][row["way"]][row["format"]]
        found = found if row["domain"] == "all" else found["by_domain"][row["domain"]]
        assert [float(row[key]) for key in ("mean", "low", "high", "n")] == [found[k] for k in
                                                                           ("mean", "low", "high", "n")]
    for row in table(study, "recovered"):
        found = summary["cells"][row["cell"]]["recovered"][row["format"]]
        assert [float(row[k]) if row[k] else None for k in found] == list(found.values())
    assert {row["n"] for row in rows if row["domain"] == "all"} == {"11"}       # zog-1 does not count
    assert not (study / "figures" / "kinds.csv").exists()                       # they are all of one kind


def test_kinds_of_questions_and_their_steps_have_a_table(study):
    write_news(study / "news.yaml", [replace(item, questions=[
        replace(q, needs="two_steps", steps=2) if i == 3 else replace(q, steps=1)
        for i, q in enumerate(item.questions)])
        for item in NEWS])
    settings = json.loads((study / "study.json").read_text())
    settings["study"]["news"] = str(study / "news.yaml")
    (study / "study.json").write_text(json.dumps(settings))
    page, summary = written(study)
    found = summary["groups"]["self_qa"][CLOSED]["text"]
    assert set(found["by_needs"]) == {"recall", "two_steps"} and set(found["by_steps"]) == {"1", "2"}
    rows = [row for row in table(study, "kinds")
            if (row["cell"], row["format"], row["way"]) == ("self_qa", "text", CLOSED)]
    wanted = [*(found["by_needs"][k] for k in ("recall", "two_steps")), *(found["by_steps"][k] for k in "12")]
    assert [row["kind"] for row in rows] == ["recall", "two steps", "1 step", "2 steps"]
    assert [[float(row[k]) for k in ("mean", "low", "high", "n")] for row in rows] == [
        [part[k] for k in ("mean", "low", "high", "n")] for part in wanted]
    assert "By kind of question" in page.text and f"two steps (n = {wanted[1]['n']})" in page.text
    rows = [{"cell": c, "format": "free", "way": CLOSED, "kind": "recall", "mean": 0.5, "low": 0.2,
             "high": 0.8, "n": n} for c, n in (("a", 3), ("b", 5), ("c", 4))]
    assert "recall (n = 5)" in sections.kinds(rows)         # a cell that lacks news has fewer


def test_what_was_not_asked_since_it_diverged_is_a_dash():
    """A cell whose only news of a domain, or of a kind, diverged has no number there."""
    rows = [{"cell": "a", "format": "free", "way": CLOSED, "domain": d, "mean": 0.5, "low": 0.2, "high": 0.8,
             "n": 3} for d in ("all", "math", "events")]
    page = sections.every_number([*rows, {**rows[0], "cell": "b"}, {**rows[1], "cell": "b"}], ["a", "b"])
    assert page.count("<td>b</td>") == 1 and page.count(">-</td>") == 1
    seeds = [{**row, "cell": f"a seed={i}"} for row in rows for i in (0, 1)]
    shown, _, clicked = sections.every_number([*rows, *seeds], ["a"]).partition("<details>")
    assert "seed" not in shown and clicked.count("<td>a, seed ") == 2       # single seeds wait for a click
    kinds = [{**row, "kind": row["domain"]} for row in rows]
    assert sections.kinds([*kinds, {**kinds[0], "cell": "b"}]).count(">-</td>") == 2


def test_a_claim_of_no_difference_shows_what_it_allows():
    claim = {"says": "s", "a": "x", "b": "y", "way": CLOSED, "format": "free", "needs": "", "difference": 0.0,
             "low": -0.05, "high": 0.05, "p": 1.0, "holm": 1.0, "n": 9, "news": 3, "smallest": 0.07,
             "verdict": "held"}
    assert 'class="band"' in sections.claims([{**claim, "direction": "="}])
    assert 'class="band"' not in sections.claims([{**claim, "direction": ">"}])


def test_kept_and_costs_by_hand(study):
    written(study)
    kept = {(row["cell"], row["format"]): row for row in table(study, "kept")}
    # in context, of 11: base 10; naive loses zog-... and zag-...: 8; self_qa 11
    assert float(kept["naive", "free"]["difference"]) == pytest.approx(-2 / 11)
    assert float(kept["self_qa", "free"]["difference"]) == pytest.approx(1 / 11) \
        and kept["naive", "free"]["n"] == "11"
    naive, qa = table(study, "costs")
    assert (naive["writing_flops"], qa["writing_flops"], qa["written_tokens"]) == ("0.0", "1666.7", "25.7")
    assert (naive["elements"], naive["distinct"]) == ("0.7", "0.3")             # of three news
    assert (qa["elements"], qa["distinct"]) == ("5.0", "5.0")
    assert [float(qa[key]) for key in ("flops", "trained_tokens", "seconds")] == pytest.approx(
        [1e11 / 3, 1001 / 3, 8765], abs=0.05)       # seconds are those of all three news
    assert float(qa["mean"]) == pytest.approx(10 / 11)


def test_what_is_drawn_stands_where_it_should(study):
    _, summary = written(study)
    text = (study / "report.html").read_text().split('id="accuracy"')[1]
    strips = {format: re.findall(r'<svg class="strip".*?</svg>', text.split(f"<h3>{title}</h3>")[1], re.S)[:3]
              for format, title in (("free", "Free form"), ("text", "Multiple choice"))}
    for format, drawn in strips.items():
        for (name, cell), strip in zip(summary["cells"].items(), drawn, strict=True):
            closed, read = cell[CLOSED][format], cell[CONTEXT][format]
            at = {key: f"{100 * value:.2f}%" for key, value in closed.items()
                  if key in ("mean", "low", "high")}
            assert f"<title>{name.replace('_', ' ')}: closed book {closed['mean']:.2f} [" in strip
            assert f'class="bar" y="20%" width="{at["mean"]}"' in strip
            assert f'class="whisker" x1="{at["low"]}" x2="{at["high"]}"' in strip
            assert f'class="ring" cx="{100 * read["mean"]:.2f}%"' in strip
            base = summary["cells"]["base"][CONTEXT][format]["mean"]
            assert f'class="dashed" x1="{100 * base:.2f}%"' in strip
            assert ('class="dotted" x1="33.33%"' in strip) == (format == "text")        # three options


def test_what_training_saw(study):
    page, _ = written(study)
    rows = table(study, "training")
    assert [(r["cell"], r["step"], r["loss"], r["grad_norm"]) for r in rows if r["cell"] == "self_qa"] == [
        ("self_qa", "1", "3.0", "8.0"), ("self_qa", "31", "0.5", ""), ("self_qa", "60", "0.001", "0.02")]
    assert "self qa, step 31: 0.5" in page.text and "self qa, step 60: 0.001" in page.text


# ---- files ----

def test_somebody_elses_page_is_kept_and_no_run_begins(study, tmp_path):
    page = study / "report.html"
    page.write_text("<p>mine</p>")
    with pytest.raises(ValueError, match="report.html: is there already and no report of a study"):
        written(study)
    assert page.read_text() == "<p>mine</p>"
    refused(tmp_path, ["newnews", "run", ROOT / "configs" / "demo.yaml", "--out", study], str(page))


def test_a_file_where_the_tables_go_is_seen_before_a_run_begins(study):
    (study / "figures").write_text("mine")
    with pytest.raises(ValueError, match="figures"):
        check_report(study)
    assert (study / "figures").read_text() == "mine"


def test_tables_of_an_earlier_report_go_and_another_file_stays(study):
    written(study)
    (study / "figures" / "mine.csv").write_text("mine")
    (study / "figures" / "stream.csv").write_text("of an earlier report")
    written(study)
    assert (study / "figures" / "mine.csv").read_text() == "mine"
    assert not (study / "figures" / "stream.csv").exists()
