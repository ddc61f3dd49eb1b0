"""What decides how a product comes out is declared completely, and nothing else counts."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

import dsa110_assets
from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.provenance import recipes, source_digest
from dsa110_assets.stages.provenance.recipes import INGREDIENTS

MADE_BY = {
    "measurement_set": ("tile", "make_measurement_set"),
    "calibration_tables": ("calibrator", "solve_transit"),
    "calibrated_ms": ("tile", "calibrate"),
    "tile_image": ("tile", "make_image"),
    "hourly_mosaic": ("hour", "combine"),
    "nightly_mosaic": ("night", "make_mosaic"),
    "custom_mosaic": ("mosaics", "build_mosaic"),
    "injection_recovery": ("injection", "recover_injections"),
    "source_catalog": ("hour", "find_sources"),
    "forced_photometry": ("hour", "measure"),
    "light_curves": ("night", "update_light_curves"),
    "variability_metrics": ("night", "update_metrics"),
    "ese_candidates": ("night", "rank_candidates"),
    "calibrator_catalog": ("references", "refresh_calibrators"),
    "nvss_catalog": ("references", "refresh_nvss"),
    "monitored_sources": ("references", "refresh_monitored"),
}
DOWNSTREAM_OF_CLEAN = {"tile_image", "injection_recovery"}
ON_DEMAND = {"custom_mosaic"}


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Edit a module's source, as far as recipes are concerned; gives the code versions of all products afterwards."""
    modules = dict(source_digest._modules())
    caches = (source_digest._digest_of, source_digest._imported, source_digest._compiled, recipes.code_of)

    def edit(name: str, change) -> dict[str, str]:
        copy = tmp_path / f"{name}.py"
        copy.write_text(change(modules[name].read_text()))
        monkeypatch.setattr(source_digest, "_modules", lambda: modules | {name: copy})
        for cache in caches:
            cache.cache_clear()
        return {product: recipes.code_of(product) for product in INGREDIENTS}

    yield edit
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


def _versions() -> dict[str, str]:
    return {product: recipes.code_of(product) for product in INGREDIENTS}


def test_comments_docstrings_and_formatting_change_no_code_version(edited) -> None:
    before = _versions()

    def rewritten(source: str) -> str:
        assert source.startswith('"""')
        return '"""Another docstring, of another length.\n' + source[3:].replace("\n    return", "\n# why\n\n    return")

    assert edited("dsa110_assets.imaging.clean", rewritten) == before


def test_a_change_of_code_changes_the_products_that_use_it_and_no_other(edited) -> None:
    before = _versions()
    after = edited("dsa110_assets.imaging.clean", lambda source: source + "\nNEW_LIMIT = 3\n")
    assert {product for product in before if before[product] != after[product]} == DOWNSTREAM_OF_CLEAN


def test_code_that_a_stage_uses_indirectly_counts(edited) -> None:
    before = _versions()
    after = edited("dsa110_assets.common.directions", lambda source: source + "\nNEW_LIMIT = 3\n")
    changed = {product for product in before if before[product] != after[product]}
    assert {"measurement_set", "calibrated_ms", "calibration_tables"} <= changed
    assert "light_curves" not in changed


def test_children_and_data_files_of_the_flagger_count() -> None:
    assert "dsa110_assets.flagging.aoflagger_child" in source_digest.closure(["conversion"])
    strategy = Path(dsa110_assets.__file__).parent / "flagging" / "dsa110.lua"
    before = source_digest.digest(["flagging"])
    original = strategy.read_bytes()
    source_digest._digest_of.cache_clear()
    real = Path.read_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: original + b"-- changed" if path == strategy else real(path))
        assert source_digest.digest(["flagging"]) != before
    source_digest._digest_of.cache_clear()


def test_every_function_of_a_stage_that_computes_belongs_to_the_declared_code() -> None:
    """What a stage's own function names from the domain is within the modules declared for its product."""
    for product, (module, function) in MADE_BY.items():
        declared = source_digest.closure(INGREDIENTS[product].modules)
        stage = importlib.import_module(f"dsa110_assets.stages.products.{module}")
        used = {name for name in _domain_modules(stage, getattr(stage, function)) if not name.endswith((".verdict", ".gate"))}
        assert used <= declared, f"{product}: declare {sorted(used - declared)}"


def test_the_declaration_names_every_product_that_has_an_asset() -> None:
    from dsa110_assets.definitions import PARTITIONED, REFERENCES

    assets = {module.__name__.rsplit(".", 1)[-1] for module in (*PARTITIONED, *REFERENCES)} - {"raw_subbands"}
    assert set(INGREDIENTS) == set(MADE_BY) == assets | ON_DEMAND


def test_every_scientific_setting_is_read_by_some_stage_and_only_those_are_declared() -> None:
    scientific = {
        name
        for name, field in PipelineConfig.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("science")
    }
    declared = {name for parts in INGREDIENTS.values() for name in parts.settings}
    assert declared == scientific


def test_one_imaging_setting_changes_the_image_only() -> None:
    config = PipelineConfig(_env_file=None)
    other = config.model_copy(update={"briggs_robust": -1.0})
    before, after = recipes.recipes(config), recipes.recipes(other)
    assert {product for product in before if before[product] != after[product]} == DOWNSTREAM_OF_CLEAN
    assert recipes.recipes(config.model_copy(update={"max_workers": 7, "scratch_dir": Path("/x")})) == before


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
