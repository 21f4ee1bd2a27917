"""Folders that appear whole or not at all: killed anywhere, of another run, not ours, vanished under the
process."""

import shutil

import pytest

from newnews.outputs import build_folder, write_json
from test_outputs import Killed, RUN, files, kill_at, same_machine     # noqa: F401 (a fixture)


def fill(work, result):
    state = work / "state"
    steps = int(state.read_text()) if state.is_file() else 0
    for step in range(steps, 3):
        (work / "metrics.jsonl").write_text("".join(f"{i}\n" for i in range(step + 1)))
        state.write_text(str(step + 1))
    result.mkdir()
    (result / "weights").write_text("w" * 100)
    (result / "more").write_text("m")
    return {"steps": 3}


def test_a_folder_is_made_whole(tmp_path):
    manifest = build_folder(tmp_path / "out", RUN, fill)
    assert manifest["run"] == RUN and manifest["steps"] == 3 and "torch" in manifest
    assert sorted(files(tmp_path / "out")) == ["manifest.json", "metrics.jsonl", "more", "weights"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    before = files(tmp_path)
    assert build_folder(tmp_path / "out", RUN, None) == manifest and files(tmp_path) == before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_folder_killed_anywhere_is_whole_or_not_there(after, tmp_path, same_machine):
    build_folder(tmp_path / "whole", RUN, fill)
    wanted, number = files(tmp_path / "whole"), 0
    while True:
        out = tmp_path / str(number) / "out"
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, number, after)
            try:
                build_folder(out, RUN, fill)
                break
            except Killed:
                assert not out.exists() or files(out) == wanted
        build_folder(out, RUN, fill)
        assert files(out) == wanted and not out.with_name("out.part").exists()
        number += 1
    assert number > 8


def test_when_fill_fails_nothing_half_written_is_left(tmp_path):
    def failing(work, result):
        fill(work, result)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        build_folder(tmp_path / "out", RUN, failing)
    assert not (tmp_path / "out").exists() and (tmp_path / "out.part" / "state").read_text() == "3"

    def cleanly(work, result):
        assert not result.exists() and (work / "state").read_text() == "3"
        return fill(work, result)

    assert build_folder(tmp_path / "out", RUN, cleanly)["steps"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_another_runs_folder_is_refused(tmp_path):
    build_folder(tmp_path / "out", RUN, fill)
    (tmp_path / "cut.part").mkdir()
    write_json(tmp_path / "cut.part" / "run.json", RUN)
    (tmp_path / "mine").mkdir()
    before = files(tmp_path)
    for name, wanted in (("out", "differs in seed"), ("cut", "unfinished.*in seed"), ("mine", "no manifest")):
        with pytest.raises(ValueError, match=f"{tmp_path / name}.*{wanted}"):
            build_folder(tmp_path / name, {**RUN, "seed": 2}, fill)
    assert files(tmp_path) == before


def test_a_part_folder_that_is_not_ours_is_left_alone(tmp_path):
    """And one whose own run was broken off in its very first or very last step is gone on with."""
    work = tmp_path / "out.part"
    work.write_text("mine")
    with pytest.raises(ValueError, match="out.part: is needed .* not ours"):
        build_folder(tmp_path / "out", RUN, fill)
    work.unlink()
    work.mkdir()
    (work / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="out.part: is needed .* not ours"):
        build_folder(tmp_path / "out", RUN, fill)
    assert files(tmp_path) == {"out.part/thesis.tex": b"mine"}
    (work / "thesis.tex").rename(work / "run.json.part")
    build_folder(tmp_path / "out", RUN, fill)
    work.mkdir()                                        # the output is whole
    (work / "thesis.tex").write_text("mine")
    build_folder(tmp_path / "out", RUN, fill)
    assert (work / "thesis.tex").exists()
    (work / "thesis.tex").unlink()
    build_folder(tmp_path / "out", RUN, fill)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_work_folder_that_vanishes_is_an_error(tmp_path):
    def vanishing(work, result):
        fill(work, result)
        shutil.rmtree(work)
        return {}

    with pytest.raises(FileNotFoundError, match="out.part"):
        build_folder(tmp_path / "out", RUN, vanishing)
    assert list(tmp_path.iterdir()) == []
