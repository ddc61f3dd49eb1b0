"""pyuvdata, casacore and CASA read the same values, geometry, metadata and images from an export as from its source."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.apply import apply_calibration
from dsa110_assets.calibration.caltable import CalTable
from dsa110_assets.calibration.casa_child import run_tasks
from dsa110_assets.conversion.export import ExportFormat, ExportReport, export_visibilities
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets_tests.conversion.casa_probe import inspect_with_casa
from dsa110_assets_tests.conversion.conftest import Converted

KINDS = ("raw", "calibrated")
FILES = (ExportFormat.UVH5, ExportFormat.UVFITS)
JD_MINUS_MJD = 2_400_000.5
DATE_TOLERANCE_S = 1e-4
"""Error of Julian dates in double precision (40 microseconds), and of UVFITS's two halves in single precision."""


def unit_gains(ms: Path) -> CalTable:
    """A table of unit gains, which leaves fluxes unchanged."""
    with table(f"{ms}::ANTENNA", ack=False) as antenna, table(f"{ms}::SPECTRAL_WINDOW", ack=False) as window:
        names = tuple(antenna.getcol("NAME"))
        frequency, width = window.getcell("CHAN_FREQ", 0), window.getcell("CHAN_WIDTH", 0)
    shape = (1, len(names), frequency.size, 2)
    return CalTable(
        path=ms.with_name("unit.cal"),
        kind="B Jones",
        time_s=np.array([5.279e9]),
        frequency_hz=frequency,
        width_hz=width,
        window=np.zeros(frequency.size, np.int64),
        gain=np.ones(shape, complex),
        flag=np.zeros(shape, bool),
        snr=np.full(shape, 100.0),
        antenna_names=names,
        refants=(102,),
        declination_deg=None,
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, tiny: Converted, one_source: Converted) -> dict[str, Path]:
    """A raw Measurement Set with noise and flags, and a calibrated one of a 10 Jy source, with some flags of its own.

    Its flags cover whole channels and whole spectra. CASA's imager weights rows by WEIGHT, for which pyuvdata takes the
    median and CASA the sum over the channels. Only with such flags do the two differ by a constant factor.
    """
    calibrated = tmp_path_factory.mktemp("calibrated") / "one.cal.ms"
    apply_calibration(one_source.ms, [unit_gains(one_source.ms)], calibrated, chan_avg=4)
    rng = np.random.default_rng(4)
    with table(str(calibrated), readonly=False, ack=False) as main:
        flag = main.getcol("FLAG")
        flag |= rng.random((flag.shape[0], 1, 2)) < 0.02
        flag[:, 3] = True
        flag[7] = True
        main.putcol("FLAG", flag)
        main.putcol("WEIGHT_SPECTRUM", np.where(flag, 0, main.getcol("WEIGHT_SPECTRUM")).astype(np.float32))
    return {"raw": tiny.ms, "calibrated": calibrated}


@dataclass(frozen=True)
class Exported:
    source: Path
    report: ExportReport

    @property
    def path(self) -> Path:
        return self.report.path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, sources: dict[str, Path]) -> dict[tuple[str, ExportFormat], Exported]:
    directory = tmp_path_factory.mktemp("exported")
    units = {"raw": "uncalib", "calibrated": "Jy"}
    return {
        (kind, file_format): Exported(
            sources[kind],
            export_visibilities(
                sources[kind], directory / f"{kind}.{file_format}", file_format, vis_units=units[kind], history=["exported by a test"]
            ),
        )
        for kind in KINDS
        for file_format in ExportFormat
    }


@pytest.fixture(scope="module")
def in_casa(exported: dict[tuple[str, ExportFormat], Exported]) -> dict[str, Path]:
    """Measurement Sets that CASA's importuvfits makes from the UVFITS files."""
    made = {kind: exported[kind, ExportFormat.UVFITS].path.with_suffix(".imported.ms") for kind in KINDS}
    tasks = [("importuvfits", {"fitsfile": str(exported[kind, ExportFormat.UVFITS].path), "vis": str(made[kind])}) for kind in KINDS]
    run_tasks(tasks, work_dir=next(iter(made.values())).parent, timeout_s=200)
    return made


def read_back(path: Path, **options: Any) -> Any:
    from pyuvdata import UVData

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        uvd = UVData()
        uvd.read(str(path), fix_autos=False, **options)
    return uvd


def columns_of(ms: Path, *names: str) -> list[np.ndarray]:
    with table(str(ms), ack=False) as main:
        return [main.getcol(name) for name in names]


