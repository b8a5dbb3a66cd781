//! Objects made of atomics that live in a block of the arena: locks, queues, counters.
//!
//! | bytes | what |
//! |---|---|
//! | 64 | [`Kind`], size of the object |
//! | size of the object, in whole cache lines | the object |
//! | rest | its tail, as long as its maker asked for |
//!
//! A handle of one is `os`, version and a [`BlockHandle`]; what the block holds is said by the block itself.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use onecopy_arena::{Access, Arena, Block, Contents, Viewer};
use onecopy_sync::Tag;

use crate::reader::Reader;
use crate::{BlockHandle, Error, HandleError};

const MAGIC: [u8; 3] = *b"os\x01";

/// Everything that lives in a block of its own. The numbers stand in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Kind {
    /// For tests and programs that build objects of their own.
    Custom = 1,
    /// A [`Lock`](crate::Lock).
    Lock = 2,
    /// An [`RLock`](crate::RLock).
    RLock = 3,
    /// An [`RwLock`](crate::RwLock).
    RwLock = 4,
    /// A [`Semaphore`](crate::Semaphore).
    Semaphore = 5,
    /// A [`Condition`](crate::Condition).
    Condition = 6,
    /// An [`Event`](crate::Event).
    Event = 7,
    /// A [`Barrier`](crate::Barrier).
    Barrier = 8,
    /// A [`Queue`](crate::Queue).
    Queue = 9,
    /// A [`Counter`](crate::Counter).
    Counter = 16,
    /// An end of a pipe, see [`Connection`](crate::Connection).
    PipeEnd = 32,
    /// A [`Dict`](crate::Dict).
    Dict = 48,
    /// A [`List`](crate::List).
    List = 49,
    /// The root of the published names.
    Names = 64,
}

/// What may live in a block.
///
/// # Safety
///
/// The type is `repr(C)`, consists of atomics alone, has no padding that matters and an alignment of at most 64, so
/// that whatever another process stores there is a value of it. All zeros are the value that [`Shared::new`] begins
/// with. The type never relies on what it reads there for the safety of memory.
pub unsafe trait Shareable: Sync + 'static {
    /// Tells it from the other kinds.
    const KIND: Kind;
}

/// An object in shared memory. It lives as long as any process has a reference to it, or a handle is in flight.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// use onecopy::{Kind, Shareable, Shared, session};
///
/// #[repr(C)]
/// struct Tally(AtomicU64);
///
/// // SAFETY: a transparent atomic whose value nothing relies on; zero is its first value.
/// unsafe impl Shareable for Tally {
///     const KIND: Kind = Kind::Custom;
/// }
///
/// let tally = Shared::<Tally>::new(session()?)?;
/// tally.0.fetch_add(1, Relaxed);
/// let handle = tally.send()?; // bytes for another process
/// let received = Shared::<Tally>::receive(&handle)?;
/// assert_eq!(received.0.load(Relaxed), 1);
/// # Ok::<(), onecopy::Error>(())
/// ```
pub struct Shared<T> {
    block: Block,
    object: NonNull<T>,
    _object: PhantomData<T>,
}

// SAFETY: a reference to memory that lives as long as the block, shared by threads as by processes: `T` is `Sync`.
unsafe impl<T: Shareable> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Shareable> Sync for Shared<T> {}

#[repr(C, align(64))]
struct Header {
    kind: AtomicU32,
    size: AtomicU64,
}

/// Offset of the tail of a `T`.
const fn tail_at<T>() -> u64 {
    (size_of::<Header>() + size_of::<T>().next_multiple_of(align_of::<Header>())) as u64
}

impl<T: Shareable> Shared<T> {
    /// A new object of zeros.
    pub fn new(arena: &'static Arena) -> Result<Self, Error> {
        Self::with_tail(arena, 0)
    }

    /// A new object of zeros, followed by `tail` bytes without defined contents.
    pub fn with_tail(arena: &'static Arena, tail: u64) -> Result<Self, Error> {
        let len = tail_at::<T>().checked_add(tail).ok_or_else(|| {
            Error::Shape(format!("an object with a tail of {tail} bytes is too large for any memory"))
        })?;
        let (block, contents) = arena.allocate(len)?;
        let shared = Self::over(block)?;
        if contents == Contents::Garbage {
            // SAFETY: header and object lie inside the block (checked by `over`), which nobody else knows yet.
            unsafe { shared.block.address(Access::ReadWrite).map(|at| at.write_bytes(0, tail_at::<T>() as usize)) };
        }
        shared.header().size.store(size_of::<T>() as u64, Relaxed);
        shared.header().kind.store(T::KIND as u32, Relaxed);
        Ok(shared)
    }

    /// Bytes of a handle, to be received once by any process of the user. The object lives on until then.
    pub fn send(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = MAGIC.to_vec();
        BlockHandle::post(&self.block)?.encode(&mut bytes);
        Ok(bytes)
    }

    /// The object that a handle names; another kind of object is an error.
    pub fn receive(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { bytes };
        let handle = (reader.take::<3>() == Some(MAGIC)).then(|| BlockHandle::decode(&mut reader)).flatten();
        let handle = handle.filter(|_| reader.bytes.is_empty());
        let handle = handle.ok_or_else(|| HandleError(format!("{} bytes that are no object's", bytes.len())))?;
        Self::attach(handle.receive()?)
    }

