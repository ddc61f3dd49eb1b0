"""Lists of positions and tables: names as written, impossible rows named, every column there and back."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from astropy.units import Unit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsa110_assets.cli.main import run
from dsa110_assets.common import cross_match
from dsa110_assets.common.position_lists import read_positions
from dsa110_assets.common.table_files import SUFFIXES, read_table
from dsa110_assets.errors import PositionsError
from dsa110_assets.photometry import write_table
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.queries.sources import source_table, upsert_sources
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import references
from dsa110_assets_tests.inputs import images
from dsa110_assets_tests.inputs.effort import examples
from dsa110_assets_tests.reference_data import shared_case


@pytest.fixture
def platform(registry_config, database):
    catalogs = registry_config.state_dir / "catalogs"
    catalogs.mkdir()
    pd.DataFrame({"name": ["N"], "ra_deg": [150.0], "dec_deg": [50.0], "flux_jy": [0.5], "spectral_index": [np.nan]}).to_parquet(
        catalogs / "nvss.parquet"
    )
    return Platform(registry_config, ProductPaths.of(registry_config), database)


def refreshed(platform, path, *, refresh=references.refresh_monitored):
    chosen = replace(platform, config=platform.config.model_copy(update={"monitored_sources_file": path}))
    refresh(chosen, "by-hand")
    with platform.database.session() as session:
        return source_table(session, origin="monitored")


def test_case_04_names_are_stored_as_written_and_impossible_rows_are_named(platform, tmp_path):
    case = shared_case("04-monitored-names")
    assert refreshed(platform, case / "numeric_names.csv")["name"].tolist() == ["007", "12"]
    assert "NA" in refreshed(platform, case / "na_name.csv")["name"].tolist()
    crab = SkyCoord("05h34m31.9s", "+22d00m52s")
    with pytest.raises(PositionsError, match=r"3 of 4 rows.*X1.*95.*X2.*400.*X3.*-5"):
        read_positions(case / "impossible.csv")
    with pytest.raises(PositionsError, match=r"row 1 \(Q1\): ra_deg is missing"):
        read_positions(case / "nan.csv")
    with pytest.raises(PositionsError, match="row 1 has 3 cells, the header 1; commas separate cells"):
        read_positions(case / "semi.csv")
    row = read_positions(case / "sexagesimal.csv").iloc[0]
    assert SkyCoord(row["ra_deg"], row["dec_deg"], unit="deg").separation(crab).arcsec < 0.01
    assert read_positions(case / "with_deg.csv")[["ra_deg", "dec_deg"]].to_numpy() == pytest.approx(np.array([[83.61679, 22.01446]]))
    path = images.write(tmp_path, "m")
    for name in ("numeric_names", "na_name"):
        shifted = pd.read_csv(case / f"{name}.csv", dtype=str, keep_default_na=False).assign(
            ra_deg=["137.0", "137.01"], dec_deg=["54.0", "54.01"]
        )
        shifted.to_csv(tmp_path / "p.csv", index=False)
        assert (
            run(["photometry", "peak", "--image", str(path), "--positions", str(tmp_path / "p.csv"), "--output", str(tmp_path / "o.csv")])
            == 0
        )
        assert read_table(tmp_path / "o.csv", PositionsError, next_step="")["name"].tolist() == shifted["name"].tolist()


@pytest.mark.parametrize(
    ("name", "ra", "dec", "reason"),
    [
        ("", "1", "1", "no name"),
        ("a", "361", "1", "not in 0 to 360"),
        ("a", "1", "-90.001", "not in -90 to 90"),
        ("a", "nan", "1", "ra_deg is missing"),
        ("a", "inf", "1", "no angle"),
        ("a", "05:60:00", "1", "no angle"),
        ("a", "05:34:31.9 north", "1", "no angle"),
        ("a", "1", "", "dec_deg is missing"),
        ("x" * 201, "1", "1", "201 characters"),
    ],
)
def test_a_row_that_is_no_position_is_named_with_its_reason(tmp_path, name, ra, dec, reason):
    (tmp_path / "p.csv").write_text(f"name,ra_deg,dec_deg\nok,1,1\n{name},{ra},{dec}\n")
    with pytest.raises(PositionsError, match=f"1 of 2 rows.*row 2.*{reason}"):
        read_positions(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        ("05:34:31.9", "-22:00:52", (83.632916667, -22.014444444)),
        ("05 34 31.9", "-00 00 36", (83.632916667, -0.01)),
        ("5h34m31.9s", "+22d00m52s", (83.632916667, 22.014444444)),
        ("83d36m00s", "+22d00m52s", (83.6, 22.014444444)),
        ("83.6 deg", "22.0deg", (83.6, 22.0)),
        ("8.36e1", "−22", (83.6, -22.0)),
        ("360", "90", (0.0, 90.0)),
    ],
)
def test_positions_are_read_as_people_write_them(tmp_path, ra, dec, expected):
    (tmp_path / "p.csv").write_text(f"name,ra_deg,dec_deg\na,{ra},{dec}\n")
    assert read_positions(tmp_path / "p.csv")[["ra_deg", "dec_deg"]].to_numpy()[0] == pytest.approx(expected)


@pytest.mark.parametrize("suffix", [".fits", ".vot"])
@pytest.mark.parametrize(("unit", "taken"), [("deg", True), (None, True), ("rad", False), ("h", False), ("arcsec", False)])
def test_a_column_whose_unit_contradicts_its_name_is_refused(tmp_path, suffix, unit, taken):
    path = tmp_path / f"p{suffix}"
    table = Table({"name": ["a"], "ra_deg": [1.0], "dec_deg": [2.0]})
    table["ra_deg"].unit = unit
    table.write(path, format="fits" if suffix == ".fits" else "votable")
    if taken:
        assert read_positions(path)["ra_deg"].tolist() == [1.0]
    else:
        with pytest.raises(PositionsError, match=r"column ra_deg is in .*, its name says deg"):
            read_positions(path)


@pytest.mark.parametrize("unit", ["hourangle", "arcmin", "rad"])
@pytest.mark.parametrize("writer", ["astropy", "pyarrow"])
def test_units_and_masks_in_parquet_are_read(tmp_path, writer, unit):
    """Parquet has places for neither: astropy keeps both in columns and metadata of its own."""
    path = tmp_path / "p.parquet"
    if writer == "astropy":
        Table({"name": ["a"], "ra_deg": [1.0] * Unit(unit), "dec_deg": [2.0]}).write(path, format="parquet")
    else:
        field = pa.field("ra_deg", pa.float64(), metadata={"unit": unit})
        pq.write_table(pa.table([["a"], [1.0], [2.0]], pa.schema([("name", pa.string()), field, ("dec_deg", pa.float64())])), path)
    with pytest.raises(PositionsError, match=r"column ra_deg is in .*, its name says deg"):
        read_positions(path)
    masked = MaskedColumn([1.0, 2.0], mask=[False, True])
    Table({"name": ["a", "b"], "ra_deg": masked, "dec_deg": [1.0, 2.0]}).write(path, format="parquet", overwrite=True)
    with pytest.raises(PositionsError, match=r"1 of 2 rows.*row 2 \(b\): ra_deg is missing"):
        read_positions(path)


@pytest.mark.parametrize("unit", ["hms", "h:m:s", "furlong"])
def test_a_unit_that_nobody_knows_is_refused_and_other_spellings_are_taken(tmp_path, unit):
    columns = [fits.Column("name", "1A", array=["a"]), fits.Column("dec_deg", "D", array=[2.0])]
    for written, taken in ((unit, False), ("Degrees", True), ("DEG", True)):
        fits.BinTableHDU.from_columns([*columns, fits.Column("ra_deg", "D", unit=written, array=[1.0])]).writeto(
            tmp_path / "p.fits", overwrite=True
        )
        if taken:
            assert read_positions(tmp_path / "p.fits")["ra_deg"].tolist() == [1.0]
        else:
            with pytest.raises(PositionsError, match=f"column ra_deg is in {unit}, its name says deg"):
                read_positions(tmp_path / "p.fits")


def test_the_value_for_none_of_a_scaled_fits_column_is_none(tmp_path):
    """astropy takes it for a number: 100 - 300 x 0.01 = 97 degrees."""
    header = fits.Header([("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 13), ("NAXIS2", 2), ("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", 3)])  # fmt: skip
    for number, (name, form) in enumerate((("name", "3A"), ("ra_deg", "I"), ("dec_deg", "D")), start=1):
        header[f"TTYPE{number}"], header[f"TFORM{number}"] = name, form
    header["TSCAL2"], header["TZERO2"], header["TNULL2"] = 0.01, 100.0, -300
    rows = struct.pack(">3shd3shd", b"a", 2700, 54.0, b"b", -300, 55.0)
    fits.PrimaryHDU().writeto(tmp_path / "p.fits")
    with (tmp_path / "p.fits").open("ab") as stream:
        stream.write(header.tostring().encode() + rows.ljust(2880, b"\0"))
    with pytest.raises(PositionsError, match=r"1 of 2 rows.*row 2 \(b\): ra_deg is missing"):
        read_positions(tmp_path / "p.fits")


def test_names_of_variable_length_and_formats_that_nobody_knows(tmp_path):
    columns = [fits.Column("name", "PA()", array=np.array(["a", "bb"], dtype=object))]
    columns += [fits.Column(name, "D", array=[1.0, 2.0]) for name in ("ra_deg", "dec_deg")]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "p.fits")
    assert read_positions(tmp_path / "p.fits")["name"].tolist() == ["a", "bb"]
    content = (tmp_path / "p.fits").read_bytes()
    (tmp_path / "q.fits").write_bytes(content.replace(b"TFORM2  = 'D ", b"TFORM2  = 'W "))
    with pytest.raises(PositionsError, match="cannot be read as fits"):
        read_positions(tmp_path / "q.fits")


_TABLE = (
    '<TABLE><FIELD name="name" datatype="char" arraysize="*"/><FIELD name="ra_deg" datatype="double" unit="deg" {ref}/>'
    '<FIELD name="dec_deg" datatype="double" unit="deg" {ref}/>'
    "<DATA><TABLEDATA><TR><TD>a</TD><TD>137.5</TD><TD>54.1</TD></TR></TABLEDATA></DATA></TABLE>"
)


@pytest.mark.parametrize("ref", ['ref="c"', ""])
@pytest.mark.parametrize(
    ("system", "taken"),
    [
        ('system="ICRS"', True),
        ('system="eq_FK5" equinox="J2000"', True),
        ('system="eq_FK5" equinox="J1975"', False),
        ('system="eq_FK4" equinox="B1950"', False),
        ('system="galactic"', False),
        ('system="ecl_FK5" equinox="J2000"', False),
    ],
)
def test_a_votable_in_another_frame_is_refused(tmp_path, system, taken, ref):
    path = tmp_path / "p.vot"
    path.write_text(_votable(f'<COOSYS ID="c" {system}/>{_TABLE.format(ref=ref)}'))
    if taken:
        assert read_positions(path)["ra_deg"].tolist() == [137.5]
    else:
        with pytest.raises(PositionsError, match=r"column ra_deg is in .*, ICRS was expected"):
            read_positions(path)


def _votable(content: str) -> str:
    start = '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">'
    return f"{start}{content}</RESOURCE></VOTABLE>"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('<INFO name="QUERY_STATUS" value="ERROR">no such column</INFO>', "server says ERROR: no such column"),
        (f'<INFO name="QUERY_STATUS" value="OVERFLOW"/>{_TABLE.format(ref="")}', "OVERFLOW: the table is not complete"),
        (2 * _TABLE.format(ref=""), "holds 2 tables"),
        ("", "holds no table"),
    ],
)
def test_a_votable_that_is_not_one_whole_table_is_refused_with_the_reason(tmp_path, content, reason):
    """A cut list ends the monitoring of the sources that it lacks."""
    (tmp_path / "p.vot").write_text(_votable(content))
    with pytest.raises(PositionsError, match=reason):
        read_positions(tmp_path / "p.vot")


def test_units_and_frames_beside_a_table_are_read(tmp_path):
    """A CSV file has its units in a file beside it, a FITS table may name its frame in the header."""
    write_table(images.positions(), tmp_path / "p.csv")
    beside = tmp_path / "p.csv-metadata.json"
    assert len(read_positions(tmp_path / "p.csv")) == len(images.SOURCES)
    beside.write_text(beside.read_text().replace('"unit": "deg"', '"unit": "hourangle"'))
    with pytest.raises(PositionsError, match="column ra_deg is in hourangle"):
        read_positions(tmp_path / "p.csv")
    for system, equinox, taken in (("ICRS", None, True), ("FK5", 2000.0, True), ("FK5", 1975.0, False), ("FK4", 1950.0, False)):
        made = Table.from_pandas(images.positions())
        made.meta |= {"RADESYS": system} | ({} if equinox is None else {"EQUINOX": equinox})
        made.write(tmp_path / "p.fits", overwrite=True)
        if taken:
            assert len(read_positions(tmp_path / "p.fits")) == len(images.SOURCES)
        else:
            with pytest.raises(PositionsError, match=f"column ra_deg is in {system} .*ICRS was expected"):
                read_positions(tmp_path / "p.fits")


def test_a_fits_file_of_two_tables_is_refused(tmp_path):
    images.positions().pipe(Table.from_pandas).write(tmp_path / "one.fits")
    with fits.open(tmp_path / "one.fits") as hdus:
        fits.HDUList([*hdus, hdus[1].copy()]).writeto(tmp_path / "two.fits")
    assert len(read_positions(tmp_path / "one.fits")) == len(images.SOURCES)
    with pytest.raises(PositionsError, match=r"holds 2 tables \(extensions 1, 2\)"):
        read_positions(tmp_path / "two.fits")


def test_an_empty_or_much_shorter_list_ends_nothing_without_being_asked(platform, tmp_path):
    path = tmp_path / "own.csv"
    rows = [f"M{n},{10 + n},5\n" for n in range(40)]
    path.write_text("name,ra_deg,dec_deg\n" + "".join(rows))
    refreshed(platform, path)
    for kept in (0, 29):
        path.write_text("name,ra_deg,dec_deg\n" + "".join(rows[:kept]))
        with pytest.raises(PositionsError, match=f"{40 - kept} of the 40 positions.*--yes"):
            refreshed(platform, path)
    path.write_text("name,ra_deg,dec_deg\n" + "".join(rows[:30]))
    assert len(refreshed(platform, path)) == 30
    path.write_text("name,ra_deg,dec_deg\n")
    assert len(refreshed(platform, path, refresh=references.refresh_monitored_anyway)) == 0


def test_a_name_never_moves_to_another_source(database):
    def upsert(ra, dec):
        with database.session() as session:
            upsert_sources(session, pd.DataFrame({"name": ["a"], "ra_deg": [ra], "dec_deg": [dec]}), origin="monitored")

    upsert(0.0001, 54.0)
    upsert(359.9999, 54.0005)  # 1.9 arcsec, across 0h
    with pytest.raises(PositionsError, match="another name"):
        upsert(0.0001, 54.0 + 10 / 3600)


def test_the_cross_match_finds_the_nearest_in_near_linear_memory():
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    other_ra, other_dec = rng.uniform(0, 360, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    index, separation = cross_match.nearest(ra, dec, other_ra, other_dec)
    truth = SkyCoord(ra, dec, unit="deg").match_to_catalog_sky(SkyCoord(other_ra, other_dec, unit="deg"))
    assert (index == truth[0]).all()
    assert separation == pytest.approx(truth[1].deg, abs=1e-9)


_MATCH = """
import numpy as np, pandas as pd, resource
from dsa110_assets.catalogs.observers import named_by_observer
r = np.random.default_rng(1)
def sky(letter, n):
    return pd.DataFrame({"name": [f"{letter}{i}" for i in range(n)], "ra_deg": r.uniform(0, 360, n), "dec_deg": r.uniform(-40, 90, n)})
