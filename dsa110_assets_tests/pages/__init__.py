"""The pages under /ui/, over HTTP."""
