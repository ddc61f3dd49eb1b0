"""The command of `make same`.

Without options: make the night and compare it with ``baseline.json`` beside this file. ``--against REV``: also make it
with that revision's code and its copy of this module, and compare the arrays. This does not depend on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dsa110_assets
from dsa110_assets_tests.same import comparison
from dsa110_assets_tests.same.comparison import Difference
from dsa110_assets_tests.same.contents import contents_of
from dsa110_assets_tests.same.night import Night
from dsa110_assets_tests.same.record import Record, Saved, save

HERE = Path(__file__).parent
TREE = HERE.parents[1]
BASELINE = HERE / "baseline.json"
EXPECTED = HERE / "expected.json"
ONE_THREAD = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "DUCC0_NUM_THREADS"), "1"
    ),
    "PYTHONHASHSEED": "0",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "MPLBACKEND": "Agg",
}
"""The last bit of sums depends on the number of threads."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Return 0 when all products are the same or expected to differ."""
    parser = argparse.ArgumentParser(prog="make same", description=(__doc__ or "").strip())
    parser.add_argument("--against", metavar="REV", help="compare with this revision of the repository instead of the baseline")
    parser.add_argument("--allow", metavar="FILE", type=Path, default=EXPECTED, help="expected differences (default: expected.json)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--record", action="store_true", help="write the baseline")
    mode.add_argument("--save", metavar="DIR", type=Path, help="only make the night and save its arrays here")
    options = parser.parse_args(arguments)
    if options.save is not None:
        return make_and_save(options.save.absolute())
    with tempfile.TemporaryDirectory(prefix="dsa110-same-") as folder:
        expected = comparison.read_expected(options.allow)
        if options.against:
            with revision(options.against, Path(folder) / "tree") as tree:
                old, new = made_by({tree: Path(folder) / "old", TREE: Path(folder) / "new"})
            print(f"{options.against} (old) against this tree (new), array by array")
            found = comparison.differences(old.record, new.record, comparison.by_arrays(old, new))
        else:
            (new,) = made_by({TREE: Path(folder) / "new"})
            if options.record:
                new.record.write(BASELINE, package=False)
                print(f"{BASELINE.relative_to(TREE)}: {_count(new.record)}")
                return 0
            baseline = Record.read(BASELINE)
            print("\n".join(machines(baseline.machine, new.record.machine)))
            found = comparison.differences(baseline, new.record, comparison.by_summaries)
        return report(comparison.with_reasons(found, expected), _count(new.record))


def make_and_save(directory: Path) -> int:
    """Make the night and save its arrays in a directory. Start itself again if the environment allows other threads."""
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        return subprocess.run(command(directory), env=environment(TREE), cwd=TREE, check=False).returncode
    package = str(Path(dsa110_assets.__file__).parent)
    with tempfile.TemporaryDirectory(prefix="dsa110-same-") as folder:
        Path(folder).chmod(0o755)  # under root the database server runs as another user
        night = Night(Path(folder) / "night")
        with night as made:
            contents = contents_of(night.root, made.url, made.outcomes)
    save(contents, Record.of(contents, package), directory)
    print(f"made by {dsa110_assets.__file__}", flush=True)
    return 0


def command(directory: Path) -> list[str]:
    """Command that makes the night with the package of the working directory."""
    return [sys.executable, "-m", "dsa110_assets_tests.same", "--save", str(directory)]


def environment(tree: Path) -> dict[str, str]:
    """Environment with one thread, the tree's package before the installed one, and no settings of other platforms."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "GIT_", "DAGSTER_", "DSA110_"))}
    return kept | ONE_THREAD | {"PYTHONPATH": str(tree)}


def made_by(trees: dict[Path, Path]) -> list[Saved]:
    """Make nights with several trees at the same time, each in its directory.

    Raises:
        SystemExit: a night could not be made, or was made by a package outside its tree.
    """
    children = {
        tree: subprocess.Popen(
            command(directory), env=environment(tree), cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for tree, directory in trees.items()
    }
    outputs = {tree: child.communicate() for tree, child in children.items()}
    for tree, child in children.items():
        if child.returncode != 0:
            raise SystemExit(f"{tree} could not make the night:\n{''.join(outputs[tree])[-4000:]}")
    nights = [Saved(directory) for directory in trees.values()]
    for tree, night in zip(trees, nights, strict=True):
        if not Path(night.record.package).is_relative_to(tree):
            raise SystemExit(f"the night of {tree} was made by {night.record.package}: another package was imported")
        print(f"made by {night.record.package}")
    return nights


@contextlib.contextmanager
def revision(name: str, tree: Path) -> Iterator[Path]:
    """Check out a revision of the repository during the block."""

    def git(*words: str) -> None:
        done = subprocess.run(["git", *words], cwd=TREE, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"git {' '.join(words)}: {done.stderr.strip()}")

    git("worktree", "add", "--detach", str(tree), name)
    try:
        if not (tree / HERE.relative_to(TREE)).is_dir():
            raise SystemExit(f"{name} has no {HERE.relative_to(TREE)}: compare with a later revision")
        yield tree
    finally:
        git("worktree", "remove", "--force", str(tree))


def machines(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """Lines that describe the machine of the baseline, and the differences of this one."""
    lines = [f"baseline recorded on {then['processor']}, Python {then['python']}, numpy {then['numpy']}, ducc0 {then['ducc0']}"]
    other = [f"{name} {now.get(name)} instead of {value}" for name, value in then.items() if now.get(name) != value]
    if other:
        lines.append(f'here: {", ".join(other)}, so last bits may differ. `make same ARGS="--against REV"` does not depend on it')
    return lines


def report(found: list[Difference], count: str) -> int:
    """Print the differences, the expected ones separately. Return 1 if there are others."""
    meant = [difference for difference in found if difference.expected is not None]
    wrong = [difference for difference in found if difference.expected is None]
    for title, differences in (("expected to differ", meant), ("DIFFERENT", wrong)):
        if differences:
            print(f"\n{title}: {len(differences)} arrays of {len({difference.product for difference in differences})} products")
        last = ""
        for difference in differences:
            if difference.product != last:
                print(f"  {difference.product}")
                last = difference.product
            print(f"    {difference.name:<28} {difference.how}")
    for reason, times in Counter(str(difference.expected) for difference in meant).items():
        print(f"  expected {times} times: {reason}")
    print(f"\n{count}: " + (f"{len(wrong)} arrays differ" if wrong else "the same" + (" except expected differences" if meant else "")))
    return 1 if wrong else 0


def _count(record: Record) -> str:
    return f"{sum(len(arrays) for arrays in record.summaries.values())} arrays of {len(record.summaries)} products"


if __name__ == "__main__":
    sys.exit(main())
