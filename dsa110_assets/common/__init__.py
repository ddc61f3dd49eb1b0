"""Common ground of the domain: what calibration, imaging, mosaicking and photometry share and what belongs to none of them.

It lies below all packages of the domain and imports none of them. What does not belong here: anything that only one package
needs, and anything about the queue, the registry or Dagster.
"""
