"""`multiprocessing` on shared memory: only the import changes.

All public names of the standard library's package, with the same meaning. Locks, queues and shared values lie in the
arena of the program and survive the death of whoever used them, managers need no server for what they hold, and numpy
arrays travel as handles. The start method is one setting of the program: both packages show it and either may set it.

Examples
--------
>>> import onecopy.multiprocessing as mp
>>> queue = mp.get_context("spawn").Queue()
>>> queue.put([1, 2, 3])
>>> queue.get()
[1, 2, 3]
"""

from onecopy import _segments
from onecopy.multiprocessing import context, reduction
from onecopy.multiprocessing.context import AuthenticationError, BufferTooShort, Process, ProcessError, TimeoutError
from onecopy.multiprocessing.process import active_children, current_process, parent_process

# Now, so that children belong to this program, whenever who first uses a segment.
_segments.join_program()

_default = context._default_context

Array = _default.Array
Barrier = _default.Barrier
BoundedSemaphore = _default.BoundedSemaphore
Condition = _default.Condition
Event = _default.Event
JoinableQueue = _default.JoinableQueue
Lock = _default.Lock
Manager = _default.Manager
Pipe = _default.Pipe
Pool = _default.Pool
Queue = _default.Queue
RLock = _default.RLock
RawArray = _default.RawArray
RawValue = _default.RawValue
Semaphore = _default.Semaphore
SimpleQueue = _default.SimpleQueue
Value = _default.Value
allow_connection_pickling = _default.allow_connection_pickling
cpu_count = _default.cpu_count
freeze_support = _default.freeze_support
get_all_start_methods = _default.get_all_start_methods
get_context = _default.get_context
get_logger = _default.get_logger
get_start_method = _default.get_start_method
log_to_stderr = _default.log_to_stderr
reducer = reduction
set_executable = _default.set_executable
set_forkserver_preload = _default.set_forkserver_preload
set_start_method = _default.set_start_method

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]
