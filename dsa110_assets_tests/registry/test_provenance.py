"""Provenance finds every stale product, and no other."""

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import dsa110_assets
from dsa110_assets.registry import provenance

REPOSITORY = Path(dsa110_assets.__file__).parents[1]


PRODUCTS = ("measurement_set", "calibrated_ms", "tile_image", "forced_photometry", "light_curves")
TODAY = {product: provenance.Recipe(f"code of {product}", f"settings of {product}") for product in PRODUCTS}


@pytest.fixture
def chain(database):
    """Measurement Set, calibrated Measurement Set and image, made by today's recipes."""

    def make(session, product, path, inputs=None, **more):
        return provenance.record_version(session, product, "g1", path=path, inputs=inputs or {}, recipe=TODAY[product], **more)

    with database.session() as session:
        raw = make(session, "measurement_set", "/ms/g1.ms", checksum="raw1")
        calibrated = make(session, "calibrated_ms", "/ms/g1.cal.ms", {"/ms/g1.ms": raw})
        make(session, "tile_image", None, {"/ms/g1.cal.ms": calibrated})
    return make


def _stale(database, today=TODAY):
    with database.session() as session:
        return {(row.product, row.reasons) for row in provenance.stale(session, today)}


def test_nothing_is_stale_right_after_it_was_made(database, chain):
    assert _stale(database) == set()


def test_a_new_input_makes_everything_downstream_stale(database, chain):
    with database.session() as session:
        chain(session, "measurement_set", "/ms/g1.ms")
    assert _stale(database) == {("calibrated_ms", ("inputs",)), ("tile_image", ("inputs",))}


def test_a_product_that_is_made_again_is_current(database, chain):
    with database.session() as session:
        raw = chain(session, "measurement_set", "/ms/g1.ms")
        calibrated = chain(session, "calibrated_ms", "/ms/g1.cal.ms", {"/ms/g1.ms": raw})
    assert _stale(database) == {("tile_image", ("inputs",))}
    with database.session() as session:
        chain(session, "tile_image", None, {"/ms/g1.cal.ms": calibrated})
    assert _stale(database) == set()


def test_an_input_that_came_out_the_same_makes_nothing_stale(database, chain):
    with database.session() as session:
        chain(session, "measurement_set", "/ms/g1.ms", checksum="raw1")
    assert _stale(database) == set()
    with database.session() as session:
        chain(session, "measurement_set", "/ms/g1.ms", checksum="raw2")
    assert _stale(database) == {("calibrated_ms", ("inputs",)), ("tile_image", ("inputs",))}


@pytest.mark.parametrize(("field", "reason"), [("code_version", "code"), ("config_hash", "configuration")])
def test_another_recipe_makes_its_products_stale_and_all_products_made_from_them(database, chain, field, reason):
    today = TODAY | {"calibrated_ms": dataclasses.replace(TODAY["calibrated_ms"], **{field: "other"})}
    assert _stale(database, today) == {("calibrated_ms", (reason,)), ("tile_image", ("inputs",))}


def test_a_product_without_a_recipe_is_left_out(database, chain):
    assert _stale(database, {"tile_image": provenance.Recipe("other", "other")}) == {("tile_image", ("code", "configuration"))}


def test_a_product_of_rows_is_an_input_by_its_name(database):
    with database.session() as session:
        version = provenance.record_version(session, "forced_photometry", "h1", recipe=TODAY["forced_photometry"])
        name = provenance.reference("forced_photometry", "h1")
        provenance.record_version(session, "light_curves", "n1", inputs={name: version}, recipe=TODAY["light_curves"])
    assert _stale(database) == set()
    with database.session() as session:
        provenance.record_version(session, "forced_photometry", "h1", recipe=TODAY["forced_photometry"])
    assert _stale(database) == {("light_curves", ("inputs",))}


def test_the_newest_version_is_current_and_has_the_recorded_values(database):
    with database.session() as session:
        assert provenance.current_version(session, "tile_image", "g1") is None
        first = provenance.record_version(session, "tile_image", "g1", path=Path("/a"), recipe=provenance.Recipe("s1", "c1"))
        second = provenance.record_version(
            session, "tile_image", "g1", path="/b", inputs={"/in": first}, recipe=provenance.Recipe("s2", "c2"), checksum="00", size_bytes=5_000_000_000,
            duration_s=1.5, peak_memory_mb=12.0, run_id="r",
        )  # fmt: skip
    with database.session() as session:
        row = provenance.current_version(session, "tile_image", "g1")
    assert second > first
    assert (row.version_id, row.path, row.inputs, row.config_hash, row.checksum) == (second, "/b", {"/in": first}, "c2", "00")
    assert (row.size_bytes, row.duration_s, row.peak_memory_mb, row.run_id) == (5_000_000_000, 1.5, 12.0, "r")
    assert (row.code_version, row.release) == ("s2", provenance.release())


def test_release_names_the_commit_of_the_checkout():
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if commit.returncode != 0:
        pytest.skip("not a checkout")
    found = provenance.release()
    assert found.startswith(f"{dsa110_assets.__version__}+g{commit.stdout[:12]}")
    assert found.removesuffix(".dirty") == f"{dsa110_assets.__version__}+g{commit.stdout[:12]}"


def test_release_of_a_copy_inside_another_checkout_names_no_commit(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(
        ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "m"], check=True
    )
    (tmp_path / "site").mkdir()
    for name in ("__init__.py", "config.py", "errors.py", "products.py", "casasiteconfig.py", "registry"):
        origin = Path(dsa110_assets.__file__).parent / name
        destination = tmp_path / "site" / "dsa110_assets" / name
        destination.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", origin, destination], check=True)
    program = "from dsa110_assets.registry import provenance as p; print(p.__file__); print(p.release())"
    script = tmp_path / "site" / "show.py"  # a script's own directory comes first on the path
    script.write_text(textwrap.dedent(program))
    shown = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path).stdout.split()
    assert shown == [str(tmp_path / "site" / "dsa110_assets" / "registry" / "provenance.py"), dsa110_assets.__version__]
