"""An event that is found again is the same event."""

import pandas as pd

from dsa110_assets.variability.identity import same_events


def events(*rows, number=False):
    names = (["event_id"] if number else []) + ["source_id", "first_mjd", "last_mjd"]
    return pd.DataFrame(rows, columns=names)


def test_an_event_that_overlaps_or_is_near_is_the_same_and_of_several_the_one_that_overlaps_most():
    known = events((1, 10, 100.0, 104.0), (2, 10, 105.0, 130.0), (3, 11, 100.0, 101.0), number=True)
    found = events((10, 103.0, 120.0), (11, 102.5, 103.0), (12, 100.0, 104.0), (11, 110.0, 112.0))
    assert same_events(found, known).tolist() == [2, 3, 0, 0]


def test_without_known_events_all_are_new():
    assert same_events(events((1, 1.0, 2.0)), events(number=True)).tolist() == [0]
    assert same_events(events(), events((1, 1, 1.0, 2.0), number=True)).tolist() == []
