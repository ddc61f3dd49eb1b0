"""The default settings keep a year of nights on a disk of 20 TB, and a disk that will be full is announced."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta

import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.queries import storage
from dsa110_assets.registry.schema import StoredPart
from dsa110_assets.stages.operations import alerts, disk, retiring
from dsa110_assets.stages.operations.disk import Kept, days_until_full
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.table import TABLE

PLANE = 4096 * 4096 * 4
VISIBILITIES = 4656 * 24 * 768 * 2
"""Of a full tile: baselines, integrations, channels, polarizations."""
STRIP_PLANE = 415_000 * 4096 * 4
"""24 hours at declination 16, 3 arcsec."""
HOUR_PLANE = 21_400 * 4096 * 4
TILES = 280
PER_NIGHT = {
    "measurement_sets": TILES * VISIBILITIES * 12.13,  # DATA, weights, flags: 2.08 GB; measured 2.09
    "calibrated_sets": TILES * VISIBILITIES * 12.13 / 3,
    "working_planes": TILES * 4 * PLANE,
    "mosaic_planes": TILES * 3 * PLANE,
    "tile_maps": TILES * 2 * PLANE,
    "mosaic_maps": 24 * 3 * HOUR_PLANE + 3 * STRIP_PLANE,
    "hourly_images": 24 * HOUR_PLANE,
    "nightly_images": STRIP_PLANE,
    "custom_mosaics": 0.0,
    "night_reports": 50e6,
}
"""Bytes of a night by rule at full size, as in `docs/operators/capacity.md`."""


@pytest.fixture
def platform(registry_config, database) -> Platform:
    return Platform.open(registry_config)


def _largest_tb(platform: Platform, nights: int) -> float:
    """Most bytes on disk in the first nights, in TB: each night is made, then the rules remove what is due."""
    first, on_disk, largest = datetime(2026, 1, 1, 15, tzinfo=UTC), 0.0, 0.0
    owner = {part.rule: row.name for row in TABLE for part in row.parts}
    for number in range(nights):
        now = first + timedelta(days=number)
        with platform.database.session() as session:
            for rule, size in PER_NIGHT.items():
                session.add(StoredPart(product=owner[rule], key=f"{now:%Y-%m-%d}", rule=rule, path="/x", size_bytes=int(size), made_at=now))
        on_disk += sum(PER_NIGHT.values())
        largest = max(largest, on_disk)
        due = retiring.due(platform, now)
        with platform.database.session() as session:
            for part in due:
                storage.mark_part(session, part, retired_at=now)
        on_disk -= sum(part.size_bytes for part in due)
    return largest / 1e12


def test_the_defaults_keep_a_year_of_full_nights_on_20_tb(platform: Platform) -> None:
    assert set(PER_NIGHT) == set(retiring.rules(platform.config)), "every rule has a size"
    assert 10 < _largest_tb(platform, 365) < 18, "two TB are left for the registry, previews and other files"


def test_without_rules_the_same_disk_is_full_in_three_weeks(platform: Platform) -> None:
    forever = {part.setting: 0.0 for row in TABLE for part in row.parts}
    kept = Platform(platform.config.model_copy(update=forever), platform.paths, platform.database)
    assert _largest_tb(kept, 21) > 20


def test_the_forecast_agrees_with_the_day_on_which_the_disk_is_full() -> None:
    today = date(2026, 3, 1)
    assert days_until_full(10.5, [Kept(0, 1.0, {})], today) == 11
    assert days_until_full(10.5, [Kept(5, 1.0, {})], today) is None, "five days of products fit"
    assert days_until_full(4.5, [Kept(5, 1.0, {})], today) == 5
    history = {today - timedelta(days=age): 1.0 for age in range(30)}
    assert days_until_full(0.5, [Kept(5, 1.0, history)], today) is None, "as much is removed as is made"
    assert days_until_full(0.5, [Kept(0, 1.0, history)], today) == 1
    assert days_until_full(0.5, [Kept(5, 1.0, history), Kept(0, 0.1, {})], today) > 5


def test_an_alert_names_the_disk_that_will_be_full(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(platform.paths.scratch_dir).free - platform.config.min_free_gib * disk.GIB
    now = datetime.now(UTC)
    with platform.database.session() as session:
        for age in range(1, 8):
            made = now - timedelta(days=age)
            session.add(StoredPart(product="hourly_mosaic", key=str(age), rule="hourly_images", path="/x", size_bytes=int(free / 9.5), made_at=made))  # fmt: skip
    found = [alert for alert in alerts.conditions(platform, now) if alert.key.startswith("disk-fills/")]
    assert ["about 10 days" in alert.title for alert in found] == [True]
    patient = Platform(PipelineConfig(**{**platform.config.model_dump(), "alert_disk_days": 5.0}), platform.paths, platform.database)
    assert not [alert for alert in alerts.conditions(patient, now) if alert.key.startswith("disk-fills/")]
