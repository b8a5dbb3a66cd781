//! Queues of values between processes.

use std::borrow::Cow;

use onecopy_arena::{Access, Arena, Block};
use onecopy_collections::queue::{
    Await, Batch, Channel, Enclosed, Local, MOST_BYTES, MOST_ENCLOSED, MOST_MESSAGES, Memory, Message, Queue as Part,
};
use onecopy_sync::{Bell, Patience};

use crate::{Array, Error, HandleError, Kind, Shareable, Shared, SharedObject, Source, copy_into, outbox};

/// Bytes of a queue's first segment.
const RING: u64 = 64 << 10;
/// Set in a tag where the contents lie in the first block that the message refers to.
const LONG: u8 = 0x80;

// SAFETY: a structure of atomics; what is read there is checked before use. Zeros are never used: `Queue::new` begins.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::Queue;
}

/// What the contents of a message are. The numbers stand in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueKind {
    /// Nothing: no value.
    None = 0,
    /// False.
    False = 1,
    /// True.
    True = 2,
    /// An integer of 64 bits, little-endian.
    Int = 3,
    /// A number of 64 bits, little-endian.
    Float = 4,
    /// Text in UTF-8.
    Str = 5,
    /// Bytes.
    Bytes = 6,
    /// The handle of an array.
    Array = 7,
    /// A Python object, pickled.
    Pickle = 8,
    /// Bytes that are no object: what `send_bytes` sends.
    Raw = 9,
}

impl ValueKind {
    const ALL: [Self; 10] = [
        Self::None,
        Self::False,
        Self::True,
        Self::Int,
        Self::Float,
        Self::Str,
        Self::Bytes,
        Self::Array,
        Self::Pickle,
        Self::Raw,
    ];

    /// What a message says that it is.
    pub fn of(message: &Message<'_>) -> Result<Self, Error> {
        let tag = Self::ALL.get(usize::from(message.tag & !LONG)).copied();
        tag.ok_or_else(|| HandleError(format!("a message of kind {}", message.tag)).into())
    }
}

/// Something that goes through a queue.
#[derive(Debug, Clone)]
pub enum Value {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An array, which stays where it is.
    Array(Array),
    /// A Python object, pickled.
    Pickle(Vec<u8>),
    /// Bytes that are no object: what Python's `send_bytes` sends.
    Raw(Vec<u8>),
}

