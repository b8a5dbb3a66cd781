"""What the letters between a pool and its workers are about: topic, number, extra and object of each.

To a worker::

    FUNCTION  function  0            the function
    FORGET    function  0            None
    TASK      task      see `order`  what to call it with
    STOP      0         0            None

To the pool::

    READY     worker    0            None
    UNFIT     worker    0            a failure: the initializer raised
    RESULT    task      nanoseconds  what the function returned
    FAILED    task      stage        a failure
    ENDED     worker    0            None; sent by the pool itself, behind everything that the worker sent
    WAKE      0         0            None; sent by the pool itself
"""

FUNCTION, FORGET, TASK, STOP, READY, UNFIT, RESULT, FAILED, ENDED, WAKE = range(1, 11)

#: What to do with the function: call it with arguments and keywords; with one item; with each of several items; with
#: each of several items as its arguments; the same with one; with all items at once.
CALL, ONE, EACH, STAR_EACH = range(4)

#: Where a task failed: in the function; before it, in unpickling the task; after it, in pickling the result; or in
#: unpickling that in the pool.
RUNNING, UNPICKLING, PICKLING, OPENING = range(4)


def order(what: int, by_value: bool, function: int) -> int:
    """Pack what to do with which function, and whether code goes along with objects."""
    return function << 3 | by_value << 2 | what


def unpack_order(packed: int) -> tuple[int, bool, int]:
    """Return what to do, whether code goes along, and the function."""
    return packed & 3, bool(packed & 4), packed >> 3
