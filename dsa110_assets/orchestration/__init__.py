"""All code that imports Dagster: assets, sensors, schedules, checks, resources.

It is thin: an asset reads its partition, calls one function of `stages`, and turns the result into metadata. What does
not belong here: numerical work, SQL, file names.
"""
