"""Nothing of the earlier user guide is lost: each of its items is a row of `migration.md`, and works as the row says.

The guide's commands are tried literally, with the program's name exchanged: each must be complete, and each of its
options known. What they do is tested with the commands themselves.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from fastapi.routing import APIRoute
from sqlalchemy import text

from dsa110_assets.api.app import create_app
from dsa110_assets.api.pages import ROUTERS
from dsa110_assets.cli.main import app
from dsa110_assets.config import PipelineConfig
from dsa110_assets_tests.docs.named_commands import ROOT

PAGE = ROOT / "docs/operators/migration.md"
GUIDE = ROOT.parent / "shared/earlier_user_guide.md"
EXCHANGED = {
    "python -m dsa110_contimg.conversion.streaming.streaming_converter": "dsa110 up",
    "python -m dsa110_contimg.conversion.cli": "dsa110 convert",
    "python -m dsa110_contimg.calibration.cli": "dsa110",
    "python -m dsa110_contimg.imaging.cli": "dsa110",
    "python -m dsa110_contimg.mosaic.cli": "dsa110 mosaic",
    "python -m dsa110_contimg.photometry.cli": "dsa110 photometry",
    "python -m dsa110_contimg.docsearch.cli": "dsa110 docs",
    "python -m dsa110_contimg.absurd.worker": "dsa110 worker",
    "python scripts/mosaic/create_mosaic_centered.py": "dsa110 mosaic create",
    "./scripts/preflight-check.sh": "dsa110 preflight",
    "sqlite3 /data/dsa110-contimg/state/db/pipeline.sqlite3": "dsa110 db query",
}
COMMANDS = (
    """
./scripts/preflight-check.sh
sqlite3 /data/dsa110-contimg/state/db/pipeline.sqlite3 "SELECT COUNT(*) FROM ms_index;"
sqlite3 /data/dsa110-contimg/state/db/pipeline.sqlite3 "SELECT state, COUNT(*) FROM ingest_queue GROUP BY state;"
python -m dsa110_contimg.conversion.streaming.streaming_converter --input-dir /data/incoming --output-dir /stage/dsa110-contimg/ms \
 --scratch-dir /stage/dsa110-contimg --chunk-duration 5.0 --omp-threads 4
python -m dsa110_contimg.conversion.cli groups /data/incoming /stage/dsa110-contimg/ms "2025-12-01T00:00:00" "2025-12-01T06:00:00"
python -m dsa110_contimg.conversion.cli groups --calibrator "3C286" /data/incoming /stage/dsa110-contimg/ms
python -m dsa110_contimg.conversion.cli groups --dry-run /data/incoming /stage/dsa110-contimg/ms "2025-12-01T00:00:00" "2025-12-01T01:00:00"
python -m dsa110_contimg.conversion.cli groups --find-only --skip-existing --no-rename-calibrator-fields --writer parallel-subband IN OUT
python -m dsa110_contimg.conversion.cli groups --writer auto IN OUT
python -m dsa110_contimg.calibration.cli calibrate --ms /path/to/observation.ms --field 0 --refant 103
python -m dsa110_contimg.calibration.cli calibrate --ms a.ms --do-k --skip-bp --skip-g --bp-minsnr 3.0 --gain-solint inf
python -m dsa110_contimg.calibration.cli apply --ms /path/to/observation.ms --caltable /path/to/calibration.bcal
python -m dsa110_contimg.imaging.cli image --ms /path/to/observation.ms --imagename /path/to/output.img
python -m dsa110_contimg.imaging.cli image --ms /path/to/observation.ms --imagename /path/to/output.img --mask-radius-arcsec 60.0
python -m dsa110_contimg.imaging.cli image --ms /path/to/observation.ms --imagename /path/to/output.img --no-nvss-mask
python -m dsa110_contimg.mosaic.cli plan --products-db state/db/products.sqlite3 --name night_2025_12_01 --since 2025-12-01T00:00:00 \
 --until 2025-12-01T06:00:00
python -m dsa110_contimg.mosaic.cli build --products-db state/db/products.sqlite3 --name night_2025_12_01 \
 --output /stage/dsa110-contimg/mosaics/night_2025_12_01.img
