"""Promises of child processes: they end in time, with all that they started, and their last words are kept."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from dsa110_assets.common.child_process import Child, run_child, run_children
from dsa110_assets.errors import ChildFailedError

ADVICE = "ask the operator"


def python(program: str, **options) -> Child:
    return Child("the program", [sys.executable, "-c", program], **options)


def run(child: Child, timeout_s: float = 60.0, **options):
    return run_child(child, subject="tile", timeout_s=timeout_s, if_late=ADVICE, **options)


def wait_for(path: Path) -> int:
    """The process number that a grandchild wrote."""
    end = time.monotonic() + 30
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)
    return int(path.read_text())


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def ends_soon(pid: int) -> bool:
    end = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not is_running(pid)


def test_what_a_child_reads_prints_and_finds_is_what_it_was_given(tmp_path):
    program = "import os, sys; print(sys.stdin.readline().strip(), os.getcwd(), os.environ['COLOR']); print('on error', file=sys.stderr)"
    end = run(python(program, stdin="a question\nnot read\n", cwd=tmp_path, environment={"COLOR": "blue"}))
    assert end.code == 0
    assert end.stdout == f"a question {tmp_path} blue\n"
    assert end.stderr == "on error\n"
    end.raise_if_failed("tile", ADVICE)


def test_a_child_that_prints_more_than_a_pipe_holds_is_not_blocked():
    end = run(python("import sys; sys.stdout.write('x' * 10_000_000); sys.stderr.write('y' * 10_000_000)"))
    assert (end.code, len(end.stdout), len(end.stderr)) == (0, 10_000_000, 10_000_000)


def test_the_limit_fires_and_ends_what_the_child_started(tmp_path):
    grandchild = tmp_path / "grandchild"
    program = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        f"open({str(grandchild)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(300)"
    )
    began = time.monotonic()
    with pytest.raises(ChildFailedError, match="the program did not end within 3 s") as told:
        run(python(program), timeout_s=3.0)
    assert time.monotonic() - began < 20
    assert told.value.subject == "tile"
    assert told.value.next_step == ADVICE
    assert ends_soon(wait_for(grandchild))


def test_a_child_that_ignores_signals_is_ended_all_the_same():
    began = time.monotonic()
    with pytest.raises(ChildFailedError, match="did not end within"):
        run(python("import signal, time\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(300)"), timeout_s=2.0)
    assert time.monotonic() - began < 20


def test_what_a_child_leaves_running_ends_with_it(tmp_path):
    grandchild = tmp_path / "grandchild"
    program = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        f"open({str(grandchild)!r}, 'w').write(str(child.pid))"
    )
    assert run(python(program)).code == 0
    assert ends_soon(wait_for(grandchild))


def test_the_last_words_of_a_failed_child_are_in_the_error():
    end = run(python("import sys\nfor n in range(9): print('line', n)\nsys.exit('no such antenna')"))
    with pytest.raises(ChildFailedError, match=r"the program ended with code 1: line 7 \| line 8 \| no such antenna") as told:
        end.raise_if_failed("tile", ADVICE)
    assert told.value.next_step == ADVICE


def test_a_killed_child_is_reported_with_the_signal_and_its_memory():
    """What the kernel's out-of-memory killer does."""
    program = "import os, time\nheld = b'x' * 300_000_000\ntime.sleep(0.5)\nos.kill(os.getpid(), 9)"
    end = run(python(program))
    with pytest.raises(ChildFailedError, match=r"killed by signal 9 \(it held up to 0\.3 GB\)"):
        end.raise_if_failed("tile", ADVICE)


def test_memory_is_the_childs_own_and_not_what_the_parent_held():
    held = b"x" * 400_000_000
    assert run(python("import time; time.sleep(0.3)")).peak_bytes < 100_000_000
    assert len(held) == 400_000_000


def test_a_child_that_ends_well_without_its_result_has_failed(tmp_path):
    end = run(python("import os; os._exit(0)"))
    with pytest.raises(ChildFailedError, match=r"ended with code 0 without result\.json"):
        end.raise_if_failed("tile", ADVICE, result=tmp_path / "result.json")


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(ChildFailedError, match=r"the imager did not start: .*no-such-program"):
        run(Child("the imager", ["no-such-program"]))


def test_the_first_failure_ends_the_other_children(tmp_path):
    sleeper = tmp_path / "sleeper"
    children = [
        python(f"import os, time; open({str(sleeper)!r}, 'w').write(str(os.getpid())); time.sleep(300)"),
        python(f"import os, sys, time\nwhile not os.path.exists({str(sleeper)!r}): time.sleep(0.01)\nsys.exit(7)"),
        python("pass"),
    ]
    began = time.monotonic()
    ends = run_children(children, subject="tile", timeout_s=60, if_late=ADVICE)
    assert time.monotonic() - began < 30
    assert ends[-1].code == 7
    assert {end.code for end in ends[:-1]} <= {0}
    assert ends_soon(wait_for(sleeper))


def test_children_run_side_by_side():
    began = time.monotonic()
    ends = run_children([python("import time; time.sleep(3)")] * 4, subject="tile", timeout_s=60, if_late=ADVICE)
    assert [end.code for end in ends] == [0] * 4
    assert time.monotonic() - began < 10


def test_whatever_stops_the_waiting_ends_the_child(tmp_path):
    sleeper = tmp_path / "sleeper"

    def interrupt() -> None:
        if sleeper.exists() and sleeper.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            python(f"import os, time; open({str(sleeper)!r}, 'w').write(str(os.getpid())); time.sleep(300)"),
            while_waiting=interrupt,
        )
    assert ends_soon(wait_for(sleeper))


def test_a_child_uses_the_descriptors_that_it_is_given():
    reader, writer = os.pipe()
    try:
        assert run(python(f"import os; os.write({writer}, b'through the pipe')", pass_fds=[writer])).code == 0
        assert os.read(reader, 100) == b"through the pipe"
    finally:
        os.close(reader)
        os.close(writer)
