"""A product says the same when it is made twice, and something else when any value of it changes.

One night with every product of the table is made once; each product is then made again on trial.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from dsa110_assets import content
from dsa110_assets.folders import Folder
from dsa110_assets.registry.provenance import current_version, stale
from dsa110_assets.registry.schema import Base, ProductVersion
from dsa110_assets.stages.operations.trials import make_on_trial
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.mosaics import build_mosaic, plan_mosaic
from dsa110_assets.stages.products.tile import make_measurement_set
from dsa110_assets.stages.provenance.contents import agrees, parts_of
from dsa110_assets.stages.provenance.recipes import recipes
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.stages.table import TABLE
from dsa110_assets_tests.changed_values import CHANGES, change_one_value
from dsa110_assets_tests.same.night import Night

pytestmark = pytest.mark.timeout(1800)  # the first test makes the night, about a minute on one quiet core
BEGINS = datetime(2026, 3, 12, tzinfo=UTC)
PRODUCTS = [row.name for row in TABLE.with_recipe() if row.rows is not None or row.folder is not None]


@pytest.fixture(scope="module")
def night() -> Iterator[Platform]:
    """A platform with one of each product."""
    with tempfile.TemporaryDirectory(prefix="dsa110-content-") as folder:
        Path(folder).chmod(0o755)
        with Night(Path(folder) / "night") as made:
            platform = made.platform
            build_mosaic(platform, plan_mosaic(platform, "on_demand", BEGINS, BEGINS + timedelta(days=1)), "content")
            yield platform


def _version(platform: Platform, product: str) -> ProductVersion:
    with platform.database.session() as session:
        version = session.query(ProductVersion).filter_by(product=product).order_by(ProductVersion.key).first()
    assert version is not None
    return version


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_product_made_twice_says_the_same(night: Platform, product: str) -> None:
    version = _version(night, product)
    assert make_on_trial(night, product, version.key).differs == ()
    with night.database.session() as session:
        current = current_version(session, product, version.key)
        assert current is not None
        assert current.version_id == version.version_id, "a trial registers nothing"
        assert agrees(session, version), "a trial touches nothing"
    assert not list(night.paths.folder(Folder.IMAGES).rglob("trial-*"))


@pytest.mark.parametrize("product", [name for name in PRODUCTS if TABLE[name].folder is not None])
def test_any_changed_value_of_its_files_is_named(night: Platform, product: str, tmp_path: Path) -> None:
    path = Path(str(_version(night, product).path))
    before = content.parts(path)
    tables = sorted(one.parent for one in path.rglob("table.dat") if not (one.parent.parent / "table.dat").is_file())
    plain = sorted(one for one in path.rglob("*") if one.is_file() and not any(one.is_relative_to(table) for table in tables))
    chosen = tables + plain if path.is_dir() else [path]
    for number, one in enumerate(chosen):
        assert one.is_dir() or one.suffix in CHANGES, f"{one.name}: nobody knows how to change it"
        copy = tmp_path / f"{number}" / path.name
        copy.parent.mkdir()
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
        changed = change_one_value(copy / one.relative_to(path), np.random.default_rng(number))
        (named,) = content.differences(before, content.parts(copy))
        assert changed in named, (one.name, changed, named)
        shutil.rmtree(copy.parent)


@pytest.mark.parametrize("product", [name for name in PRODUCTS if TABLE[name].rows is not None])
def test_any_changed_value_of_its_rows_is_named(night: Platform, product: str) -> None:
    version = _version(night, product)
    read = TABLE[product].rows_function()
    assert read is not None
    with night.database.trial() as database, database.session() as session:
        before = parts_of(session, product, version.key, None)
        tables = read(session, version.key)
        assert any(len(frame) for frame in tables.values())
        for name, frame in tables.items():
            keys = {"key", *(column.name for column in Base.metadata.tables[name].primary_key)}
            for column in set(frame.columns) - keys if len(frame) else ():
                with session.begin_nested() as savepoint:
                    changed = {"b": f"NOT {column}", "O": f"coalesce({column}, '') || 'x'"}.get(
                        frame[column].dtype.kind, f"coalesce({column}, 0) + 1"
                    )
                    session.execute(text(f"UPDATE {name} SET {column} = {changed}"))
                    assert content.differences(before, parts_of(session, product, version.key, None)) == [f"registry {name} {column}"]
                    savepoint.rollback()


def test_a_measurement_set_made_again_makes_nothing_stale(night: Platform) -> None:
    version = _version(night, "measurement_set")
    make_measurement_set(night, TileRun(version.key, "again"))
    with night.database.session() as session:
        again = current_version(session, "measurement_set", version.key)
        assert again is not None
        assert again.version_id > version.version_id
        assert again.checksum == version.checksum
        assert stale(session, recipes(night.config), growing=TABLE.growing()) == []
