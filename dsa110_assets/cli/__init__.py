"""The `dsa110` command: every stage by hand, the database, the configuration, the services.

What belongs here: parsing arguments, calling one function of the layers below, showing its result. What does not: science, SQL.
"""
