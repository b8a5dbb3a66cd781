"""The public surface, listed once: a name that comes or goes must be meant."""

import inspect

import pytest

import onecopy

SURFACE = {
    "ArenaError",
    "InvalidHandleError",
    "NameTakenError",
    "NameUnknownError",
    "OnecopyError",
    "OutOfMemoryError",
    "ParseError",
    "StaleHandleError",
    "__version__",
    "array",
    "asarray",
    "attach",
    "empty",
    "empty_like",
    "from_hdf5",
    "full",
    "full_like",
    "is_shared",
    "loadtxt",
    "ones",
    "ones_like",
    "publish",
    "reap",
    "set_limit",
    "share",
    "stats",
    "to_hdf5",
    "unpublish",
    "zeros",
    "zeros_like",
}
DOCUMENTED = sorted(name for name in onecopy.__all__ if not name.startswith("__"))
FUNCTIONS = [name for name in DOCUMENTED if not inspect.isclass(getattr(onecopy, name))]


def test_all_is_the_surface_in_order():
    assert set(onecopy.__all__) == SURFACE
    assert onecopy.__all__ == sorted(onecopy.__all__)


def test_nothing_else_is_public():
    public = {name for name, value in vars(onecopy).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public == set(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_name_is_documented(name):
    summary = (inspect.getdoc(getattr(onecopy, name)) or "").partition("\n")[0]
    assert summary.endswith(".")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_shows_an_example(name):
    assert "Examples\n--------" in inspect.getdoc(getattr(onecopy, name))
