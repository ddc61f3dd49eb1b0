"""Times of pages and API on a registry of a year, under 50 users: `python -m benchmarks.api_load` or `make load`.

`benchmarks.year` makes the registry (365 nights of 250 observations, 60 000 sources, 22 million fluxes). Database and
API are restarted before the users come, and the database's files are dropped from the page cache. Each user asks for a
random address with random identifiers, and pauses for 5 s (2.5 to 7.5) after the answer, so that no two answers are
alike. The users are in a process of their own, whose CPU time is printed with that of the API and the database. The API
is `dsa110 api`, as `dsa110 up` starts it. The Dagster UI does not run: what comes from there says so.

Limits, p95: lists, pages and light curves 200 ms, cut-outs 300 ms, first byte of a FITS file of 64 MB 50 ms. Memory of
the API is taken every 5 s; it is flat if the last quarter needs less than 10 % more than the second. ``--beside 3``
grids and cleans in three processes meanwhile, as tiles do, as far as the machine allows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

import httpx2
import numpy as np
import psutil
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.year import Server, Year
from dsa110_assets.cli.services import free_port, stop_tree
from dsa110_assets.config import PipelineConfig
from dsa110_assets.products import image_path
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries.antennas import ANTENNAS
from dsa110_assets.registry.server import embedded_server, stop_server

LIMITS_MS = {"page": 200.0, "list": 200.0, "light curve": 200.0, "cut-out": 300.0, "file": 50.0}
PIXELS = 4096
"""Rows and columns of an image: 64 MB."""
FILES = 12
"""Images, and as many mosaics, that have a file."""
SAMPLE_S = 5.0


@dataclass(frozen=True)
class Known:
    """Identifiers to choose from."""

    groups: list[str]
    mosaics: list[str]
    nights: list[str]
    sources: int
    events: list[int]
    places: list[tuple[float, float]]
    images: list[tuple[str, float, float]]
    pictures: list[tuple[str, float, float]]
    files: list[str]
    antennas: list[str]
    calibrators: list[str]
    versions: list[int]
    measured: list[tuple[int, str]]


def known_of(session: Session, images: Sequence[str], mosaics: Sequence[str]) -> Known:
    """Read the identifiers of a registry. ``images``, ``mosaics``: those that have a file."""

    def column(statement: str) -> list:
        return list(session.scalars(text(statement)).all())

    rows = session.execute(text("SELECT group_id, ra_deg, dec_deg FROM images WHERE group_id = ANY(:of)"), {"of": list(images)}).all()
    pictures = session.execute(text("SELECT name, ra_deg, dec_deg FROM mosaics WHERE name = ANY(:of)"), {"of": list(mosaics)}).all()
    versions = session.execute(
        text("SELECT version_id, key FROM product_versions WHERE product = 'tile_image' AND key = ANY(:of)"), {"of": list(images)}
    ).all()
    calibrators = column("SELECT group_id FROM caltables ORDER BY group_id DESC LIMIT 500")
    named = session.execute(text("SELECT quality -> :antennas FROM caltables ORDER BY night DESC LIMIT 1"), {"antennas": ANTENNAS}).scalar()
    measured = session.execute(
        text(
            "SELECT p.source_id, p.mosaic_name FROM photometry p JOIN sources s USING (source_id) JOIN mosaics m ON m.name = p.mosaic_name "
            "WHERE p.mosaic_name = ANY(:of) AND abs(s.ra_deg - m.ra_deg) < 1 AND abs(s.dec_deg - m.dec_deg) < 1"
        ),
        {"of": list(mosaics)},
    ).all()
    places = session.execute(text("SELECT ra_deg, dec_deg FROM sources ORDER BY random() LIMIT 2000")).all()
    return Known(
        groups=column("SELECT group_id FROM ingest_queue"),
        mosaics=column("SELECT name FROM mosaics WHERE kind = 'hourly'"),
        nights=[str(one) for one in column("SELECT DISTINCT night FROM ingest_queue")],
        sources=column("SELECT max(source_id) FROM sources")[0],
        events=column("SELECT event_id FROM candidate_events"),
        places=[(float(ra), float(dec)) for ra, dec in places],
        images=[(str(name), float(ra), float(dec)) for name, ra, dec in rows],
        pictures=[(str(name), float(ra), float(dec)) for name, ra, dec in pictures],
        antennas=sorted(named or {}),
        calibrators=calibrators,
        versions=[int(number) for number, _ in versions],
        measured=[(int(number), str(name)) for number, name in measured],
        files=[f"/api/versions/{number}/files/{image_path(Path(), key, 'image-pb').name}" for number, key in versions],
    )


def addresses(known: Known, rng: random.Random) -> dict[str, tuple[str, str]]:
    """What users ask for: kind and address, by name; each call chooses identifiers anew."""
    group, mosaic, night, source = (
        rng.choice(known.groups),
        rng.choice(known.mosaics),
        rng.choice(known.nights),
        rng.randint(1, known.sources),
    )
    ra, dec = rng.choice(known.places)
    image, image_ra, image_dec = rng.choice(known.images)
    picture, picture_ra, picture_dec = rng.choice(known.pictures)
    near, far = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
    event = rng.choice(known.events)
    calibrator, version = rng.choice(known.calibrators), rng.choice(known.versions)
    pages = {
        "dashboard": "/ui/dashboard",
        "observations": f"/ui/observations?since={night}",
        "observation": f"/ui/observations/{group}",
        "images": f"/ui/images?until={night}",
        "image": f"/ui/images/{group}",
        "mosaics": f"/ui/mosaics?until={night}",
        "mosaic": f"/ui/mosaics/{mosaic}",
        "sources": f"/ui/sources?ra_deg={ra}&dec_deg={dec}&radius_deg=1",
        "sources by score": "/ui/sources",
        "source": f"/ui/sources/{source}",
        "source, one point": f"/ui/sources/{source}/point?epoch={mosaic}",
        "candidates": "/ui/candidates",
        "candidate": f"/ui/candidates/{event}",
        "candidate, look": f"/ui/candidates/{event}/look",
        "antennas": "/ui/antennas",
        **(
            {
                "antenna": f"/ui/antennas/{rng.choice(known.antennas)}",
                "before a mark on an antenna": f"/ui/antennas/marks/new?antenna={rng.choice(known.antennas)}&since={night}T05:00&until={night}T06:00&reason=warm",
            }
            if known.antennas
            else {}
        ),
        "mosaics by verdict": f"/ui/mosaics?verdict=good&until={night}",
        "mosaics by noise": "/ui/mosaics?sort=noise",
        "new mosaic": f"/ui/mosaics/new?since={night}T05:00&until={night}T06:00",
        "before a mark": f"/ui/observations/{group}/mark?kind=tile&decision=bad&reason=artifacts",
        "make again": f"/ui/observations/{group}/again?start=tile_image",
        "plan of a backfill": f"/ui/control-panel/backfill?first_night={night}",
        "own sky model": "/ui/sky-model",
        "source, small curve": f"/ui/sources/{source}/curve",
        "source, film strip": f"/ui/sources/{source}/strip",
        "stale products": "/ui/control-panel/stale",
        **{f"dashboard, {part}": f"/ui/dashboard/parts/{part}" for part in ("chain", "calibrations", "quality", "sky")},
        "viewer": f"/ui/viewer?image={group}",
        "search for a position": f"/ui/search?q={quote(f'{ra:.4f} {dec:+.4f}')}",
        "shift": f"/ui/shift?night={night}",
        "morning report": f"/ui/shift/report?night={night}",
        "actions": "/ui/shift/actions",
        "refused files": "/ui/refused-files",
        "marks": "/ui/marks",
        "marks, again": "/ui/marks/again",
        "control panel": "/ui/control-panel",
    }
    lists = {
        "api: observations": f"/api/data/observations?since={night}",
        "api: oldest observations": "/api/data/observations?order=asc",
        "api: failed observations": f"/api/data/observations?state=failed&until={night}",
        "api: observation": f"/api/data/observations/{group}",
        "api: images": f"/api/data/images?until={night}&limit=1000",
        "api: images near": f"/api/data/images?ra_deg={ra}&dec_deg={dec}&radius_deg=2",
        "api: images by noise": "/api/data/images?sort=noise",
        "api: addresses of images": f"/api/data/images/addresses?until={night}",
        "api: addresses of mosaics": f"/api/data/mosaics/addresses?until={night}&limit=100",
        "api: good mosaics": f"/api/data/mosaics?verdict=good&until={night}",
        "api: mosaics by noise": "/api/data/mosaics?sort=noise&order=desc",
        "api: detections of a mosaic": f"/api/data/mosaics/{mosaic}/detections",
        "api: calibration": f"/api/calibrations/{calibrator}",
        "api: candidate": f"/api/candidates/{event}",
        "api: candidates by depth": "/api/candidates?sort=depth",
        "api: version": f"/api/versions/{version}",
        "api: files of a version": f"/api/versions/{version}/files",
        "api: channels of a source": f"/api/sources/{source}/channels",
        "api: sources up to a flux": f"/api/sources?sort=flux&max_flux_jy={rng.uniform(0.01, 0.1):.4f}",
        "api: marks": "/api/marks",
        "api: marks of an observation": f"/api/data/observations/{group}/marks",
        "api: marks on antennas": "/api/antennas/marks",
        "api: excluded epochs": "/api/epochs/excluded",
        "api: refused files": "/api/data/refused-files",
        "api: sky model": f"/api/sky-model?ra_deg={ra}&dec_deg={dec}&radius_deg=1",
        "api: targets": "/api/targets",
        "api: shift": "/api/shift",
        "api: actions": "/api/actions",
        "api: fluxes measured at a position": f"/api/positions/fluxes?ra_deg={ra}&dec_deg={dec}",
        "api: state of a mosaic": f"/api/mosaic/status/{mosaic}",
        "api: streaming": "/api/streaming/status",
        "metrics": "/metrics",
        "api: image": f"/api/data/images/{group}",
        "api: mosaics": f"/api/data/mosaics?until={night}",
        "api: mosaic": f"/api/data/mosaics/{mosaic}",
        "api: sources measured in a mosaic": f"/api/data/mosaics/{mosaic}/sources",
        "api: day": f"/api/data/timeline/{night}",
        "api: timeline": "/api/data/timeline",
        "api: sources near": f"/api/sources?ra_deg={ra}&dec_deg={dec}&radius_deg=1",
        "api: sources of a name": f"/api/sources?name=Y{source // 100:04d}",
        "api: sources by eta": f"/api/sources?sort=eta&min_flux_jy={rng.uniform(0, 0.1):.4f}",
        "api: sources by V": f"/api/sources?sort=v&max_eta={rng.uniform(2, 20):.3f}",
        "api: sources by score": "/api/sources?sort=score&limit=1000",
        "api: source": f"/api/sources/{source}",
        "api: population": "/api/sources/population",
        "api: epochs of a source": f"/api/sources/{source}/epochs",
        "api: epoch": f"/api/epochs/{mosaic}",
        "api: candidates": "/api/candidates",
        "api: calibrations": f"/api/calibrations?until={night}",
        "api: quality": f"/api/quality/tile_image?metric=noise_over_thermal&until={night}",
        "api: versions": "/api/products/tile_image/versions",
        "api: images at a position": f"/api/positions/images?ra_deg={ra}&dec_deg={dec}",
        "api: transit": f"/api/positions/transit?ra_deg={ra}&dec_deg={dec}",
        "api: status": "/api/status",
        "api: alerts": "/api/alerts",
        "api: morning report": f"/api/shift/report?night={night}",
        "api: antennas": "/api/antennas",
        "api: stale": "/api/stale",
        "api: events": "/api/events",
    }
    curves = {
        "light curve": f"/api/sources/{source}/lightcurve",
        "light curve, CSV": f"/api/sources/{source}/lightcurve?format=csv",
        "light curve, VOTable": f"/api/sources/{source}/lightcurve?format=votable",
        "light curve, Parquet": f"/api/sources/{source}/lightcurve?format=parquet",
    }
    cuts = {
        "cut-out of an image, FITS": f"/api/data/images/{image}/cutout?ra_deg={(image_ra + near) % 360}&dec_deg={image_dec + far}",
        "cut-out of an image, PNG": f"/api/data/images/{image}/cutout?ra_deg={(image_ra + near) % 360}&dec_deg={image_dec + far}&format=png",
        **({"cut-out of a source": "/api/sources/{}/epochs/{}/cutout".format(*rng.choice(known.measured))} if known.measured else {}),
        "cut-out of a mosaic, 50 arcmin": f"/api/data/mosaics/{picture}/cutout?ra_deg={(picture_ra + near) % 360}"
        f"&dec_deg={picture_dec + far}&size_arcmin=50",
    }
    files = {"first byte of 64 MB": rng.choice(known.files)}
    kinds = {"page": pages, "list": lists, "light curve": curves, "cut-out": cuts, "file": files}
    return {name: (kind, address) for kind, of_kind in kinds.items() for name, address in of_kind.items()}


# --- the users, in a process of their own --------------------------------------------------------------------------
async def user(url: str, known: Known, rng: random.Random, end: float, pause_s: float, answers: list[tuple[str, str, float, int]]) -> None:
    """Ask and pause until the end."""
    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        await asyncio.sleep(rng.uniform(0, pause_s))
        while time.monotonic() < end:
            chosen = addresses(known, rng)
            name = rng.choice(list(chosen))
            kind, address = chosen[name]
            began = time.perf_counter()
            status = 0
            with suppress(httpx2.HTTPError):
                async with client.stream("GET", address) as answer:
                    parts = answer.aiter_raw()
                    await anext(parts, b"")
                    took = time.perf_counter() - began
                    async for _ in parts:
                        pass
                    if kind != "file":
                        took = time.perf_counter() - began
                    status = answer.status_code
            answers.append((kind, name, took if status else time.perf_counter() - began, status))
            await asyncio.sleep(pause_s * rng.uniform(0.5, 1.5))


def users(url: str, known_file: Path, output: Path, number: int, pause_s: float, minutes: float, seed: int) -> None:
    """Be all users; write the answers and this process's own CPU seconds."""
    known = Known(**json.loads(known_file.read_text()))
    answers: list[tuple[str, str, float, int]] = []
    delays: list[float] = []

    async def run() -> None:
        end = time.monotonic() + 60 * minutes

        async def lag() -> None:
            while time.monotonic() < end:
                began = time.perf_counter()
                await asyncio.sleep(0.1)
                delays.append(time.perf_counter() - began - 0.1)

        await asyncio.gather(lag(), *(user(url, known, random.Random(seed + one), end, pause_s, answers) for one in range(number)))

    asyncio.run(run())
    output.write_text(
        json.dumps({"answers": answers, "cpu_s": time.process_time(), "delay_p95_ms": 1e3 * float(np.quantile(delays, 0.95))})
    )


