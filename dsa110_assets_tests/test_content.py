"""A digest of content follows the values of a file, and nothing else."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image

from dsa110_assets import content, publication
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets_tests.changed_values import CHANGES, change_one_value

KINDS = ("image.fits", "set.ms", "picture.png", "rows.parquet", "rows.csv", "rows.sqlite3", "quality.json")


def write(path: Path) -> Path:
    """A small file of the kind that its name says."""
    from casacore.tables import makearrcoldesc, makescacoldesc, maketabdesc, table

    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"name": ["a", "b", None], "flux_jy": [1.0, np.nan, 3.0], "n": [1, 2, 3], "is_limit": [True, False, True]})
    if path.suffix == ".fits":
        header = fits.Header([("BUNIT", "Jy/beam"), ("DSANOISE", 1e-3), ("DSACODE", "0.1 abc"), ("DATE", "2026-03-12")])
        header["HISTORY"] = "inputs = /data/a.ms@12"
        fits.writeto(path, rng.normal(size=(20, 30)).astype(np.float32), header)
    elif path.suffix == ".ms":
        columns = [makearrcoldesc("DATA", 0j, 2), makearrcoldesc("WEIGHT", 0.0, 1), makescacoldesc("TIME", 0.0), makescacoldesc("NAME", "")]
        with table(str(path), maketabdesc(columns), nrow=5, ack=False) as opened:
            opened.putcol("DATA", rng.normal(size=(5, 4, 2)) + 1j)
            opened.putcell("WEIGHT", 3, np.ones(2))  # the other cells are not set
            opened.putcol("TIME", np.arange(5.0))
            opened.putcol("NAME", list("abcde"))
            opened.putkeyword("VERSION", 2.0)
            opened.putkeyword("DSA110_CALIBRATION", json.dumps({"sefd_jy": 6000.0, "provenance": {"inputs": "/a@3"}}))
            with table(f"{path}/FIELD", maketabdesc([makescacoldesc("SOURCE_ID", 0)]), nrow=1, ack=False) as field:
                field.putcell("SOURCE_ID", 0, 7)
            opened.putkeyword("FIELD", f"Table: {path}/FIELD")
            with table(f"{path}/HISTORY", maketabdesc([makescacoldesc("MESSAGE", "")]), nrow=1, ack=False) as history:
                history.putcell("MESSAGE", 0, "made today")
            opened.putkeyword("HISTORY", f"Table: {path}/HISTORY")
    elif path.suffix == ".png":
        Image.fromarray(rng.integers(0, 255, (8, 9, 3), dtype=np.uint8)).save(path)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".json":
        path.write_text(json.dumps({"accepted": True, "scatter": [0.1, 0.2]}))
    else:
        with sqlite3.connect(path) as connection:
            frame.to_sql("calibrators", connection, index=False)
        connection.close()
    return path


def digest(path: Path) -> str:
    return content.checksum(content.parts(path))


@pytest.mark.parametrize("name", KINDS)
def test_the_same_values_elsewhere_have_the_same_digest(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    (tmp_path / "other").mkdir()
    again = write(tmp_path / "other" / name)
    assert content.differences(content.parts(path), content.parts(again)) == []
    assert digest(path) == digest(again)
    assert content.agrees(again, digest(path))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", KINDS)
def test_any_changed_value_changes_the_digest_and_is_named(tmp_path: Path, name: str, seed: int) -> None:
    path = write(tmp_path / name)
    before, old = content.parts(path), digest(path)
    changed = change_one_value(path, np.random.default_rng(seed))
    assert digest(path) != old
    named = content.differences(before, content.parts(path))
    assert any(changed in one for one in named), (changed, named)
    assert not content.agrees(path, old)


def test_every_kind_of_file_can_be_changed() -> None:
    assert {Path(name).suffix for name in KINDS} == set(CHANGES)


def test_times_releases_and_inputs_are_no_content(tmp_path: Path) -> None:
    from casacore.tables import table

    image, ms = write(tmp_path / "image.fits"), write(tmp_path / "set.ms")
    before = digest(image), digest(ms)
    with fits.open(image, mode="update") as hdus:
        hdus[0].header["DATE"], hdus[0].header["DSACODE"], hdus[0].header["HISTORY"] = "2027-01-01", "0.2 def", "inputs = /data/a.ms@99"
        hdus[0].add_checksum()
    with table(str(ms), ack=False, readonly=False) as opened, table(f"{ms}/HISTORY", ack=False, readonly=False) as history:
        opened.putkeyword("DSA110_CALIBRATION", json.dumps({"sefd_jy": 6000.0, "provenance": {"inputs": "/a@4"}}))
        history.addrows(1)
    assert (digest(image), digest(ms)) == before


def test_a_directory_says_what_its_files_say_and_which_there_are(tmp_path: Path) -> None:
    for name in KINDS:
        (tmp_path / "product").mkdir(exist_ok=True)
        write(tmp_path / "product" / name)
    before = content.parts(tmp_path / "product")
    assert {"image.fits 0/pixels", "set.ms DATA", "set.ms FIELD/SOURCE_ID", "picture.png pixels"} <= before.keys()
    shutil.copytree(tmp_path / "product", tmp_path / "copy")
    assert content.parts(tmp_path / "copy") == before
    (tmp_path / "copy" / "rows.csv").rename(tmp_path / "copy" / "others.csv")
    assert content.differences(before, content.parts(tmp_path / "copy")) == ["rows.csv bytes (missing)", "others.csv bytes (new)"]


def test_a_checksum_of_bytes_from_an_earlier_release_is_compared_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "image.fits")
    of_bytes = publication.checksum(path)
    assert content.agrees(path, of_bytes)
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["DATE"] = "2027-01-01"
    assert not content.agrees(path, of_bytes)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    path.write_bytes(b"not FITS")
    with pytest.raises(ProductVerificationError, match=r"image\.fits.*cannot be read"):
        content.parts(path)
