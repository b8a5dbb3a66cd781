"""``python -m onecopy`` and the command ``onecopy``."""

import sys

from onecopy import _native
from onecopy._cli import main


def command() -> int:
    """Run the command line as a program of its own, which is in no arena unless its work needs one."""
    _native.leave()
    return main()


if __name__ == "__main__":
    sys.exit(command())
