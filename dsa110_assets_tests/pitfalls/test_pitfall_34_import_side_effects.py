"""Pitfall 34: importing a module needs a writable directory, a network or CASA's data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dsa110_assets

PACKAGE = Path(dsa110_assets.__file__).parent
# libraries that a careless module would load without need; `_kernels.py` are imported lazily and contain numba
HEAVY = ("casatools", "casatasks", "casacore", "pyuvdata", "radler", "aoflagger", "matplotlib", "reproject", "AegeanTools")
PROGRAM = """
import builtins, importlib, json, os, socket, sys, threading
opened = []
def watch(event, arguments):
    if event == "open" and arguments[1] is not None and set(str(arguments[1])) & set("wax+"):
        opened.append(str(arguments[0]))
    elif event == "subprocess.Popen" and arguments[0] in ("uname", "file"):
        pass  # the standard library's `platform` calls these
    elif event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.remove", "os.rename", "os.fork"):
        opened.append(f"{event} {arguments}")
sys.addaudithook(watch)
failed = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps({"failed": failed, "opened": opened, "loaded": sorted(sys.modules), "threads": threading.active_count()}))
"""


def _modules():
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = [*path.relative_to(PACKAGE.parent).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        # numba's cache; executed by casatools; its import is its work, in a process that the code server starts for it
        if path.name.endswith("_kernels.py") or path.name in ("casasiteconfig.py", "run_template.py"):
            continue
        names.append(".".join(parts))
    return names


def test_pitfall_34_importing_every_module_has_no_side_effect(tmp_path):
    """In a read-only directory and without a home: no file written, no connection, child, thread or heavy library."""
    nowhere = tmp_path / "read-only"
    nowhere.mkdir()
    nowhere.chmod(0o555)
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(_modules())],
        cwd=nowhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failed"] == {}
    ours = [name for name in found["opened"] if not name.startswith(("/dev/", "/proc/"))]
    assert ours == []
    assert found["threads"] == 1
    assert {name.split(".")[0] for name in found["loaded"]}.isdisjoint(HEAVY)
    assert list(nowhere.iterdir()) == []
