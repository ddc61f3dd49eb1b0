"""Work on files that a person names, mostly without the registry."""
