"""Doctests of modules whose package is not there everywhere."""

from importlib.util import find_spec

# zarr needs CPython 3.11.
collect_ignore = [] if find_spec("zarr") else ["python/onecopy/_export/zarr_store.py"]
