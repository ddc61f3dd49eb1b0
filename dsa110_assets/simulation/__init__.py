"""Simulated observations: a sky goes in, raw subband files come out, in exactly the correlator's format.

This package works from geometry alone and shares no code with the path that it tests. It knows how the telescope writes,
not how the pipeline reads. Start with `tile.simulate_tile` or `night.demo_plan`.
"""
