"""Run each test marked ``fresh_interpreter`` in its own Python: it forks, which fails after OpenMP was used."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

_INSIDE = "DSA110_FRESH_INTERPRETER"
_LONGEST_S = 280


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run the test in a child and report its outcome. None leaves the test to pytest."""
    if item.get_closest_marker("fresh_interpreter") is None or _INSIDE in os.environ:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    began = time.time()
    try:
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-rs", item.nodeid],
            cwd=item.config.rootpath,
            env={**{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}, _INSIDE: "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=_LONGEST_S,
        )
        code, output = result.returncode, result.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as error:  # an exception from this hook would end the whole suite
        code, output = 1, (error.stdout or b"").decode(errors="replace") + f"\n{item.nodeid} took more than {_LONGEST_S} s\n"
    outcome = "failed" if code else "skipped" if "SKIPPED" in output else "passed"
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome=outcome,
        longrepr=(str(item.path), item.location[1] or 0, output.strip().splitlines()[-2])
        if outcome == "skipped"
        else output
        if code
        else None,
        when="call",
        duration=time.time() - began,
    )
    item.ihook.pytest_runtest_logreport(report=report)
    item.session._setupstate.teardown_exact(nextitem)  # fixtures that earlier tests of this module set up
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
