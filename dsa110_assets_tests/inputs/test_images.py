"""Images of other programs: what astropy reads as one celestial plane is measured, or refused with the reason."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets.cli.main import run
from dsa110_assets.common.fits_planes import frequency_hz, jy_per_beam
from dsa110_assets.common.table_files import read_table
from dsa110_assets.errors import PhotometryError, PositionsError
from dsa110_assets.photometry import PhotometryOptions, measure_file
from dsa110_assets_tests.inputs import images
from dsa110_assets_tests.reference_data import shared_case


def assert_right_fluxes(path, **options):
    table = measure_file(path, images.positions(), **options)
    assert table["flux_jy"].to_numpy() == pytest.approx(table["true_jy"].to_numpy(), abs=0.01, rel=0.015)
    assert len(table) == len(images.SOURCES)
    return table


def _edited(**values):
    header = images.header()
    for key, value in values.items():
        key = key.replace("_", "-")  # noqa: PLW2901
        if value is None:
            del header[key]
        else:
            header[key] = value
    return header


def _framed(frame, radesys, equinox):
    center = SkyCoord(137.0, 54.0, unit="deg").transform_to(frame)
    return _edited(CRVAL1=center.ra.deg, CRVAL2=center.dec.deg, RADESYS=radesys, EQUINOX=equinox)


@pytest.mark.parametrize(
    "header",
    [
        _edited(),
        _framed(FK4(equinox="B1950"), "FK4", 1950.0),
        _framed(FK4(equinox="B1950"), None, 1950.0),
        _framed(FK5(equinox="J2026.2"), "FK5", 2026.2),
        _framed(FK5(equinox="J2000"), "FK5", 2000.0),
    ],
    ids=["ICRS", "FK4", "equinox 1950", "FK5 of date", "FK5"],
)
def test_case_08_the_same_sky_in_another_frame_gives_the_same_fluxes(tmp_path, header):
    assert_right_fluxes(images.write(tmp_path, "m", image=header, noise=header))


def test_case_08_the_images_of_the_case_give_their_fluxes_or_name_their_frame(tmp_path):
    case = str(shared_case("08-frame") / "run.py")
    done = subprocess.run([sys.executable, case, str(tmp_path)], capture_output=True, text=True, check=True, timeout=200)
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if "astropy pixels" not in line}
    assert "galactic" in lines.pop("galactic").partition("REFUSED")[2]
    assert set(lines) == {"plain", "fk4", "noradesys1950", "fk5", "fk5_2026"}
    for line in lines.values():
        pairs = [tuple(map(float, pair.split("/"))) for pair in re.findall(r"'([^']+)'", line)]
        assert [one for one, _ in pairs] == pytest.approx([true for _, true in pairs], rel=0.02)


def test_galactic_images_are_measured_when_their_beam_is_round_and_refused_by_name_otherwise(tmp_path):
    header = _edited(CTYPE1="GLON-SIN", CTYPE2="GLAT-SIN", RADESYS=None)
    with pytest.raises(PhotometryError, match=r"coordinates are galactic.*regrid"):
        measure_file(images.write(tmp_path, "g", image=header, noise=header), images.positions())
    center = SkyCoord(137.0, 54.0, unit="deg").galactic
    round_beam = _edited(CTYPE1="GLON-SIN", CTYPE2="GLAT-SIN", RADESYS=None, CRVAL1=center.l.deg, CRVAL2=center.b.deg, BMAJ=0.01, BMIN=0.01)
    table = measure_file(images.write(tmp_path, "r", image=round_beam, noise=round_beam), images.positions())
    assert table["x_pixel"].iloc[0] == pytest.approx(images.N / 2, abs=0.01)


def test_case_16_images_of_other_programs_are_measured(tmp_path):
    header, data = images.header(), images.pixels()
    plain = images.write(tmp_path, "m")
    noise = tmp_path / "m-noise.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(data, header)]).writeto(tmp_path / "ext.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header, quantize_level=64)]).writeto(tmp_path / "comp.fits.fz")
    for kind in ("image", "noise"):
        with (tmp_path / f"m-{kind}.fits").open("rb") as source, gzip.open(tmp_path / f"g-{kind}.fits.gz", "wb") as packed:
            shutil.copyfileobj(source, packed)
    turned = header.copy()
    for key in ("CTYPE", "CRVAL", "CRPIX", "CDELT", "CUNIT"):
        turned[f"{key}1"], turned[f"{key}2"] = header[f"{key}2"], header[f"{key}1"]
    fits.writeto(tmp_path / "turned.fits", data.T.copy(), turned)
    fits.writeto(tmp_path / "four.fits", data[None, None], header)
    fits.writeto(tmp_path / "negative.fits", data, _edited(CRVAL1=137.0 - 360.0))
    fits.writeto(tmp_path / "milli.fits", data * 1000, _edited(BUNIT="mJy/beam"))
    for file in (
        plain,
        *(tmp_path / name for name in ("ext.fits", "comp.fits.fz", "turned.fits", "four.fits", "negative.fits", "milli.fits")),
    ):
        assert_right_fluxes(file, noise_path=noise)
    assert_right_fluxes(tmp_path / "g-image.fits.gz")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({}, 61111.22),
        ({"MJD_BEG": None, "MJD_END": None, "DATE_OBS": "2026-03-12T05:00:00"}, 61111 + 5 / 24),
        ({"MJD_BEG": None, "MJD_END": None, "MJD_OBS": 61111.5}, 61111.5),
        ({"MJD_BEG": None, "MJD_END": None}, np.nan),
        ({"MJD_BEG": None, "MJD_END": None, "DATE_OBS": "yesterday"}, np.nan),
        ({"MJD_BEG": None, "MJD_END": None, "MJD_OBS": 61111.5, "TIMESYS": "TAI"}, 61111.5 - 37 / 86400),
        ({"MJD_BEG": None, "MJD_END": None, "DATE_OBS": "2026-03-12T05:00:37", "TIMESYS": "IAT"}, 61111 + 5 / 24),
        ({"MJD_BEG": None, "MJD_END": None, "DATE_OBS": "2026-03-12T05:00:00", "TIMESYS": "UTC(NIST)"}, 61111 + 5 / 24),
        ({"MJD_BEG": None, "MJD_END": None, "MJD_OBS": 61111.5, "TIMESYS": "LOCAL"}, np.nan),
        ({"MJD_BEG": None, "MJD_END": None, "DATE_OBS": "2026-03-12T05:00:00Z"}, 61111 + 5 / 24),
        ({"MJD_BEG": None, "MJD_END": None, "DATE_OBS": "2026-03-12T05:00:00+02:00"}, 61111 + 3 / 24),
        ({"MJD_BEG": None, "MJD_END": None, "DATE_OBS": "2026/03/12 05:00:00"}, 61111 + 5 / 24),
        ({"MJD_BEG": None, "MJD_END": None, "DATE_OBS": "12/05/93"}, 49119.0),
        ({"MJD_BEG": None, "MJD_END": None, "DATE_OBS": "2026-03-12", "TIME_OBS": "05:00:00"}, 61111 + 5 / 24),
        ({"MJD_BEG": None, "MJD_END": None, "MJD_OBS": "61111.5"}, 61111.5),
        ({"MJD_BEG": None, "MJD_END": None, "JD": 2461112.0}, 61111.5),
        ({"MJD_BEG": None, "MJD_END": None, "MJD_OBS": 2461112.0}, np.nan),
        ({"MJD_BEG": None, "MJD_END": None, "MJD_OBS": 61111.5 * 86400}, np.nan),
        ({"MJD_BEG": None, "MJD_END": None, "MJD_OBS": 0.0, "DATE_OBS": "1858-11-17"}, np.nan),
        ({"MJD_BEG": 61112.0, "DATE_OBS": "2026-03-12T05:00:00"}, 61111 + 5 / 24),
    ],
)
def test_case_16_the_time_is_what_the_header_has_or_none(tmp_path, times, expected):
    table = assert_right_fluxes(images.write(tmp_path, "m", image=_edited(**times)))
    assert table["time_mjd"].to_numpy() == pytest.approx(np.full(len(table), expected), nan_ok=True)


@pytest.mark.parametrize("unit", ["Jy/beam", "JY/BEAM", "Jy beam-1", "beam-1 Jy", "Jy/bm", "Jy / beam", "Jy.beam-1", "Jy beam^-1",
                                  "Jansky/beam", "Jy/(beam)", "Jy.beam^{-1}", "Jy beam$^{-1}$", "1000 mJy/beam"])  # fmt: skip
def test_case_16_every_spelling_of_the_unit_is_read(unit):
    assert jy_per_beam(fits.Header([("BUNIT", unit)])) == 1.0


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("mJy/beam", 1e-3),
        ("uJy beam-1", 1e-6),
        ("10**-3 Jy/beam", 1e-3),
        ("Jy/pixel", np.nan),
        ("Jy/sr", np.nan),
        ("K", np.nan),
        ("", np.nan),
        ("Jy/beam.km/s", np.nan),
        ("MJY/BEAM", np.nan),
    ],
)
def test_other_units_are_converted_or_refused(unit, value):
    assert jy_per_beam(fits.Header([("BUNIT", unit)])) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ({"CTYPE3": "FREQ", "CRVAL3": 1.4e9}, 1.4e9),
        ({"CTYPE3": "FREQ", "CRVAL3": 1.4, "CUNIT3": "GHz"}, 1.4e9),
        ({"CTYPE3": "FREQ", "CRVAL3": 1400.0, "CUNIT3": "MHz"}, 1.4e9),
        ({"CTYPE3": "FREQ-LSR", "CRVAL3": 1.4e9}, 1.4e9),
        ({"CTYPE3": "FREQ", "CRVAL3": 1.3e9, "CRPIX3": 0.0, "CDELT3": 1e8, "CUNIT3": ""}, 1.4e9),
        ({"CTYPE3": "FREQ", "CRVAL3": 1.4, "CUNIT3": "furlong"}, np.nan),
        ({"CTYPE3": "VRAD", "CRPIX3": 1.0, "CRVAL3": 3e6, "CUNIT3": "m/s", "RESTFRQ": 1.4e9}, 1.4e9 * (1 - 3e6 / 299792458)),
        ({"CTYPE3": "VOPT", "CRPIX3": 1.0, "CRVAL3": 3e3, "CUNIT3": "km/s", "RESTFRQ": 1.4e9}, 1.4e9 / (1 + 3e6 / 299792458)),
        ({"CTYPE3": "WAVE", "CRPIX3": 1.0, "CRVAL3": 21.0, "CUNIT3": "cm"}, 299792458 / 0.21),
        ({"CTYPE3": "VRAD", "CRPIX3": 1.0, "CRVAL3": 3e6, "CUNIT3": "m/s"}, np.nan),
        ({"RESTFREQ": 1.4e9}, 1.4e9),
        ({"RESTFRQ": 1.4e9}, 1.4e9),
    ],
)
def test_the_frequency_is_in_hz_however_it_is_written(axis, expected):
    assert frequency_hz(fits.Header([("NAXIS", 4), *axis.items()])) == pytest.approx(expected, nan_ok=True)


def test_a_beam_that_is_larger_than_the_image_is_no_beam_in_degrees(tmp_path):
    header = _edited(BMAJ=40.0, BMIN=30.0)
    with pytest.raises(PhotometryError, match=r"beam of 40 deg .* is larger than the whole image"):
        measure_file(images.write(tmp_path, "m", image=header), images.positions())


@pytest.mark.parametrize(("major", "minor"), [(0.25, 0.25), (1e-5, 1e-5), (40 / 3600, 1e-6)])
def test_a_beam_that_the_pixels_cannot_show_is_in_another_unit(tmp_path, major, minor):
    """An image may be larger than its beam of 0.25 deg should be: 0.25 arcsec were meant."""
    header = _edited(BMAJ=major, BMIN=minor, CDELT1=-7.0 / 3600, CDELT2=7.0 / 3600)
    data = np.pad(images.pixels(), 20)
    fits.writeto(tmp_path / "m-image.fits", data, header)
    fits.writeto(tmp_path / "m-noise.fits", np.full(data.shape, 0.001, np.float32), header)
    with pytest.raises(PhotometryError, match=r"m-image.fits.* pixels wide \(BMAJ, BMIN\)"):
        measure_file(tmp_path / "m-image.fits", images.positions())


@pytest.mark.parametrize("beam", [{"BMAJ": 0.008, "BMIN": 0.011}, {"BMAJ": -0.011, "BMIN": -0.008}, {"BMAJ": 0.0, "BMIN": 0.0}])
def test_an_impossible_beam_is_refused_with_the_name_of_the_image(tmp_path, beam):
    with pytest.raises(PhotometryError, match=r"m-image\.fits: its beam .* is impossible"):
        measure_file(images.write(tmp_path, "m", image=_edited(**beam)), images.positions())


WRITTEN_OTHERWISE = [
    {"RADESYS": "icrs"},
    {"RADESYS": "J2000"},
    {"RADESYS": "fk5", "EQUINOX": "J2000"},
    {"RADESYS": None, "EQUINOX": "2000.0"},
    {"CRVAL1": "137.0", "CRPIX1": "61", "CDELT2": f"{images.CELL_ARCSEC / 3600}"},
    {"CTYPE1": "ra---sin", "CTYPE2": "dec--sin"},
    {"BMAJ": "1.11111111D-02"},
    {"BMAJ": None, "BMIN": None, "BPA": None, "CLEANBMJ": 40 / 3600, "CLEANBMN": 30 / 3600, "CLEANBPA": 30.0},
    {"CUNIT1": "arcsec", "CUNIT2": "arcmin", "CRVAL1": 137 * 3600.0, "CDELT1": -7.0, "CRVAL2": 54 * 60.0, "CDELT2": 7 / 60},
]


@pytest.mark.parametrize("values", WRITTEN_OTHERWISE, ids=str)
def test_numbers_and_names_in_another_form_mean_the_same(tmp_path, values):
    """The noise map has the plain header, so that a wrong reading would not fit it."""
    assert_right_fluxes(images.write(tmp_path, "m", image=_edited(**values)))


def test_an_equinox_as_text_is_used(tmp_path):
    """Without it, FK5 means 2000."""
    header = _framed(FK5(equinox="J1975"), "FK5", "J1975.0")
    assert_right_fluxes(images.write(tmp_path, "m", image=header, noise=_framed(FK5(equinox="J1975"), "FK5", 1975.0)))


NEEDED = ("CRVAL1", "CRPIX2", "CDELT1", "PC1_2", "LONPOLE", "EQUINOX", "BMAJ", "BPA")


@pytest.mark.parametrize("value", ["about 3", "", True, fits.card.Undefined()], ids=["words", "nothing", "true", "undefined"])
@pytest.mark.parametrize("key", NEEDED)
def test_what_is_no_number_where_one_decides_is_refused_by_its_keyword(tmp_path, key, value):
    """wcslib takes 0 for it, and the image is measured at another place."""
    header = images.header()
    header[key] = value
    with pytest.raises(PhotometryError, match=rf"m-image\.fits.*{key} is .*a number was expected"):
        measure_file(images.write(tmp_path, "m", image=header, noise=header), images.positions())


@pytest.mark.parametrize(
    ("key", "value"),
    [("CRVAL1", 137.5), ("BMAJ", 0.02), ("BUNIT", "mJy/beam"), ("RADESYS", "FK4"), ("MJD-BEG", 5e4), ("CTYPE1", "RA---TAN")],
)
def test_a_keyword_that_contradicts_itself_is_refused_and_a_repeated_one_is_read(tmp_path, key, value):
    header = images.header()
    header.append((key, header[key]), end=True)
    assert_right_fluxes(images.write(tmp_path, "same", image=header))
    header.append((key, value), end=True)
    with pytest.raises(PhotometryError, match=rf"{key} stands there 2 times, with the values"):
        measure_file(images.write(tmp_path, "m", image=header), images.positions())


def test_a_polynomial_distortion_is_followed(tmp_path):
    """SIP, as optical cameras and some mosaics have it; the truth is astropy's own."""
    header = _edited(CTYPE1="RA---SIN-SIP", CTYPE2="DEC--SIN-SIP")
    header["A_ORDER"], header["B_ORDER"], header["A_2_0"], header["B_0_2"] = 2, 2, 3e-4, 3e-4
    x, y, flux = np.array(images.SOURCES).T
    ra, dec = WCS(header, fix=False).all_pix2world(x + images.N // 2, y + images.N // 2, 0)
    table = images.positions().assign(ra_deg=ra, dec_deg=dec)
    found = measure_file(images.write(tmp_path, "m", image=header, noise=header), table)
    assert found["x_pixel"].to_numpy() == pytest.approx(x + images.N // 2, abs=1e-3)
    assert found["y_pixel"].to_numpy() == pytest.approx(y + images.N // 2, abs=1e-3)
    assert found["flux_jy"].to_numpy() == pytest.approx(flux, rel=0.03), "its pixels, and so its beam here, are up to 5 % wider"


@pytest.mark.parametrize("key", ["CPDIS1", "D2IMDIS2", "CQDIS1"])
def test_a_distortion_in_tables_is_refused(tmp_path, key):
    with pytest.raises(PhotometryError, match=f"{key}: distortion tables are not supported"):
        measure_file(images.write(tmp_path, "m", image=_edited(**{key: "LOOKUP"})), images.positions())


def test_an_image_of_one_value_has_nothing_to_measure(tmp_path):
    with pytest.raises(PhotometryError, match="all its pixels have the value 0 Jy/beam"):
        measure_file(images.write(tmp_path, "m", data=np.zeros((images.N, images.N), np.float32)), images.positions())


@pytest.mark.parametrize(("suffix", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_packed_images_are_measured_and_what_is_cut_off_is_refused(tmp_path, suffix, pack):
    packed = pack(images.write(tmp_path, "m").read_bytes())
    whole, cut = tmp_path / f"whole-image.fits{suffix}", tmp_path / f"cut-image.fits{suffix}"
    whole.write_bytes(packed)
    assert_right_fluxes(whole, noise_path=tmp_path / "m-noise.fits")
    cut.write_bytes(packed[:-3000])
    with pytest.raises(PhotometryError, match="cannot be read"):
        measure_file(cut, images.positions(), noise_path=tmp_path / "m-noise.fits")


def test_a_kind_of_compression_that_is_not_installed_is_named(tmp_path):
    (tmp_path / "m-image.fits.Z").write_bytes(b"\x1f\x9d\x90" + bytes(4000))
    with pytest.raises(PhotometryError, match=r"cannot be read .*LZW"):
        measure_file(tmp_path / "m-image.fits.Z", images.positions())


FOREIGN = {
    "ASKAP": {"CTYPE3": "STOKES", "CRVAL3": 1.0, "CTYPE4": "FREQ", "CRVAL4": 8.875e8, "CUNIT4": "Hz", "RADESYS": "FK5", "EQUINOX": 2000.0,
              "BUNIT": "Jy/beam", "SPECSYS": "TOPOCENT", "TIMESYS": "UTC", "DATE-OBS": "2020-04-18T04:42:11.301310"},
    "MeerKAT": {"CTYPE3": "FREQ", "CRVAL3": 1.28e9, "CTYPE4": "STOKES", "CRVAL4": 1.0, "BUNIT": "JY/BEAM", "EQUINOX": 2000.0, "RADESYS": "FK5",
                "CROTA1": 0.0, "CROTA2": 0.0, "OBSERVER": "x", "DATE-OBS": "2021-05-06", "ORIGIN": "Obit"},
    "LOFAR": {"CTYPE3": "FREQ", "CRVAL3": 1.436e8, "CTYPE4": "STOKES", "CRVAL4": 1.0, "BUNIT": "JY/BEAM", "EQUINOX": 2000.0, "RADESYS": None,
              "WSCVERSI": "3.0", "WSCIMGWG": 1e5, "DATE-OBS": "2018-09-11T21:00:00.1"},
    "VLASS": {"CTYPE3": "FREQ", "CRVAL3": 2.987741489322e9, "CTYPE4": "STOKES", "CRVAL4": 1.0, "BUNIT": "Jy/beam", "RADESYS": "FK5", "EQUINOX": 2000.0,
              "LONPOLE": 180.0, "LATPOLE": 54.0, "PC1_1": 1.0, "PC2_2": 1.0, "OBSGEO-X": -1601185.4, "DATE-OBS": "2019-04-08T06:49:50.425000"},
    "AIPS": {"EPOCH": 2000.0, "RADESYS": None, "EQUINOX": None, "BUNIT": "JY/BEAM", "OBJECT": "C1400P52", "DATE-OBS": "12/05/93", "BLANK": None},
    "CASA": {"RADESYS": "FK5", "EQUINOX": 2000.0, "BTYPE": "Intensity", "BUNIT": "Jy/beam", "PV2_1": 0.0, "PV2_2": 0.0, "VELREF": 257,
             "CASAMBM": False, "DATE-OBS": "2026-03-12T04:55:00.000000"},
}  # fmt: skip
"""Headers as other programs write them; the sky is the same (FK5 of 2000 and ICRS agree to 0.03 arcsec)."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("program", FOREIGN)
def test_the_headers_of_other_surveys_give_the_same_fluxes(tmp_path, program):
    header = images.header()
    for key in ("MJD-BEG", "MJD-END"):
        del header[key]
    for key, value in FOREIGN[program].items():
        if value is None:
            header.remove(key, ignore_missing=True)
        else:
            header[key] = value
    data = images.pixels()
    fits.writeto(tmp_path / "m-image.fits", data[None, None] if "CTYPE3" in header else data, header)
    fits.writeto(tmp_path / "m-noise.fits", np.full_like(data, images.NOISE_JY), images.header())
    assert_right_fluxes(tmp_path / "m-image.fits")


def test_case_17_a_noise_map_is_converted_or_refused_with_the_reason(tmp_path):
    path = images.write(tmp_path, "m")
    noise = tmp_path / "noise.fits"
    fits.writeto(noise, np.full((images.N, images.N), 1.0, np.float32), _edited(BUNIT="mJy/beam"))
    assert assert_right_fluxes(path, noise_path=noise)["noise_jy_per_beam"].to_numpy() == pytest.approx(0.001)
    for header, value, shape, reason in (
        (_edited(CRVAL1=200.0), 0.001, images.N, "not of this part of the sky"),
        (_edited(CRVAL2=54.001), 0.001, images.N, "not of this part of the sky"),
        (_edited(BUNIT="K"), 0.001, images.N, "BUNIT"),
        (_edited(), 0.0, images.N, "no value above 0"),
        (_edited(), -0.001, images.N, "negative"),
        (_edited(), np.nan, images.N, "no value above 0"),
        (_edited(), 0.001, 14, "has shape"),
    ):
        fits.writeto(noise, np.full((shape, shape), value, np.float32), header, overwrite=True)
        with pytest.raises(PhotometryError, match=reason):
            measure_file(path, images.positions(), noise_path=noise)


@pytest.mark.parametrize(
    ("matrix", "mirrored"),
    [((1.0, 0.0, 0.0, 1.0), False), ((0.6, -0.8, 0.8, 0.6), False), ((1.0, 0.0, 0.0, 1.0), True), ((1.0, 0.0, 0.0, 0.85), False)],
    ids=["plain", "turned", "mirrored", "pixels not square"],
)
@pytest.mark.parametrize("projection", ["SIN", "TAN", "ZEA", "ARC", "STG"])
def test_the_beam_follows_the_sky_in_turned_and_mirrored_images_of_any_projection(tmp_path, projection, matrix, mirrored):
    """Sources are drawn on the sky, not on pixels: offsets to the north and east of each."""
    header = _edited(CDELT1=images.CELL_ARCSEC / 3600 * (1 if mirrored else -1))
    header["CTYPE1"], header["CTYPE2"] = f"RA---{projection}", f"DEC--{projection}"
    for key, value in zip(("PC1_1", "PC1_2", "PC2_1", "PC2_2"), matrix, strict=True):
        header[key] = value
    y, x = np.mgrid[: images.N, : images.N]
    ra, dec = WCS(header, fix=False).wcs_pix2world(x, y, 0)
    data = np.random.default_rng(1).normal(0, images.NOISE_JY, ra.shape)
    sky, angle, (major, minor, _) = SkyCoord(ra, dec, unit="deg"), np.radians(images.BEAM_ARCSEC[2]), images.BEAM_ARCSEC
    table = images.positions()
    for one in table.itertuples():
        east, north = (offset.arcsec for offset in SkyCoord(one.ra_deg, one.dec_deg, unit="deg").spherical_offsets_to(sky))
        along, across = north * np.cos(angle) + east * np.sin(angle), east * np.cos(angle) - north * np.sin(angle)
        data += one.true_jy * np.exp(-4 * np.log(2) * ((along / major) ** 2 + (across / minor) ** 2))
    path = images.write(tmp_path, "m", image=header, noise=header, data=data.astype(np.float32))
    found = measure_file(path, table, options=PhotometryOptions(beam_frame="sky"))
    assert found["flux_jy"].to_numpy() == pytest.approx(found["true_jy"].to_numpy(), abs=0.01, rel=0.015)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_case_16_what_is_no_image_is_refused_with_the_true_reason(tmp_path, capsys):
    path = images.write(tmp_path, "m")
    data, header = images.pixels(), images.header()
    (tmp_path / "text-image.fits").write_text("hello")
    (tmp_path / "short-image.fits").write_bytes(path.read_bytes()[:40000])
    fits.writeto(tmp_path / "cube-image.fits", np.stack([data, data]), header)
    fits.PrimaryHDU().writeto(tmp_path / "empty-image.fits")
    fits.HDUList([fits.PrimaryHDU(data, header), fits.ImageHDU(data, header)]).writeto(tmp_path / "two-image.fits")
    fits.writeto(tmp_path / "far-image.fits", data, _edited(CRVAL2=-20.0))
    fits.writeto(tmp_path / "far-noise.fits", np.full_like(data, 0.001), _edited(CRVAL2=-20.0))
    images.positions().to_csv(tmp_path / "p.csv", index=False)
    for name, reason in (
        ("text", "cannot be read"),
        ("short", "cannot be read"),
        ("cube", "cubes are not supported"),
        ("empty", "holds no image"),
        ("two", "holds 2 images"),
        ("far", "none of the 5 positions lies on valid pixels"),
    ):
        arguments = [
            "--image",
            str(tmp_path / f"{name}-image.fits"),
            "--positions",
            str(tmp_path / "p.csv"),
            "--output",
            str(tmp_path / "o.csv"),
        ]
        if name != "far":
            arguments += ["--noise", str(tmp_path / "m-noise.fits")]
        assert run(["photometry", "peak", *arguments]) == 2
        assert reason in capsys.readouterr().err
        assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".parquet", ".vot"])
def test_case_02_the_output_of_one_measurement_is_the_positions_of_the_next(tmp_path, suffix):
    path = images.write(tmp_path, "m")
    images.positions().assign(flux_jy=9.0, flags="old").to_csv(tmp_path / "first.csv", index=False)
    given = tmp_path / "first.csv"
    for number in range(2):
        output = tmp_path / f"measured{number}{suffix}"
        assert run(["photometry", "peak", "--image", str(path), "--positions", str(given), "--output", str(output)]) == 0
        given = output
    table = read_table(given, PositionsError, next_step="")
    assert table["flux_jy"].to_numpy() == pytest.approx(table["true_jy"].to_numpy(), abs=0.01)
    assert table.columns.is_unique


def test_an_output_that_is_an_input_is_refused_under_every_name(tmp_path, capsys):
    path = images.write(tmp_path, "m")
    positions = tmp_path / "p.csv"
    images.positions().to_csv(positions, index=False)
    (tmp_path / "link.csv").symlink_to(positions)
    (tmp_path / "hard.csv").hardlink_to(positions)
    before = positions.read_bytes()
    for output in (positions, tmp_path / "link.csv", tmp_path / "hard.csv", tmp_path / "x" / ".." / "p.csv", path):
        assert run(["photometry", "peak", "--image", str(path), "--positions", str(positions), "--output", str(output)]) == 2
        assert "is also an input" in capsys.readouterr().err
    assert positions.read_bytes() == before
