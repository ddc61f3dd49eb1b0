"""Reference catalogues: calibrators, the flux scale, and the catalogue sky that models, masks and photometry use.

What belongs here: reading published catalogues, building the read-only files under ``state/catalogs/``, looking things up in
them. What does not: anything measured by this telescope (`photometry`, `registry`) and the prediction of visibilities
(`calibration.model`).
"""
