"""One file per asset; the module's docstring is the asset's description in the UI."""
