"""The table of products defines a product; everything else follows from it."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

import dsa110_assets
from dsa110_assets.cli import reference
from dsa110_assets.definitions import build_defs
from dsa110_assets.folders import Folder
from dsa110_assets.orchestration import assets
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.schema import GroupState
from dsa110_assets.stages.operations import backfill, staleness
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level, Product, Recipe, Table, Within
from dsa110_assets.stages.provenance.recording import Measured, StageResult
from dsa110_assets.stages.provenance.versions import register
from dsa110_assets.stages.table import LIGHT_CURVES, TABLE
from dsa110_assets_tests.registry_fixture import add_observation

PACKAGE = Path(dsa110_assets.__file__).parent
MOST_FILES = 4
NIGHT = "2026-03-12"


def stage_of_the_test(platform: Platform, night: str, run_id: str) -> StageResult:
    """The stage of an added product."""
    result = StageResult("night_summary", night, figures={"sources": 3})
    with platform.database.session() as session:
        return register(session, platform, result, path=None, inputs={}, cost=Measured(), run_id=run_id)


@pytest.fixture
def row(tmp_path: Path) -> Product:
    """The row and the description of an added product."""
    (tmp_path / "night_summary.md").write_text("A summary of the night.\n")
    return Product(
        "night_summary",
        Level.NIGHT,
        "night",
        f"{__name__}:stage_of_the_test",
        inputs=(LIGHT_CURVES,),
        recipe=Recipe(("variability.indices",), ("ese_threshold_sigma",)),
        job="summaries",
        pool="cpu",
        folder=Folder.VARIABILITY,
        kinds=frozenset({"postgres"}),
        freshness=Within(26, 50),
        described_in=tmp_path,
    )


@pytest.fixture
def platform(registry_config, database) -> Platform:
    return Platform.open(registry_config)


def test_a_row_a_stage_and_a_description_make_a_product(row: Product, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has an asset with metadata and a job; it can become stale, and a backfill makes it again."""
    monkeypatch.setattr(assets, "RETRY", None)
    with TABLE.also(row), dg.DagsterInstance.ephemeral() as instance:
        definitions = build_defs(platform.config)
        dg.Definitions.validate_loadable(definitions)
        job = definitions.resolve_job_def("summaries")
        result = job.execute_in_process(instance=instance, partition_key=NIGHT)
        assert [event.asset_key for event in result.get_asset_materialization_events()] == [dg.AssetKey("night_summary")]

        node = definitions.resolve_asset_graph().get(dg.AssetKey("night_summary"))
        assert node.description == "A summary of the night."
        assert node.tags["dsa110/level"] == "night"
        assert node.pools == {"cpu"}
        assert node.freshness_policy is not None
        assert node.parent_keys == {dg.AssetKey("light_curves")}
        assert node.metadata["data"].path == str(platform.paths.folder(Folder.VARIABILITY))
        assert node.metadata["settings that it reads"] == "PIPELINE_ESE_THRESHOLD_SIGMA"

        with platform.database.session() as session:
            add_observation(session, f"{NIGHT}T05:03:21", state=GroupState.COMPLETED)
            version = current_version(session, "night_summary", NIGHT)
            assert version is not None
            assert version.code_version == node.code_version
        assert staleness.stale_partitions(platform) == []
        changed = Platform(platform.config.model_copy(update={"ese_threshold_sigma": 9.0}), platform.paths, platform.database)
        assert [(one.asset, one.partition) for one in staleness.stale_partitions(changed)] == [("night_summary", NIGHT)]
        assert backfill.plan(changed, only_stale=True).partitions == {"night_summary": (NIGHT,)}
        assert backfill.plan(platform, date.fromisoformat(NIGHT), start="night_summary").partitions == {"night_summary": (NIGHT,)}
        assert "## night_summary" in reference.products()
    assert "night_summary" not in TABLE


