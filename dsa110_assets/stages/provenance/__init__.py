"""How a product came about: recipes, digests of the source, versions, recorded figures."""
