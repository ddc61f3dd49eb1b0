"""The stages: find the inputs, call the domain, verify, publish, register."""