bright, own = sky("N", 300_000).assign(reference_flux_jy=0.02), sky("M", 5000)
own.loc[:99, ["ra_deg", "dec_deg"]] = bright.loc[:99, ["ra_deg", "dec_deg"]] + 2e-4 * np.array([0.0, 1.0])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rest, named = named_by_observer(bright, own)
print(len(rest), int(named["reference_flux_jy"].notna().sum()), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_case_05_thousands_of_own_positions_are_matched_with_nvss_in_little_memory():
    done = subprocess.run([sys.executable, "-c", _MATCH], capture_output=True, text=True, check=True, timeout=120)
    rest, matched, grown_mb = done.stdout.split()
    assert int(matched) >= 100
    assert int(rest) == 300_000 - int(matched)
    assert float(grown_mb) < 300  # the matrix of all pairs has 12 GB


# --- there and back -------------------------------------------------------------------------------------------------
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn")), min_size=1, max_size=12).filter(
    lambda s: s.strip() == s
)
_COLUMNS = {
    "name": _TEXT,
    "integer": st.integers(-(2**53), 2**53) | st.none(),
    "identifier": st.integers(10**17, 9 * 10**17) | st.none(),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.none(),
    "truth": st.booleans() | st.none(),
    "words": _TEXT | st.none(),
}
_TYPES = {"name": "str", "integer": "Int64", "identifier": "Int64", "number": "float64", "truth": "boolean", "words": "str"}


@st.composite
def tables(draw):
    n = draw(st.integers(1, 5))
    return pd.DataFrame(
        {name: pd.Series(draw(st.lists(cells, min_size=n, max_size=n)), dtype=_TYPES[name]) for name, cells in _COLUMNS.items()}
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=examples(len(SUFFIXES)), suppress_health_check=list(HealthCheck), deadline=None)
@given(table=tables())
def test_every_column_keeps_its_type_its_mask_and_its_text(tmp_path_factory, suffix, table):
    path = tmp_path_factory.getbasetemp() / f"there-and-back{suffix}"
    if suffix == ".fits":  # FITS text is ASCII
        table = table.assign(**{name: table[name].map(ascii, na_action="ignore").astype("str") for name in ("name", "words")})
    write_table(table, path)
    back = read_table(path, PositionsError, next_step="")
    assert list(back.columns) == list(table.columns)
    for name in table.columns:
        assert back[name].isna().tolist() == table[name].isna().tolist(), name
        assert back[name].dropna().tolist() == table[name].dropna().tolist(), name