    /// The object in a block that this process holds.
    pub fn attach(block: Block) -> Result<Self, Error> {
        let shared = Self::over(block)?;
        let (kind, size) = (shared.header().kind.load(Relaxed), shared.header().size.load(Relaxed));
        if kind != T::KIND as u32 || size != size_of::<T>() as u64 {
            let (wanted, wants) = (T::KIND, size_of::<T>());
            return Err(HandleError(format!(
                "the block holds an object of kind {kind} and {size} bytes, not a {wanted:?} of {wants}"
            ))
            .into());
        }
        Ok(shared)
    }

    /// Finds the place of the object, if the block is large enough and may be written to.
    fn over(block: Block) -> Result<Self, Error> {
        const { assert!(align_of::<T>() <= align_of::<Header>()) };
        let first = block.address(Access::ReadWrite).filter(|_| block.len() >= tail_at::<T>());
        let first = first.filter(|at| at.cast::<Header>().is_aligned());
        let first = first.ok_or_else(|| {
            HandleError(format!("a block of {} bytes, sealed: {}, holds no object", block.len(), block.is_sealed()))
        })?;
        // SAFETY: the block is at least as long as header and object (checked).
        let object = unsafe { first.byte_add(size_of::<Header>()) }.cast();
        Ok(Self { block, object, _object: PhantomData })
    }

    fn header(&self) -> &Header {
        // SAFETY: the header lies before the object, in the block that lives as long as `self`; it is made of atomics.
        unsafe { self.object.byte_sub(size_of::<Header>()).cast().as_ref() }
    }

    /// The block that it lives in.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Address and length of the bytes behind the object. The address is that of a cache line.
    pub fn tail(&self) -> (NonNull<u8>, u64) {
        let before = tail_at::<T>();
        // SAFETY: the block is at least as long as what is before the tail (checked when this was made).
        let first = unsafe { self.header_address().byte_add(before as usize) };
        (first, self.block.len() - before)
    }

    fn header_address(&self) -> NonNull<u8> {
        NonNull::from(self.header()).cast()
    }

    /// The tag of this process, as locks know it.
    #[inline]
    pub fn me(&self) -> Result<Tag, Error> {
        Ok(self.block.arena().me()?)
    }

    /// The processes that share the object, as its locks ask for them.
    #[inline]
    pub fn owners(&self) -> Result<Viewer<'static>, Error> {
        Ok(self.block.arena().owners()?)
    }
}

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the object lies inside the block, aligned (checked when this was made), and the block lives as long
        // as `self`. A `T` is made of atomics, so it is whatever other processes store there.
        unsafe { self.object.as_ref() }
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("block", &self.block.id()).finish_non_exhaustive()
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { block: self.block.clone(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use onecopy_arena::Options;
    use proptest::prelude::*;

    use super::*;

    #[repr(C)]
    struct Pair(AtomicU32, AtomicU64);
    // SAFETY: two atomics, whose values nothing relies on.
    unsafe impl Shareable for Pair {
        const KIND: Kind = Kind::Custom;
    }

    #[repr(C)]
    struct Large([AtomicU64; 64]);
    // SAFETY: as above.
    unsafe impl Shareable for Large {
        const KIND: Kind = Kind::Custom;
    }

    fn arena() -> &'static Arena {
        Arena::create(Options { limit: Some(8 << 20), warm: None }).unwrap()
    }

    #[test]
    fn recycled_memory_begins_with_zeros_too() {
        let arena = arena();
        for _ in 0..3 {
            let pair = Shared::<Pair>::with_tail(arena, 100).unwrap();
            assert_eq!((pair.0.swap(7, Relaxed), pair.1.swap(8, Relaxed)), (0, 0));
            let (tail, len) = pair.tail();
            assert_eq!((tail.addr().get() % 64, len), (0, 100));
        }
        assert_eq!(arena.stats().unwrap().blocks, 0);
    }

    #[test]
    fn a_handle_keeps_the_object_alive_and_is_received_once() {
        let pair = Shared::<Pair>::new(arena()).unwrap();
        pair.1.store(5, Relaxed);
        let handle = pair.send().unwrap();
        drop(pair);
        let received = Shared::<Pair>::receive(&handle).unwrap();
        assert_eq!(received.1.load(Relaxed), 5);
        let again = received.clone();
        drop(received);
        assert_eq!(again.1.load(Relaxed), 5);
        drop(again);
        assert!(Shared::<Pair>::receive(&handle).is_err());
    }

    #[test]
    fn another_kind_or_an_array_is_refused() {
        let arena = arena();
        let pair = Shared::<Pair>::with_tail(arena, 4096).unwrap();
        let error = Shared::<Large>::receive(&pair.send().unwrap()).unwrap_err().to_string();
        assert!(error.contains("not a Custom of 512"), "{error}");
        let (mut block, _) = arena.allocate(4096).unwrap();
        block.zero();
        assert!(Shared::<Pair>::attach(block.clone()).is_err());
        block.seal().unwrap();
        assert!(Shared::<Pair>::attach(block).unwrap_err().to_string().contains("sealed: true"));
        let (short, _) = arena.allocate(70).unwrap();
        assert!(Shared::<Pair>::attach(short).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(Shared::<Pair>::receive(&bytes).is_err());
            prop_assert!(Shared::<Pair>::receive(&[&MAGIC[..], &bytes].concat()).is_err());
        }
    }
}
