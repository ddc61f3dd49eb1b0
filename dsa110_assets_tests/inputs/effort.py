"""Number of cases of the property tests: few in the suite, 500 where continuous integration asks for them."""

from __future__ import annotations

import os

import hypothesis

IN_THE_SUITE = 10
"""Cases of one property when nobody asks for more."""


def examples(shares: int = 1) -> int:
    """Cases of one property; ``shares`` properties have the cases of one reader together.

    ``DSA110_PROPERTY_CASES`` is the number for each reader.
    """
    wanted = os.environ.get("DSA110_PROPERTY_CASES")
    return IN_THE_SUITE if wanted is None else max(1, -(-int(wanted) // shares))


def limit_s(for_the_suite: float, *, per_case: float = 30.0) -> float:
    """Time limit of a property whose cases could hang: fixed in the suite, otherwise it grows with the cases."""
    return max(for_the_suite, per_case * examples()) if examples() > IN_THE_SUITE else for_the_suite


if os.environ.get("DSA110_PROPERTY_CASES") is None:
    hypothesis.settings.register_profile("suite", derandomize=True, database=None)
    hypothesis.settings.load_profile("suite")
