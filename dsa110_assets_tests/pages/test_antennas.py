"""Antennas on their page and through the API."""

from __future__ import annotations

from sqlalchemy import update

from dsa110_assets.registry.schema import CaltableRow
from dsa110_assets_tests.api.conftest import CALIBRATOR, Served


def store_figures(served: Served) -> None:
    """Figures of three antennas in the one solution: 24 is dead."""
    good = {"flagged": 0.1, "amplitude": [1.0, 0.9], "phase_deg": [0.0, 12.5], "bandpass_scatter": 0.03}
    dead = {"flagged": 1.0, "amplitude": [None, None], "phase_deg": [None, None], "bandpass_scatter": None}
    with served.database.session() as session:
        session.execute(update(CaltableRow).values(quality={"snr": 50.0, "antennas": {"103": good, "24": dead, "<b>7": good}}))


def test_a_dead_antenna_comes_first_and_the_reference_is_named(served: Served) -> None:
    store_figures(served)
    found = served.get("/api/antennas").json()
    assert [(one["name"], one["state"]) for one in found["antennas"]] == [("24", "dead"), ("103", "good"), ("<b>7", "good")]
    assert [one["name"] for one in found["antennas"] if one["is_refant"]] == ["103"]
    text = served.get("/ui/antennas").text
    assert text.index(">24<") < text.index(">103 (reference)<")
    assert "<b>7" not in text
    assert f"/ui/observations/{CALIBRATOR}" in text
    assert ">103 (" not in served.get("/ui/antennas", state="dead").text


def test_lists_of_tables_leave_out_the_antennas(served: Served) -> None:
    store_figures(served)
    assert served.get("/api/calibrations").json()["items"][0]["quality"] == {"snr": 50.0}
    assert served.get(f"/api/calibrations/{CALIBRATOR}").json()["quality"] == {"snr": 50.0}


def test_tables_of_an_earlier_release_are_named(served: Served) -> None:
    assert served.get("/api/antennas").json()["antennas"] == []
    assert "before the platform kept figures of antennas" in served.get("/ui/antennas").text