# --- files, servers, other work ------------------------------------------------------------------------------------
def make_files(database: Database, directory: Path) -> tuple[list[str], list[str]]:
    """Give some images and mosaics a file of 64 MB each; return their names. Those of an earlier call are kept."""
    from astropy.io import fits
    from astropy.wcs import WCS

    noted = directory / "files.json"
    if noted.is_file():
        images, mosaics, _ = json.loads(noted.read_text())
        return images, mosaics
    with database.session() as session:
        images = session.execute(
            text("SELECT group_id, directory, ra_deg, dec_deg FROM images ORDER BY random() LIMIT :n"), {"n": FILES}
        ).all()
        mosaics = session.execute(
            text("SELECT name, directory, ra_deg, dec_deg FROM mosaics WHERE kind = 'hourly' ORDER BY random() LIMIT :n"), {"n": FILES}
        ).all()
    rows = [(image_path(Path(place), name, "image-pb"), ra, dec) for name, place, ra, dec in images]
    rows += [(image_path(Path(place), name, "image"), ra, dec) for name, place, ra, dec in mosaics]
    pixels = np.random.default_rng(1).normal(scale=5e-4, size=(PIXELS, PIXELS)).astype(np.float32)
    for path, ra, dec in rows:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [ra, dec], [-3 / 3600, 3 / 3600]
        wcs.wcs.crpix = [PIXELS / 2 + 1] * 2
        header = wcs.to_header()
        header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = "Jy/beam", 40 / 3600, 30 / 3600, 10.0
        fits.PrimaryHDU(pixels[None, None], header=header).writeto(path, overwrite=True)
        os.utime(path, (0, 0))
    found = [str(one[0]) for one in images], [str(one[0]) for one in mosaics]
    noted.write_text(json.dumps([*found, [str(path) for path, *_ in rows]]))
    return found


