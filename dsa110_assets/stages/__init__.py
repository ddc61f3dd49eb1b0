"""The stages, which make the products; the queue, operations, provenance, and work by hand.

Assets and commands both call stages, so that a product made by hand is the same as one made by the platform. A
stage orders the steps and ends with one transaction. What does not belong here: numerical work (the domain packages),
Dagster, printing.
"""
