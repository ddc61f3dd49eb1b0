"""Simulated observations: raw subband files of a model sky, in exactly the correlator's format.

This package works from geometry alone and shares no code with the pipeline that it tests. Start with
`tile.simulate_tile` or `night.demo_plan`.
"""
