"""The median of a column leaves gaps out, and an empty column has none."""

import numpy as np

from dsa110_assets.common.figures import median


def test_the_median_leaves_gaps_and_infinities_out():
    assert median([3.0, np.nan, 1.0, np.inf, 2.0]) == 2.0
    assert median(np.array([], dtype=float)) is None
    assert median([np.nan]) is None
