"""Reference catalogs: calibrators, the flux scale, and the catalog sky that models, masks and photometry use.

The package reads published catalogs, builds the read-only files under ``state/catalogs/``, and searches them.
Measurements of this telescope belong to `photometry` and `registry`, predictions of visibilities to
`calibration.model`.
"""
