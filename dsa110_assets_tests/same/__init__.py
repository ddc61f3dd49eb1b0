"""`make same`: does a change of the code change what the platform makes?

Two simulated tiles and their hour are made, and every array and row is compared with a recorded baseline or with another revision.
The record knows products, files, tables and columns only, no module of the package: it stays as it is when modules move.
"""
