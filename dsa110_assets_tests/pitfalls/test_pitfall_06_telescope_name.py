"""Pitfall 6: CASA knows ``OVRO_MMA``; an unknown name silently selects another beam, or none."""

from __future__ import annotations

from pathlib import Path

from dsa110_assets.config import PipelineConfig
from dsa110_assets.conversion import convert_observation
from dsa110_assets_tests.conversion.casa_probe import inspect_with_casa
from dsa110_assets_tests.conversion.minimal_raw import write_raw


def test_pitfall_06_casa_knows_the_observatory(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "2025-11-20T06:00:01_sb00.hdf5", 0, start_jd=2461000.75, dec_rad=0.953, telescope_name="DSA_110")
    name = PipelineConfig.model_fields["telescope_name"].default
    convert_observation({0: path}, tmp_path / "a.ms", expected_subbands=1, flag_rfi=False, telescope_name=name)
    casa = inspect_with_casa(tmp_path / "a.ms")
    assert casa["observatory"] == ["OVRO_MMA"]
    assert casa["known"]


def test_pitfall_06_the_measurement_set_has_the_requested_name(tmp_path: Path) -> None:
    from casacore.tables import table

    path = write_raw(tmp_path / "2025-11-20T06:00:01_sb00.hdf5", 0, start_jd=2461000.75, dec_rad=0.953)
    convert_observation({0: path}, tmp_path / "a.ms", expected_subbands=1, flag_rfi=False, telescope_name="DSA_110")
    with table(str(tmp_path / "a.ms::OBSERVATION"), ack=False) as observation:
        assert observation.getcol("TELESCOPE_NAME") == ["DSA_110"]
