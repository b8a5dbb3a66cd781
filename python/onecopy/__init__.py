"""One copy of your data, every process."""

from onecopy._native import __version__

__all__ = ["__version__"]
