"""A pid namespace, as far as segments go, that only the tests of this run are in."""

import os

NAMESPACE = f"9{os.getpid()}"
#: How a program begins that is in it.
IN_NAMESPACE = f"from onecopy import _segments; _segments._namespace = lambda: {NAMESPACE!r}\n"
