"""The embedded server runs when it is needed, for every user, whatever happened to it before."""

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg2
import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError, RegistryError
from dsa110_assets.registry import access, server
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.server import EmbeddedServer
from dsa110_assets_tests.registry_fixture import TEST_SETTINGS

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="changes the user, which only root can")


def _connect(address):
    return psycopg2.connect(address.url("postgres", driver=""))


def _execute(address, statement):
    connection = _connect(address)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
    connection.close()
    return rows


@pytest.fixture(scope="module")
def shared(server_directory):
    """A server that the tests of this module may kill and stop. Each starts it with `ensure`."""
    embedded = EmbeddedServer(server_directory / "shared", settings=TEST_SETTINGS | {"synchronous_commit": "on"})
    yield embedded
    embedded.stop(immediate=True)


def test_it_listens_on_a_private_socket_and_on_no_network(shared):
    address = shared.ensure()
    assert _execute(address, "SHOW listen_addresses") == [("",)]
    assert stat.S_IMODE((address.socket_dir / ".s.PGSQL.5432").stat().st_mode) == 0o700
    listening = [c for c in psutil.Process(address.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == []


def test_the_standard_settings_are_durable():
    for name, value in {"fsync": "on", "max_connections": "200", "shared_buffers": "256MB"}.items():
        assert EmbeddedServer(Path("unused")).settings[name] == value


def _ensure(data_dir):
    return EmbeddedServer(data_dir, settings=TEST_SETTINGS).ensure()


def test_processes_that_start_it_together_get_one_server(server_directory):
    data_dir = server_directory / "together"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        addresses = pool.map(_ensure, [data_dir] * 3, chunksize=1)
    try:
        assert len(set(addresses)) == 1
        assert _execute(addresses[0], "SELECT 1") == [(1,)]
    finally:
        assert EmbeddedServer(data_dir).stop(immediate=True) is True
    assert EmbeddedServer(data_dir).stop() is False


def test_it_outlives_the_process_that_started_it_and_keeps_its_data_over_a_stop(shared):
    shared.stop()
    program = (
        "import sys; from pathlib import Path; from dsa110_assets.registry.server import EmbeddedServer; import json\n"
        "print(EmbeddedServer(Path(sys.argv[1]), settings=json.loads(sys.argv[2])).ensure().pid)"
    )
    # `run` reads the output to its end: the server must not keep the stream open
    done = subprocess.run(
        [sys.executable, "-c", program, shared.data_dir, json.dumps(TEST_SETTINGS)], capture_output=True, text=True, timeout=60, check=True
    )
    address = shared.address()
    assert address is not None
    assert address.pid == int(done.stdout)
    assert os.getsid(address.pid) != os.getsid(0)  # the terminal's signals do not reach it
    _execute(address, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
    assert shared.stop()
    assert shared.address() is None
    assert _execute(shared.ensure(), "SELECT answer FROM kept") == [(42,)]


def test_it_recovers_from_a_kill_with_sessions_open(shared):
    address = shared.ensure()
    _execute(address, "DROP TABLE IF EXISTS after_kill")
    _execute(address, "CREATE TABLE after_kill AS SELECT 7 AS answer")
    session = _connect(address)
    with session.cursor() as cursor:
        cursor.execute("SELECT 1")
    os.kill(address.pid, signal.SIGKILL)
    fresh = shared.ensure()
    assert fresh.pid != address.pid
    assert _execute(fresh, "SELECT answer FROM after_kill") == [(7,)]
    with pytest.raises(psycopg2.OperationalError), session.cursor() as cursor:
        cursor.execute("SELECT 1")


def test_a_pid_file_that_names_another_program_does_not_stop_it(shared):
    shared.ensure()
    pid_file = shared.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    shared.stop()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert shared.address() is None
    assert _execute(shared.ensure(), "SELECT 1") == [(1,)]


def test_it_starts_in_a_directory_whose_path_is_too_long_for_a_socket(server_directory):
    data_dir = server_directory / ("deep" * 12) / ("deeper" * 10) / "postgres"
    assert len(str(data_dir)) > server.SOCKET_PATH_LIMIT
    one = EmbeddedServer(data_dir, settings=TEST_SETTINGS)
    address = one.ensure()
    try:
        assert _execute(address, "SELECT 1") == [(1,)]
        assert stat.S_IMODE(address.socket_dir.stat().st_mode) == 0o700
    finally:
        one.stop(immediate=True)
        address.socket_dir.rmdir()


def test_leftovers_of_a_killed_initialization_are_removed(server_directory):
    leftover = server_directory / "swept.init-0badf00d"
    leftover.mkdir()
    (leftover / "PG_VERSION").write_text("18\n")
    one = EmbeddedServer(server_directory / "swept", settings=TEST_SETTINGS)
    try:
        assert _execute(one.ensure(), "SELECT 1") == [(1,)]
        assert not leftover.exists()
    finally:
        one.stop(immediate=True)


def test_data_of_another_release_are_not_touched(tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigurationError, match="pg_upgrade"):
        EmbeddedServer(tmp_path / "postgres").ensure()
    assert [path.name for path in (tmp_path / "postgres").iterdir()] == ["PG_VERSION"]


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="PIPELINE_STATE_DIR"):
        EmbeddedServer(tmp_path / "file" / "postgres").ensure()


def test_a_broken_server_is_reported_with_its_log(shared, server_directory):
    broken = EmbeddedServer(server_directory / "broken", settings={**TEST_SETTINGS, "shared_buffers": "nonsense"})
    with pytest.raises(RegistryError, match="nonsense"):
        broken.ensure()


def test_a_server_that_does_not_start_is_not_explained_with_lines_of_an_earlier_start(server_directory):
    one = EmbeddedServer(server_directory / "yesterday", settings=TEST_SETTINGS)
    one.ensure()
    one.stop(immediate=True)
    (one.data_dir / "log").mkdir(exist_ok=True)
    (one.data_dir / "log" / "newest.log").write_text("LOG:  yesterday all was well\n")
    (one.data_dir / "global" / "pg_control").unlink()
    with pytest.raises(RegistryError) as caught:
        one.ensure()
    assert "yesterday" not in caught.value.cause.replace(str(one.data_dir), "")
    assert "pg_control" in caught.value.cause


@ROOT_ONLY
@pytest.mark.parametrize(
    ("options", "error", "cause"),
    [("size=300M,nr_inodes=50", ConfigurationError, "a database cannot live in"), ("size=20M", RegistryError, "the disk is full")],
)
def test_a_file_system_in_which_a_database_cannot_live_is_a_wrong_setting_and_a_full_one_may_pass(tmp_path, options, error, cause):
    place = tmp_path / "state"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(error, match=cause):
            EmbeddedServer(place / "postgres", settings=TEST_SETTINGS).ensure()
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@ROOT_ONLY
def test_a_closed_home_is_opened_for_the_servers_user_only(tmp_path):
    """Root's directories have mode 0700, as has pytest's temporary one."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    one = EmbeddedServer(home / "state" / "postgres", settings=TEST_SETTINGS)
    try:
        assert _execute(one.ensure(), "SELECT 1") == [(1,)]
    finally:
        one.stop(immediate=True)
    assert home.stat().st_mode & (stat.S_IRWXO | stat.S_IRGRP | stat.S_IWGRP) == 0
    account = access.server_account(one.data_dir)

    def can_enter(uid):
        return (
            subprocess.run(
                ["/bin/sh", "-c", f"cd {home}"], user=uid, group=uid, extra_groups=[], capture_output=True, check=False
            ).returncode
            == 0
        )

    assert can_enter(account.pw_uid)
    assert not can_enter(account.pw_uid + 1)


@ROOT_ONLY
def test_access_control_entries_are_added_to_existing_ones(tmp_path):
    directory = tmp_path / "d"
    directory.mkdir(mode=0o750)
    access._grant_search(directory, 12345)
    access._grant_search(directory, 54321)
    access._grant_search(directory, 12345)
    entries = access._read_acl(directory)
    assert [entry[2] for entry in entries if entry[0] == access._USER] == [12345, 54321]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750  # group rights are a mask now, others have none


@ROOT_ONLY
def test_it_runs_as_an_ordinary_user(server_directory):
    """Forks, drops root's rights and keeps the interpreter, which other users may not be able to start."""
    account = access.server_account(server_directory / "nothing")
    home = server_directory / "ordinary"
    home.mkdir()
    os.chown(home, account.pw_uid, account.pw_gid)
    one = EmbeddedServer(home / "postgres", settings=TEST_SETTINGS)
    report = home / "report"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            answer = _execute(one.ensure(), "SELECT 6 * 7")
            report.write_text(f"{answer} {access.server_account(one.data_dir)} {one.stop(immediate=True)}")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert report.read_text() == "[(42,)] None True"
    assert one.data_dir.stat().st_uid == account.pw_uid


@ROOT_ONLY
def test_a_server_of_another_user_is_reported_as_such(shared):
    shared.ensure()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(65534)
            with pytest.raises(ConfigurationError, match="another user"):
                shared.ensure()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


# --- databases
def test_dagster_keeps_its_storage_in_its_own_database(shared, tmp_path):
    dagster = pytest.importorskip("dagster")
    url = _config(shared, tmp_path, "registry_of_dagster")
    dagster_url = server.dagster_url(url)
    assert make_url(dagster_url).database == "dagster"
    (tmp_path / "dagster.yaml").write_text(
        f"storage:\n  postgres:\n    postgres_url: {json.dumps(dagster_url)}\ntelemetry:\n  enabled: false\n"
    )
    with dagster.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.upgrade()
        instance.add_dynamic_partitions("nights", ["2026-03-01"])
        assert instance.get_dynamic_partitions("nights") == ["2026-03-01"]
    assert server.dagster_url(url) == dagster_url


def _config(shared, tmp_path, database):
    return PipelineConfig(state_dir=tmp_path, database_url=SecretStr(shared.ensure().url(database, driver="")))


def test_an_external_server_is_used_and_its_database_made(shared, tmp_path):
    config = _config(shared, tmp_path, "observatory")
    database = Database.connect(config)
    assert make_url(database.url).database == "observatory"
    assert database.migrate() is False
    database.dispose()
    assert not (tmp_path / "postgres").exists()
    assert server.stop_server(config) is False
    assert shared.address() is not None


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("sqlite:///x", ConfigurationError),
        ("not a url", ConfigurationError),
        ("postgresql://me:secret@127.0.0.1:1/x", RegistryError),
    ],
)
def test_the_error_for_an_unusable_url_does_not_show_the_password(tmp_path, url, error):
    with pytest.raises(error) as caught:
        server.ensure_server(PipelineConfig(state_dir=tmp_path, database_url=SecretStr(url)))
    assert "PIPELINE_DATABASE_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_error_for_a_user_without_rights_names_the_statement_to_run(shared, tmp_path):
    address = shared.ensure()
    _execute(address, "DROP ROLE IF EXISTS observer")
    _execute(address, "CREATE ROLE observer LOGIN")
    url = address.url("not_there", driver="").replace("postgres@", "observer@")
    with pytest.raises(ConfigurationError, match="CREATE DATABASE"):
        server.ensure_server(PipelineConfig(state_dir=tmp_path, database_url=SecretStr(url)))


def test_a_running_server_is_used_without_writing_its_configuration(shared):
    shared.ensure()
    before = {path: path.stat().st_mtime_ns for path in shared.data_dir.glob("*.conf")}
    time.sleep(0.01)
    shared.ensure()
    assert {path: path.stat().st_mtime_ns for path in shared.data_dir.glob("*.conf")} == before
