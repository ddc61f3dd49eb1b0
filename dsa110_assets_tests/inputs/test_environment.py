"""The environment of a process changes nothing: a connection brings its own settings, and the program starts afresh."""

from __future__ import annotations

import os
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry.backup import check_archive
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.environment import hostile
from dsa110_assets_tests.inputs import images
from dsa110_assets_tests.inputs.effort import examples

HOSTILE = {
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Pacific/Kiritimati",
    "PGDATESTYLE": "SQL, DMY",
    "PGOPTIONS": "-c search_path=pg_catalog -c statement_timeout=1 -c default_transaction_read_only=on -c timezone=Asia/Kathmandu",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
    "PGAPPNAME": "x",
}
_PROGRAM = """
import sys
import pandas as pd
from sqlalchemy import text
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries.sources import source_table, upsert_sources
name = "\\u2605\\u03b1 Lyr\\u00e9"
with Database(sys.argv[1]).session() as session:
    upsert_sources(session, pd.DataFrame({"name": [name], "ra_deg": [1.0], "dec_deg": [2.0]}), origin="monitored")
    session.execute(text("SELECT pg_sleep(0.05)"))
    assert source_table(session)["name"].tolist() == [name]
    assert session.scalar(text("SHOW timezone")) == "UTC", session.scalar(text("SHOW timezone"))
"""

HOSTILE_PYTHON = {
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0",
    "PYTHONHASHSEED": "1",
    "PYTHONDEVMODE": "1",
}
ENVIRONMENTS = {
    "Python and PostgreSQL": {
        **HOSTILE_PYTHON,
        **HOSTILE,
        "PGSERVICE": "none",
        "PGHOST": "192.0.2.1",
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGDATABASE": "none",
        "PGTARGETSESSIONATTRS": "read-only",
    },
    "an ASCII locale and no home": {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "TZ": "no/such:zone",
        "COLUMNS": "1",
        "HOME": "/proc/none",
        "XDG_CACHE_HOME": "/proc/none",
        "XDG_CONFIG_HOME": "/proc/none",
        "TMPDIR": "/no/such/directory",
    },
    "a Turkish locale, no user and modules of other programs": {
        "LC_ALL": "tr_TR.ISO-8859-9",
        "LANG": "tr_TR",
        "PYTHONIOENCODING": "latin-1",
        "TZ": "",
        "HOME": None,
        "USER": None,
        "LOGNAME": None,
        "TMPDIR": "",
        "PYTHONPATH": "MODULES",
    },
}
"""Variables of each environment; None removes one. MODULES is a directory with modules named like the platform's."""
NAMES = ["★α Lyré", "İstanbul ı", "007"]


