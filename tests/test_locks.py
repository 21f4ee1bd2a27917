"""One writer at a time: real processes that start together, are killed, and come after each other; with the
kernel's locks and without; folders that vanish under a writer; what Ctrl-C and SIGTERM leave."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from newnews import console, locks
from newnews.outputs import Rows, build_folder

RUN = {"seed": 1}
HEAD = "import sys, time; from newnews import locks; from newnews.outputs import Rows, build_folder; "
# Each says "begun" once it has the output and goes on when it gets a line.
WRITERS = {"rows": HEAD + "r = Rows(sys.argv[1], {'seed': 1}); r.whole and sys.exit(); "
                          "r.add([{'a': 1}] * 1000); print('begun', flush=True); input(); "
                          "r.add([{'a': 2}] * 1000); r.finish()",
           "folder": HEAD + "fill = lambda work, result: "
                            "(print('begun', flush=True), input(), result.mkdir(), {})[3]; "
                            "build_folder(sys.argv[1], {'seed': 1}, fill)"}


def start(kind, path, before=""):
    return subprocess.Popen([sys.executable, "-c", before + WRITERS[kind], str(path)], cwd=ROOT, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def here(kind, path):
    """The same in this process."""
    if kind == "rows":
        output = Rows(path, RUN)
        for i in range(output.chunks, 2):
            output.add([{"a": i + 1}] * 1000)
        output.finish()
    else:
        build_folder(path, RUN, lambda work, result: result.mkdir() or {})


@pytest.fixture(autouse=True)
def nothing_held():
    yield
    locks.release_all()


@pytest.mark.parametrize("kind", WRITERS)
def test_the_second_is_refused_and_named_the_first_and_a_kill_frees(kind, tmp_path):
    first = start(kind, tmp_path / "out")
    assert first.stdout.readline() == "begun\n"
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    who = f"{tmp_path}/out: process {first.pid} on {platform.node()} has been writing it since 2"
    with pytest.raises(ValueError, match=who):
        here(kind, tmp_path / "out")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    first.kill()
    first.wait()
    assert (tmp_path / "out.lock").exists()                 # left, but binds nobody
    here(kind, tmp_path / "out")
    wanted = {"rows": ["out", "out.manifest.json"], "folder": ["out"]}[kind]
    assert sorted(p.name for p in tmp_path.iterdir()) == wanted
    if kind == "rows":
        assert [r["a"] for r in Rows(tmp_path / "out", RUN).read()] == [1] * 1000 + [2] * 1000


# as on a disk that has no flock
ENOSYS = "import fcntl; fcntl.flock = lambda fd, how: (_ for _ in ()).throw(OSError(38, 'not implemented')); "


@pytest.mark.parametrize("before", ["", ENOSYS], ids=["flock", "no flock"])
def test_of_several_that_start_together_one_writes(before, tmp_path):
    for go in range(2):
        writers = [start("rows", tmp_path / f"{go}.jsonl", before) for _ in range(4)]
        said = [writer.communicate("\n")[1] for writer in writers]
        codes = [writer.returncode for writer in writers]
        assert codes.count(0) >= 1, said            # one that starts after another's end finds it whole
        assert all("has been writing it" in s or "has just begun" in s
                   for code, s in zip(codes, said) if code), said
        assert len(Rows(tmp_path / f"{go}.jsonl", RUN).read()) == 2000
        assert sorted(p.name for p in tmp_path.glob(f"{go}*")) == [f"{go}.jsonl", f"{go}.jsonl.manifest.json"]


def entry(pid, host=None):
    return json.dumps({"pid": pid, "host": host or platform.node(), "since": "2026-01-01 00:00:00"})


@pytest.fixture
def no_flock(monkeypatch):
    def none(fd, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0)


def test_without_flock_the_entry_binds_while_its_process_runs(tmp_path, no_flock):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path = tmp_path / "a.jsonl"
    lock = tmp_path / "a.jsonl.lock"
    for text in (entry(os.getppid()), entry(1), entry(dead.pid, "elsewhere"),
                 entry(os.getpid(), "elsewhere")):
        lock.write_text(text)
        with pytest.raises(ValueError, match="a.jsonl: process"):
            locks.hold(path)
        assert lock.read_text() == text
    for text in (entry(dead.pid), entry(os.getpid()), ""):
        lock.write_text(text)
        locks.hold(path)
        assert json.loads(lock.read_text())["pid"] == os.getpid() and locks.holds(path)
        locks.release(path)
        assert not lock.exists()


def test_without_flock_the_last_to_write_has_it(tmp_path, no_flock, monkeypatch):
    """Also one with our own number, of another machine."""
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: (tmp_path / "a.lock").write_text(other))
    for other in (entry(os.getppid()), entry(os.getpid(), "elsewhere")):
        (tmp_path / "a.lock").unlink(missing_ok=True)
        with pytest.raises(ValueError, match="a: process"):
            locks.hold(tmp_path / "a")
        assert not locks.holds(tmp_path / "a") and (tmp_path / "a.lock").read_text() == other


def test_a_process_holds_a_lock_once_and_until_it_lets_go(tmp_path):
    locks.hold(tmp_path / "a")
    locks.hold(tmp_path / "a")
    locks.hold(tmp_path / "b")
    locks.release(tmp_path / "never held")
    assert locks.holds(tmp_path / "a") and not locks.holds(tmp_path / "c")
    locks.release(tmp_path / "a")
    assert not locks.holds(tmp_path / "a") and [p.name for p in tmp_path.iterdir()] == ["b.lock"]
    (tmp_path / "b.lock").unlink()
    (tmp_path / "b.lock").write_text("")                    # another file under the same name
    assert not locks.holds(tmp_path / "b")
    locks.release_all()
    assert (tmp_path / "b.lock").exists() and not locks.HELD


@pytest.mark.parametrize("text", ["my notes", "{}", "[1]", '{"pid": "x", "host": "h", "since": "s"}'])
def test_a_lock_file_that_is_not_ours_is_left_alone(text, tmp_path):
    (tmp_path / "a.jsonl.lock").write_text(text)
    with pytest.raises(ValueError, match="a.jsonl.lock: expected a lock file of ours"):
        Rows(tmp_path / "a.jsonl", RUN)
    assert (tmp_path / "a.jsonl.lock").read_text() == text


@pytest.mark.parametrize("again", [False, True], ids=["removed", "removed and made again"])
def test_a_folder_that_vanishes_under_a_writer_is_an_error(again, tmp_path):
    for moment in ("add", "finish"):
        output = Rows(tmp_path / "sub" / "a.jsonl", RUN)
        output.add([{"a": 1}])
        shutil.rmtree(tmp_path / "sub")
        if again:
            (tmp_path / "sub").mkdir()
            other = start("rows", tmp_path / "sub" / "a.jsonl")
            assert other.stdout.readline() == "begun\n"
        with pytest.raises(OSError, match=f"{tmp_path}/sub/a.jsonl: its folder was removed or replaced"):
            output.add([{"a": 2}]) if moment == "add" else output.finish()
        locks.release_all()
        if again:                                           # the other one's output is whole
            assert other.communicate("\n")[1] == "" and other.returncode == 0
            assert len(Rows(tmp_path / "sub" / "a.jsonl", RUN).read()) == 2000
            shutil.rmtree(tmp_path / "sub")


def test_user_errors_lets_locks_go(tmp_path):
    with pytest.raises(SystemExit), console.user_errors():
        locks.hold(tmp_path / "a")
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == [] and not locks.HELD


# ---- signals and errors ----

SLOW = ("import sys; from newnews.console import user_errors; "
        "from newnews import locks; import time\n"
        "with user_errors():\n"
        "    if len(sys.argv) > 1: locks.hold(sys.argv[1])\n"
        "    print('begun', flush=True)\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        raise RuntimeError('a library makes it an error of its own')\n")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("held", [True, False])
def test_signals_end_in_one_line(number, code, held, tmp_path):
    done = subprocess.Popen([sys.executable, "-c", SLOW, *[str(tmp_path / "out")] * held], cwd=ROOT,
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.stdout.readline() == "begun\n"
    done.send_signal(number)
    assert done.communicate() == ("", console.STOPPED + "\n") and done.returncode == code
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_torch_is_imported(tmp_path):
    """Whenever it comes from the first line of user_errors on; a bad moment aborted the process."""
    for wait in (0, 0.3, 0.7):
        code = ("from newnews.console import user_errors\nwith user_errors():\n"
                "    print('begun', flush=True)\n    import torch\n    import time\n    time.sleep(60)")
        done = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.stdout.readline() == "begun\n"
        time.sleep(wait)
        done.send_signal(signal.SIGINT)
        assert done.communicate()[1] == console.STOPPED + "\n" and done.returncode == 130


class OutOfMemoryError(RuntimeError):
    """As torch's on a GPU."""


