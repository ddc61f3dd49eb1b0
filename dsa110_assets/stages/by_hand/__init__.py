"""Work on files that a person names, without the registry."""
