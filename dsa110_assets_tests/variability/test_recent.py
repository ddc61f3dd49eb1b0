"""A search of what has changed finds what the search of everything finds, on the same night, with the same score."""

import numpy as np
import pandas as pd

from dsa110_assets.variability import EventSearch, LightCurves, ese_candidates
from dsa110_assets.variability.ese import trials_corrected
from dsa110_assets.variability.lens import gain
from dsa110_assets.variability.recent import has_grown, worth_a_search

LAG = 20


def a_year(seed, *, n_sources, n_nights, n_variable=30):
    """One epoch a night with 5 % missing. Dips and lenses of 1 to 60 nights in the first sources, then variables."""
    rng = np.random.default_rng(seed)
    night = np.arange(n_nights, dtype=float)
    relative = np.ones((n_sources, n_nights))
    error = np.repeat(10 ** rng.uniform(-2, -0.6, n_sources)[:, None], n_nights, axis=1) * rng.uniform(0.8, 1.3, (n_sources, n_nights))
    events = {}
    for s, (kind, length, depth) in enumerate(
        [("dip", 1, 0.9), ("dip", 3, 0.6), ("dip", 8, 0.6), ("dip", 25, 0.5), ("dip", 60, 0.6), ("rise", 4, -0.8), ("lens", 6, 3.0),
         ("lens", 15, 5.0), ("lens", 30, 3.0)] * 2
    ):  # fmt: skip
        start = int(rng.integers(n_nights // 3, n_nights - 2 * length - 10))
        if kind == "lens":
            relative[s] = gain(2.0 * (night - start - length / 2) / length * (1 + depth) ** 0.5, depth, 0.3)
        else:
            relative[s, start : start + length] = 1 - depth
        error[s] = {1: 0.02, 3: 0.05, 60: 0.2}.get(length, 0.08)
        events[s] = start
    relative[len(events) : len(events) + n_variable] *= 1 + 0.15 * rng.standard_normal((n_variable, n_nights))
    mean = 10 ** rng.uniform(-2, 0, n_sources)
    flux = mean[:, None] * (relative + error * rng.standard_normal(relative.shape))
    source, epoch = (a.ravel() for a in np.mgrid[:n_sources, :n_nights])
    table = pd.DataFrame({"source_id": source, "mosaic_name": [f"n{e:03d}" for e in epoch], "time_mjd": 61000.0 + epoch, "flux_jy": flux.ravel(),
                          "flux_err_jy": (mean[:, None] * error).ravel()})  # fmt: skip
    return table[rng.random(len(table)) > 0.05], events


def searched(table):
    search = EventSearch()
    search.add(LightCurves.from_table(table, normalised=True))
    return search


def test_events_are_found_on_the_same_night_with_the_same_score_and_no_others():
    n_sources, n_nights = 120, 300
    table, events = a_year(5, n_sources=n_sources, n_nights=n_nights)
    table = table.sort_values(["source_id", "time_mjd"])
    states = pd.DataFrame(
        index=pd.RangeIndex(n_sources, name="source_id"), columns=list(searched(table.iloc[:50]).states().columns[1:]), dtype=float
    )
    first_full, first_found = {}, {}
    read_late = 0
    for night in range(30, n_nights):
        so_far = table[table["time_mjd"] <= 61000.0 + night]
        recent = LightCurves.from_table(so_far[so_far["time_mjd"] > 61000.0 + night - LAG], normalised=True)
        counts = so_far.groupby("source_id").size().reindex(recent.source_id).to_numpy()
        wanted, epochs = worth_a_search(
            recent, states.loc[recent.source_id].reset_index(drop=True), counts, recent.epoch_mjd == 61000.0 + night
        )
        chosen = recent.source_id[wanted]
        if night > n_nights - 100:
            read_late += int(counts[wanted].sum())
        search = searched(so_far[so_far["source_id"].isin(chosen)])
        new = search.states().set_index("source_id")
        states.loc[new.index] = new
        assert epochs["tested"].tolist() == ([0] if night == 30 else [(recent.epoch == recent.n_epochs - 1).sum()])
        trials = float(states["trials"].sum())
        score = pd.Series(trials_corrected(states["significance"].to_numpy(), trials)[0], index=states.index)
        for s in score.index[score >= 5.0]:
            first_found.setdefault(int(s), night)
        whole = searched(so_far[so_far["source_id"].isin(events)]).states()  # of all their epochs, every night
        for s in whole["source_id"][trials_corrected(whole["significance"].to_numpy(), trials)[0] >= 5.0]:
            first_full.setdefault(int(s), night)
    assert len(first_full) >= 14
    assert {s: first_found.get(s) for s in first_full} == first_full, "each on the night on which the full search has it"
    full = searched(table).scores().set_index("source_id")
    found = pd.Series(trials_corrected(states["significance"].to_numpy(), float(states["trials"].sum()))[0], index=states.index)
    wanted = full.index[full["score"] >= 4.0]
    assert np.abs(found[wanted] - full.loc[wanted, "score"]).max() < 0.05
    assert set(found.index[found >= 5.0]) == set(ese_candidates(searched(table).scores())["source_id"])
    assert read_late < 0.3 * 100 * n_nights * n_sources, "the history of few sources is read"


def test_sources_take_turns_and_each_is_searched_when_it_has_grown_by_a_quarter():
    ids = np.arange(1, 5001)
    searched_at, cost = np.full(ids.size, 100.0), []
    for n in range(101, 1001):
        due = has_grown(ids, searched_at, np.full(ids.size, n))
        assert (n <= 1.26 * searched_at[~due]).all()
        searched_at[due] = n
        cost.append(due.sum() * n)
    weeks = np.array(cost[:896]).reshape(-1, 7).mean(axis=1)
    assert weeks.max() < 1.3 * ids.size / np.log(1.25)
    assert weeks[-10:].mean() < 1.2 * weeks[:10].mean(), "the cost of a night does not grow with the history"
