"""Which raw files make an observation: one rule for the queue and for conversion by hand.

* The start times of one observation are bit-identical. Files with different starts are never mixed, even if the starts
  round to the same identifier. The start that most subbands share is the observation's; the other files are rejected.
* Each subband has one file, the first. Others are superseded (pitfall 26).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dsa110_assets.registry.schema import FileState

_MS_PER_DAY = 86_400e3


class Reason(StrEnum):
    """Kinds of rejection. A file's ``reason`` starts with one of them and a colon."""

    NAME = "name"
    CONTENT = "content"
    SUBBAND = "subband"
    BEFORE_START = "before partition start"
    FUTURE = "future"
    UNREADABLE = "unreadable"
    START = "start"
    CHECKSUM = "checksum"


@dataclass(frozen=True)
class Member:
    """A valid raw file whose start rounds to an observation's identifier.

    ``start_mjd``: first integration, exactly as in the header.
    """

    path: str
    subband: int
    start_mjd: float


def subbands_by_start(members: Iterable[Member]) -> dict[float, set[int]]:
    """Subbands of each start time."""
    support: dict[float, set[int]] = defaultdict(set)
    for member in members:
        support[member.start_mjd].add(member.subband)
    return support


def judge(group_id: str, start_mjd: float, members: Iterable[Member]) -> dict[str, tuple[FileState, str | None]]:
    """State and reason of each file of an observation, by path.

    Args:
        group_id: the observation.
        start_mjd: its start time.
        members: its files. The first file of a subband is used.
    """
    verdicts: dict[str, tuple[FileState, str | None]] = {}
    holder: dict[int, str] = {}
    for member in members:
        if member.start_mjd != start_mjd:
            offset_ms = (member.start_mjd - start_mjd) * _MS_PER_DAY
            reason = f"{Reason.START}: {offset_ms:+.1f} ms from the other subbands of {group_id}: not the same observation"
            verdicts[member.path] = (FileState.REJECTED, reason)
        elif member.subband in holder:
            verdicts[member.path] = (FileState.SUPERSEDED, f"second file of sb{member.subband:02d}; {holder[member.subband]} is used")
        else:
            holder[member.subband] = member.path
            verdicts[member.path] = (FileState.ACCEPTED, None)
    return verdicts
