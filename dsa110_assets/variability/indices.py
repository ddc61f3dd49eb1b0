"""Variability indices of each source, by their published definitions.

With fluxes I_i, errors sigma_i, weights w_i = 1 / sigma_i^2 (pitfall 19: not 1 / sigma_i), N epochs and bars for means:

* ``eta = N / (N - 1) (mean(w I^2) - mean(w I)^2 / mean(w))``, the reduced chi-square of a constant, and ``V = s /
  mean(I)``, ``s^2 = N / (N - 1) (mean(I^2) - mean(I)^2)`` (Swinbank et al. 2015, A&C 11, 25, section on variability;
  Rowlinson et al. 2019, A&C 27, 111). eta is computed as ``sum w (I - I_w)^2 / (N - 1)``, which is the same without
  cancellation.
* ``Vs = (S_1 - S_2) / sqrt(sigma_1^2 + sigma_2^2)``, ``m = 2 (S_1 - S_2) / (S_1 + S_2)`` of the pair with the largest
  |Vs|, S_1 the earlier (Mooley et al. 2016, ApJ 818, 105, section 5). Their criterion is |Vs| > 4.3 and |m| > 0.26.
* debiased modulation index ``sqrt(mean((S - mean S)^2) - mean(sigma^2)) / mean S``, negative if the root's argument is
  negative (Bell et al. 2014, MNRAS 438, 352).
* ``chi2`` about the weighted mean and the probability of exceeding it with N - 1 degrees of freedom.
"""

from __future__ import annotations

import pandas as pd

from dsa110_assets.variability.lightcurves import LightCurves
from dsa110_assets.variability.totals import Totals


def metrics(light_curves: LightCurves) -> pd.DataFrame:
    """Variability indices, one row for each source in the order of ``light_curves.source_id``.

    Returns:
        ``source_id, n_epochs, mean_flux_jy, weighted_mean_flux_jy, weighted_mean_flux_err_jy, min_flux_jy, max_flux_jy,
        eta, v, modulation_index`` (debiased), ``chi2, vs, m, chi2_probability, vs_mjd_1, vs_mjd_2`` (times of the
        pair). Columns that need two epochs are NaN for a source with one.

    Raises:
        LightCurveError: the light curves are not normalized.
    """
    return Totals.of(light_curves).indices()
