//! Queues of values between processes.

use onecopy_arena::Arena;
use onecopy_collections::queue::{
    Await, Batch, Channel, Enclosed, Local, MOST_BYTES, MOST_ENCLOSED, MOST_MESSAGES, Memory, Message, Queue as Part,
};
use onecopy_sync::{Bell, Patience};

use crate::value::LONG;
use crate::{
    Array, ArrayHandle, Counters, Error, HandleError, Kind, Payload, Shareable, Shared, SharedObject, Value, ValueKind,
    Waitable, copy_into, outbox,
};

mod arrays;
mod spin;

pub use arrays::{array_alone_in, array_in};

/// Bytes of a queue's first segment.
const RING: u64 = 64 << 10;

// SAFETY: a structure of atomics; what is read there is checked before use. Zeros are never used: `Queue::new` begins.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::Queue;
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

    /// Does `work`; handles that it makes in this thread and that nobody has received go when this queue goes.
    pub fn owning<T>(&self, work: impl FnOnce() -> T) -> T {
        outbox::collect(self.shared.block(), work).0
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

    /// Says whether what is taken next answers something: then a longer spin may pay.
    #[inline]
    pub(crate) fn expect_answer(&self, expect: bool) {
        self.local.expect_answer(expect);
    }

    #[cfg(test)]
    pub(crate) fn expects_answer(&self) -> bool {
        self.local.expects_answer()
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
            Value::Array(array) => {
                let (block, handle) = array.described();
                Counters::count_sent(array.nbytes());
                self.push_array(batch, block, handle)
            }
            other => {
                let (kind, contents) = other.plain();
                self.push(batch, kind, &contents)
            }
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
        let (kind, payload) = (ValueKind::of(&message)?, Self::contents(batch, &message)?);
        if kind != ValueKind::Array {
            return Value::from_payload(kind, &payload);
        }
        let found = |handle: &ArrayHandle, itemsize| array_in(batch, handle, itemsize);
        Ok(Value::Array(Array::receive_by(&payload.to_vec(), found)?))
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
    pub fn messages(&self) -> impl Waitable + use<> {
        self.awaited(Await::Message)
    }

    /// To be told when there may be room, or the queue has been closed.
    pub fn room(&self) -> impl Waitable + use<> {
        self.awaited(Await::Room)
    }

    /// To be told when all values that were put may have been dealt with.
    pub fn done(&self) -> impl Waitable + use<> {
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

impl Waitable for Awaited {
    fn bell(&self) -> Bell<'_> {
        self.part.bell(self.what)
    }

    fn is_ready(&self, _look: bool) -> bool {
        self.part.is_ready(self.what)
    }
}

impl From<Shared<Part>> for Queue {
    fn from(shared: Shared<Part>) -> Self {
        let (longest, farthest) = spin::bounds();
        Self { shared, local: Local::spinning(longest, farthest) }
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
    use crate::{Array, DType};

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