def first_row_of(ms: Path, subtable: str, name: str) -> np.ndarray:
    with table(f"{ms}::{subtable}", ack=False) as one:
        return np.asarray(one.getcell(name, 0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file_format", FILES)
def test_pyuvdata_reads_the_values_of_the_source(exported: dict, kind: str, file_format: ExportFormat) -> None:
    """pyuvdata's baseline is r(ant 2) - r(ant 1); a Measurement Set with ANTENNA1 < ANTENNA2 has the opposite sign."""
    one = exported[kind, file_format]
    uvd = read_back(one.path)
    data, flag, weight, uvw, time, interval, a1, a2 = columns_of(
        one.source, "DATA", "FLAG", "WEIGHT_SPECTRUM", "UVW", "TIME", "EXPOSURE", "ANTENNA1", "ANTENNA2"
    )
    assert np.array_equal(uvd.data_array, np.conj(data))
    assert np.array_equal(uvd.flag_array, flag)
    assert np.array_equal(uvd.nsample_array, weight)
    exact = file_format is ExportFormat.UVH5
    np.testing.assert_allclose(uvd.uvw_array, -uvw, rtol=0, atol=0 if exact else 1e-4)
    np.testing.assert_allclose((uvd.time_array - JD_MINUS_MJD) * 86400, time, rtol=0, atol=DATE_TOLERANCE_S)
    np.testing.assert_allclose(uvd.integration_time, interval, rtol=0 if exact else 1e-7)
    names = np.array(uvd.telescope.antenna_names)
    of_number = dict(zip(uvd.telescope.antenna_numbers.tolist(), names, strict=True))
    assert [of_number[n] for n in uvd.ant_1_array.tolist()] == [str(n + 1) for n in a1]
    assert [of_number[n] for n in uvd.ant_2_array.tolist()] == [str(n + 1) for n in a2]
    with table(f"{one.source}::SPECTRAL_WINDOW", ack=False) as window:
        np.testing.assert_allclose(uvd.freq_array, window.getcell("CHAN_FREQ", 0), rtol=0, atol=0 if exact else 1.0)
        np.testing.assert_allclose(uvd.channel_width, window.getcell("CHAN_WIDTH", 0), rtol=0 if exact else 1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file_format", FILES)
def test_the_metadata_describe_the_telescope(exported: dict, kind: str, file_format: ExportFormat) -> None:
    one = exported[kind, file_format]
    uvd = read_back(one.path)
    telescope = uvd.telescope
    assert (telescope.name, telescope.instrument) == ("OVRO_MMA", "DSA")
    location = telescope.location
    assert location.lat.deg == pytest.approx(37.2334051, abs=1e-9)
    assert location.lon.deg == pytest.approx(-118.283, abs=1e-9)
    assert location.height.to_value("m") == pytest.approx(1188.0519, abs=1e-4)
    with table(f"{one.source}::ANTENNA", ack=False) as antenna:
        assert list(telescope.antenna_names) == antenna.getcol("NAME")
        ours = antenna.getcol("POSITION") - [location.x.value, location.y.value, location.z.value]
        np.testing.assert_allclose(telescope.antenna_positions, ours, rtol=0, atol=1e-6)
        np.testing.assert_allclose(telescope.antenna_diameters, antenna.getcol("DISH_DIAMETER"), rtol=1e-7)
    assert list(uvd.polarization_array) == [-5, -6]
    assert telescope.get_x_orientation_from_feeds() == "north"
    assert uvd.vis_units == {"raw": "uncalib", "calibrated": "Jy"}[kind]
    assert uvd.Nspws == 1
    (center,) = uvd.phase_center_catalog.values()
    assert (center["cat_type"], center["cat_frame"], center["cat_name"]) == ("sidereal", "icrs", "meridian")
    phase = first_row_of(one.source, "FIELD", "PHASE_DIR")[0]
    np.testing.assert_allclose(np.mod([center["cat_lon"], center["cat_lat"]], 2 * np.pi), np.mod(phase, 2 * np.pi), rtol=0, atol=1e-12)
    assert "input sb00" in uvd.history
    assert "exported by a test" in uvd.history
    assert ("UVSCALE" in {key.upper() for key in uvd.extra_keywords}) == (kind == "raw")  # calibrated uvw carry the factor already
    assert ("DSA110_CALIBRATED" in uvd.history.replace("\n", "")) == (kind == "calibrated")


@pytest.mark.parametrize("kind", KINDS)
def test_the_measurement_set_equals_its_source_column_by_column(exported: dict, kind: str) -> None:
    one = exported[kind, ExportFormat.MS]
    names = (
        "DATA", "FLAG", "WEIGHT_SPECTRUM", "UVW", "TIME", "TIME_CENTROID", "INTERVAL", "EXPOSURE", "ANTENNA1", "ANTENNA2", "WEIGHT", "SIGMA",
        "FIELD_ID", "DATA_DESC_ID", "FLAG_ROW",
    )  # fmt: skip
    for name, mine, theirs in zip(names, columns_of(one.source, *names), columns_of(one.path, *names), strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    for subtable, columns in {
        "POINTING": ("TIME", "DIRECTION", "TARGET", "ANTENNA_ID", "INTERVAL"),
        "ANTENNA": ("NAME", "DISH_DIAMETER"),
        "SPECTRAL_WINDOW": ("CHAN_FREQ", "CHAN_WIDTH", "MEAS_FREQ_REF"),
        "POLARIZATION": ("CORR_TYPE",),
        "FIELD": ("NAME",),
        "OBSERVATION": ("TELESCOPE_NAME",),
    }.items():
        with table(f"{one.source}::{subtable}", ack=False) as mine, table(f"{one.path}::{subtable}", ack=False) as theirs:
            for name in columns:
                np.testing.assert_array_equal(mine.getcol(name), theirs.getcol(name), err_msg=f"{subtable}::{name}")
    with table(f"{one.path}::ANTENNA", ack=False) as theirs, table(f"{one.source}::ANTENNA", ack=False) as mine:
        np.testing.assert_allclose(theirs.getcol("POSITION"), mine.getcol("POSITION"), rtol=0, atol=1e-6)
    with table(f"{one.path}::FIELD", ack=False) as field:
        directions = [field.getcell(name, 0) for name in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR")]
        assert {field.getcolkeyword(name, "MEASINFO")["Ref"] for name in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR")} == {"ICRS"}
    for direction in directions:  # pitfall 4
        np.testing.assert_array_equal(direction, first_row_of(one.source, "FIELD", "PHASE_DIR"))
    with table(f"{one.path}::POINTING", ack=False) as pointing:
        assert pointing.getcolkeyword("DIRECTION", "MEASINFO")["Ref"] == "ICRS"
    with table(str(one.path), ack=False) as main:
        assert main.getcolkeyword("TIME", "MEASINFO")["Ref"] == "UTC"
        assert ("DSA110_CALIBRATED" in main.keywordnames()) == (kind == "calibrated")
        assert ("DSA110_APPARENT_SCALE" in main.keywordnames()) == (kind == "raw")


@pytest.mark.parametrize("kind", KINDS)
def test_casas_import_of_the_uvfits_has_the_values_of_the_source(exported: dict, in_casa: dict[str, Path], kind: str) -> None:
    """CASA itself orders antennas as ANTENNA1 < ANTENNA2; the sign of uvw goes with the data."""
    source, made = exported[kind, ExportFormat.UVFITS].source, in_casa[kind]
    names = ("DATA", "FLAG", "UVW", "TIME", "ANTENNA1", "ANTENNA2", "WEIGHT_SPECTRUM")
    with table(str(source), ack=False) as mine, table(str(made), ack=False) as theirs:
        columns = {name: (mine.getcol(name), theirs.getcol(name)) for name in names if name in theirs.colnames()}
    np.testing.assert_array_equal(*columns["ANTENNA1"])
    np.testing.assert_array_equal(*columns["ANTENNA2"])
    np.testing.assert_array_equal(*columns["FLAG"])
    good = ~columns["FLAG"][0]
    np.testing.assert_array_equal(columns["DATA"][0][good], columns["DATA"][1][good])
    np.testing.assert_allclose(*columns["UVW"], rtol=0, atol=5e-4)  # single precision
    np.testing.assert_allclose(*columns["TIME"], rtol=0, atol=DATE_TOLERANCE_S)
    for subtable, name in (("SPECTRAL_WINDOW", "CHAN_FREQ"), ("FIELD", "PHASE_DIR")):
        mine, theirs = first_row_of(source, subtable, name), first_row_of(made, subtable, name)
        if name == "PHASE_DIR":
            mine, theirs = np.mod(mine, 2 * np.pi), np.mod(theirs, 2 * np.pi)
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)
    with table(f"{made}::FIELD", ack=False) as field:
        # importuvfits does not know ICRS; it keeps the numbers
        assert field.getcolkeyword("PHASE_DIR", "MEASINFO")["Ref"] == "J2000"
    assert first_row_of(made, "SPECTRAL_WINDOW", "MEAS_FREQ_REF") == first_row_of(source, "SPECTRAL_WINDOW", "MEAS_FREQ_REF")
    with table(str(made), ack=False) as theirs:
        assert theirs.getcolkeyword("TIME", "MEASINFO")["Ref"] == "UTC"
    with table(f"{made}::ANTENNA", ack=False) as antenna, table(f"{source}::ANTENNA", ack=False) as mine:
        used = np.unique(columns["ANTENNA1"][0])
        # UVFITS rotates stations to the local meridian (AIPS memo 117); CASA rotates them back only for the VLA
        site = first_row_of(source, "OBSERVATION", "TELESCOPE_LOCATION")
        longitude = np.arctan2(site[1], site[0])
        back = np.array([[np.cos(longitude), -np.sin(longitude), 0], [np.sin(longitude), np.cos(longitude), 0], [0, 0, 1]])
        rotated = (antenna.getcol("POSITION")[used] - site) @ back.T
        np.testing.assert_allclose(rotated, mine.getcol("POSITION")[used] - site, rtol=0, atol=1e-3)
        assert [antenna.getcol("STATION")[n] for n in used] == [str(n + 1) for n in used]


def test_casa_reads_the_measurement_set_without_warnings(exported: dict) -> None:
    one = exported["calibrated", ExportFormat.MS]
    casa = inspect_with_casa(one.path)
    assert casa["warnings"] == []
    assert casa["known"]
    assert casa["names"] == [str(n + 1) for n in range(117)]
    assert casa["frame"] == "ICRS"
    assert casa["phase_rad"] == casa["reference_rad"]
    assert casa["corr_types"] == [9, 12]
    assert casa["worst_uvw"] < 1.2e-4  # calibrated uvw carry the scale of annual aberration, which is up to 1e-4


def test_images_of_all_exports_have_the_fluxes_of_the_source(exported: dict, in_casa: dict[str, Path], tmp_path: Path) -> None:
    """CASA's imager on the source, the exported set, the imported UVFITS, and a set that pyuvdata made from UVH5."""
    from_uvh5 = tmp_path / "uvh5.ms"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        read_back(exported["calibrated", ExportFormat.UVH5].path).write_ms(str(from_uvh5))
    one = exported["calibrated", ExportFormat.MS]
    sets = {"source": one.source, "ms": one.path, "uvfits": in_casa["calibrated"], "uvh5": from_uvh5}
    common = {
        "datacolumn": "data", "imsize": 256, "cell": "20arcsec", "niter": 0, "weighting": "natural", "gridder": "standard", "specmode": "mfs",
        "stokes": "I", "pblimit": -0.1,
    }  # fmt: skip
    tasks: list[tuple[str, dict[str, Any]]] = []
    for name, ms in sets.items():
        tasks.append(("tclean", {"vis": str(ms), "imagename": str(tmp_path / name), **common}))
        tasks.append(("exportfits", {"imagename": str(tmp_path / f"{name}.residual"), "fitsimage": str(tmp_path / f"{name}.fits")}))
    run_tasks(tasks, work_dir=tmp_path, timeout_s=400)
    from astropy.io import fits

    images = {name: fits.getdata(tmp_path / f"{name}.fits").squeeze() for name in sets}
    peak = images["source"].max()
    with table(str(one.source), ack=False) as main:
        assert peak == pytest.approx(np.abs(main.getcol("DATA"))[~main.getcol("FLAG")].mean(), rel=0.05)  # the one source
    for name, image in images.items():
        assert np.abs(image - images["source"]).max() < 1e-5 * peak, name


def test_the_platform_reads_an_exported_set_like_its_source(exported: dict) -> None:
    from dsa110_assets.common.measurement_sets import CALIBRATED_KEYWORD, read_tile_pointing

    one = exported["calibrated", ExportFormat.MS]
    mine, theirs = read_tile_pointing(one.source), read_tile_pointing(one.path)
    np.testing.assert_array_equal(mine.ra_deg, theirs.ra_deg)
    np.testing.assert_array_equal(mine.dec_deg, theirs.dec_deg)
    with table(str(one.path), ack=False) as main:
        assert json.loads(main.getkeyword(CALIBRATED_KEYWORD))["channels_averaged"] == 4


@pytest.mark.parametrize("file_format", ExportFormat)
def test_the_report_counts_what_was_written(exported: dict, file_format: ExportFormat) -> None:
    one = exported["raw", file_format]
    (flag,) = columns_of(one.source, "FLAG")
    assert (one.report.n_times, one.report.n_baselines, one.report.n_channels) == (6, 36, 64)
    assert one.report.flagged_fraction == pytest.approx(flag.mean())
    assert one.report.n_bytes > flag.size * 8


@pytest.mark.parametrize("file_format", FILES)
def test_an_export_that_reads_back_differently_is_not_accepted(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: ExportFormat
) -> None:
    """Uses the real writer, and changes the uvw just before it writes."""
    from pyuvdata import UVData

    name = f"write_{file_format}"
    write = getattr(UVData, name)

    def write_other_uvw(self: Any, *arguments: Any, **options: Any) -> None:
        self.uvw_array = self.uvw_array.copy()
        whole, self.uvw_array = self.uvw_array, -self.uvw_array
        write(self, *arguments, **options)
        self.uvw_array = whole

    monkeypatch.setattr(UVData, name, write_other_uvw)
    with pytest.raises(ProductVerificationError, match="uvw differ from the source"):
        export_visibilities(sources["raw"], tmp_path / "out", file_format, vis_units="uncalib")
