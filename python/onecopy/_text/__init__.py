"""Text files into shared arrays: `loadtxt`, `iter_text`, and what the command line reads files by."""

from onecopy._text.iter_text import iter_text
from onecopy._text.loading import Inferred, LoadedFile, infer, load, load_blocks
from onecopy._text.loadtxt import loadtxt

__all__ = ["Inferred", "LoadedFile", "infer", "iter_text", "load", "load_blocks", "loadtxt"]
