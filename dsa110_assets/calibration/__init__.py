"""Calibration: from a calibrator's tile to solutions, and from solutions to calibrated tiles.

`model` predicts the sky through the drifting beam, `solve` finds bandpass and gains with CASA, `quality` judges tables,
`select` picks the tables that are valid for an observation, `apply` makes the calibrated Measurement Set.
"""
