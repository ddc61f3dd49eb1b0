"""Which tiles may be combined."""

import pytest

from dsa110_assets.errors import MosaicError
from dsa110_assets.mosaicking import make_mosaic
from dsa110_assets_tests.mosaicking.tile_files import strip


def test_an_empty_selection_and_a_tile_given_twice_are_refused(tmp_path):
    (tile,) = strip(tmp_path, 1, [], size=64)
    with pytest.raises(MosaicError, match="no tiles"):
        make_mosaic([], tmp_path, "none", provenance={})
    with pytest.raises(MosaicError, match=f"given twice: {tile.group_id}"):
        make_mosaic([tile, tile], tmp_path, "twice", provenance={})
