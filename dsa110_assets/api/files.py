"""Files of products: lists, downloads, cut-outs. Everything here runs in a thread, beside the event loop.

No path comes from a request: a product is found by the number of its version, a file by its name in the product's own
directory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from sqlalchemy.orm import Session

from dsa110_assets.errors import GoneError, InvalidRequestError, NotFoundError, PublishError
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.schema import ProductVersion

if TYPE_CHECKING:
    from dsa110_assets.common.cut_outs import Cut

FILE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.:+-]{0,199}$")
BEAMS = 4.0
"""Width of a source's cut-out; those that stay when the mosaic's image is removed are as wide."""
_MEDIA = {
    ".fits": "application/fits",
    ".png": "image/png",
    ".csv": "text/csv",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".sqlite3": "application/vnd.sqlite3",
}
"""Files that are given out, by suffix."""
_CLOCK = timedelta(seconds=2)
_FOREVER = "public, max-age=31536000, immutable"


def as_path(directory: str) -> Path:
    """Directory of a product, from its row in the registry."""
    return Path(directory)


def address(version_id: int, name: str) -> str:
    """Address of a file of a version."""
    return f"/api/versions/{version_id}/files/{name}"


def listed(version: ProductVersion | None) -> list[dict[str, Any]]:
    """Files of a version that can be downloaded, by name. Their content is not read."""
    if version is None or version.path is None:
        return []
    path = Path(version.path)
    try:
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        return [
            {"name": one.name, "size_bytes": one.stat().st_size, "url": address(version.version_id, one.name)}
            for one in found
            if one.suffix in _MEDIA and FILE_NAME.match(one.name) and one.is_file() and not one.is_symlink()
        ]
    except OSError:  # removed meanwhile
        return []


def addresses(request: Request, found: Iterable[tuple[int | None, str]], following: str | None) -> PlainTextResponse:
    """Answer with the addresses of files, (version, name), one on each line; a ``Link`` header names the next page.

    What has no version (None) has no file. ``following``: path of the next page; None on the last one.
    """
    base = str(request.base_url).rstrip("/")
    lines = [f"{base}{address(version_id, name)}\n" for version_id, name in found if version_id is not None]
    headers = {} if following is None else {"Link": f'<{base}{following}>; rel="next"'}
    return PlainTextResponse("".join(lines), headers=headers)


def check_current(session: Session, version: ProductVersion) -> None:
    """Check that the files of a version are still there.

    Raises:
        GoneError: the product was made again; the next step names the newer version.
    """
    current = current_version(session, version.product, version.key)
    if current is not None and current.version_id != version.version_id:
        raise GoneError(
            f"version {version.version_id}",
            f"{version.product} {version.key} was made again",
            f"take the newer one: /api/versions/{current.version_id}/files",
        )


def download(version: ProductVersion, name: str) -> FileResponse:
    """Return a file of a version. It may be kept for ever, because the address names the version.

    Raises:
        NotFoundError: the version has no such file.
        PublishError: a newer version is being put into its place.
    """
    if name not in {one["name"] for one in listed(version)}:
        raise NotFoundError(
            f"file {name} of version {version.version_id}", "there is none", f"list them: /api/versions/{version.version_id}/files"
        )
    path = Path(str(version.path))
    path = path / name if path.is_dir() else path
    status = path.stat()
    if datetime.fromtimestamp(status.st_mtime, UTC) > version.created_at + _CLOCK:  # renamed into place, not yet registered
        raise PublishError(f"file {name} of version {version.version_id}", "is being replaced", "try again in some seconds")
    headers = {"Cache-Control": _FOREVER}
    return FileResponse(path, media_type=_MEDIA[path.suffix], filename=name, stat_result=status, headers=headers)


def cut_out(path: Path, ra_deg: float, dec_deg: float, size_arcmin: float, form: str, noise_jy_per_beam: float) -> Response:
    """Answer with a square of an image, as FITS or PNG. The PNG's colors go from -3 to 30 times the noise."""
    from dsa110_assets.common import cut_outs
    from dsa110_assets.common.previews import noise_stretch

    cut = cut_outs.cut_out(path, ra_deg, dec_deg, size_arcmin)
    stem = f"{path.stem}_{ra_deg:.4f}{dec_deg:+.4f}"
    return _picture(noise_stretch(30.0)(cut.pixels / noise_jy_per_beam), stem) if form == "png" else _fits(cut, stem)


def difference(
    first: Path, second: Path, ra_deg: float, dec_deg: float, size_arcmin: float, form: str, noise_jy_per_beam: float
) -> Response:
    """Answer with a square of the difference of two images. The PNG's colors go from -10 to 10 times the noise."""
    from dsa110_assets.common import cut_outs

    cut = cut_outs.difference(first, second, ra_deg, dec_deg, size_arcmin)
    stem = f"{first.stem}_minus_{second.stem}_{ra_deg:.4f}{dec_deg:+.4f}"
    return _picture(0.5 + cut.pixels / noise_jy_per_beam / 20.0, stem) if form == "png" else _fits(cut, stem)


def _picture(scaled: Any, stem: str) -> Response:
    import numpy as np

    from dsa110_assets.common.previews import png_of_pixels

    png = png_of_pixels(np.asarray(np.ma.filled(scaled, np.nan)))
    return Response(png, media_type="image/png", headers={"Content-Disposition": f'inline; filename="{stem}.png"'})


def _fits(cut: Cut, stem: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{stem}.fits"'}
    return Response(cut.file(), media_type="application/fits", headers=headers)


def stamp(
    directory: str, name: str, source_id: int, position: tuple[float, float], *, beams: float, colors: tuple[float, float], kept: bool
) -> Response:
    """PNG of a source in a mosaic, from the mosaic's image or from the cut-outs that stay when it is removed.

    Args:
        directory, name: of the mosaic.
        source_id: number of the source.
        position: RA, Dec, degrees.
        beams: width, major axes of the restoring beam.
        colors: brightness of the first and the last color, Jy/beam; linear between.
        kept: the address names the version, so that a browser may keep the answer.

    Raises:
        NotFoundError: neither image nor cut-out is there, or they do not cover the position.
        InvalidRequestError: the colors have no range.
    """
    import numpy as np

    from dsa110_assets.common.previews import png_of_pixels
    from dsa110_assets.stages.products.candidates import stamp_of

    low, high = colors
    if not high > low:
        raise InvalidRequestError("high_jy", f"{high} is not above low_jy, {low}", "give a range of colors")
    values = stamp_of(Path(directory), name, source_id, *position, beams=beams)
    if values is None:
        raise NotFoundError(
            f"mosaic {name}",
            f"has neither an image nor a cut-out of source {source_id}",
            "they were removed; `dsa110 clean` tells the rules",
        )
    headers = {"Cache-Control": _FOREVER} if kept else {}
    scaled = np.clip((values - low) / (high - low), 0.0, 1.0)
    return Response(png_of_pixels(scaled), media_type="image/png", headers=headers)
