"""The command `onecopy`, for which a file called ``endless`` never ends, after a word on standard output."""

import os
import sys
import threading

from onecopy import _text
from onecopy.__main__ import main

_load = _text.load


def load(path, dtype, *, progress, **more):
    """Load a file, or go on until `progress` raises."""
    if "endless" in os.path.basename(path):
        print("there", flush=True)
        while True:
            progress(0)
            threading.Event().wait(0.001)
    return _load(path, dtype, progress=progress, **more)


if __name__ == "__main__":
    _text.load = load
    sys.exit(main())
