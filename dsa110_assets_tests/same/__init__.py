"""`make same`: check whether a change of the code changes the products.

It makes two simulated tiles and their hour, and compares every array and row with a recorded baseline or with another
revision. The record names products, files, tables and columns, but no module of the package. So it stays valid when
modules move.
"""
