"""Runs one measurement in an interpreter of its own, so that no contender inherits another's warm memory or threads."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any


class ContenderError(Exception):
    """A contender could not be measured; the message is the last line it printed."""


def isolated(function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None) -> Any:
    """Call a module-level function in a fresh process; arguments and result are what JSON can carry."""
    call = json.dumps([function.__module__, function.__qualname__, arguments])
    finished = subprocess.run(
        [sys.executable, "-m", __name__, call],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"]
        raise ContenderError(lines[-1])
    return json.loads(finished.stdout.splitlines()[-1])


def _answer(call: str) -> None:
    module, name, arguments = json.loads(call)
    print("\n" + json.dumps(getattr(importlib.import_module(module), name)(*arguments)))


if __name__ == "__main__":
    _answer(sys.argv[1])