python scripts/mosaic/create_mosaic_centered.py --calibrator 0834+555 --timespan-minutes 50
python -m dsa110_contimg.photometry.cli peak --image /path/to/image.fits --output /path/to/photometry.csv
python -m dsa110_contimg.photometry.cli adaptive --image /path/to/image.fits --output /path/to/photometry.csv
python -m dsa110_contimg.docsearch.cli search "your query"
python -m dsa110_contimg.absurd.worker --database-url "postgresql://localhost/dsa110_absurd" --queue "dsa110-pipeline" --concurrency 4
python -m dsa110_contimg.conversion.cli --help
python -m dsa110_contimg.calibration.cli --help
python -m dsa110_contimg.imaging.cli --help
python -m dsa110_contimg.mosaic.cli --help
python -m dsa110_contimg.photometry.cli --help
""".replace("\\\n ", "")
    .strip()
    .splitlines()
)
DEFAULTS = {
    "PIPELINE_INPUT_DIR": "/data/incoming", "PIPELINE_OUTPUT_DIR": "/stage/dsa110-contimg/ms", "PIPELINE_SCRATCH_DIR": "/stage/dsa110-contimg",
    "PIPELINE_STATE_DIR": "state", "PIPELINE_WRITER": "auto", "PIPELINE_MAX_WORKERS": "4", "PIPELINE_EXPECTED_SUBBANDS": "16",
    "PIPELINE_CAL_BP_MINSNR": "3.0", "PIPELINE_CAL_GAIN_SOLINT": "inf", "PIPELINE_DEFAULT_REFANT": "103", "PIPELINE_GRIDDER": "wgridder",
    "PIPELINE_USE_NVSS_MASK": "True", "PIPELINE_MASK_RADIUS_ARCSEC": "60.0",
}  # fmt: skip
ADDRESSES = """GET /api/status|GET /api/streaming/status|POST /api/streaming/start|POST /api/streaming/stop|GET /api/data/observations
GET /api/data/images|POST /api/mosaic/create|GET /api/mosaic/status/{name}|GET /api/absurd/metrics|GET /api/absurd/tasks
POST /api/absurd/tasks|GET /api/absurd/tasks/{id}|DELETE /api/absurd/tasks/{id}""".replace("\n", "|").split("|")
FLAGS = (
    "--dry-run",
    "--calibrator",
    "--find-only",
    "--skip-existing",
    "--no-rename-calibrator-fields",
    "--writer",
    "--input-dir",
    "--output-dir",
    "--scratch-dir",
    "--chunk-duration",
    "--omp-threads",
    "--ms",
    "--field",
    "--refant",
    "--do-k",
    "--skip-bp",
    "--skip-g",
    "--bp-minsnr",
    "--gain-solint",
    "--caltable",
    "--imagename",
    "--mask-radius-arcsec",
    "--no-nvss-mask",
    "--products-db",
    "--name",
    "--since",
    "--until",
    "--output",
    "--timespan-minutes",
    "--image",
    "--database-url",
    "--queue",
    "--concurrency",
)
OTHERS = (
    """conda activate casa6|import dsa110_contimg|./scripts/preflight-check.sh|curl http://localhost:8000/api/status|from_env(validate_paths=False)
contimg-api|contimg-stream|dsa110-contimg-dashboard|contimg-docs|contimg-absurd-worker|journalctl -u contimg-stream -f --no-pager
journalctl -u contimg-api -n 100 --no-pager|journalctl -u contimg-stream --since "1 hour ago"|uvicorn dsa110_contimg.api.app:app|npm run dev
systemctl enable --now dsa110-contimg-dashboard|start-dashboard-tmux.sh|tmux attach -t dsa110-dashboard|http://localhost:8000/metrics
http_requests_total|http_request_duration_seconds|http_requests_in_progress|http://localhost:3030|Request rate by endpoint|Latency heatmap
Error rate (4xx/5xx)|Memory usage|Active connections|http://localhost:3210/ui/|http://localhost:5173|/dashboard|/observations|/images|/mosaics
/control-panel|/carta|Pipeline Status Panel|System Health Panel|ESE Candidates Panel|source count|service restart|dsa110_contimg.absurd.worker
AbsurdClient|spawn_task|mosaic_build|CronTrigger|NightlyMosaicPipeline|cartavis/carta:latest|VITE_CARTA_BACKEND_URL|VITE_CARTA_FRONTEND_URL
collecting|pending|in_progress|completed|failed|http://localhost:8000/api/docs|/data/incoming/|/stage/dsa110-contimg/ms/
/stage/dsa110-contimg/images/|/stage/dsa110-contimg/mosaics/|/data/dsa110-contimg/state/db/|/data/dsa110-contimg/state/logs/
state/db/pipeline.sqlite3|state/db/ingest.sqlite3|state/db/products.sqlite3|state/catalogs/vla_calibrators.sqlite3|TROUBLESHOOTING.md
docsearch.cli search "your query"|/data/dsa110-contimg|frontend/.env|http://localhost:9002|scheduler.register_pipeline|enabled=True
https://github.com/dsa110/dsa110-contimg/issues|conversion.cli --help|integration mode Iframe""".strip()
    .replace("\n", "|")
    .split("|")
)
PORTS = (3000, 3210, 6006, 8000, 8001, 3030, 9090, 9002)


