"""Where those who send things say what became of them, while somebody wants to know."""

from __future__ import annotations

from collections.abc import Callable

#: Called with how something went ("handle", "moved in" or "copied"), what it was, why it went so, and how many bytes it
#: had. None nearly always: then saying nothing costs one test.
note: Callable[[str, str, str, int], None] | None = None
