"""Packages that are needed only by those who ask for their format."""

from __future__ import annotations

from importlib import import_module


def needed(package: str, function: str) -> None:
    """Import a package, or raise `ImportError` with the way to get it."""
    try:
        import_module(package)
    except ImportError as error:
        message = f"onecopy.{function} needs {package}, which cannot be imported ({error}): pip install {package}"
        raise ImportError(message, name=package) from error