def rows() -> list[tuple[str, str]]:
    """Both columns of all rows."""
    found = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| earlier |"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            assert len(cells) == 2, line
            found.append((cells[0].strip(), cells[1].strip()))
    return found


@pytest.mark.parametrize(
    "item", [*DEFAULTS, *ADDRESSES, *FLAGS, *OTHERS, *(name.removeprefix("python ").removeprefix("-m ") for name in EXCHANGED)]
)
def test_each_item_of_the_guide_is_a_row(item: str) -> None:
    assert any(re.search(rf"(?<![\w-]){re.escape(item.strip())}(?![\w-])", left) for left, _ in rows()), item


@pytest.mark.skipif(not GUIDE.is_file(), reason="the earlier guide is not beside the checkout")
def test_each_name_in_code_and_each_url_of_the_guide_is_on_the_page() -> None:
    """As the guide writes it, up to the interpreter, placeholders and the choices of an option."""
    guide, page = GUIDE.read_text(), PAGE.read_text()
    prose = re.sub(r"```.*?```", "", guide, flags=re.DOTALL)
    code = {re.sub(r" (NAME|\{.*\})$", "", one).removeprefix("python -m ") for one in re.findall(r"`([^`\n]+)`", prose)}
    urls = set(re.findall(r"https?://[^\s)`*]+", guide))
    assert len(code) > 80
    assert [one for one in sorted(code | urls) if one.removesuffix(" --help") not in page] == []


@pytest.mark.parametrize("port", PORTS)
def test_each_port_of_the_guide_is_a_row(port: int) -> None:
    assert any(left == str(port) for left, _ in rows())


def test_each_row_says_where_it_is_or_why_it_was_dropped() -> None:
    for left, right in rows():
        assert right, left
        if "dropped" in right:
            assert re.search(r"dropped(?: for now)?: \S", right), left


def test_no_port_is_called_dropped_on_which_a_service_of_ours_listens() -> None:
    ours = {
        port for file in (ROOT / "deploy/nginx").glob("*.conf") for port in re.findall(r"^\s*listen (?:\S*:)?(\d+)", file.read_text(), re.M)
    }
    assert ours
    assert [left for left, right in rows() if left in ours and "dropped" in right] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_the_guide_is_complete_here(line: str, tmp_path: Path) -> None:
    (tmp_path / "image.fits").touch()
    line = line.replace("/path/to/image.fits", str(tmp_path / "image.fits"))
    old = next(name for name in EXCHANGED if line.startswith(name))
    arguments = shlex.split(line.replace(old, EXCHANGED[old]))[1:]
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and arguments != ["--help"]:
        command = command.commands[arguments[0]]
        arguments = arguments[1:]
    if arguments != ["--help"]:
        command.make_context(line, arguments)  # raises for an unknown option, a missing argument, or a wrong value


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_variable_of_the_guide_has_its_default(name: str) -> None:
    field = PipelineConfig.model_fields[name.removeprefix("PIPELINE_").lower()]
    assert str(getattr(field.default, "value", field.default)) == DEFAULTS[name]


def test_each_address_of_the_guide_is_served(tmp_path: Path) -> None:
    described = create_app(PipelineConfig(state_dir=tmp_path)).openapi()["paths"]
    known = {f"{method.upper()} {re.sub(r'{[^}]*}', '{}', name)}" for name, methods in described.items() for method in methods}
    assert {re.sub(r"{[^}]*}", "{}", address) for address in ADDRESSES} - known == set()


def test_the_queries_of_the_guide_run_in_the_registry(database) -> None:
    queries = [shlex.split(line)[-1] for line in COMMANDS if line.startswith("sqlite3")]
    with database.session() as session:
        for query in queries:
            session.execute(text(query)).all()
    assert len(queries) == 2


def test_each_page_that_a_row_names_is_served() -> None:
    named = {name for _, right in rows() for name in re.findall(r"/ui/[a-z-]+", right)}
    assert {"/ui/dashboard", "/ui/control-panel"} <= named
    served = {route.path for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)}
    assert named - served == set()
