"""Pitfall 43: two tables with other bytes say the same, so nothing that was made from them is stale."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsa110_assets import content, publication
from dsa110_assets.registry import provenance
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe


def _table(path: Path, order: list[int]) -> Path:
    """A table with the same values, but with its columns stored in another order."""
    from casacore.tables import makearrcoldesc, makescacoldesc, maketabdesc, table

    columns = [makearrcoldesc("DATA", 0j, 2), makescacoldesc("NAME", "")]
    with table(str(path), maketabdesc(columns), nrow=6, ack=False) as opened:
        for row in order:  # the order of writing decides where values are stored
            opened.putcell("DATA", row, np.full((2, 4), row + 0.5j))
            opened.putcell("NAME", row, "antenna" * (row + 1))
    return path


def test_pitfall_43_a_table_made_again_with_other_bytes_makes_nothing_stale(tmp_path: Path, database: Database) -> None:
    recipe = Recipe("code", "settings")
    today = {"measurement_set": recipe, "tile_image": recipe}
    with database.session() as session:
        used = 0
        for folder, order in (("first", [0, 1, 2, 3, 4, 5]), ("second", [5, 3, 1, 0, 4, 2])):
            (tmp_path / folder).mkdir()
            path = _table(tmp_path / folder / "a.ms", order)
            checksum = content.checksum(content.parts(path))
            version = provenance.record_version(session, "measurement_set", "a", path="/ms/a.ms", recipe=recipe, checksum=checksum)
            if not used:
                used = version
                provenance.record_version(session, "tile_image", "a", path="/images/a", inputs={"/ms/a.ms": used}, recipe=recipe)
        first, second = tmp_path / "first/a.ms", tmp_path / "second/a.ms"
        assert publication.checksum(first) != publication.checksum(second), "the bytes must differ for this test"
        assert provenance.stale(session, today) == []
