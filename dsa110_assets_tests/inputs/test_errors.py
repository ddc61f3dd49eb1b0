"""Each typed error ends a command with the right code; each place that calls a fault temporary says why it may pass.

A new class, or a new place that raises a retriable one, fails here until it states its reason.
"""

from __future__ import annotations

import ast
import errno
import inspect
import os

import pytest
from sqlalchemy.engine import make_url

from dsa110_assets import errors
from dsa110_assets.api.problems import status_of
from dsa110_assets.cli.exit_codes import exit_code_of
from dsa110_assets.cli.main import run
from dsa110_assets.errors import (
    ConfigurationError,
    NonRetriableError,
    ProductVerificationError,
    RegistryError,
    RetriableError,
    StorageError,
)
from dsa110_assets.files import typed_error
from dsa110_assets.publication import publish
from dsa110_assets.registry.backup import restore
from dsa110_assets.registry.database import Database, reachable
from dsa110_assets_tests.docs.named_commands import PACKAGE

FAILED, RETRY = 2, 75
RIGHT: dict[str, tuple[int, int, str]] = {
    "PipelineError": (FAILED, 422, "the base class promises nothing, so nothing is tried again"),
    "RetriableError": (RETRY, 503, "the base of what may pass"),
    "NonRetriableError": (FAILED, 422, "the base of what repeats"),
    "InvalidRawFileError": (FAILED, 422, "the bytes of a file stay the same; a disk that fails is a StorageError"),
    "ChecksumError": (FAILED, 422, "damaged bytes stay damaged; in the queue the file is left out"),
    "MissingChecksumError": (RETRY, 503, "the correlator writes the checksum after the file"),
    "IncompleteGroupError": (FAILED, 422, "the deadline is over; a late subband reopens the observation by itself"),
    "UnknownGroupError": (FAILED, 404, "a name of no observation"),
    "GroupBusyError": (RETRY, 409, "the other run ends, or its lease does"),
    "LeaseLostError": (FAILED, 422, "the other attempt records the result; this one must not begin again"),
    "MeasurementSetError": (FAILED, 422, "the layout of a set stays the same"),
    "QuestionTooSlowError": (FAILED, 422, "the same question takes as long again"),
    "ForeignDataError": (FAILED, 422, "a set of another telescope keeps lacking what it lacks"),
    "NoCalibratorError": (FAILED, 422, "the sky of an observation stays the same"),
    "NoCalibrationError": (RETRY, 503, "the next transit brings tables"),
    "CalibrationQualityError": (FAILED, 422, "the same data give the same solutions"),
    "CalibrationMismatchError": (FAILED, 422, "tables stay those of another strip"),
    "FluxScaleError": (FAILED, 422, "a catalog does not gain a flux by itself"),
    "NoModelError": (FAILED, 422, "the sky of a tile stays the same"),
    "ImagingError": (FAILED, 422, "flagged data stay flagged"),
    "RestoringBeamError": (FAILED, 422, "the numbers of a beam stay impossible"),
    "MosaicError": (FAILED, 422, "a person changes the plan, the tiles or their verdicts"),
    "PhotometryError": (FAILED, 422, "the maps stay the same"),
    "LightCurveError": (FAILED, 422, "the measured epochs stay the same"),
    "StorageError": (RETRY, 503, "space is freed, a disk is mounted again"),
    "DiskFullError": (RETRY, 503, "space is freed"),
    "InputUnreadableError": (RETRY, 503, "the directory is mounted again, or its permissions are mended"),
    "StoppedError": (RETRY, 503, "the platform is started again"),
    "RunDeletedError": (RETRY, 503, "another run is requested"),
    "PublishError": (RETRY, 503, "two publishers of one place meet once; what never passes is a ConfigurationError"),
    "ProductVerificationError": (FAILED, 422, "the same code writes the same product"),
    "ChildFailedError": (RETRY, 503, "memory and load of the machine; the number of attempts is bounded"),
    "RegistryError": (RETRY, 503, "a server comes back"),
    "CatalogServiceError": (RETRY, 503, "a service comes back"),
    "AlertNotDeliveredError": (RETRY, 503, "a webhook comes back"),
    "ConfigurationError": (FAILED, 500, "a person changes a setting; over HTTP it is the platform's fault, not the request's"),
    "NotFoundError": (FAILED, 404, "a name of nothing"),
    "GoneError": (FAILED, 410, "files that were replaced do not return"),
    "AccessError": (FAILED, 401, "a token does not become valid"),
    "InvalidRequestError": (FAILED, 422, "the request stays the same"),
    "DagsterUnreachableError": (RETRY, 503, "the web server comes back"),
    "PositionsError": (FAILED, 422, "the rows of a list stay the same"),
    "OutputIsInputError": (FAILED, 422, "two names of one file stay so"),
    "RelocationError": (FAILED, 422, "a person moves the files"),
}
"""Exit code of a command, HTTP status, and the reason for both."""

