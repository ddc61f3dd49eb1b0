"""What must be equal on two hosts so that either may make a product: code, installed packages, settings, directories.

A product's own recipe (`recipes`) covers only what decides its content. Between hosts everything counts, also the code
that registers products, so the digest is of every file of the package.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import dsa110_assets
from dsa110_assets.config import PipelineConfig

_OF_PAGES = ("api",)
"""Parts of the package that no run uses."""
_SUFFIXES = (".py", ".lua", ".md")
_OF_THE_HOST = re.compile(
    r"profile|cluster_runs|max_workers|threads_per_worker|worker_\w+|min_free_gib|log_limit_mb|\w+_(url|port|host|token|folder|days|hours)|alert_\w+"
)
"""Settings that may differ between hosts: addresses, sizes of the machine, who is told, what cleaning keeps."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Installed:
    """Digests of a host's code with its packages, and of its settings; equal to those of another host, or not."""

    code: str
    settings: str

    @classmethod
    def parse(cls, text: str) -> Installed:
        """Read what `str` wrote."""
        code, _, settings = text.partition("-")
        return cls(code, settings)

    def __str__(self) -> str:
        """Both digests in one word."""
        return f"{self.code}-{self.settings}"

    def difference(self, other: Installed) -> str | None:
        """Say how this host differs from the platform's version ``other``; None if it does not."""
        if self.code != other.code:
            return f"its code is {self.code}, the platform's is {other.code}"
        if self.settings != other.settings:
            return f"its settings are {self.settings}, the platform's are {other.settings}"
        return None


def installed(config: PipelineConfig) -> Installed:
    """The version of this host, as its files are now."""
    code = hashlib.sha256(_packages().encode())
    root = Path(dsa110_assets.__file__).parent
    for file in sorted(root.rglob("*")):
        parts = file.relative_to(root).parts
        if file.suffix in _SUFFIXES and parts[0] not in _OF_PAGES:
            code.update("/".join(parts).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    settings = hashlib.sha256()
    for name in sorted(type(config).model_fields):
        value = getattr(config, name)
        if _OF_THE_HOST.fullmatch(name) is None:
            settings.update(f"{name}={value.absolute() if isinstance(value, Path) else value}\n".encode())
    return Installed(code.hexdigest()[:12], settings.hexdigest()[:8])


@cache
def _packages() -> str:
    """Versions of Python and of the packages that this one requires."""
    lines = [f"python {sys.version_info[0]}.{sys.version_info[1]}"]
    for requirement in requires("dsa110-assets") or []:
        if "extra ==" in requirement or (name := _NAME.match(requirement)) is None:
            continue
        try:
            lines.append(f"{name.group()} {version(name.group())}")
        except PackageNotFoundError:
            lines.append(f"{name.group()} missing")
    return "\n".join(sorted(lines))
