"""Reducers of types whose module is imported later than onecopy, or never."""

import subprocess
import sys


def said(program: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout.strip()


def test_masked_arrays_travel_whenever_their_module_was_imported() -> None:
    send = """
from multiprocessing.reduction import ForkingPickler
masked = numpy.ma.masked_array(onecopy.zeros(100_000), mask=numpy.arange(100_000) % 2 == 0)
message = bytes(ForkingPickler.dumps(masked))
again = ForkingPickler.loads(message)
loader = numpy.ma.__loader__
print(len(message) < 2000, again.count(), numpy.ma.__spec__.loader is loader, type(loader).__name__)
"""
    expected = "True 50000 True SourceFileLoader"
    assert (
        said(f"import numpy, onecopy, sys; assert 'numpy.ma' not in sys.modules\nimport numpy.ma\n{send}") == expected
    )
    assert said(f"import numpy.ma, onecopy\n{send}") == expected


def test_work_is_done_once_and_only_if_the_module_comes() -> None:
    assert (
        said(
            """
import sys
from onecopy._imports import when_imported
finders = list(sys.meta_path)
when_imported("colorsys", lambda module: print("there", module.rgb_to_yiq(0, 0, 0)[0]))
when_imported("no_such_module", lambda module: print("never"))
import importlib.util
importlib.util.find_spec("colorsys")
import colorsys
importlib.reload(colorsys)
try:
    import no_such_module
except ModuleNotFoundError as error:
    print(error.name)
print(sys.meta_path[1:] == finders)
when_imported("imaginary", lambda module: print("first"))
when_imported("imaginary", lambda module: print("second"))
try:
    import imaginary
except ModuleNotFoundError as error:
    print(error.name)
"""
        )
        == "there 0.0\nno_such_module\nTrue\nimaginary"
    )


def test_a_module_that_may_not_be_imported_is_waited_for() -> None:
    assert (
        said(
            """
import sys
from onecopy._imports import when_imported
sys.modules["colorsys"] = None
when_imported("colorsys", lambda module: print("there", module.rgb_to_yiq(0, 0, 0)[0]))
try:
    import colorsys
except ModuleNotFoundError:
    print("not there")
del sys.modules["colorsys"]
import colorsys
sys.modules["pyarrow"] = sys.modules["pandas"] = sys.modules["polars"] = sys.modules["torch"] = None
import onecopy as oc
oc.share({"a": 1})
print("shared")
"""
        )
        == "not there\nthere 0.0\nshared"
    )