/// The bytes of a message.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In the batch.
    Inline(&'a [u8]),
    /// In a block.
    Block(&'a Block),
}

impl Payload<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Block(block) => block.len() as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies them out.
    ///
    /// # Panics
    ///
    /// If `to` is not as long as they are.
    pub fn copy_to(&self, to: &mut [u8]) {
        match self {
            Self::Inline(bytes) => to.copy_from_slice(bytes),
            Self::Block(block) => {
                assert_eq!(to.len() as u64, block.len());
                if let Some(first) = block.address(Access::ReadOnly) {
                    // SAFETY: the block has as many bytes as are copied (checked), and a slice of this process's does
                    // not overlap with it.
                    unsafe { first.as_ptr().copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
                }
            }
        }
    }
}

/// A queue that any number of processes put values into and take values out of.
///
/// Every value is taken exactly once, unless the process that took it is killed while it has it; those of one producer
/// come out in the order in which it put them. A process that is killed takes nothing of anybody else's with it.
///
/// ```
/// use onecopy::{Patience, Queue, SharedObject, Value, session};
///
/// let queue = Queue::new(session()?, None)?;
/// queue.put(&Value::Str("hello".into()), &Patience::FOREVER)?;
/// let there = Queue::receive(&queue.send()?)?; // in another process
/// let Value::Str(text) = there.get(&Patience::FOREVER)? else { panic!() };
/// assert_eq!(text, "hello");
/// # Ok::<(), onecopy::Error>(())
/// ```
#[derive(Debug)]
pub struct Queue {
    shared: Shared<Part>,
    local: Local,
}

impl Queue {
    /// An empty queue for at most `limit` values; without one, for as many as the arena has memory for.
    pub fn new(arena: &'static Arena, limit: Option<u32>) -> Result<Self, Error> {
        let shared = Shared::<Part>::with_tail(arena, RING)?;
        shared.begin(limit.unwrap_or(MOST_MESSAGES));
        Ok(Self::from(shared))
    }

    #[inline]
    fn channel(&self) -> Result<Channel<'_>, Error> {
        let (first, len) = self.shared.tail();
        // SAFETY: the tail is that of the block, which lives as long as this queue.
        let home = unsafe { Memory::new(first, len) };
        let home = home.ok_or_else(|| HandleError(format!("a queue with a ring of {len} bytes")))?;
        Ok(Channel::new(&self.shared, self.shared.block(), home, &self.local)?)
    }

    /// Adds a message to a batch that is for this queue. Payload that are long go into a block.
    #[inline]
    pub fn push(&self, batch: &mut Batch, tag: ValueKind, contents: &[u8]) -> Result<(), Error> {
        if contents.len() <= MOST_BYTES {
            batch.push(tag as u8, contents, &[]);
            return Ok(());
        }
        self.push_enclosing(batch, tag, contents, Vec::new())
    }

    /// Adds a message whose contents are made by `make`, and refer by handles to blocks, to a batch for this queue.
    pub fn push_made<E: From<Error>>(
        &self,
        batch: &mut Batch,
        make: impl FnOnce() -> Result<(ValueKind, Vec<u8>), E>,
    ) -> Result<(), E> {
        let (made, enclosed) = outbox::collect(self.shared.block(), make);
        match made {
            Ok((tag, contents)) => Ok(self.push_enclosing(batch, tag, &contents, enclosed)?),
            Err(error) => {
                self.discard(&enclosed);
                Err(error)
            }
        }
    }

    fn push_enclosing(
        &self,
        batch: &mut Batch,
        tag: ValueKind,
        contents: &[u8],
        mut enclosed: Vec<Enclosed>,
    ) -> Result<(), Error> {
        if enclosed.len() >= MOST_ENCLOSED {
            self.discard(&enclosed);
            let n = enclosed.len();
            let way_out = "send many arrays as views of one";
            return Err(Error::Shape(format!("{n} arrays in one message, of at most {MOST_ENCLOSED}: {way_out}")));
        }
        if contents.len() <= MOST_BYTES {
            batch.push(tag as u8, contents, &enclosed);
            return Ok(());
        }
        let block = copy_into(self.shared.block().arena(), contents);
        match block.and_then(|block| Ok(self.channel()?.enclose(&block)?)) {
            Ok(block) => {
                enclosed.insert(0, block);
                batch.push(tag as u8 | LONG, &[], &enclosed);
                Ok(())
            }
            Err(error) => {
                self.discard(&enclosed);
                Err(error)
            }
        }
    }

    /// Lets go of parcels that go nowhere. One that cannot be discarded goes with the queue.
    fn discard(&self, enclosed: &[Enclosed]) {
        for enclosed in enclosed {
            let _ = self.shared.block().arena().discard(enclosed.parcel);
        }
    }

    /// Puts all messages of a batch that was made for this queue, waiting for room; answers how many went in. That is
    /// less than all only if the time was up after some; what did not go in is dropped.
    pub fn put_batch(&self, batch: &Batch, patience: &Patience<'_>) -> Result<u32, Error> {
        let mut from = 0;
        let put = self.put_rest(batch, &mut from, patience);
        self.drop_rest(batch, from)?;
        put
    }

    /// As [`put_batch`](Self::put_batch), from a position on that is moved behind what went in; nothing is dropped.
    #[inline]
    pub fn put_rest(&self, batch: &Batch, from: &mut usize, patience: &Patience<'_>) -> Result<u32, Error> {
        Ok(self.channel()?.put(batch, from, patience)?)
    }

    /// Lets go of the messages of a batch for this queue from a position on.
    #[inline]
    pub fn drop_rest(&self, batch: &Batch, from: usize) -> Result<(), Error> {
        Ok(self.channel()?.discard(batch, from)?)
    }

    /// Takes at least one and at most `most` messages, waiting for the first; they are appended to the batch.
    #[inline]
    pub fn take_batch(&self, most: u32, batch: &mut Batch, patience: &Patience<'_>) -> Result<u32, Error> {
        Ok(self.channel()?.take(most, batch, patience)?)
    }

    /// The bytes of a message of a batch.
    pub fn contents<'a>(batch: &'a Batch, message: &Message<'a>) -> Result<Payload<'a>, Error> {
        if message.tag & LONG == 0 {
            return Ok(Payload::Inline(message.bytes));
        }
        let block = message.enclosed().next().and_then(|enclosed| batch.block(enclosed.block));
        let block = block.ok_or_else(|| HandleError("a message without the block that it is in".into()))?;
        Ok(Payload::Block(block))
    }

    /// Puts a value, waiting for room.
    pub fn put(&self, value: &Value, patience: &Patience<'_>) -> Result<(), Error> {
        let mut batch = Batch::new();
        self.push_value(&mut batch, value)?;
        self.put_batch(&batch, patience).map(drop)
    }

    pub(crate) fn push_value(&self, batch: &mut Batch, value: &Value) -> Result<(), Error> {
        match value {
            Value::None => self.push(batch, ValueKind::None, &[]),
            Value::Bool(value) => self.push(batch, if *value { ValueKind::True } else { ValueKind::False }, &[]),
            Value::Int(value) => self.push(batch, ValueKind::Int, &value.to_le_bytes()),
            Value::Float(value) => self.push(batch, ValueKind::Float, &value.to_le_bytes()),
            Value::Str(text) => self.push(batch, ValueKind::Str, text.as_bytes()),
            Value::Bytes(bytes) => self.push(batch, ValueKind::Bytes, bytes),
            Value::Pickle(bytes) => self.push(batch, ValueKind::Pickle, bytes),
            Value::Raw(bytes) => self.push(batch, ValueKind::Raw, bytes),
            Value::Array(array) => self.push_made(batch, || Ok((ValueKind::Array, array.send()?))),
        }
    }

    /// Takes a value, waiting for one.
    pub fn get(&self, patience: &Patience<'_>) -> Result<Value, Error> {
        let mut batch = Batch::new();
        self.take_batch(1, &mut batch, patience)?;
        Self::first_value(&batch)
    }

    /// The first value of a batch.
    pub(crate) fn first_value(batch: &Batch) -> Result<Value, Error> {
        let message = batch.messages().next().ok_or_else(|| HandleError("a message that changed".into()))?;
        let contents = match Self::contents(batch, &message)? {
            Payload::Inline(bytes) => Cow::Borrowed(bytes),
            long @ Payload::Block(_) => {
                let mut bytes = vec![0; long.len()];
                long.copy_to(&mut bytes);
                Cow::Owned(bytes)
            }
        };
        value_of(ValueKind::of(&message)?, contents)
    }

    /// Says that one more of the values that were taken has been dealt with.
    pub fn task_done(&self) -> Result<(), Error> {
        Ok(self.shared.task_done()?)
    }

    /// Values that were put and not yet dealt with.
    pub fn unfinished(&self) -> u32 {
        self.shared.unfinished()
    }

    /// Waits until all values that were put have been dealt with.
    pub fn join(&self, patience: &Patience<'_>) -> Result<(), Error> {
        Ok(self.shared.join(patience)?)
    }

    /// Waits until there is something to take, or the queue has been closed.
    pub fn wait(&self, patience: &Patience<'_>) -> Result<(), Error> {
        Ok(self.channel()?.wait(patience)?)
    }

    /// To be told when there may be something to take, or the queue has been closed.
    pub fn messages(&self) -> impl Source + use<> {
        self.awaited(Await::Message)
    }

    /// To be told when there may be room, or the queue has been closed.
    pub fn room(&self) -> impl Source + use<> {
        self.awaited(Await::Room)
    }

    /// To be told when all values that were put may have been dealt with.
    pub fn done(&self) -> impl Source + use<> {
        self.awaited(Await::Done)
    }

    fn awaited(&self, what: Await) -> Awaited {
        Awaited { part: self.shared.clone(), what }
    }

    /// Lets nothing more in; what is there can still be taken.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether somebody closed it.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// How many values are there now.
    pub fn len(&self) -> u32 {
        self.shared.len()
    }

    /// Whether there is none now.
    pub fn is_empty(&self) -> bool {
        self.shared.is_empty()
    }

    /// How many values it holds at most.
    pub fn limit(&self) -> Option<u32> {
        Some(self.shared.limit()).filter(|&limit| limit < MOST_MESSAGES)
    }
}

