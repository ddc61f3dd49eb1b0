"""Child processes end in time, with everything they started, and their last lines are kept."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from dsa110_assets.common import child_process
from dsa110_assets.common.child_process import Child, run_child, run_children
from dsa110_assets.errors import ChildFailedError, ConfigurationError

ADVICE = "call the operator"


def python(program: str, **options) -> Child:
    return Child("the program", [sys.executable, "-c", program], **options)


def run(child: Child, timeout_s: float = 60.0, **options):
    return run_child(child, subject="tile", timeout_s=timeout_s, timeout_advice=ADVICE, **options)


def wait_for(path: Path) -> int:
    """Return the process number that a grandchild wrote."""
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


def test_a_child_gets_its_input_directory_and_environment_and_its_output_is_kept(tmp_path):
    program = "import os, sys; print(sys.stdin.readline().strip(), os.getcwd(), os.environ['COLOR']); print('on error', file=sys.stderr)"
    end = run(python(program, stdin="a question\nnot read\n", cwd=tmp_path, environment={"COLOR": "blue"}))
    assert end.code == 0
    assert end.stdout == f"a question {tmp_path} blue\n"
    assert end.stderr == "on error\n"
    end.raise_if_failed("tile", ADVICE)


def test_a_child_that_prints_more_than_a_pipe_can_hold_does_not_block():
    end = run(python("import sys; sys.stdout.write('x' * 10_000_000); sys.stderr.write('y' * 10_000_000)"))
    assert (end.code, len(end.stdout), len(end.stderr)) == (0, 10_000_000, 10_000_000)


def test_the_time_limit_ends_the_child_and_what_it_started(tmp_path):
    grandchild = tmp_path / "grandchild"
    program = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        f"open({str(grandchild)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(300)"
    )
    began = time.monotonic()
    with pytest.raises(ChildFailedError, match="the program did not end within 3 s") as error:
        run(python(program), timeout_s=3.0)
    assert time.monotonic() - began < 20
    assert error.value.subject == "tile"
    assert error.value.next_step == ADVICE
    assert ends_soon(wait_for(grandchild))


def test_the_time_limit_ends_a_child_that_ignores_signals():
    began = time.monotonic()
    with pytest.raises(ChildFailedError, match="did not end within"):
        run(python("import signal, time\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(300)"), timeout_s=2.0)
    assert time.monotonic() - began < 20


def test_processes_that_a_child_leaves_running_end_with_it(tmp_path):
    grandchild = tmp_path / "grandchild"
    program = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        f"open({str(grandchild)!r}, 'w').write(str(child.pid))"
    )
    assert run(python(program)).code == 0
    assert ends_soon(wait_for(grandchild))


def test_the_last_lines_of_a_failed_child_are_in_the_error():
    end = run(python("import sys\nfor n in range(9): print('line', n)\nsys.exit('no such antenna')"))
    with pytest.raises(ChildFailedError, match=r"the program ended with code 1: line 7 \| line 8 \| no such antenna") as error:
        end.raise_if_failed("tile", ADVICE)
    assert error.value.next_step == ADVICE


def test_a_killed_child_is_reported_with_the_signal_and_its_memory():
    """The kernel's out-of-memory killer does this."""
    program = "import os, time\nballast = b'x' * 300_000_000\ntime.sleep(0.5)\nos.kill(os.getpid(), 9)"
    end = run(python(program))
    with pytest.raises(ChildFailedError, match=r"killed by signal 9 \(it used up to 0\.3 GB\)"):
        end.raise_if_failed("tile", ADVICE)


def test_the_reported_memory_is_that_of_the_child_not_of_the_parent():
    ballast = b"x" * 400_000_000
    assert run(python("import time; time.sleep(0.3)")).peak_bytes < 100_000_000
    assert len(ballast) == 400_000_000


def test_a_child_that_exits_0_without_its_result_has_failed(tmp_path):
    end = run(python("import os; os._exit(0)"))
    with pytest.raises(ChildFailedError, match=r"ended with code 0 without result\.json"):
        end.raise_if_failed("tile", ADVICE, result=tmp_path / "result.json")


def test_a_missing_program_is_named():
    with pytest.raises(ConfigurationError, match=r"the imager did not start: .*no-such-program"):
        run(Child("the imager", ["no-such-program"]))


def test_the_first_failure_ends_the_other_children(tmp_path):
    sleeper = tmp_path / "sleeper"
    children = [
        python(f"import os, time; open({str(sleeper)!r}, 'w').write(str(os.getpid())); time.sleep(300)"),
        python(f"import os, sys, time\nwhile not os.path.exists({str(sleeper)!r}): time.sleep(0.01)\nsys.exit(7)"),
        python("pass"),
    ]
    began = time.monotonic()
    ends = run_children(children, subject="tile", timeout_s=60, timeout_advice=ADVICE)
    assert time.monotonic() - began < 30
    assert ends[-1].code == 7
    assert {end.code for end in ends[:-1]} <= {0}
    assert ends_soon(wait_for(sleeper))


def test_children_run_in_parallel():
    began = time.monotonic()
    ends = run_children([python("import time; time.sleep(3)")] * 4, subject="tile", timeout_s=60, timeout_advice=ADVICE)
    assert [end.code for end in ends] == [0] * 4
    assert time.monotonic() - began < 10


def test_an_exception_while_waiting_ends_the_child(tmp_path):
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


def test_a_child_can_use_the_file_descriptors_passed_to_it():
    reader, writer = os.pipe()
    try:
        assert run(python(f"import os; os.write({writer}, b'through the pipe')", pass_fds=[writer])).code == 0
        assert os.read(reader, 100) == b"through the pipe"
    finally:
        os.close(reader)
        os.close(writer)


# --- orderly stops ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("program", ["os.kill(os.getpid(), 15)", "sys.exit(143)"])
def test_a_child_that_dies_of_an_orderly_stop_before_its_parent_hears_of_it_is_no_failure(program):
    """As under Slurm and systemd, which tell every process. The parent's signal comes later here, and interrupts it."""
    later = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    later.daemon = True
    later.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(python(f"import os, sys; {program}"))
    finally:
        later.cancel()  # else it would interrupt whatever runs when this test has failed


def test_a_child_that_is_killed_for_its_memory_fails_at_once_and_one_that_ends_itself_after_a_while(monkeypatch):
    monkeypatch.setattr(child_process, "_OWN_SIGNAL_S", 0.3)
    slept: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(child_process.time, "sleep", lambda seconds: (slept.append(seconds), sleep(seconds)))
    for number, waits in ((signal.SIGKILL, 0), (signal.SIGTERM, 1)):
        slept.clear()
        end = run(python(f"import os; os.kill(os.getpid(), {int(number)})"))
        assert slept.count(0.3) == waits
        with pytest.raises(ChildFailedError, match=f"killed by signal {int(number)}"):
            end.raise_if_failed("tile", ADVICE)
