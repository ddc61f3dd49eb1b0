"""The `dsa110` command: run stages by hand, query the database, show settings, start and stop the platform.

A command parses its arguments, calls one function of the layers below, and prints the result. Science and SQL do not
belong here.
"""
