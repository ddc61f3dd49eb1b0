"""The simulator's visibilities equal pyuvsim's, fringe-stopped to the meridian by pyuvdata."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, SkyCoord
from astropy.time import Time

from dsa110_assets.simulation.array import ArrayLayout
from dsa110_assets.simulation.band import BandPlan
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import Sky
from dsa110_assets.simulation.tile import simulate_tile

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:pyuvdata.*", "ignore::UserWarning:pyuvsim.*", "ignore::UserWarning:pyradiosky.*"
)

START_MJD = 61_107.2
SITE_LATITUDE_DEG = 37.2334051
ANTENNAS = (30, 102, 3, 50, 115, 107)  # numbers; not monotonic, with a 2.4 km baseline
SUBBAND = 5


def a_few_sources(declination_deg: float) -> Sky:
    lst_deg = local_sidereal_time_deg(START_MJD)
    offsets = np.array([[0.0, 0.0], [0.9, 0.4], [-1.3, -0.7], [0.2, 1.8]])
    return Sky(
        ("A", "B", "C", "D"),
        np.mod(lst_deg + offsets[:, 0] / np.cos(np.radians(declination_deg)), 360),
        declination_deg + offsets[:, 1],
        np.array([8.0, 2.0, 1.0, 4.0]),
        np.array([-0.7, 0.0, -1.2, 0.5]),
    )


def read(files, subband=SUBBAND):
    from pyuvdata import UVData

    # the correlator's float32 uvw_array does not pass pyuvdata's type check, nor does that of real files
    return UVData.from_file(files[subband], file_type="uvh5", run_check=False)


def attenuated_by_pyuvdata_airy(sky: Sky, uvd, declination_deg: float) -> np.ndarray:
    """Apparent fluxes (Ntimes, Nfreqs, Nsources) with pyuvdata's Airy beam around the meridian point."""
    from pyuvdata import AiryBeam

    beam = AiryBeam(diameter=4.65, feed_array=["x", "y"], mount_type="fixed")
    times = Time(np.unique(uvd.time_array), format="jd")
    where = SkyCoord(sky.ra_deg * u.deg, sky.dec_deg * u.deg)
    axis_az, axis_alt = (0.0 if declination_deg > SITE_LATITUDE_DEG else 180.0), 90 - abs(SITE_LATITUDE_DEG - declination_deg)
    flux = np.empty((len(times), uvd.Nfreqs, len(sky)))
    for i, time in enumerate(times):
        frame = AltAz(obstime=time, location=uvd.telescope.location, pressure=0 * u.hPa)
        separation = where.transform_to(frame).separation(SkyCoord(axis_az * u.deg, axis_alt * u.deg, frame=frame))
        response = beam.power_eval(az_array=np.zeros(len(sky)), za_array=separation.rad, freq_array=uvd.freq_array)[0, 0].real
        flux[i] = response * sky.flux_jy * (uvd.freq_array[:, np.newaxis] / 1.4e9) ** sky.spectral_index
    return flux


def pyuvsim_visibilities(sky: Sky, uvd, declination_deg: float) -> np.ndarray:
    """pyuvsim's unprojected visibilities (Nblts, Nfreqs) of XX; fluxes include the beam, the antennas are isotropic."""
    from pyradiosky import SkyModel
    from pyuvdata import UniformBeam
    from pyuvsim.antenna import Antenna
    from pyuvsim.baseline import Baseline
    from pyuvsim.telescope import BeamList, Telescope
    from pyuvsim.uvsim import UVEngine, UVTask

    flux = attenuated_by_pyuvdata_airy(sky, uvd, declination_deg)
    beams = BeamList([UniformBeam(feed_array=["x", "y"], mount_type="fixed")], beam_type="efield")
    telescope = Telescope("DSA-110", uvd.telescope.location, beams)
    enu = uvd.telescope.get_enu_antpos()
    antennas = {int(n): Antenna(str(n), int(n), enu[n], 0) for n in ANTENNAS}
    baselines = {(a, b): Baseline(antennas[a], antennas[b]) for a in ANTENNAS for b in ANTENNAS}
    out = np.empty((uvd.Nblts, uvd.Nfreqs), dtype=complex)
    times = np.unique(uvd.time_array)
    for t, jd in enumerate(times):
        for f, hz in enumerate(uvd.freq_array):
            stokes = np.zeros((4, 1, len(sky))) * u.Jy
            stokes[0, 0] = 2 * flux[t, f] * u.Jy  # pyuvsim's XX is half of Stokes I
            sky_model = SkyModel(
                name=np.array(sky.names),
                skycoord=SkyCoord(sky.ra_deg * u.deg, sky.dec_deg * u.deg, frame="icrs"),
                stokes=stokes,
                spectral_type="flat",
                component_type="point",
            )
            engine = UVEngine()
            for row in np.flatnonzero(uvd.time_array == jd):
                pair = (int(uvd.ant_1_array[row]), int(uvd.ant_2_array[row]))
                engine.set_task(UVTask(sky_model, Time(jd, format="jd"), hz * u.Hz, baselines[pair], telescope))
                out[row, f] = engine.make_visibility()[0]
    return out