MAY_PASS: dict[tuple[str, str], str] = {
    ("api/access.py", "history"): "the database is started by `dsa110 up`",
    ("api/access.py", "platform"): "the database is started by `dsa110 up`",
    ("api/client.py", "_ask"): "the API is started by `dsa110 up`",
    ("api/dagster.py", "_ask"): "the web server is started by `dsa110 up`",
    ("api/dagster.py", "_sensor"): "the code location is loaded some seconds after the web server",
    ("api/dagster.py", "_switches"): "the code location is loaded some seconds after the web server",
    ("api/files.py", "download"): "a product is replaced within milliseconds",
    ("api/routes/operations.py", "ready"): "`dsa110 up` migrates the schema",
    (
        "calibration/casa_child.py",
        "run_tasks",
    ): "CASA was killed, or ran out of memory or time; it does not say which of its errors may pass",
    ("calibration/select.py", "valid_tables"): "the next transit brings tables",
    ("catalogs/surveys.py", "_query"): "the service answers later",
    ("cli/calibrate.py", "apply"): "the next transit brings tables",
    ("cli/demo.py", "_wait_for_port"): "a loaded machine starts services late",
    ("cli/service.py", "database_url"): "the database's own unit starts it",
    ("cli/services.py", "_wait_until_ready"): "a loaded machine starts services late; a port becomes free",
    ("common/child_process.py", "__init__"): "no process or memory was left; a missing program is a ConfigurationError",
    (
        "common/child_process.py",
        "raise_if_failed",
    ): "killed, or out of memory or disk: an exit code does not say whether the machine was at fault",
    ("common/child_process.py", "run_children"): "the machine was loaded",
    ("common/measurement_sets.py", "naming_damage"): "the disk did not give the bytes; a damaged set is a MeasurementSetError",
    ("common/measurement_sets.py", "open_table"): "the disk did not give the bytes; a damaged table is a MeasurementSetError",
    ("common/measurement_sets.py", "wait_for_writer"): "the other program closes the set",
    ("conversion/measurement_set.py", "storage_errors"): "the disk was full, read-only or failing",
    ("conversion/measurement_set.py", "write_measurement_set"): "the disk was full",
    ("conversion/reading.py", "read_raw_data"): "the disk did not give the bytes, or too many files were open",
    ("conversion/tile.py", "_read_tile"): "a second reading gave the right bytes",
    ("raw_checksums.py", "read_sidecar"): "the correlator writes the checksum after the file",
    ("raw_checksums.py", "refuse_damaged"): "the disk did not give the bytes",
    ("stages/products/tile.py", "_leaving_out_damaged"): "the damaged files were rejected, so the next attempt works without them",
    ("files.py", "typed_error"): "what the file system may answer otherwise later: full, failing, too many open files",
    ("ingest/ledger.py", "lease_observation"): "the other run ends, or its lease does",
    ("ingest/ledger.py", "retry"): "the other run ends, or its lease does",
    ("publication.py", "_move_finished"): "two publishers of one place meet; paths and permissions are a ConfigurationError",
    ("publication.py", "storage_trouble"): "the disk was full, read-only or failing",
    ("registry/backup.py", "_failure"): "the server did not answer or the disk was full; a damaged archive is a NonRetriableError",
    ("registry/database.py", "reachable"): "the server did not answer; a wrong user or password is a ConfigurationError",
    ("registry/server.py", "_create_database"): "the server did not answer",
    ("registry/server.py", "_initialize"): "the disk was full; a place where no database can live is a ConfigurationError",
    ("registry/server.py", "_start"): "memory of a killed server is freed, another process starts it",
    ("registry/server.py", "ensure"): "the server was starting or recovering",
    ("registry/server.py", "stop"): "sessions end",
    ("stages/operations/alerts.py", "send"): "the webhook answers later; an address that is none is a ConfigurationError",
    ("stages/queue/attempts.py", "_reason"): "space is freed; the directory of the raw files is mounted again",
    ("stages/queue/attempts.py", "stopped"): "the platform is started again",
    ("stages/queue/intake.py", "return_after_death"): "the run was killed, and attempts are bounded; or it was deleted by a person",
    ("stages/queue/intake.py", "return_unlaunched"): "Dagster did not launch it in time",
}
"""Each function that makes a retriable error, and why it may pass."""