@pytest.mark.parametrize("error, said", [
    (ValueError("x.yaml: line 3: no"), "error: x.yaml: line 3: no"),
    (ValueError("two\nlines"), "error: two lines"),
    (FileNotFoundError("x.yaml: no such file"), "error: x.yaml: no such file"),
    (PermissionError(13, "Permission denied", "/x/a.jsonl"), "error: /x/a.jsonl: Permission denied"),
    (OSError(39, "Directory not empty", "a.part", None, "a"), "error: a.part -> a: Directory not empty"),
    (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device"),
    (ModuleNotFoundError("No module named 'torch'", name="torch"),
     "error: No module named 'torch', which newnews"),
    (OSError(), "error: OSError"), (MemoryError(), "error: out of memory; less is needed with a smaller"),
    (OutOfMemoryError("CUDA out of memory"), "error: out of memory (CUDA out of memory)"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "error: out of memory"),
    (RuntimeError("CUDA error: out of memory\nCompile with"), "error: out of memory (CUDA error: out of"),
    (UnicodeEncodeError("utf-8", "\udc00", 0, 1, "surrogates not allowed"), "error: 'utf-8' codec can't")])
def test_errors_of_users_are_one_line(error, said, capsys):
    with pytest.raises(SystemExit) as ended, console.user_errors():
        raise error
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.startswith(said) and err.count("\n") == 1 and "Traceback" not in err


def test_bugs_keep_their_traceback_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for bug in (RuntimeError("a bug"), KeyError("k"), TypeError("t")):
        with pytest.raises(type(bug)), console.user_errors():
            raise bug
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_console_that_lacks_a_letter_ends_no_run():
    code = "from newnews.console import user_errors\nwith user_errors():\n    print('0.5 \xb1 0.1 \u6771')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"0.5 \\xb1 0.1 \\u6771\n", b"")


def test_a_log_file_gets_a_line_a_minute(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(console.Lines, "said", None)
    bar = console.progress(9, 2, "ask", "item")             # stderr is no terminal here
    for clock[0] in (30, 61, 100, 125):
        bar.set_postfix_str("loss 1")
        bar.update(2)
    assert capsys.readouterr().err == "  ask: 6 of 9 item, loss 1, 46 s left\n  ask: 10 of 9 item, loss 1\n"
    for clock[0] in (150, 180, 210):                        # bars of half a minute share the clock
        console.progress(1, 0, "train", "step").update(1)
    assert capsys.readouterr().err == "  train: 1 of 1 step\n"


@pytest.mark.parametrize("rank, shows", [("0", True), ("1", False)])
def test_of_torchruns_processes_the_first_one_shows_its_bar(rank, shows, capsys, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = console.progress(9, 0, "ask", "item")
    bar.update(9)
    bar.close()
    assert ("ask" in capsys.readouterr().err) == shows


def test_an_argument_that_is_no_text(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["generate.py", "--chat", "caf\udce9"])
    with pytest.raises(SystemExit) as ended, console.user_errors():
        pass
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: argument 'caf\\udce9': expected UTF-8 text\n"
