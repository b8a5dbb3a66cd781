"""Packages that are needed only by those who ask for their format."""

from __future__ import annotations

from importlib import import_module


def needed(package: str, function: str, *, having: str | None = None) -> None:
    """Import a package, or raise `ImportError` with the way to get it; versions that are too old lack `having`."""
    try:
        module = import_module(package)
    except ImportError as error:
        message = f"onecopy.{function} needs {package}, which cannot be imported ({error}): pip install {package}"
        raise ImportError(message, name=package) from error
    if having is not None and not hasattr(module, having):
        message = f"onecopy.{function} needs a newer {package} than {module.__version__}: pip install -U {package}"
        raise ImportError(message, name=package)
