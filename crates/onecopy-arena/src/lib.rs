//! The arena: the format of the shared memory, its allocator, holders and recovery.
