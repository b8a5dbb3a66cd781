"""Measures onecopy beside its peers: ``python -m benchmarks --help``."""
