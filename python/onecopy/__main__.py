"""``python -m onecopy`` and the command ``onecopy``."""

import sys

from onecopy._cli import main

if __name__ == "__main__":
    sys.exit(main())
