//! One copy of your data, every process.
//!
//! Arrays live in an [`Arena`]: shared memory without a name, which the kernel frees when the last process that uses it
//! ends. What crosses between processes is an [`ArrayHandle`] of some sixty bytes, however large the array is.
//!
//! ```
//! use onecopy::{Array, DType, Mode};
//!
//! let arena = onecopy::session()?;
//! let bytes = [1.0_f64, 2.0, 3.0].map(f64::to_ne_bytes).concat();
//! let array = Array::copy_of(arena, &bytes, DType::scalar("<f8")?, &[3])?;
//! let handle = array.send()?; // bytes to send through any channel
//! drop(array); // the handle in flight keeps the data alive
//! let received = Array::receive(&handle)?; // in this or any other process of the user
//! assert_eq!(received.shape(), [3]);
//! assert_eq!(received.mode(), Mode::ReadWrite);
//! # Ok::<(), onecopy::Error>(())
//! ```

mod array;
mod block_handle;
mod containers;
mod copying;
mod counter;
mod counters;
mod doctor;
mod doorbell;
mod dtype;
mod error;
mod handle;
mod in_order;
mod locks;
pub mod names;
mod object;
mod outbox;
mod pipe;
mod queue;
mod reactor;
mod reader;
pub mod rendezvous;
mod schema;
mod session;
mod shared;
mod tables;
mod text_blocks;
mod value;
mod work_memory;

pub use array::{Array, Mode};
pub use block_handle::{BlockHandle, HandleError};
pub use containers::{Container, Dict, DictIter, DictKey, Encoded, KeyKind, List};
pub use copying::{copy_interruptibly, copy_into};
pub use counter::{Counter, CounterOverflow};
pub use counters::{Counters, counters};
pub use doctor::{Finding, Verdict, examine};
pub use dtype::{DType, Field};
pub use error::Error;
pub use handle::{ArrayHandle, EncodedDType};
pub use in_order::{InOrder, Next, Unfinished};
pub use locks::{
    Arrival, Barrier, Condition, ConditionLock, Event, Lock, LockError, LockGuard, Patience, RLock, RwLock, Semaphore,
    SharedObject, Side, Waited, Waiter,
};
pub use object::{Extent, Source, StoredObject};
pub use onecopy_arena::{
    Access, Arena, ArenaError, ArenaId, Block, BlockId, Contents, Details, Draft, FreeSpace, JoinHint, LargeBlock,
    Member, Options, Owned, ParcelId, PrivateCopy, Sighting, Stats, Trouble, Viewer,
};
pub use onecopy_collections::container::{ContainerError, Picked, Record};
pub use onecopy_collections::list::Origin;
pub use onecopy_collections::queue::{Batch, MOST_ENCLOSED, MOST_MESSAGES, Message, QueueError};
pub use onecopy_filters as filters;
pub use onecopy_os::{ByteSize, HugeBuffer, LongTimeSlices, Machine};
pub use onecopy_sync::Bell;
pub use onecopy_text as text;
pub use pipe::{Connection, PipeError, pipe};
pub use queue::{Queue, array_alone_in, array_in};
pub use reactor::{Mailbox, Waitable, Watch};
pub use schema::schema_of;
pub use session::{SESSION_VARIABLE, leave_session, parse_size, session, session_hint};
pub use shared::{Kind, Shareable, Shared};
pub use tables::{LoadError, LoadedText, load_text};
pub use text_blocks::{BlockSize, Meanwhile, Part, TextBlocks};
pub use value::{Payload, Value, ValueKind};
pub use work_memory::{check_work_memory, work_memory_error};