struct Awaited {
    part: Shared<Part>,
    what: Await,
}

impl Source for Awaited {
    fn bell(&self) -> Bell<'_> {
        self.part.bell(self.what)
    }

    fn is_ready(&self, _look: bool) -> bool {
        self.part.is_ready(self.what)
    }
}

fn value_of(tag: ValueKind, contents: Cow<'_, [u8]>) -> Result<Value, Error> {
    let number = || {
        let bytes = <[u8; 8]>::try_from(&*contents);
        bytes.map_err(|_| HandleError(format!("a number of {} bytes", contents.len())))
    };
    Ok(match tag {
        ValueKind::None => Value::None,
        ValueKind::False => Value::Bool(false),
        ValueKind::True => Value::Bool(true),
        ValueKind::Int => Value::Int(i64::from_le_bytes(number()?)),
        ValueKind::Float => Value::Float(f64::from_le_bytes(number()?)),
        ValueKind::Str => Value::Str(
            String::from_utf8(contents.into_owned()).map_err(|error| HandleError(format!("a text: {error}")))?,
        ),
        ValueKind::Bytes => Value::Bytes(contents.into_owned()),
        ValueKind::Pickle => Value::Pickle(contents.into_owned()),
        ValueKind::Raw => Value::Raw(contents.into_owned()),
        ValueKind::Array => Value::Array(Array::receive(&contents)?),
    })
}

