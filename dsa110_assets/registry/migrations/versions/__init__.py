"""One module for each revision, named ``<number>_<what>.py``."""
