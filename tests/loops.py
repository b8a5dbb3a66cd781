"""Running tasks of event loops in tests."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any


def run(main: Coroutine[Any, Any, Any]) -> Any:
    done = asyncio.run(main)
    gc.collect()
    return done


async def yields(times: int = 3) -> None:
    for _ in range(times):
        await asyncio.sleep(0)
