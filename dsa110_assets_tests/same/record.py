"""Records of a night: digests and summaries for the baseline, or the arrays on disk."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np

from dsa110_assets_tests.same.contents import Contents

COMPUTE = ("numpy", "scipy", "ducc0", "astropy", "numba", "radler", "aoflagger", "casatools", "python-casacore", "matplotlib", "pandas")
"""Packages whose version may change the last bit of a number."""
SHORT = 8
"""Arrays of at most this size are kept with their values."""


@dataclass(frozen=True)
class Summary:
    """Summary of an array. ``sha256``: of dtype, shape and values, the first 16 hexadecimal digits.

    ``low``, ``high``, ``mean``, ``scatter``: of finite values (of absolute values, if they are complex); scatter is
    1.4826 times the median absolute deviation. ``values``: all values of a small array.
    """

    dtype: str
    shape: tuple[int, ...]
    sha256: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    scatter: float | None = None
    values: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, array: np.ndarray) -> Self:
        """Summary of an array of numbers or texts."""
        is_text = array.dtype.kind == "U"
        dtype = "text" if is_text else array.dtype.name
        content = json.dumps(array.ravel().tolist()).encode() if is_text else np.ascontiguousarray(array).tobytes()
        digest = hashlib.sha256(f"{dtype} {array.shape} ".encode() + content).hexdigest()[:16]
        values = tuple(array.ravel().tolist()) if array.size <= SHORT and array.dtype.kind in "Uiufb" else None
        if values is not None and is_text and max(map(len, values), default=0) > 100:
            values = tuple(line if len(line) <= 100 else f"{line[:60]}... ({len(line)} characters)" for line in values)
        if is_text or array.size <= SHORT:
            return cls(dtype, array.shape, digest, values=values)
        numbers = np.abs(array).astype(np.float64) if array.dtype.kind == "c" else array.astype(np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if not numbers.size:
            return cls(dtype, array.shape, digest)
        scatter = 1.4826 * np.median(np.abs(numbers - np.median(numbers)))
        return cls(dtype, array.shape, digest, *(float(figure) for figure in (numbers.min(), numbers.max(), numbers.mean(), scatter)))

    def as_json(self) -> Any:
        """Fields that are not None; a few short texts as a list."""
        if self.dtype == "text" and self.values and Summary.of(np.array(self.values)) == self:
            return list(self.values)
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, found: Any) -> Self:
        """The inverse of `as_json`."""
        if isinstance(found, list):
            return cls.of(np.array(found))
        values = found.get("values")
        return cls(**{**found, "shape": tuple(found["shape"]), "values": None if values is None else tuple(values)})


@dataclass(frozen=True)
class Record:
    """Record of a night.

    ``machine``: processor and versions. ``package``: directory of the imported package. ``summaries``: by product and
    name.
    """

    machine: dict[str, str]
    package: str
    summaries: dict[str, dict[str, Summary]]

    @classmethod
    def of(cls, contents: Contents, package: str) -> Self:
        """Record of a night that was made on this machine."""
        return cls(
            machine(), package, {product: {name: Summary.of(a) for name, a in arrays.items()} for product, arrays in contents.items()}
        )

    def write(self, path: Path, *, package: bool = True) -> None:
        """Write JSON with a line for each array, so that changes of the baseline are readable.

        ``package``: include the package's directory; not in the committed baseline.
        """
        head = {"machine": self.machine} | ({"package": self.package} if package else {})
        blocks = [
            f"  {json.dumps(product)}: {{\n"
            + ",\n".join(f"   {json.dumps(name)}: {json.dumps(summary.as_json())}" for name, summary in arrays.items())
            + "\n  }"
            for product, arrays in self.summaries.items()
        ]
        path.write_text(json.dumps(head, indent=1)[:-2] + ',\n "products": {\n' + ",\n".join(blocks) + "\n }\n}\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The inverse of `write`."""
        found = json.loads(path.read_text())
        summaries = {p: {name: Summary.from_json(entry) for name, entry in arrays.items()} for p, arrays in found["products"].items()}
        return cls(found["machine"], found.get("package", ""), summaries)


def machine() -> dict[str, str]:
    """Processor, and versions of Python and of the packages that compute."""
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"processor": models[0] if models else platform.machine(), "python": platform.python_version()} | {
        name: version(name) for name in COMPUTE
    }


def save(contents: Contents, record: Record, directory: Path) -> None:
    """Write the record, and each array into its own file."""
    directory.mkdir(parents=True, exist_ok=True)
    record.write(directory / "record.json")
    files: dict[str, dict[str, str]] = {}
    number = 0
    for product, arrays in contents.items():
        files[product] = {}
        for name, array in arrays.items():
            file = f"{number:06d}.npy"
            np.save(directory / file, array, allow_pickle=False)
            files[product][name] = file
            number += 1
    (directory / "arrays.json").write_text(json.dumps(files))


class Saved:
    """Arrays written by `save`, read one by one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.record = Record.read(directory / "record.json")
        self.files: dict[str, dict[str, str]] = json.loads((directory / "arrays.json").read_text())

    def array(self, product: str, name: str) -> np.ndarray:
        """One array."""
        return np.load(self.directory / self.files[product][name], allow_pickle=False)
