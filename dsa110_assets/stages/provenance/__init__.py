"""The origin of products: recipes, digests of the source, versions, results of stages."""
