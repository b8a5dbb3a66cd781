"""Text files into shared arrays: `loadtxt`, and what the command line reads files by."""

from onecopy._text.loading import Inferred, LoadedFile, infer, load
from onecopy._text.loadtxt import loadtxt

__all__ = ["Inferred", "LoadedFile", "infer", "load", "loadtxt"]
