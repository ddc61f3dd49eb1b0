"""The code and the settings that decide the content of a product are declared completely, and nothing else."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.products.combining import combine
from dsa110_assets.stages.provenance import recipes, source_digest
from dsa110_assets.stages.table import CUSTOM_MOSAIC, HOURLY_MOSAIC, TABLE

DOWNSTREAM_OF_CLEAN = {"tile_image", "injection_recovery"}
PRODUCTS = [row.name for row in TABLE.with_recipe()]
COMPUTED_BY = {HOURLY_MOSAIC: combine, CUSTOM_MOSAIC: combine}
"""Stages that leave the work to a function of another module. A nightly mosaic does so too, without the channels."""


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Change a module's source for the recipes only; return the code versions of all products afterwards."""
    modules = dict(source_digest._modules())
    caches = (source_digest._source, recipes._code)

    def edit(name: str, change) -> dict[str, str]:
        copy = tmp_path / f"{name}.py"
        copy.write_text(change(modules[name].read_text()))
        modules[name] = copy
        monkeypatch.setattr(source_digest, "_modules", lambda: modules)
        for cache in caches:
            cache.cache_clear()
        return {product: recipes.code_of(product) for product in PRODUCTS}

    yield edit
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


def _versions() -> dict[str, str]:
    return {product: recipes.code_of(product) for product in PRODUCTS}


def test_comments_docstrings_and_formatting_change_no_code_version(edited) -> None:
    before = _versions()

    def rewritten(source: str) -> str:
        assert source.startswith('"""')
        return '"""Another docstring, of another length.\n' + source[3:].replace("\n    return", "\n# why\n\n    return")

    assert edited("dsa110_assets.imaging.clean", rewritten) == before


def test_the_digest_depends_on_the_syntax_tree_without_documentation(edited) -> None:
    """A string below a constant is documentation."""
    before = _versions()
    assert edited("dsa110_assets.imaging.clean", lambda source: source + '\n"""More about the last constant."""\n') == before
    tree = ast.parse("def f(a: int) -> int:\n    '''One.'''\n    return a + 1  # why\n")
    assert list(source_digest._walk(source_digest._without_docstrings(tree))) == list(
        source_digest._walk(ast.parse("def f(a: int) -> int:\n\n\n    return (a +\n 1)"))
    )


def test_a_constant_changes_the_products_that_use_it(edited) -> None:
    before = _versions()

    def changed(source: str) -> str:
        assert "CHANNEL_TEST_SIGMA = 3.5" in source
        return source.replace("CHANNEL_TEST_SIGMA = 3.5", "CHANNEL_TEST_SIGMA = 3.6")

    after = edited("dsa110_assets.variability.ese", changed)
    assert {product for product in before if before[product] != after[product]} == {"variability_metrics", "ese_candidates", "hour_events"}


def test_engines_are_what_the_modules_import(edited) -> None:
    """An engine that is no longer imported is no longer listed; mosaics list only engines that they use."""
    engines = {row.name: set(source_digest.engines(row.recipe.modules)) for row in TABLE.with_recipe()}
    assert {"ducc0", "radler", "numba", "numpy"} <= engines["tile_image"]
    assert {"numba", "python-casacore"} <= engines["measurement_set"], "the flagger imports its kernels when they run"
    assert {"casatasks", "casatools"} <= engines["calibration_tables"]
    assert "AegeanTools" in engines["source_catalog"]
    assert all("matplotlib" not in names and "reproject" not in names for names in engines.values())
    users = [
        name for name in source_digest.closure(TABLE["tile_image"].recipe.modules) if "radler" in str(source_digest._source(name).names)
    ]
    before = _versions()
    for user in users:
        after = edited(user, lambda source: source.replace("import radler", "import math as radler").replace("from radler", "from math"))
    assert "radler" not in source_digest.engines(TABLE["tile_image"].recipe.modules)
    assert before["tile_image"] != after["tile_image"]


def test_a_change_of_code_changes_the_products_that_use_it_and_no_others(edited) -> None:
    before = _versions()
    after = edited("dsa110_assets.imaging.clean", lambda source: source + "\nNEW_LIMIT = 3\n")
    assert {product for product in before if before[product] != after[product]} == DOWNSTREAM_OF_CLEAN


