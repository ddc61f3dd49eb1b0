"""Pitfall 36: casatools and python-casacore work in one process, offline, without log files in the directory."""

import os
import subprocess
import sys
from importlib.metadata import version


def test_pitfall_36_casacore_is_new_enough():
    assert tuple(int(part) for part in version("python-casacore").split(".")[:3]) >= (3, 8, 1)


def test_pitfall_36_both_work_in_one_process_without_network_or_logs(tmp_path):
    """Run both in a new process with an empty home, in which every connection attempt is an error."""
    script = """
import socket, sys
def refuse(*arguments, **options):
    raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import dsa110_assets
import casatools, casatasks
from casacore.tables import table, maketabdesc, makescacoldesc
with table("t.tab", maketabdesc([makescacoldesc("A", 1)]), nrow=3, ack=False) as t:
    t.putcol("A", [1, 2, 3])
tool = casatools.table()
tool.open("t.tab")
assert list(tool.getcol("A")) == [1, 2, 3]
tool.close()
me = casatools.measures()
me.doframe(me.observatory("OVRO_MMA"))
me.doframe(me.epoch("utc", "2026-03-01T05:00:00"))
assert me.measure(me.direction("J2000", "8h34m54.9s", "55d34m21s"), "AZEL")["refer"] == "AZEL"
print("done")
"""
    environment = {k: v for k, v in os.environ.items() if k != "CASASITECONFIG"} | {"HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=tmp_path / "work",
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.strip().endswith("done")
    assert {p.name for p in (tmp_path / "work").iterdir()} == {"t.tab"}