impl From<Shared<Part>> for Queue {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared, local: Local::new() }
    }
}

impl SharedObject for Queue {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}

#[cfg(test)]
mod tests {
    use onecopy_arena::Options;

    use super::*;
    use crate::DType;

    fn queue(limit: Option<u32>) -> Queue {
        Queue::new(Arena::create(Options { limit: Some(32 << 20), warm: None }).unwrap(), limit).unwrap()
    }

    fn blocks(queue: &Queue) -> u32 {
        queue.shared.block().arena().stats().unwrap().blocks
    }

    #[test]
    fn values_of_every_kind_cross() {
        let queue = queue(None);
        let long = "x".repeat(100_000);
        let values = [
            Value::None,
            Value::Bool(true),
            Value::Bool(false),
            Value::Int(i64::MIN),
            Value::Float(0.5),
            Value::Str(long.clone()),
            Value::Bytes(long.into_bytes()),
            Value::Pickle(vec![]),
            Value::Raw(vec![1]),
        ];
        for value in &values {
            queue.put(value, &Patience::FOREVER).unwrap();
        }
        for value in &values {
            assert_eq!(format!("{:?}", queue.get(&Patience::none()).unwrap()), format!("{value:?}"));
        }
        assert!(matches!(queue.get(&Patience::none()), Err(Error::Queue(crate::QueueError::TimedOut))));
        assert_eq!(blocks(&queue), 1);
    }

    #[test]
    fn an_array_in_a_queue_is_kept_by_it() {
        let queue = queue(Some(1));
        let arena = queue.shared.block().arena();
        let array = || Value::Array(Array::copy_of(arena, &[1, 2, 3], DType::scalar("|u1").unwrap(), &[3]).unwrap());
        queue.put(&array(), &Patience::none()).unwrap();
        assert!(queue.put(&array(), &Patience::none()).is_err());
        assert_eq!(blocks(&queue), 2);
        let Value::Array(taken) = queue.get(&Patience::none()).unwrap() else { panic!("not an array") };
        assert_eq!((taken.shape(), blocks(&queue)), (&[3][..], 2));
        drop(taken);
        assert_eq!(blocks(&queue), 1);
        queue.put(&array(), &Patience::none()).unwrap();
        drop(queue);
        assert_eq!(arena.stats().unwrap().blocks, 0);
    }
}