def classes() -> dict[str, type[errors.PipelineError]]:
    return {name: one for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, errors.PipelineError)}


def test_every_class_states_its_exit_code_and_status():
    assert set(RIGHT) == set(classes())


@pytest.mark.parametrize("name", RIGHT)
def test_an_error_has_its_exit_code_and_status(name):
    code, status, reason = RIGHT[name]
    error = classes()[name]("x", "broken", "mend it")
    assert (exit_code_of([error]), status_of(error)) == (code, status), reason
    assert issubclass(classes()[name], RetriableError) == (code == RETRY)


def places() -> set[tuple[str, str]]:
    """Module and function of each call of a retriable class."""
    retriable = {name for name, one in classes().items() if issubclass(one, RetriableError)}
    return {
        (str(path.relative_to(PACKAGE)), function.name)
        for path in PACKAGE.rglob("*.py")
        if path.name != "errors.py"
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if _makes(node, retriable)
    }


def _makes(node: ast.AST, retriable: set[str]) -> bool:
    """Whether a node calls one of the classes, or chooses one to call (``kind = A if x else B``)."""
    candidates = [node.func] if isinstance(node, ast.Call) else [node.body, node.orelse] if isinstance(node, ast.IfExp) else []
    return any(isinstance(one, ast.Name) and one.id in retriable for one in candidates)


def test_every_place_that_calls_a_fault_temporary_says_why():
    assert places() == set(MAY_PASS)
    assert all(MAY_PASS.values())


@pytest.mark.parametrize("code", [errno.EACCES, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENOENT, errno.ELOOP])
def test_what_a_path_refuses_is_refused_for_good(code):
    assert exit_code_of([typed_error(OSError(code, os.strerror(code), "x"))]) == FAILED


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.ESTALE, errno.EDQUOT])
def test_what_a_disk_refuses_may_pass(code):
    error = typed_error(OSError(code, os.strerror(code), "x"))
    assert isinstance(error, StorageError)
    assert exit_code_of([error]) == RETRY


def test_an_error_of_the_system_is_shown_without_a_trace(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(tmp_path / "file" / "state"))
    for name in ("input", "output", "scratch"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}_DIR", str(tmp_path))
    monkeypatch.delenv("PIPELINE_DATABASE_URL", raising=False)
    assert run(["db", "start"]) == FAILED
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_does_not_replace_a_directory_and_nothing_is_no_product(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be moved into place"), publish(tmp_path / "x") as staged:
        staged.write_text("new")
    with pytest.raises(ProductVerificationError, match="without writing"), publish(tmp_path / "y"):
        pass


def test_a_wrong_password_repeats_and_a_stopped_server_does_not(database):
    wrong = Database(make_url(database.url).set(database="no_such_database").render_as_string(hide_password=False))
    with pytest.raises(ConfigurationError, match="does not exist"), reachable(wrong.url), wrong.engine.connect():
        pass
    stopped = Database("postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(RegistryError, match="cannot be used"), reachable(stopped.url), stopped.engine.connect():
        pass


def test_a_damaged_backup_repeats(database, tmp_path):
    (tmp_path / "x.dump").write_bytes(b"PGDMP" + bytes(200))
    with pytest.raises(NonRetriableError, match="pg_restore"):
        restore(database.url, tmp_path / "x.dump", replace=True)
