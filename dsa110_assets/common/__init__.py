"""Code that calibration, imaging, mosaicking and photometry share.

It lies below all packages of the domain and imports none of them. Keep out what only one package needs, and
everything about the queue, the registry or Dagster.
"""
