"""`make fuzz`: feed damaged raw files of every kind to ingest, which must reject them and never crash or hang.

``python -m dsa110_assets_tests.chaos.fuzz --mutations 10000 --seed 1``. A child process mutates small raw files and
lets `ingest.scan` check them as the sensor does. It checks those that pass beside another subband of their observation,
as the conversion does. An accepted file must be right: its header is compared with the undamaged one by plain h5py. No
reader can detect visibilities that were changed into other credible values; such files are counted as ``payload``. When
a child dies or hangs, the parent continues after the mutation that caused it.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dsa110_assets_tests.conversion.minimal_raw import subband_frequencies
from dsa110_assets_tests.ingest.bookkeeping import START, settings
from dsa110_assets_tests.ingest.incoming import raw_path, write_observation

BATCH = 40
HANG_S = 60.0
NOW = START + timedelta(hours=1)
Mutate = Callable[[Path, np.random.Generator], None]


# --- mutations --------------------------------------------------------------------------------------------------------
def _bytes_changed(path: Path, change: Callable[[bytearray], bytes | bytearray]) -> None:
    path.write_bytes(bytes(change(bytearray(path.read_bytes()))))


def flip_bits(path: Path, rng: np.random.Generator) -> None:
    def change(data: bytearray) -> bytearray:
        for at in rng.integers(0, len(data), int(rng.integers(1, 64))):
            data[at] ^= 1 << int(rng.integers(8))
        return data

    _bytes_changed(path, change)


def flip_bits_of_structure(path: Path, rng: np.random.Generator) -> None:
    """Flip bits in HDF5's own structures: at the start of the file and near its signatures."""

    def change(data: bytearray) -> bytearray:
        marks = [at for word in (b"TREE", b"SNOD", b"HEAP", b"OHDR") for at in _positions(data, word)] + [0]
        for _ in range(int(rng.integers(1, 8))):
            at = min(int(rng.choice(marks)) + int(rng.integers(0, 256)), len(data) - 1)
            data[at] ^= 1 << int(rng.integers(8))
        return data

    _bytes_changed(path, change)


def _positions(data: bytearray, word: bytes) -> list[int]:
    found, at = [], data.find(word)
    while at >= 0:
        found.append(at)
        at = data.find(word, at + 1)
    return found


def truncate(path: Path, rng: np.random.Generator) -> None:
    _bytes_changed(path, lambda data: data[: int(rng.integers(0, len(data)))])


def zero_a_block(path: Path, rng: np.random.Generator) -> None:
    def change(data: bytearray) -> bytearray:
        at, length = int(rng.integers(0, len(data))), int(rng.integers(1, 8192))
        data[at : at + length] = bytes(len(data[at : at + length]))
        return data

    _bytes_changed(path, change)


def noise_in_a_block(path: Path, rng: np.random.Generator) -> None:
    def change(data: bytearray) -> bytearray:
        at, length = int(rng.integers(0, len(data))), int(rng.integers(1, 4096))
        data[at : at + length] = rng.bytes(len(data[at : at + length]))
        return data

    _bytes_changed(path, change)


def append_noise(path: Path, rng: np.random.Generator) -> None:
    _bytes_changed(path, lambda data: data + rng.bytes(int(rng.integers(1, 4096))))


def _header_item(file: h5py.File, rng: np.random.Generator) -> str:
    return str(rng.choice([name for name, item in file["Header"].items() if isinstance(item, h5py.Dataset)]))  # type: ignore[union-attr]


def _replace(file: h5py.File, name: str, value: Any) -> None:
    del file[name]
    file[name] = value


