"""The comparison of `make same` finds, names and measures planted differences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from sqlalchemy import text

from dsa110_assets.registry.database import Database
from dsa110_assets_tests.registry_fixture import add_observation
from dsa110_assets_tests.same import comparison
from dsa110_assets_tests.same.__main__ import BASELINE, EXPECTED, report
from dsa110_assets_tests.same.comparison import Difference, Expected
from dsa110_assets_tests.same.contents import Contents, contents_of
from dsa110_assets_tests.same.record import Record, Saved, save

IMAGE = "products/images/a-image.fits"
GROUP_IDS = ("2026-03-12T05:10:04", "2026-03-12T05:15:13")


@pytest.fixture
def night(tmp_path: Path, database: Database):
    """An image, a Measurement Set with a subtable, and rows of the registry. ``read`` returns the contents."""
    from casacore.tables import makearrcoldesc, makescacoldesc, maketabdesc, table

    root = tmp_path / "night"
    (root / IMAGE).parent.mkdir(parents=True)
    header = fits.Header([("BUNIT", "JY/BEAM"), ("DSACODE", "0.1.0+g0123 abc"), ("DATE", "2026-03-12")])
    fits.writeto(root / IMAGE, np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10), header)
    with table(str(root / "a.ms"), maketabdesc([makearrcoldesc("DATA", 0j, 2), makescacoldesc("TIME", 0.0)]), nrow=3, ack=False) as ms:
        ms.putcol("DATA", np.arange(24).reshape(3, 4, 2) * (1 + 2j))
        with table(str(root / "a.ms" / "HISTORY"), maketabdesc([makescacoldesc("MESSAGE", "")]), nrow=1, ack=False) as history:
            history.putcell("MESSAGE", 0, f"from {root}")
        ms.putkeyword("HISTORY", f"Table: {root / 'a.ms' / 'HISTORY'}")
    with database.session() as session:
        for group_id in GROUP_IDS:
            add_observation(session, group_id)

    def read() -> Contents:
        return contents_of(root, database.url, {})

    return root, read, database


def by_arrays(tmp_path: Path, old: Contents, new: Contents) -> list[Difference]:
    """Compare as `make same` does with a revision."""
    saved = []
    for name, contents in (("old", old), ("new", new)):
        save(contents, Record.of(contents, ""), tmp_path / name)
        saved.append(Saved(tmp_path / name))
    return list(comparison.differences(saved[0].record, saved[1].record, comparison.by_arrays(*saved)))


def by_summaries(tmp_path: Path, old: Contents, new: Contents) -> list[Difference]:
    """Compare as `make same` does with the baseline."""
    Record.of(old, "").write(tmp_path / "baseline.json", package=False)
    return list(comparison.differences(Record.read(tmp_path / "baseline.json"), Record.of(new, ""), comparison.by_summaries))


def test_nothing_differs_between_two_readings_of_one_night(night, tmp_path: Path) -> None:
    _, read, _ = night
    old, new = read(), read()
    assert {IMAGE, "a.ms", "a.ms::HISTORY", "registry/ingest_queue"} <= old.keys()
    assert by_arrays(tmp_path, old, new) == by_summaries(tmp_path, old, new) == []


def test_a_changed_pixel_is_found_and_measured(night, tmp_path: Path) -> None:
    root, read, _ = night
    old = read()
    with fits.open(root / IMAGE, mode="update") as hdus:
        hdus[0].data[4, 5] += np.float32(0.25)
    new = read()
    (difference,) = by_arrays(tmp_path, old, new)
    assert (difference.product, difference.name) == (IMAGE, "0/data")
    assert "float32[10, 10]: 1 of 100 differ, by at most 0.25 absolute at [4, 5]" in difference.how
    assert "relative" in difference.how
    (difference,) = by_summaries(tmp_path, old, new)
    assert (difference.product, difference.name) == (IMAGE, "0/data")
    assert "mean" in difference.how
    assert "(+0.0025)" in difference.how


def test_a_changed_last_bit_and_a_blanked_pixel_are_found(night, tmp_path: Path) -> None:
    root, read, _ = night
    old = read()
    with fits.open(root / IMAGE, mode="update") as hdus:
        hdus[0].data[9, 9] = np.nextafter(np.float32(1), np.float32(0))
        hdus[0].data[0, 1] = np.nan
    (difference,) = by_arrays(tmp_path, old, read())
    assert "2 of 100 differ, by at most 5.96e-08" in difference.how
    assert "1 became blank" in difference.how


def test_a_changed_value_of_a_measurement_set_is_found(night, tmp_path: Path) -> None:
    from casacore.tables import table

    root, read, _ = night
    old = read()
    with table(str(root / "a.ms"), readonly=False, ack=False) as ms:
        ms.putcell("DATA", 2, ms.getcell("DATA", 2) + np.array([[0, 0]] * 3 + [[0, 3 + 4j]]))
    new = read()
    (difference,) = by_arrays(tmp_path, old, new)
    assert (difference.product, difference.name) == ("a.ms", "DATA")
    assert "1 of 24 differ, by at most 5 absolute at [2, 3, 1]" in difference.how
    assert [(difference.product, difference.name) for difference in by_summaries(tmp_path, old, new)] == [("a.ms", "DATA")]


def test_a_changed_row_is_found_and_changed_bookkeeping_is_left_out(night, tmp_path: Path) -> None:
    _, read, database = night
    old = read()
    with database.session() as session:
        session.execute(text("UPDATE ingest_queue SET run_id = 'other', updated_at = now()"))
        session.execute(text("UPDATE ingest_queue SET dec_deg = dec_deg + 0.5 WHERE group_id = :group"), {"group": GROUP_IDS[1]})
    new = read()
    (difference,) = by_arrays(tmp_path, old, new)
    assert (difference.product, difference.name) == ("registry/ingest_queue", "dec_deg")
    assert f"1 of 2 differ, by at most 0.5 absolute in row {GROUP_IDS[1]}" in difference.how
    (difference,) = by_summaries(tmp_path, old, new)
    assert difference.how == "[16.0, 16.0] -> [16.0, 16.5]"


def test_missing_and_new_products_columns_and_keywords_are_found(night, tmp_path: Path) -> None:
    root, read, _ = night
    old = read()
    fits.setval(root / IMAGE, "EXTRA", value=1)
    (root / "other.csv").write_text("a,b\n")
    new = read()
    del new["registry/ingest_queue"]
    found = {(difference.product, difference.name, difference.how.split(":")[0]) for difference in by_arrays(tmp_path, old, new)}
    assert found == {(IMAGE, "0/EXTRA", "is new"), ("other.csv", "*", "is new"), ("registry/ingest_queue", "*", "is missing")}


def test_versions_digests_dates_and_directories_are_left_out(night, tmp_path: Path) -> None:
    root, read, _ = night
    old = read()
    assert old["a.ms::HISTORY"]["MESSAGE"].tolist() == ["from ROOT"]
    for keyword, value in (("DSACODE", "0.2.0"), ("DATE", "2027-01-01")):
        fits.setval(root / IMAGE, keyword, value=value)
    assert by_arrays(tmp_path, old, read()) == []


def test_an_expected_difference_is_reported_separately_and_does_not_hide_another(night, tmp_path: Path, capsys) -> None:
    root, read, _ = night
    old = read()
    fits.setval(root / IMAGE, "BUNIT", value="Jy/beam")
    expected = [Expected("*.fits", "*/BUNIT", "the unit as the standard writes it")]
    found = comparison.with_reasons(iter(by_arrays(tmp_path, old, read())), expected)
    assert report(found, "all") == 0
    assert "the unit as the standard writes it" in capsys.readouterr().out
    fits.setval(root / IMAGE, "OBJECT", value="another")
    found = comparison.with_reasons(iter(by_arrays(tmp_path, old, read())), expected)
    assert report(found, "all") == 1
    assert "DIFFERENT: 1 arrays" in capsys.readouterr().out


def test_the_committed_baseline_has_each_kind_of_product_and_can_be_written_again(tmp_path: Path) -> None:
    baseline = Record.read(BASELINE)
    baseline.write(tmp_path / "again.json", package=False)
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(BASELINE.read_text())
    stages = {product.split()[0] for product in baseline.summaries if product.startswith("stage/")}
    assert len(stages) == 15, stages
    kinds = {Path(product.split("::")[0]).suffix for product in baseline.summaries if not product.startswith(("stage/", "registry/"))}
    assert kinds == {".hdf5", ".ms", ".cal", ".fits", ".png", ".parquet", ".sqlite3", ".csv", ".json", ".txt"}
    assert baseline.summaries["registry/ese_candidates"]["rank"].values == (1,)
    comparison.read_expected(EXPECTED)