@pytest.mark.parametrize("declination_deg", [54.6, 16.3, SITE_LATITUDE_DEG, 65.7])
def test_visibilities_equal_pyuvsim(tmp_path, declination_deg):
    sky = a_few_sources(declination_deg)
    files = simulate_tile(
        tmp_path,
        start_mjd=START_MJD,
        declination_deg=declination_deg,
        sky=sky,
        array=ArrayLayout(ANTENNAS),
        band=BandPlan(3),
        seed=1,
        n_integrations=2,
        noise=False,
        receivers=Receivers.perfect(),
        subbands=[SUBBAND],
    )
    ours = read(files, 0)
    theirs = ours.copy()
    theirs.data_array = np.repeat(pyuvsim_visibilities(sky, ours, declination_deg)[..., np.newaxis], 2, axis=2).astype(np.complex128)
    theirs.set_uvws_from_antenna_positions()
    azimuth, elevation = (
        (0.0 if declination_deg > SITE_LATITUDE_DEG else np.pi),
        np.pi / 2 - abs(np.radians(SITE_LATITUDE_DEG - declination_deg)),
    )
    theirs.phase(lon=azimuth, lat=elevation, cat_type="driftscan", cat_name="meridian", phase_frame="altaz")
    scale = np.abs(theirs.data_array).max()
    assert scale > 5.0
    np.testing.assert_allclose(ours.data_array, theirs.data_array, atol=1e-4 * scale, rtol=0)
    # the header's single-precision uvw belong to the meridian
    np.testing.assert_allclose(ours.uvw_array, theirs.uvw_array, atol=2e-4)


def test_pyuvdata_phases_a_source_to_zero_phase_over_a_whole_tile(tmp_path):
    """Uses pyuvdata's own apparent positions (ERFA), from 24 meridian centers to one ICRS position."""
    lst_deg = local_sidereal_time_deg(START_MJD + 150 / 86_400)
    ra_deg, dec_deg = (lst_deg + 0.8) % 360, 55.2
    sky = Sky(("S",), np.array([ra_deg]), np.array([dec_deg]), np.array([1.0]), np.array([0.0]))
    files = simulate_tile(
        tmp_path,
        start_mjd=START_MJD,
        declination_deg=54.6,
        sky=sky,
        array=ArrayLayout(ANTENNAS),
        band=BandPlan(2),
        seed=1,
        noise=False,
        receivers=Receivers.perfect(),
        subbands=[0],
    )
    data = read(files, 0)
    data.data_array = data.data_array.astype(np.complex128)
    data.set_uvws_from_antenna_positions()  # they are of the zenith; the data are at the meridian, so bring the phases there first
    elevation = np.pi / 2 - np.radians(54.6 - SITE_LATITUDE_DEG)
    visibilities = data.data_array.copy()
    data.phase(lon=0.0, lat=elevation, cat_type="driftscan", cat_name="meridian", phase_frame="altaz")
    data.data_array = visibilities
    data.phase(lon=np.radians(ra_deg), lat=np.radians(dec_deg), cat_name="S", phase_frame="icrs")
    phase_rad = np.angle(data.data_array)
    longest_wavelengths = np.abs(data.uvw_array).max() / 0.2
    assert longest_wavelengths > 9_000
    assert np.abs(phase_rad).max() / (2 * np.pi * longest_wavelengths) < np.radians(0.01 / 3600)  # a position within 0.01 arcsec
    assert np.abs(phase_rad).max() < 3e-3
