"""Faults that people reported to other projects, tried with small inputs. docs/developers/inputs.md has the table.

Each case changes the image of `images`, or a list of positions, as the report describes it. The fluxes must then be the
true ones, or the reason must be named.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from dsa110_assets.common.position_lists import read_positions
from dsa110_assets.errors import NonRetriableError, PositionsError
from dsa110_assets.photometry import measure_file
from dsa110_assets_tests.docs.named_commands import ROOT
from dsa110_assets_tests.inputs import images

Change = Callable[[fits.Header, np.ndarray], fits.HDUList | None]


def _keys(**values: object) -> Change:
    """Set keywords (``_`` for ``-``), or remove those that are None."""

    def change(header: fits.Header, _data: np.ndarray) -> None:
        for key, value in values.items():
            header.remove(key.replace("_", "-"), ignore_missing=True)
            if value is not None:
                header[key.replace("_", "-")] = value

    return change


def _with_beams(header: fits.Header, data: np.ndarray) -> fits.HDUList:
    """A beam in CASA's table instead of the header, as exportfits writes it for images of several beams."""
    for key in ("BMAJ", "BMIN", "BPA"):
        del header[key]
    header["CASAMBM"] = True
    major, minor, angle = images.BEAM_ARCSEC
    columns = [fits.Column(name, kind, array=[value], unit=unit)
               for name, kind, value, unit in (("BMAJ", "E", major, "arcsec"), ("BMIN", "E", minor, "arcsec"), ("BPA", "E", angle, "deg"),
                                               ("CHAN", "J", 0, None), ("POL", "J", 0, None))]  # fmt: skip
    return fits.HDUList([fits.PrimaryHDU(data, header), fits.BinTableHDU.from_columns(columns, name="BEAMS")])


def _aips_beam(header: fits.Header, _data: np.ndarray) -> None:
    major, minor, angle = images.BEAM_ARCSEC
    for key in ("BMAJ", "BMIN", "BPA"):
        del header[key]
    header.add_history(f"AIPS   CLEAN BMAJ={major / 3600:12.4E} BMIN={minor / 3600:12.4E} BPA={angle:7.2f}")


def _in_extension(header: fits.Header, data: np.ndarray) -> fits.HDUList:
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])])
    return fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, header), table])


def _integers(header: fits.Header, data: np.ndarray) -> fits.HDUList:
    header["BSCALE"], header["BZERO"], header["BLANK"] = 1e-4, 0.5, -32768
    scaled = np.round((data - 0.5) / 1e-4).astype(">i2")
    scaled[:3] = -32768
    hdu = fits.PrimaryHDU(scaled, header, do_not_scale_image_data=True)
    for key, value in (("BSCALE", 1e-4), ("BZERO", 0.5)):
        hdu.header[key] = value
    return fits.HDUList([hdu])


def _hierarch(header: fits.Header, _data: np.ndarray) -> None:
    header["HIERARCH ESO a long keyword"] = "x"
    header["LONGTEXT"] = "y" * 200


def _more_axes(header: fits.Header, _data: np.ndarray) -> None:
    """A header that describes four axes of an array that has two."""
    header["CTYPE3"], header["CRVAL3"], header["CDELT3"], header["CRPIX3"] = "FREQ", 1.4e9, 1e6, 1.0
    header["CTYPE4"], header["CRVAL4"], header["CDELT4"], header["CRPIX4"], header["CUNIT4"] = "STOKES", 1.0, 1.0, 1.0, "PAR"


def _wsclean(header: fits.Header, _data: np.ndarray) -> None:
    """WSClean's own keywords: rotations of axes that are not there, and a PC matrix."""
    header["CROTA3"] = header["CROTA4"] = 0.0
    for row in range(1, 5):
        for column in range(1, 5):
            header[f"PC{row}_{column}"] = float(row == column)


