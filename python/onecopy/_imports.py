"""Work that waits until a module is imported, which may be never."""

# Without importlib.util and importlib.abc, which take longer to import than what this is to save.

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def when_imported(name: str, work: Callable[[ModuleType], object]) -> None:
    """Call `work` with module `name` as soon as it is there: now, or at the end of its import."""
    # None in its place means that it may not be imported.
    if (module := sys.modules.get(name)) is not None:
        work(module)
    else:
        sys.meta_path.insert(0, _Finder(name, work))


class _Finder:
    """Asks the finders behind it, and has something done after the module that they find, when that is executed."""

    def __init__(self, name: str, work: Callable[[ModuleType], object]) -> None:
        self._name = name
        self._work = work

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname != self._name:
            return None
        # Only those behind: the finder before this one may be another that waits for the same module.
        behind = sys.meta_path[sys.meta_path.index(self) + 1 :]
        specs = (finder.find_spec(fullname, path, target) for finder in behind)
        spec: Any = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            # Who only asks whether there is such a module (`importlib.util.find_spec`) does not execute it.
            spec.loader = _Loader(spec.loader, self._done)
        return spec

    def _done(self, module: ModuleType) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self._work(module)


class _Loader:
    """Another loader, and something to do after it."""

    def __init__(self, loader: Any, work: Callable[[ModuleType], object]) -> None:
        self._loader = loader
        self._work = work

    def create_module(self, spec: Any) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The module shall not show that anybody stood in between.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._work(module)
