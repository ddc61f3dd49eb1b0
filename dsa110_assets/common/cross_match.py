"""Nearest neighbors on the sphere: the one cross-match of the platform. Time and memory are near-linear."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.directions import angular_separation_rad, unit_vectors


def nearest(
    ra_deg: ArrayLike, dec_deg: ArrayLike, other_ra_deg: ArrayLike, other_dec_deg: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The nearest of the other directions for each direction.

    Args:
        ra_deg, dec_deg: directions, shape (N,).
        other_ra_deg, other_dec_deg: directions to choose from, shape (M,), M > 0.

    Returns:
        Index of the nearest other direction, shape (N,), and its distance in degrees, shape (N,). Of equally near ones,
        any.
    """
    from scipy.spatial import cKDTree

    ra, dec, other_ra, other_dec = (np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in (ra_deg, dec_deg, other_ra_deg, other_dec_deg))
    index = np.asarray(cKDTree(unit_vectors(other_ra, other_dec)).query(unit_vectors(ra, dec))[1], dtype=np.intp)
    separation = angular_separation_rad(*(np.radians(a) for a in (ra, dec, other_ra[index], other_dec[index])))
    return index, np.degrees(separation)


def linked_pairs(ra_deg: ArrayLike, dec_deg: ArrayLike, radius_deg: float) -> NDArray[np.intp]:
    """All pairs of directions closer than ``radius_deg``, shape (Npairs, 2), each pair once."""
    from scipy.spatial import cKDTree

    return cKDTree(unit_vectors(ra_deg, dec_deg)).query_pairs(_chord(radius_deg), output_type="ndarray")


def pairs_between(
    ra_deg: ArrayLike, dec_deg: ArrayLike, other_ra_deg: ArrayLike, other_dec_deg: ArrayLike, radius_deg: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of directions and of the other directions that are closer than ``radius_deg``, shape (Npairs,) each."""
    from scipy.spatial import cKDTree

    trees = cKDTree(unit_vectors(ra_deg, dec_deg)), cKDTree(unit_vectors(other_ra_deg, other_dec_deg))
    pairs = trees[0].sparse_distance_matrix(trees[1], _chord(radius_deg), output_type="ndarray")
    return pairs["i"], pairs["j"]


def _chord(angle_deg: float) -> float:
    """Distance between the ends of two unit vectors."""
    return 2.0 * float(np.sin(np.radians(angle_deg) / 2.0))