def _blank_half(value: float) -> Change:
    def change(_header: fits.Header, data: np.ndarray) -> None:
        data[:, images.N // 2 + 10 :] = value

    return change


EQUAL = "measured"
IMAGES: dict[str, tuple[Change, str]] = {
    "CARTAvis/carta#154": (_more_axes, EQUAL),
    "CARTAvis/carta-backend#476": (_keys(RADESYS=None, EPOCH=2000), EQUAL),
    "CARTAvis/carta-backend#596": (_keys(CTYPE1="GLON-FLT", CTYPE2="GLAT-FLT"), "coordinates"),
    "CARTAvis/carta-backend#1083": (_aips_beam, EQUAL),
    "CARTAvis/carta-backend#1218": (_in_extension, EQUAL),
    "CARTAvis/carta-backend#1265": (_keys(CUNIT1="degrees", CUNIT2="degrees"), EQUAL),
    "CARTAvis/carta-backend#1312": (_integers, EQUAL),
    "CARTAvis/carta-backend#1432": (_with_beams, EQUAL),
    "CARTAvis/carta-frontend#2395": (_keys(CTYPE1="RA-TAN", CTYPE2="DEC-TAN"), "coordinates|celestial"),
    "astropy/astropy#3746": (_hierarch, EQUAL),
    "askap-vast/vast-pipeline#68": (_keys(MJD_BEG=None, MJD_END=None), EQUAL),
    "lofar-astron/factor#128": (_keys(BMAJ=None, BMIN=None, BPA=None), "no restoring beam"),
    "mhardcastle/radioflux#2": (_keys(CTYPE1="RA---NCP", CTYPE2="DEC--NCP"), EQUAL),
    "mhardcastle/radioflux#4": (_wsclean, EQUAL),
    "PlanetFormationLab/bettermoments#16": (_keys(MJD_BEG=None, MJD_END=None, DATE_OBS="1858-11-17T00:00:00"), EQUAL),
    "astropy/reproject#187": (_blank_half(np.nan), "some"),
}
"""Report, the change of the image, and what must come out: the true fluxes, only some of them, or a reason."""


def _measured(tmp_path: Path, name: str, change: Change) -> tuple[np.ndarray, np.ndarray]:
    """Measured and true fluxes of what was measured."""
    header, data = images.header(), images.pixels()
    path = images.write(tmp_path, "m")
    written = change(header, data)
    if written is None:
        fits.writeto(path, data, header, overwrite=True, output_verify="silentfix")
    else:
        written.writeto(path, overwrite=True, output_verify="silentfix")
    positions = images.positions()
    if "NCP" in str(header["CTYPE1"]):
        ours = np.array(images.SOURCES).T
        positions["ra_deg"], positions["dec_deg"] = WCS(header).wcs_pix2world(ours[0] + images.N // 2, ours[1] + images.N // 2, 0)
    table = measure_file(path, positions, noise_path=tmp_path / "m-noise.fits").merge(positions[["name", "true_jy"]], on="name")
    return table["flux_jy"].to_numpy(), table[[c for c in table if c.startswith("true_jy")][-1]].to_numpy()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("report", IMAGES)
def test_a_reported_image_is_measured_right_or_refused_by_its_reason(tmp_path, report):
    change, expected = IMAGES[report]
    if expected in (EQUAL, "some"):
        flux, true = _measured(tmp_path, report, change)
        assert len(flux) == len(images.SOURCES) if expected == EQUAL else 0 < len(flux) < len(images.SOURCES)
        assert flux == pytest.approx(true, abs=0.01)
    else:
        with pytest.raises(NonRetriableError, match=expected):
            _measured(tmp_path, report, change)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", ["value", "keyword", "history"])
def test_a_header_with_bytes_that_are_not_ascii_is_read(tmp_path, place):
    """astropy/astropy#6074, esheldon/fitsio#295: replaced by spaces or refused, never a trace."""
    path = images.write(tmp_path, "m")
    content = path.read_bytes()
    card = {"value": b"OBJECT  = 'L0\xce\xb3  '", "keyword": b";\xcc\xbaS    = 351", "history": b"HISTORY (\xfat, 16 dub 2013)"}[place]
    end = content.index(b"END" + b" " * 77)
    path.write_bytes(content[:end] + card.ljust(80) + content[end : end + 80] + content[end + 160 :])
    table = measure_file(path, images.positions(), noise_path=tmp_path / "m-noise.fits")
    assert table["flux_jy"].to_numpy() == pytest.approx(images.positions()["true_jy"].to_numpy(), abs=0.01)


def test_a_noise_map_without_values_leaves_its_positions_out(tmp_path):
    """astropy/reproject#474, askap-vast/vast-pipeline#161: no error is NaN, and the others keep their fluxes."""
    path = images.write(tmp_path, "m")
    noise = np.full((images.N, images.N), images.NOISE_JY, np.float32)
    noise[: images.N // 2 - 10] = np.nan
    fits.writeto(tmp_path / "m-noise.fits", noise, images.header(), overwrite=True)
    table = measure_file(path, images.positions(), noise_path=tmp_path / "m-noise.fits")
    assert table["name"].tolist() == ["S0", "S1", "S2"]
    assert np.isfinite(table["flux_err_jy"].to_numpy()).all()
    assert table["flux_jy"].to_numpy() == pytest.approx([1.0, 0.5, 0.8], abs=0.01)


def test_what_is_blank_as_zero_in_image_and_noise_map_is_left_out(tmp_path):
    """astropy/reproject#426: pixels without data that became 0."""
    data, noise = images.pixels(), np.full((images.N, images.N), images.NOISE_JY, np.float32)
    _blank_half(0.0)(images.header(), data)
    _blank_half(0.0)(images.header(), noise)
    path = images.write(tmp_path, "m", data=data)
    fits.writeto(tmp_path / "m-noise.fits", noise, images.header(), overwrite=True)
    table = measure_file(path, images.positions(), noise_path=tmp_path / "m-noise.fits")
    assert table["name"].tolist() == ["S0", "S2", "S4"]
    assert table["flux_jy"].to_numpy() == pytest.approx([1.0, 0.8, 2.0], abs=0.01)


def test_positions_at_the_edge_are_measured_or_left_out(tmp_path):
    """askap-vast/vast-pipeline#191: stamps that the edge cuts have other shapes."""
    path = images.write(tmp_path, "m")
    edge = np.array([(x, y) for x in (-0.6, 0, 1, 60, 118, 119, 119.6) for y in (-0.6, 0, 1, 118, 119, 119.6)])
    ra, dec = WCS(images.header(), fix=False).wcs_pix2world(edge[:, 0], edge[:, 1], 0)
    positions = images.positions().iloc[:1]
    there = positions.iloc[np.zeros(len(edge), int)].assign(name=[f"e{n}" for n in range(len(edge))], ra_deg=ra, dec_deg=dec)
    table = measure_file(path, there, noise_path=tmp_path / "m-noise.fits")
    known = np.isfinite(table["flux_jy"].to_numpy())
    assert (np.isfinite(table["flux_err_jy"].to_numpy()) == known).all()
    assert (table.loc[~known, "flags"] != "").all(), "a flux that is not known says why"
    assert (np.abs(table["flux_jy"].to_numpy()[known]) < 10 * table["flux_err_jy"].to_numpy()[known]).all()


LISTS: dict[str, tuple[str, list[str] | str]] = {
    "astropy/astropy#826": ("name;ra_deg;dec_deg\n ;deg;deg\nJ0003;0.79792;-6.08917\n", "deg"),
    "astropy/astropy#2234": ("name,ra_deg,dec_deg\n12121312311248721894712984728,1,2\n", ["12121312311248721894712984728"]),
    "astropy/astropy#2799": ("  name,ra_deg,dec_deg\n  a,1,2\n  b,3,4\n", ["a", "b"]),
    "astropy/astropy#8856": ("name,ra_deg,dec_deg\na,1,2\nb,---,4\n", "---"),
    "astropy/astropy#9280": ("name,ra_deg,dec_deg,gaia\na,1,2,4111834567779557376\nb,3,4,\n", ["a", "b"]),
}
"""Report, a list of positions as CSV, and the names that come out or a word of the reason."""


@pytest.mark.parametrize("report", LISTS)
def test_a_reported_list_is_read_right_or_refused_by_its_reason(tmp_path, report):
    text, expected = LISTS[report]
    path = tmp_path / "p.csv"
    path.write_text(text)
    if isinstance(expected, str):
        with pytest.raises(PositionsError, match=expected):
            read_positions(path)
        return
    table = read_positions(path)
    assert table["name"].tolist() == expected
    if "gaia" in table:
        assert str(table["gaia"].iloc[0]) == "4111834567779557376"


def test_text_in_a_binary_table_stays_text(tmp_path):
    """astropy/astropy#11275: designations in a FITS table that became 1."""
    names = ["18010048+6835075", "007", "NA"]
    Table({"name": names, "ra_deg": [270.25, 1.0, 2.0], "dec_deg": [68.6, 1.0, 2.0]}).write(tmp_path / "p.fits")
    assert read_positions(tmp_path / "p.fits")["name"].tolist() == names


def test_every_report_is_in_the_documentation():
    page = (ROOT / "docs/developers/inputs.md").read_text()
    named = set(re.findall(r"\b([\w.-]+/[\w.-]+#\d+)\b", page))
    assert set(IMAGES) | set(LISTS) <= named
    assert len(named) >= 20