def _dsa110(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dsa110_assets.cli.main", *arguments], env=environment, capture_output=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr
    return done.stdout.decode("utf-8")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_commands_give_the_same_result_in_a_hostile_environment(name, database, registry_config, tmp_path):
    """Names go into the registry and come back; fluxes are measured; a query is answered, whatever is set."""
    (tmp_path / "modules").mkdir()
    for module in ("config.py", "files.py", "errors.py", "products.py", "content.py", "times.py", "tests.py"):
        (tmp_path / "modules" / module).write_text("raise RuntimeError\n")
    changes = {key: str(tmp_path / "modules") if value == "MODULES" else value for key, value in ENVIRONMENTS[name].items()}
    own = {f"PIPELINE_{key.upper()}": str(getattr(registry_config, key)) for key in ("state_dir", "scratch_dir", "input_dir", "output_dir")}
    environment = {key: value for key, value in (os.environ | own | changes).items() if value is not None}
    environment["PIPELINE_DATABASE_URL"] = database.url
    table = images.positions().head(len(NAMES)).assign(name=NAMES)
    sky = pd.DataFrame({"name": ["N"], "ra_deg": [150.0], "dec_deg": [50.0], "flux_jy": [0.5], "spectral_index": [float("nan")]})
    (registry_config.state_dir / "catalogs").mkdir()
    sky.to_parquet(registry_config.state_dir / "catalogs" / "nvss.parquet")
    table.to_csv(tmp_path / "positions é.csv", index=False)
    image = images.write(tmp_path, "m")
    _dsa110(environment, "catalogs", "refresh", "monitored", "--file", str(tmp_path / "positions é.csv"), "--json")
    stored = _dsa110(environment, "db", "query", "SELECT name, now()::text LIKE '%+00' AS utc FROM sources WHERE name <> 'N'", "--csv")
    assert sorted(stored.splitlines()[1:]) == sorted(f"{one},True" for one in NAMES)
    arguments = ("photometry", "peak", "--image", str(image), "--positions", str(tmp_path / "positions é.csv"))
    _dsa110(environment, *arguments, "--output", str(tmp_path / "fluxes ★.csv"))
    measured = pd.read_csv(tmp_path / "fluxes ★.csv", dtype={"name": str}, encoding="utf-8")
    assert measured["name"].tolist() == NAMES
    assert measured["flux_jy"].to_numpy() == pytest.approx(table["true_jy"].to_numpy(), abs=0.01)


def test_hostile_settings_of_the_environment_change_no_name_time_or_limit(database):
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", _PROGRAM, database.url],
        env={**os.environ, **HOSTILE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with database.session() as session:
        from dsa110_assets.registry.queries.sources import source_table

        assert source_table(session)["name"].tolist() == ["★α Lyré"]


OF_THE_LIBRARY = [
    "PGHOST", "PGSSLNEGOTIATION", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGREQUIREAUTH",
    "PGCHANNELBINDING", "PGSERVICE", "PGSERVICEFILE", "PGOPTIONS", "PGAPPNAME", "PGSSLMODE", "PGREQUIRESSL", "PGSSLCOMPRESSION",
    "PGSSLCERT", "PGSSLKEY", "PGSSLCERTMODE", "PGSSLROOTCERT", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLSNI", "PGREQUIREPEER",
    "PGSSLMINPROTOCOLVERSION", "PGSSLMAXPROTOCOLVERSION", "PGGSSENCMODE", "PGKRBSRVNAME", "PGGSSLIB", "PGGSSDELEGATION",
    "PGCONNECT_TIMEOUT", "PGCLIENTENCODING", "PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS", "PGMINPROTOCOLVERSION",
    "PGMAXPROTOCOLVERSION", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGSYSCONFDIR", "PGLOCALEDIR",
]  # fmt: skip
"""All variables of libpq: chapter "Environment Variables" of PostgreSQL's manual."""
OF_A_REMOTE_SERVER = [
    name for name in OF_THE_LIBRARY
    if name.startswith(("PGSSL", "PGGSS", "PGKRB", "PGREQUIRE", "PGPASS", "PGMIN", "PGMAX"))
    or name in ("PGCHANNELBINDING", "PGCONNECT_TIMEOUT", "PGSYSCONFDIR", "PGLOCALEDIR", "PGSERVICEFILE")
]  # fmt: skip
"""Those that a server of one's own may need; they stay if PIPELINE_DATABASE_URL names one, and then count."""
VALUES = st.one_of(
    st.sampled_from(["", "0", "1", "none", "LATIN1", "SQL_ASCII", "-c search_path=pg_catalog", "-c timezone=Asia/Kathmandu", "read-only"]),
    st.sampled_from(["prefer-standby", "/no/such/place", "192.0.2.1", "standby", "SQL, DMY", "Pacific/Kiritimati", "require", "disable"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20),
)


@settings(max_examples=examples(), deadline=None, suppress_health_check=list(HealthCheck))
@given(variables=st.dictionaries(st.sampled_from(OF_THE_LIBRARY), VALUES, min_size=1, max_size=12), own=st.booleans())
def test_property_no_variable_of_the_environment_changes_a_connection(database, variables, own):
    """``own``: the address of the server is set too, as for one that is not the embedded one."""
    set_there = {name: value for name, value in variables.items() if not (own and name in OF_A_REMOTE_SERVER)}
    environment = set_there | ({"PIPELINE_DATABASE_URL": database.url} if own else {})
    left = {name: value for name, value in environment.items() if name not in hostile(environment)}
    name, registry = "★α İ\\'", Database(database.url)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in left.items():
            patch.setenv(variable, value)
        try:
            with registry.session() as session:
                shown = [session.scalar(text(f"SHOW {what}")) for what in ("timezone", "datestyle", "client_encoding", "search_path")]
                found = session.execute(text("SELECT :name, current_setting('port'), length(:name)"), {"name": name}).one()
        finally:
            registry.engine.dispose()
    assert shown == ["UTC", "ISO, MDY", "UTF8", "public"]
    assert (found[0], found[2]) == (name, len(name))
    assert own or not left


@pytest.mark.parametrize("content", [b"", b"hello", b"PGDM"])
def test_what_is_no_backup_is_refused_for_good_before_anything_is_dropped(tmp_path, content):
    (tmp_path / "x.dump").write_bytes(content)
    with pytest.raises(NonRetriableError, match="is no backup"):
        check_archive(tmp_path / "x.dump")