def test_a_row_needs_a_new_name_and_existing_inputs() -> None:
    table = Table()
    first = table.add(Product("first", Level.NIGHT, "night", None))
    with pytest.raises(ValueError, match="first: the table has a product of this name"):
        table.add(Product("first", Level.NIGHT, "night", None))
    with pytest.raises(ValueError, match="add them before it"):
        table.add(Product("third", Level.NIGHT, "night", None, inputs=(first, Product("second", Level.NIGHT, "night", None))))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_row_has_a_description_a_page_and_a_stage_with_the_right_parameters(row: Product) -> None:
    assert len(row.description()) > 20
    assert (PACKAGE.parent / "docs" / f"{row.page}.md").is_file()
    if row.is_made:
        expected = {
            Level.TILE: ["platform", "run"],
            Level.HOUR: ["platform", "night", "hour", "run_id"],
            Level.NIGHT: ["platform", "night", "run_id"],
        }
        assert list(inspect.signature(row.function()).parameters) == expected.get(row.level, ["platform", "run_id"])


def test_every_description_belongs_to_a_row() -> None:
    assert {file.stem for file in (PACKAGE / "stages" / "descriptions").iterdir()} == {row.name for row in TABLE}


def literals(file: Path) -> Iterator[str]:
    return (node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_the_name_of_a_product_is_a_literal_in_few_files() -> None:
    """In the table, and where a table of the registry, a state of the queue or a function has the same name."""
    found: dict[str, set[str]] = {row.name: set() for row in TABLE}
    for file in PACKAGE.rglob("*.py"):
        for text in literals(file) if "migrations" not in file.parts else ():  # they do not change with the table
            if text in found:
                found[text].add(str(file.relative_to(PACKAGE)))
    assert all("stages/table.py" in files for files in found.values())
    assert {name: files for name, files in found.items() if len(files) > MOST_FILES} == {}, (
        "use the name of the row, such as TILE_IMAGE.name"
    )


NOT_IN_A_PRODUCT = {
    "_TREND_NIGHTS": "rows shown in the UI",
    "MEASURED_AT_ONCE": "size of a batch",
    "SEEN_AT_ONCE": "size of a batch",
    "OWN_TABLES_WITHIN": "words of a verdict, and when it alerts",
    "NEWEST_TILES": "how far back a figure of an alert is looked for",
    "_HALF_TILE_DEG": "planning by hand",
    "_MAX_DECLINATION_DISTANCE_DEG": "planning by hand",
}


def test_no_stage_has_a_number_that_decides_a_product() -> None:
    """The code digest leaves stages out, so such numbers belong to the domain, where a change makes products stale."""
    found = {
        target.id
        for file in (PACKAGE / "stages" / "products").glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign)
        and any(isinstance(part, ast.Constant) and type(part.value) in (int, float) for part in ast.walk(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert found == set(NOT_IN_A_PRODUCT), "move it to a domain module that the recipe names, or say here what it is for"


def test_the_table_imports_the_standard_library_only() -> None:
    code = (
        "import json, sys; import dsa110_assets.stages.table; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    found = subprocess.run([sys.executable, "-I", "-S", "-c", f"sys = __import__('sys'); sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"], capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert {name for name in json.loads(found) if name not in sys.stdlib_module_names} <= {"dsa110_assets", "__main__"}


def test_staging_is_swept_in_every_folder_of_products(tmp_path: Path) -> None:
    paths = ProductPaths(tmp_path / "ms", tmp_path / "scratch", tmp_path / "state")
    for folder in Folder:
        paths.folder(folder).mkdir(parents=True)
    roots = paths.staging_roots()
    assert set(roots) == {paths.folder(row.folder) for row in TABLE if row.folder is not None}
    group_id = f"{NIGHT}T05:03:21"
    places = [
        paths.measurement_set(group_id), paths.calibrated_ms(group_id), paths.calibration_dir(group_id), paths.image_dir(group_id), paths.mosaic_dir("m"),
        paths.mosaic_plan("m"), paths.injection_dir(NIGHT), paths.candidate_dir(NIGHT, 1), paths.variability_dir(NIGHT), paths.catalogs_dir / "nvss.parquet",
    ]  # fmt: skip
    assert all(any(place.is_relative_to(root) for root in roots) for place in places)