def test_code_that_a_stage_uses_indirectly_counts(edited) -> None:
    before = _versions()
    after = edited("dsa110_assets.common.directions", lambda source: source + "\nNEW_LIMIT = 3\n")
    changed = {product for product in before if before[product] != after[product]}
    assert {"measurement_set", "calibrated_ms", "calibration_tables"} <= changed
    assert "light_curves" not in changed


def test_child_programs_count() -> None:
    assert "dsa110_assets.mosaicking._aegean" in source_digest.closure(["mosaicking.finding"])


def test_data_files_of_a_package_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    modules = dict(source_digest._modules())
    (tmp_path / "__init__.py").write_bytes(modules["dsa110_assets.flagging"].read_bytes())
    table = tmp_path / "table.csv"
    table.write_text("1,2\n")
    monkeypatch.setattr(source_digest, "_modules", lambda: modules | {"dsa110_assets.flagging": tmp_path / "__init__.py"})
    before = source_digest.digest(["flagging"])
    table.write_text("1,3\n")
    assert source_digest.digest(["flagging"]) != before


def test_every_domain_module_that_a_stage_uses_is_declared() -> None:
    """The domain modules that a stage and the functions it calls in its own module use are declared for its product."""
    for row in TABLE.with_recipe():
        declared = source_digest.closure(row.recipe.modules)
        used: set[str] = set()
        for function in {row.function(), COMPUTED_BY.get(row, row.function())}:
            stage = importlib.import_module(function.__module__)
            for called in _called(stage, function):
                used |= {name for name in _domain_modules(stage, called) if not name.endswith((".verdict", ".gate"))}
        assert used <= declared, f"{row.name}: declare {sorted(used - declared)}"


def test_every_product_that_a_stage_makes_has_a_recipe() -> None:
    """Added fluxes have the recipe of the photometry that they are added to."""
    assert {row.name for row in TABLE if row.stage is not None} == {*PRODUCTS, "added_photometry"}


def test_the_declared_settings_are_the_scientific_ones() -> None:
    scientific = {
        name
        for name, field in PipelineConfig.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("science")
    }
    declared = {name for row in TABLE.with_recipe() for name in row.recipe.settings}
    assert declared == scientific, (
        f"in a recipe, but no setting marked with _SCIENCE: {sorted(declared - scientific)}; "
        f"marked with _SCIENCE, but in no recipe: {sorted(scientific - declared)}"
    )


def test_an_imaging_setting_changes_only_images_and_injections() -> None:
    config = PipelineConfig(_env_file=None)
    other = config.model_copy(update={"briggs_robust": -1.0})
    before, after = recipes.recipes(config), recipes.recipes(other)
    assert {product for product in before if before[product] != after[product]} == DOWNSTREAM_OF_CLEAN
    assert recipes.recipes(config.model_copy(update={"max_workers": 7, "scratch_dir": Path("/x")})) == before


def _called(stage: ModuleType, function: FunctionType) -> set[FunctionType]:
    """A function, and the functions of its module that it calls, directly or not."""
    found: set[FunctionType] = set()
    waiting = [function]
    while waiting:
        one = waiting.pop()
        found.add(one)
        for name in {name for code in _nested(one.__code__) for name in code.co_names}:
            thing = vars(stage).get(name)
            if inspect.isfunction(thing) and thing.__module__ == stage.__name__ and thing not in found:
                waiting.append(thing)
    return found


def _domain_modules(stage: ModuleType, function: FunctionType) -> Iterator[str]:
    """Full names of the domain's modules from which a function takes something."""
    known = source_digest._modules()
    for code in _nested(function.__code__):
        for name in code.co_names:
            if name in known:  # `from dsa110_assets.imaging import image_tile` inside the function
                for member in code.co_names:
                    found = getattr(importlib.import_module(name), member, None)
                    yield from _home(found, known)
            yield from _home(vars(stage).get(name), known)


def _home(thing: object, known: dict[str, Path]) -> Iterator[str]:
    if inspect.ismodule(thing) and thing.__name__ in known:
        yield thing.__name__
    elif callable(thing) and getattr(thing, "__module__", None) in known:
        yield str(thing.__module__)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
