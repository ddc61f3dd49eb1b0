"""The content of a product: its files (`content`) and its rows in the registry."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from dsa110_assets import content, publication
from dsa110_assets.registry.schema import ProductVersion
from dsa110_assets.stages.table import TABLE


def parts_of(session: Session, product: str, key: str, path: Path | None) -> content.Parts:
    """Digests of all parts of a product as it is now; empty if it has neither files nor rows of its own.

    Args:
        session: open transaction; rows that it has written count.
        product, key: the product.
        path: its file or directory; None for a product without files.
    """
    found = {} if path is None else content.parts(path)
    read = TABLE[product].rows_function()
    if read is not None:
        for name, frame in read(session, key).items():
            found |= content.of_frame(f"registry {name}", frame)
    return found


def agrees(session: Session, version: ProductVersion) -> bool:
    """Whether the files and rows of a product say what was registered as its current version.

    Later nights change the rows of cumulative products, so only the size of their files is compared.
    """
    path = None if version.path is None else Path(version.path)
    if version.checksum is None:
        return True  # never computed, by an earlier release
    if version.product in TABLE and TABLE[version.product].is_cumulative:
        return path is None or version.size_bytes == publication.size_bytes(path)
    if not version.checksum.startswith(content.KIND):
        return path is None or content.agrees(path, version.checksum)
    return content.checksum(parts_of(session, version.product, version.key, path)) == version.checksum