def remove_header_item(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        del file[f"Header/{_header_item(file, rng)}"]


def retype_header_item(path: Path, rng: np.random.Generator) -> None:
    values = (
        np.bytes_("north"),
        np.array([b"a", b"b"]),
        np.zeros(0),
        np.array(True),
        np.array([(1, 2.0)], dtype="i4,f8"),
        np.array(1 + 2j),
    )
    with h5py.File(path, "r+") as file:
        _replace(file, f"Header/{_header_item(file, rng)}", values[int(rng.integers(len(values)))])


def reshape_header_item(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        name = f"Header/{_header_item(file, rng)}"
        flat = np.atleast_1d(file[name][()]).ravel()  # type: ignore[index]
        shapes = (flat[:-1], np.concatenate([flat, flat[:1]]), np.tile(flat, (2, 1)), flat[::-1], flat[:, None])
        _replace(file, name, shapes[int(rng.integers(len(shapes)))])


def change_header_number(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        numbers = [n for n, d in file["Header"].items() if isinstance(d, h5py.Dataset) and d.dtype.kind in "fiu"]  # type: ignore[union-attr]
        item: Any = file[f"Header/{rng.choice(numbers)}"]
        value = np.array(item[()])
        with np.errstate(all="ignore"):
            changed = [value * -1, value * 0, value * 2, value + 1, value * 1.01, value * np.nan, value * np.inf, value * 1e30]
            at = int(rng.integers(len(changed)))
            part = rng.random(value.shape) < rng.choice([0.02, 0.3, 1.0]) if value.ndim else True
            item[...] = np.where(part, changed[at], value).astype(value.dtype)


def swap_header_items(path: Path, rng: np.random.Generator) -> None:
    pairs = (
        ("latitude", "longitude"), ("ant_1_array", "ant_2_array"), ("Ntimes", "Nbls"), ("time_array", "integration_time"),
        ("latitude", "phase_center_app_dec"), ("antenna_numbers", "Nfreqs"), ("channel_width", "altitude"),
    )  # fmt: skip
    first, second = (f"Header/{name}" for name in pairs[int(rng.integers(len(pairs)))])
    with h5py.File(path, "r+") as file:
        file.move(first, "aside")
        file.move(second, first)
        file.move("aside", second)


def wrong_frequencies(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        item: Any = file["Header/freq_array"]
        frequency = item[()]
        options = (
            frequency[:, ::-1], frequency + rng.choice([-1, 1]) * rng.uniform(2e4, 3e8), frequency * 1e-6,
            subband_frequencies((int(path.name[22:24]) + 3) % 16, frequency.size)[None],
        )  # fmt: skip
        item[...] = options[int(rng.integers(len(options)))]


def wrong_times(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        item: Any = file["Header/time_array"]
        times = item[()]
        options = (
            times + 365, times + rng.uniform(-1, 1) / 86400, times[::-1], np.full_like(times, times[0]), times - 2400000.5, rng.permutation(times),
            times + np.arange(times.size) * 1e-9, times[0] + (times - times[0]) * rng.choice([0.5, 2.0]),
        )  # fmt: skip
        item[...] = options[int(rng.integers(len(options)))]


def remove_dataset(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        del file[str(rng.choice(["Data/visdata", "Data/flags", "Data/nsamples", "Data", "Header"]))]


def reshape_data(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        name = f"Data/{rng.choice(['visdata', 'flags', 'nsamples'])}"
        data: Any = file[name]
        value = data[()]
        options = (
            value[:-1],
            value[..., :1],
            value[:, 0],
            value[:, :, :-1],
            value.ravel(),
            np.concatenate([value, value]),
            value[0, 0, 0, 0],
        )
        _replace(file, name, options[int(rng.integers(len(options)))])


def retype_data(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        name = f"Data/{rng.choice(['visdata', 'flags', 'nsamples'])}"
        value: Any = file[name][()]  # type: ignore[index]
        kinds = (np.float32, np.int32, np.int8, "S4")
        kind = kinds[int(rng.integers(len(kinds)))]
        _replace(file, name, np.zeros(value.shape, kind) if value.dtype.kind == "f" and kind == np.float32 else np.abs(value).astype(kind))


def swap_data(path: Path, rng: np.random.Generator) -> None:
    first, second = rng.permutation(["Data/visdata", "Data/flags", "Data/nsamples"])[:2]
    with h5py.File(path, "r+") as file:
        file.move(first, "aside")
        file.move(second, first)
        file.move("aside", second)


def invalid_values(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        data: Any = file[f"Data/{rng.choice(['visdata', 'nsamples'])}"]
        value = data[()]
        value[rng.random(value.shape) < rng.choice([0.1, 1.0])] = rng.choice([np.nan, np.inf, 1e37])
        data[...] = value


def unwritten_data(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        name = f"Data/{rng.choice(['visdata', 'nsamples'])}"
        data: Any = file[name]
        shape, dtype, chunks, value = data.shape, data.dtype, data.chunks, data[()]
        del file[name]
        fresh: Any = file.create_dataset(name, shape, dtype, chunks=(max(1, chunks[0] // 4), *chunks[1:]))
        keep = int(rng.integers(0, max(1, shape[0] // 2)))
        fresh[:keep] = value[:keep]


def wrong_links(path: Path, rng: np.random.Generator) -> None:
    name = str(rng.choice(["Header", "Data", "Header/time_array", "Data/visdata", "Header/freq_array"]))
    with h5py.File(path, "r+") as file:
        del file[name]
        targets = (h5py.SoftLink(f"/{name}"), h5py.SoftLink("/nowhere"), h5py.ExternalLink("nowhere.h5", "/x"), h5py.SoftLink("/"))
        at = int(rng.integers(len(targets) + 1))
        if at < len(targets):
            file[name] = targets[at]
        else:
            file.create_group(name)


def shuffle_rows(path: Path, rng: np.random.Generator) -> None:
    with h5py.File(path, "r+") as file:
        size = file["Header/ant_1_array"].shape[0]  # type: ignore[union-attr]
        order = rng.permutation(size)
        for name in ("ant_1_array", "ant_2_array", "time_array")[: int(rng.integers(1, 4))]:
            item: Any = file[f"Header/{name}"]
            item[...] = item[()][order]


def rename_to_another_subband(path: Path, rng: np.random.Generator) -> None:
    subband = int(path.name[22:24])
    other = (subband + int(rng.integers(1, 16))) % 16
    target = path.with_name(f"{path.name[:22]}{other:02d}.hdf5")
    if target.exists():
        target = path.with_name(path.name.replace("_sb", "-sb"))
    path.rename(target)


def not_hdf5(path: Path, rng: np.random.Generator) -> None:
    contents = (b"", b"subband file\n" * 1000, path.read_bytes()[512:], bytes(30_000), b"\x89HDF\r\n\x1a\n")
    path.write_bytes(contents[int(rng.integers(len(contents)))])


MUTATIONS: tuple[Mutate, ...] = (
    flip_bits, flip_bits_of_structure, truncate, zero_a_block, noise_in_a_block, append_noise, remove_header_item, retype_header_item,
    reshape_header_item, change_header_number, swap_header_items, wrong_frequencies, wrong_times, remove_dataset, reshape_data, retype_data,
    swap_data, invalid_values, unwritten_data, wrong_links, shuffle_rows, rename_to_another_subband, not_hdf5,
)  # fmt: skip


# --- comparison with the original -------------------------------------------------------------------------------------
_EXACT = (
    "time_array", "ant_1_array", "ant_2_array", "antenna_numbers", "antenna_names", "antenna_positions", "latitude", "longitude", "altitude",
    "phase_center_app_dec", "polarization_array", "Ntimes", "Nbls", "Nblts", "Nfreqs", "Nants_telescope",
)  # fmt: skip
"""Header items that the platform uses and that must be bit-identical to the correlator's."""
_CLOSE = {"freq_array": 12.3e3, "channel_width": 12.3e3, "integration_time": 0.13}
"""Header items and the difference (Hz, Hz, s) that changes no result by more than a thousandth."""


def used_content(path: Path) -> dict[str, Any]:
    """Header items and data of a file that the platform uses, read by plain h5py."""
    with h5py.File(path, "r", locking=False) as file:
        header: Any = file["Header"]
        found = {name: np.ravel(header[name][()]) for name in (*_EXACT, *_CLOSE) if name != "phase_center_app_dec"}
        # without the first item, the platform uses the second
        pointing = header["phase_center_app_dec" if "phase_center_app_dec" in header else "extra_keywords/phase_center_dec"]
        found |= {"phase_center_app_dec": np.unique(pointing[()]), "channel_width": np.abs(found["channel_width"])}
        return found | {name: file[f"Data/{name}"][()] for name in ("visdata", "nsamples", "flags")}  # type: ignore[index]


def compare(path: Path, original: dict[str, Any]) -> tuple[list[str], bool]:
    """Header items of an accepted file that differ from the original, and whether its data differ."""
    try:
        found = used_content(path)
    except (KeyError, OSError, ValueError, TypeError) as error:
        return [f"cannot be read ({error})"], False
    wrong = [name for name in _EXACT if not np.array_equal(found[name], original[name])]
    for name, tolerance in _CLOSE.items():
        size = 1 if name != "freq_array" else original[name].size
        if (
            found[name].size < size
            or np.max(np.abs(found[name].astype(float).flat[: original[name].size] - original[name].flat[: found[name].size])) > tolerance
        ):
            wrong.append(name)
    payload = any(not np.array_equal(found[name], original[name], equal_nan=True) for name in ("visdata", "nsamples", "flags"))
    return wrong, payload


# --- the child --------------------------------------------------------------------------------------------------------
def work(first: int, last: int, seed: int, url: str, plant: str | None) -> None:
    """Check the mutations ``first`` to ``last``. Print a JSON line at the start and at the end of each."""
    from dsa110_assets import rawfile
    from dsa110_assets.errors import InvalidRawFileError
    from dsa110_assets.ingest.scan import scan_directory
    from dsa110_assets.registry.database import Database

    _plant(plant)
    database, config = Database(url), settings()
    with tempfile.TemporaryDirectory() as scratch:
        pristine = Path(scratch) / "pristine"
        pristine.mkdir()
        originals = write_observation(pristine)
        contents = [used_content(path) for path in originals]
        headers = [rawfile.validate_raw_file(path) for path in originals]
        for start in range(first, last, BATCH):
            incoming = Path(scratch) / f"incoming-{start}"
            incoming.mkdir()
            made: dict[str, tuple[int, str, int]] = {}
            for number in range(start, min(start + BATCH, last)):
                rng = np.random.default_rng([seed, number])
                subband = int(rng.integers(16))
                mutate = MUTATIONS[number % len(MUTATIONS)]
                path = raw_path(incoming, subband, delay_s=float(number - start))
                shutil.copyfile(originals[subband], path)
                print(json.dumps({"doing": number, "mutation": mutate.__name__}), flush=True)
                before = set(incoming.iterdir())
                mutate(path, rng)
                (name,) = {path.name} if path.exists() else {new.name for new in set(incoming.iterdir()) - before}
                os.utime(incoming / name, ns=(1_700_000_000_000_000_000 + number, 1_700_000_000_000_000_000 + number))
                made[str((incoming / name).absolute())] = (number, mutate.__name__, subband)
            print(json.dumps({"doing": start, "mutation": "scan"}), flush=True)
            try:
                report = scan_directory(database, incoming, config, NOW)
                rejected = {file.path: file.reason for file in report.rejected}
                booked = {file.path for file in report.booked}
            except Exception as error:  # noqa: BLE001 - any exception is a finding
                print(
                    json.dumps({"done": start, "mutation": "scan", "verdict": f"CRASH {type(error).__name__}: {error}"[:300]}), flush=True
                )
                continue
            for path, (number, name, subband) in made.items():
                if path in rejected:
                    verdict = (
                        f"rejected by scan: {rejected[path].partition(':')[0]}" if rejected[path].strip() else "SILENT without a reason"
                    )
                elif path not in booked:
                    verdict = "SILENT neither accepted nor rejected"
                else:
                    try:
                        rawfile.validate_raw_file(Path(path), subband, expected=headers[(subband + 1) % 16])
                        wrong, payload = compare(Path(path), contents[subband])
                        verdict = (
                            f"SILENT {', '.join(wrong)}" if wrong else "accepted: payload" if payload else "accepted: nothing that matters"
                        )
                    except InvalidRawFileError:
                        verdict = "rejected beside its observation"
                    except Exception as error:  # noqa: BLE001 - any exception is a finding
                        verdict = f"CRASH {type(error).__name__}: {error}"[:300]
                print(json.dumps({"done": number, "mutation": name, "verdict": verdict}), flush=True)
            shutil.rmtree(incoming)
    database.dispose()


def _plant(fault: str | None) -> None:
    """Plant a fault into the platform that the target must find."""
    from dsa110_assets import rawfile

    if fault == "silent":
        rawfile._check_same_observation = lambda header, expected: None  # type: ignore[assignment]
    elif fault == "crash":
        real, sizes = rawfile._frequencies, list[int]()

        def frequencies(items: Any, n_freqs: int) -> Any:
            sizes.append(len(items.group))
            if len(items.group) < sizes[0]:  # the first file is undamaged
                os.abort()
            return real(items, n_freqs)

        rawfile._frequencies = frequencies


# --- the parent -------------------------------------------------------------------------------------------------------
@dataclass
class Outcome:
    """Result. ``verdicts``: number of mutations by verdict. ``findings``: the bad ones. ``by_mutation``: by kind."""

    verdicts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    by_mutation: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, number: int, mutation: str, verdict: str) -> None:
        """Add one verdict."""
        short = " ".join(verdict.split()[:1]) if verdict.startswith(("SILENT", "CRASH", "HANG")) else verdict
        self.verdicts[short] += 1
        self.by_mutation.setdefault(mutation, Counter())[short] += 1
        if short in ("SILENT", "CRASH", "HANG"):
            self.findings.append(f"mutation {number} ({mutation}): {verdict}")


def fuzz(mutations: int, seed: int, url: str, *, plant: str | None = None, hang_s: float = HANG_S) -> Outcome:
    """Run mutations 0 to ``mutations`` in children. After a child dies, another one continues with the next batch."""
    outcome, first = Outcome(), 0
    while first < mutations:
        command = [
            sys.executable,
            "-m",
            __spec__.name if __spec__ else __name__,
            "--work",
            str(first),
            str(mutations),
            "--seed",
            str(seed),
            "--url",
            url,
        ]
        child = subprocess.Popen(
            command + (["--plant", plant] if plant else []),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=dict(os.environ),
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(child, lines), daemon=True).start()
        doing, done, hangs = {"doing": first, "mutation": "start"}, set[int](), False
        while True:
            try:
                line = lines.get(timeout=hang_s)
            except queue.Empty:
                hangs = True
                child.kill()
                break
            if line is None:
                break
            message = json.loads(line)
            if "doing" in message:
                doing = message
            else:
                done.add(message["done"])
                outcome.add(message["done"], message["mutation"], message["verdict"])
        if child.wait() == 0 and not hangs:
            return outcome
        how = "HANG" if hangs else f"CRASH the process died with code {child.returncode}"
        outcome.add(doing["doing"], doing["mutation"], how)
        first = (doing["doing"] // BATCH + 1) * BATCH  # skip the rest of the batch
    return outcome


def _read(child: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        lines.put(line)
    lines.put(None)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=int, nargs=2, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--plant", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(*options.work, options.seed, options.url, options.plant)
        return 0
    from dsa110_assets.registry.database import Database
    from dsa110_assets.registry.server import EmbeddedServer
    from dsa110_assets_tests.registry_fixture import TEST_SETTINGS

    began = datetime.now().astimezone()
    with tempfile.TemporaryDirectory(prefix="dsa110-fuzz-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder) / "postgres", settings=TEST_SETTINGS)
        url = server.ensure().url("postgres")
        try:
            database = Database(url)
            database.migrate()
            database.dispose()
            outcome = fuzz(options.mutations, options.seed, url)
        finally:
            server.stop(immediate=True)
    for mutation, verdicts in sorted(outcome.by_mutation.items()):
        print(f"{mutation:28s} " + ", ".join(f"{verdict} {n}" for verdict, n in verdicts.most_common()))
    print("\n".join(outcome.findings[:40]))
    took = (datetime.now().astimezone() - began).total_seconds()
    print(
        json.dumps(
            {
                "mutations": sum(outcome.verdicts.values()),
                "seed": options.seed,
                "seconds": round(took),
                **dict(outcome.verdicts.most_common()),
            }
        )
    )
    print("BROKEN" if outcome.findings else "every damage that matters was rejected with a reason", flush=True)
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