def forget_pages(directory: Path) -> None:
    """Drop what the page cache has of the files of a directory, as after a restart of the machine."""
    os.sync()
    for path in directory.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                handle = os.open(path, os.O_RDONLY)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(handle)


def tile_work() -> None:
    """Grid, transform and clean without end, as the imaging of a tile does: memory of 1 GB, both cores."""
    import ducc0

    rng = np.random.default_rng(os.getpid())
    n, size = 200_000, 2048
    uvw = rng.normal(scale=400.0, size=(n, 3))
    uvw[:, 2] *= 0.1
    frequencies = np.linspace(1.31e9, 1.50e9, 16)
    data = rng.normal(size=(n, 16)).astype(np.complex64)
    while True:
        image = ducc0.wgridder.vis2dirty(
            uvw=uvw, freq=frequencies, vis=data, npix_x=size, npix_y=size, pixsize_x=1.5e-5, pixsize_y=1.5e-5, epsilon=1e-4, nthreads=2
        )
        data = ducc0.wgridder.dirty2vis(
            uvw=uvw, freq=frequencies, dirty=image, pixsize_x=1.5e-5, pixsize_y=1.5e-5, epsilon=1e-4, nthreads=2
        ).astype(np.complex64)
        data /= np.abs(data).max()


@contextmanager
def served(year: Year) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Restart the database, and serve the API as in production; yield its process and address."""
    config = year.config()
    stop_server(config)
    forget_pages(config.state_dir)
    for name in json.loads((year.directory / "files.json").read_text())[2]:
        forget_pages(Path(name).parent)
    embedded_server(config).ensure()
    port = free_port()
    environment = year.environment() | {"PIPELINE_API_PORT": str(port), "PIPELINE_DAGSTER_PORT": str(free_port())}
    with (year.directory / "api.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "dsa110_assets.cli.main", "api"], env=environment, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 180
            while True:
                with suppress(httpx2.HTTPError):
                    if httpx2.get(f"{url}/api/ready", trust_env=False, timeout=30).is_success:
                        break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the API did not start: {year.directory / 'api.log'}")
                time.sleep(0.2)
            yield process, url
        finally:
            stop_tree(process.pid, 20)


@dataclass(frozen=True)
class Run:
    """What one run of the users gave: answers (kind, name, seconds, status), memory (s, MB), CPU seconds by process."""

    answers: list[tuple[str, str, float, int]]
    memory: list[tuple[float, float]]
    cpu_s: dict[str, float]
    delay_p95_ms: float
    load: float


def measure(year: Year, known: Known, arguments: argparse.Namespace, beside: int) -> Run:
    """Let the users ask, with so many processes of other work beside them."""
    known_file, output = year.directory / "known.json", year.directory / "answers.json"
    known_file.write_text(json.dumps(known.__dict__))
    with served(year) as (api, url):
        others = [subprocess.Popen([sys.executable, "-m", "benchmarks.api_load", "--as-tile"]) for _ in range(beside)]
        process, server = psutil.Process(api.pid), Server(year.config())
        before, database_before, began = sum(process.cpu_times()[:2]), server.cpu_s(), time.monotonic()
        memory: list[tuple[float, float]] = []
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(SAMPLE_S):
                memory.append((time.monotonic() - began, process.memory_info().rss / 1e6))

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            command = [sys.executable, "-m", "benchmarks.api_load", "--as-users", url, str(known_file), str(output)]
            options = ["--users", str(arguments.users), "--pause", str(arguments.pause), "--minutes", str(arguments.minutes)]
            subprocess.run([*command, *options, "--seed", str(arguments.seed)], check=True)
        finally:
            stop.set()
            sampler.join()
            for one in others:
                one.kill()
                one.wait()
        found = json.loads(output.read_text())
        wall = time.monotonic() - began
        cpu = {
            "API": sum(process.cpu_times()[:2]) - before,
            "database": server.cpu_s() - database_before,
            "users": found["cpu_s"],
            "wall": wall,
        }
        answers = [(kind, name, took, status) for kind, name, took, status in found["answers"]]
        return Run(answers, memory, cpu, found["delay_p95_ms"], os.getloadavg()[0])


def report(title: str, run: Run) -> list[str]:
    """Print a run; return what exceeds its limit."""
    problems: list[str] = []
    print(
        f"\n{title}: {len(run.answers)} answers, load {run.load:.1f}\n\n| address | answers | p50 ms | p95 ms | slowest ms |\n|---|---|---|---|---|"
    )
    names: dict[tuple[str, str], list[float]] = {}
    failed: dict[str, list[int]] = {}
    for kind, name, took, status in run.answers:
        names.setdefault((kind, name), []).append(1e3 * took)
        if status != 200:
            failed.setdefault(name, []).append(status)
    kinds: dict[str, list[float]] = {}
    for (kind, _), times in names.items():
        kinds.setdefault(kind, []).extend(times)
    for (kind, name), times in [
        *((key, names[key]) for key in sorted(names)),
        *(((kind, f"**every {kind}**"), kinds[kind]) for kind in sorted(kinds)),
    ]:
        p95 = float(np.quantile(times, 0.95))
        mark = " over" if p95 > LIMITS_MS[kind] else ""
        print(f"| {name} | {len(times)} | {np.median(times):.0f} | {p95:.0f}{mark} | {max(times):.0f} |")
        if mark:
            problems.append(f"{title}: {name}: p95 {p95:.0f} ms, at most {LIMITS_MS[kind]:.0f}")
    problems += [f"{title}: {name}: {len(statuses)} answers had status {sorted(set(statuses))}" for name, statuses in failed.items()]
    wall = run.cpu_s["wall"]
    shares = ", ".join(f"{name} {100 * spent / wall:.0f} %" for name, spent in run.cpu_s.items() if name != "wall")
    print(f"\nshare of a core: {shares}; users' event loop late by {run.delay_p95_ms:.1f} ms (p95)")
    quarter = len(run.memory) // 4
    if quarter:
        parts = [np.median([size for _, size in run.memory[number * quarter : (number + 1) * quarter]]) for number in range(4)]
        print("memory of the API, MB, by quarter: " + ", ".join(f"{size:.0f}" for size in parts))
        if parts[3] > 1.1 * parts[1]:
            problems.append(f"{title}: memory grew from {parts[1]:.0f} to {parts[3]:.0f} MB")
    return problems


def main() -> None:
    """Measure, print, and with ``--check`` fail if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--sources", type=int, default=60_000)
    parser.add_argument("--directory", type=Path, default=Path("build/year"))
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between an answer and the next question")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--beside", type=int, default=0, metavar="N", help="measure again with N processes that work as tiles do")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="exit code 1 if a limit is exceeded")
    parser.add_argument("--as-users", nargs=3, metavar=("URL", "KNOWN", "OUTPUT"), help=argparse.SUPPRESS)
    parser.add_argument("--as-tile", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_tile:
        tile_work()
        return
    if arguments.as_users:
        url, known_file, output = arguments.as_users
        users(url, Path(known_file), Path(output), arguments.users, arguments.pause, arguments.minutes, arguments.seed)
        return
    directory: Path = arguments.directory.absolute() / f"{arguments.nights}_nights_{arguments.sources}_sources"
    if not (directory / "year.json").is_file():
        raise SystemExit(f"there is no registry in {directory}; make it: python -m benchmarks.year --nights {arguments.nights}")
    year = Year(
        directory, arguments.nights, arguments.sources, date.fromisoformat(json.loads((directory / "year.json").read_text())["last"])
    )
    config: PipelineConfig = year.config()
    database = Database.connect(config)
    images, mosaics = make_files(database, directory)
    with database.session() as session:
        known = known_of(session, images, mosaics)
    database.dispose()
    problems = report("users alone", measure(year, known, arguments, 0))
    if arguments.beside:
        problems += report(f"with {arguments.beside} tiles beside them", measure(year, known, arguments, arguments.beside))
    stop_server(config)
    print("\n".join(["", *problems]) if problems else "\nall limits kept")
    if problems and arguments.check:
        sys.exit(1)


if __name__ == "__main__":
    main()
