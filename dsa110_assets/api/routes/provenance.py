"""Versions of products: where they come from, what was made from them, and their files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse
from pydantic import create_model

from dsa110_assets.api import files
from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import (
    BINARY,
    MOST_EDGES,
    Cursor,
    File,
    Limit,
    ProductName,
    Text,
    VersionId,
    key_of,
    list_of,
    model_of,
    page_of,
    paged,
)
from dsa110_assets.errors import NotFoundError
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries import pages
from dsa110_assets.registry.schema import ProductVersion

router = APIRouter()
Version = model_of("Version", pages.VERSION)
Provenance = create_model(
    "Provenance",
    __base__=Version,
    is_current=(bool, ...),
    n_inputs=(int, ...),
    made_from=(list_of(Version), ...),
    used_for=(list_of(Version), ...),
)


@router.get("/api/products/{product}/versions", tags=["provenance"], response_model=page_of(Version))
def list_versions(
    opened: Opened, request: Request, product: ProductName, key: Text = None, cursor: Cursor = None, limit: Limit = 100
) -> dict[str, Any]:
    """Versions of a product, the newest key first; with ``key`` (observation, hour or night), its own, newest first."""
    kinds = (int,) if key is not None else (str, int)
    with opened.session() as session:
        page = pages.versions(session, product, key=key, after=key_of(cursor, *kinds), limit=limit)
    return paged(request, page)


@router.get("/api/versions/{version_id}", tags=["provenance"], response_model=Provenance)
def show_version(opened: Opened, version_id: VersionId) -> dict[str, Any]:
    """Provenance of one version, up and down: the versions it was made from, and those that were made from it."""
    with opened.session() as session:
        version = _version(session, version_id)
        current = current_version(session, version.product, version.key)
        return {str(column.key): getattr(version, str(column.key)) for column in pages.VERSION} | {
            "is_current": current is not None and current.version_id == version_id,
            "n_inputs": len(version.inputs),
            "made_from": pages.inputs_of(session, version, limit=MOST_EDGES),
            "used_for": pages.made_from(session, version, limit=MOST_EDGES),
        }


@router.get("/api/versions/{version_id}/files", tags=["files"])
def list_files(opened: Opened, version_id: VersionId) -> list[File]:
    """Files of a version: FITS images, pictures, tables."""
    with opened.session() as session:
        version = _version(session, version_id)
        files.check_current(session, version)
    return [File(**one) for one in files.listed(version)]


@router.get("/api/versions/{version_id}/files/{name}", tags=["files"], responses=BINARY, response_class=FileResponse)
def download(
    opened: Opened, version_id: VersionId, name: Annotated[str, InPath(max_length=200, pattern=files.FILE_NAME.pattern)]
) -> FileResponse:
    """Download a file of a version; ranges work. The address never changes its content: 410 once it was replaced."""
    with opened.session() as session:
        version = _version(session, version_id)
        files.check_current(session, version)
    return files.download(version, name)


def _version(session: Any, version_id: int) -> ProductVersion:
    version = pages.version(session, version_id)
    if version is None:
        raise NotFoundError(f"version {version_id}", "there is no version of this number", "list them: /api/products/PRODUCT/versions")
    return version
