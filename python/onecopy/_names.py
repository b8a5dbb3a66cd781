"""Names of datasets in files: those that HDF5 and others cannot hold are refused before anything is written."""

from __future__ import annotations


def check_name(name: object) -> None:
    """Raise unless this can be the name of a dataset, perhaps with groups."""
    if not isinstance(name, str) or not name.strip("/"):
        raise TypeError(f"{name!r} is no name for a dataset: give a string that is not empty")
    if "\0" in name or name.endswith("/") or "." in name.split("/"):
        raise ValueError(f"{name!r} is no name for a dataset: give one without NUL, '/' at its end, or '.' as a part")
    if not is_text(name):
        raise ValueError(f"{name!r} is no name for a dataset: give one without surrogates, as files hold UTF-8")


def is_text(text: str) -> bool:
    """Tell whether a string can be stored as UTF-8: those with surrogates (undecodable bytes) cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
