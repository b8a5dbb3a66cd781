//! Pipes between processes.
//!
//! A pipe is a queue for each direction, and a block for each end. Nothing is stored in such a block: whoever has the end
//! open holds it, a handle of the end on its way to somebody holds it too, and what the dead hold counts as gone. So the
//! arena knows whether anybody has an end, across forks, in messages and after `kill -9`; and when nobody has it any more,
//! the queues are closed. Design: `docs/design/waiting.md`.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use onecopy_arena::{Arena, Block, BlockId};
use onecopy_collections::queue::{Batch, QueueError};
use onecopy_os::crash_point;
use onecopy_sync::{Bell, Patience, Waited};

use crate::reader::Reader;
use crate::{BlockHandle, Error, HandleError, Kind, Queue, Shareable, Shared, SharedObject, Value, Waitable};

const MAGIC: [u8; 3] = *b"op\x01";
const READS: u8 = 1;
const WRITES: u8 = 2;
/// Messages on their way in one direction, after which the sender waits.
const MOST_ON_THE_WAY: u32 = 1024;
/// How long one who waits trusts that somebody has the other end.
const LOOK: Duration = Duration::from_millis(5);
/// How long one who sends does.
const TRUST: Duration = Duration::from_millis(1);

/// An end, which somebody has as long as its block is held.
#[derive(Debug)]
#[repr(transparent)]
struct End(AtomicU32);

// SAFETY: an atomic that nobody reads.
unsafe impl Shareable for End {
    const KIND: Kind = Kind::PipeEnd;
}

/// Why nothing was sent or received. But for the first three, the other end is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// This process has closed the connection.
    #[error("handle is closed: this process called close() on the connection")]
    Closed,
    /// The other direction.
    #[error("connection is write-only: it is the sending end of a pipe that was made with duplex=False")]
    WriteOnly,
    /// The other direction.
    #[error("connection is read-only: it is the receiving end of a pipe that was made with duplex=False")]
    ReadOnly,
    /// All has been received.
    #[error("nothing more comes: every process that had the other end of the pipe has closed it, or has ended")]
    EndOfFile,
    /// Nobody would receive it.
    #[error("nobody receives: every process that had the other end of the pipe has closed it, or has ended")]
    Broken,
}

/// One of the two ends of a [`pipe`], as this process has it. It is closed when it is dropped.
///
/// Any number of processes may have the same end; each message goes to one of those that receive.
#[derive(Debug)]
pub struct Connection {
    /// None only while it is dropped.
    own: Option<Shared<End>>,
    peer: BlockId,
    reads: Option<Queue>,
    writes: Option<Queue>,
    given_up: AtomicBool,
    /// When somebody last looked whether the other end is there, in microseconds of this process.
    looked: AtomicU64,
}

/// Makes a pipe; answers its two ends. If it is not `duplex`, the first receives and the second sends.
///
/// ```
/// use onecopy::{Connection, Patience, Value, pipe, session};
///
/// let (receiving, sending) = pipe(session()?, false)?;
/// let there = Connection::from_handle(&sending.to_handle()?)?; // in another process
/// drop(sending);
/// there.send(&Value::Int(7), &Patience::FOREVER)?;
/// drop(there);
/// assert!(matches!(receiving.recv(&Patience::FOREVER)?, Value::Int(7)));
/// assert!(receiving.recv(&Patience::FOREVER).is_err()); // the end of the file
/// # Ok::<(), onecopy::Error>(())
/// ```
pub fn pipe(arena: &'static Arena, duplex: bool) -> Result<(Connection, Connection), Error> {
    let [first, second] = [Shared::<End>::new(arena)?, Shared::<End>::new(arena)?];
    let [first_id, second_id] = [first.block().id(), second.block().id()];
    crash_point!("pipe.ends-made");
    let to_first = Queue::new(arena, Some(MOST_ON_THE_WAY))?;
    let to_second = duplex.then(|| Queue::new(arena, Some(MOST_ON_THE_WAY))).transpose()?;
    let again = |queue: &Queue| Queue::from(queue.part().clone());
    let from_first = to_second.as_ref().map(again);
    let from_second = Some(again(&to_first));
    let first = Connection::new(first, second_id, Some(to_first), from_first);
    Ok((first, Connection::new(second, first_id, to_second, from_second)))
}

impl Connection {
    fn new(own: Shared<End>, peer: BlockId, reads: Option<Queue>, writes: Option<Queue>) -> Self {
        let (given_up, looked) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { own: Some(own), peer, reads, writes, given_up, looked }
    }

    /// Whether it receives.
    pub fn is_readable(&self) -> bool {
        self.reads.is_some()
    }

    /// Whether it sends.
    pub fn is_writable(&self) -> bool {
        self.writes.is_some()
    }

    /// What it receives from.
    pub fn reader(&self) -> Result<&Queue, Error> {
        self.check_open()?;
        Ok(self.reads.as_ref().ok_or(PipeError::WriteOnly)?)
    }

    /// What batches for [`put`](Self::put) are made for.
    pub fn writer(&self) -> Result<&Queue, Error> {
        self.check_open()?;
        Ok(self.writes.as_ref().ok_or(PipeError::ReadOnly)?)
    }

    fn check_open(&self) -> Result<(), PipeError> {
        if self.given_up.load(Relaxed) { Err(PipeError::Closed) } else { Ok(()) }
    }

    /// Has those threads of this process stop that use the connection; it is closed when the last has dropped it.
    pub fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.reads.iter().chain(&self.writes)
    }

    // --- messages ---

    /// Sends a value, waiting for room.
    pub fn send(&self, value: &Value, patience: &Patience<'_>) -> Result<(), Error> {
        let queue = self.writer()?;
        let mut batch = Batch::new();
        queue.push_value(&mut batch, value)?;
        let sent = self.put(&batch, patience);
        sent.or_else(|error| queue.drop_rest(&batch, 0).and(Err(error)))
    }

    /// Receives a value, waiting for one.
    pub fn recv(&self, patience: &Patience<'_>) -> Result<Value, Error> {
        let mut batch = Batch::new();
        self.take(&mut batch, patience)?;
        Queue::first_value(&batch)
    }

    /// Sends the one message of a batch that was made for [`writer`](Self::writer). If that fails, what the batch refers
    /// to is still the caller's to drop.
    pub fn put(&self, batch: &Batch, patience: &Patience<'_>) -> Result<(), Error> {
        let queue = self.writer()?;
        if now().saturating_sub(self.looked.load(Relaxed)) >= TRUST.as_micros() as u64 {
            self.look();
        }
        let put = self.wait_for(patience, |patience| queue.put_rest(batch, &mut 0, patience));
        put.map_err(|error| ended(error, PipeError::Broken))?;
        if let Some(answers) = &self.reads {
            answers.expect_answer(true);
        }
        Ok(())
    }

    /// Receives one message, which is appended to the batch.
    pub fn take(&self, batch: &mut Batch, patience: &Patience<'_>) -> Result<(), Error> {
        let queue = self.reader()?;
        let taken = self.wait_for(patience, |patience| queue.take_batch(1, batch, patience));
        taken.map_err(|error| ended(error, PipeError::EndOfFile))?;
        queue.expect_answer(false);
        Ok(())
    }

    /// Waits until [`recv`](Self::recv) would not: for a message, or the end of the file.
    pub fn wait(&self, patience: &Patience<'_>) -> Result<(), Error> {
        let queue = self.reader()?;
        self.wait_for(patience, |patience| queue.wait(patience))
    }

    /// To be told when there may be something to receive, or the end of the file.
    pub fn messages(&self) -> Result<impl Waitable + use<>, Error> {
        Ok(self.awaited(self.reader()?.messages()))
    }

    /// To be told when there may be room to send, or nobody to receive.
    pub fn room(&self) -> Result<impl Waitable + use<>, Error> {
        Ok(self.awaited(self.writer()?.room()))
    }

    fn awaited<S: Waitable>(&self, queue: S) -> Awaited<S> {
        // Not the connection itself, which would keep this end open.
        let arena = self.own.as_ref().map(|own| own.block().arena());
        Awaited { queue, arena, peer: self.peer }
    }

    /// Does what may have to wait, and looks now and then whether somebody has the other end.
    fn wait_for<T>(
        &self,
        patience: &Patience<'_>,
        mut work: impl FnMut(&Patience<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match work(&Patience::none()) {
            Err(Error::Queue(QueueError::TimedOut)) => self.look(),
            other => return other,
        }
        let called_off = |waited| {
            if waited == Waited::TimedOut {
                self.look();
            }
            self.given_up.load(Relaxed) || patience.is_called_off(waited)
        };
        let done = work(&patience.unless(&called_off).looking_every(LOOK));
        self.check_open()?;
        done
    }

    /// Closes the queues if nobody has the other end.
    pub(crate) fn look(&self) {
        self.looked.store(now(), Relaxed);
        let Some(own) = &self.own else { return };
        if let Ok(false) = own.block().arena().is_needed(self.peer) {
            self.close_queues();
        }
    }

    fn close_queues(&self) {
        for queue in self.queues().filter(|queue| !queue.is_closed()) {
            queue.close();
            crash_point!("pipe.closed");
        }
    }

    // --- handles ---

    /// Bytes of a handle, to be received once by any process of the user. The end is open until then.
    pub fn to_handle(&self) -> Result<Vec<u8>, Error> {
        self.check_open()?;
        let own = self.own.as_ref().map(Shared::block);
        let queues = self.queues().map(|queue| queue.part().block());
        let mut bytes = MAGIC.to_vec();
        bytes.push(u8::from(self.is_readable()) * READS + u8::from(self.is_writable()) * WRITES);
        bytes.extend(self.peer.index.to_le_bytes());
        bytes.extend(self.peer.generation.to_le_bytes());
        for handle in post_all(own.into_iter().chain(queues))? {
            handle.encode(&mut bytes);
        }
        Ok(bytes)
    }

    /// The connection that a handle is of.
    pub fn from_handle(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { bytes };
        let mut parts = || {
            reader.take::<3>().filter(|magic| *magic == MAGIC)?;
            let flags = reader.u8()?;
            let peer = BlockId { index: reader.u32()?, generation: reader.u32()? };
            let own = BlockHandle::decode(&mut reader)?;
            let mut queue = |flag| Some(if flags & flag == 0 { None } else { Some(BlockHandle::decode(&mut reader)?) });
            let queues = [queue(READS)?, queue(WRITES)?];
            reader.bytes.is_empty().then_some((peer, own, queues))
        };
        let parts = parts();
        let no_handle = || HandleError(format!("{} bytes that are no connection's", bytes.len()));
        let (peer, own, [reads, writes]) = parts.ok_or_else(no_handle)?;
        let queue = |handle: BlockHandle| Ok::<_, Error>(Queue::from(Shared::attach(handle.receive()?)?));
        let own = Shared::attach(own.receive()?)?;
        crash_point!("pipe.received");
        Ok(Self::new(own, peer, reads.map(queue).transpose()?, writes.map(queue).transpose()?))
    }
}

struct Awaited<S> {
    queue: S,
    arena: Option<&'static Arena>,
    peer: BlockId,
}

impl<S: Waitable> Waitable for Awaited<S> {
    fn bell(&self) -> Bell<'_> {
        self.queue.bell()
    }

    fn is_ready(&self, look: bool) -> bool {
        let is_alone = || self.arena.is_some_and(|arena| matches!(arena.is_needed(self.peer), Ok(false)));
        self.queue.is_ready(look) || look && is_alone()
    }
}

/// Posts all blocks or none.
fn post_all<'a>(blocks: impl Iterator<Item = &'a Block>) -> Result<Vec<BlockHandle>, Error> {
    let mut posted: Vec<(&Block, BlockHandle)> = Vec::new();
    for block in blocks {
        match BlockHandle::post(block) {
            Ok(handle) => {
                posted.push((block, handle));
                crash_point!("pipe.posted");
            }
            Err(error) => {
                for (block, handle) in posted {
                    // One that cannot be discarded stays in flight, as if it had been sent and lost.
                    let _ = handle.parcel.map(|parcel| block.arena().discard(parcel));
                }
                return Err(error);
            }
        }
    }
    Ok(posted.into_iter().map(|(_, handle)| handle).collect())
}

fn ended(error: Error, meaning: PipeError) -> Error {
    match error {
        Error::Queue(QueueError::Closed) => meaning.into(),
        other => other,
    }
}

fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Never zero, which is before the first look.
    START.elapsed().as_micros() as u64 + TRUST.as_micros() as u64
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(own) = self.own.take() else { return };
        let (arena, id) = (own.block().arena(), own.block().id());
        drop(own);
        crash_point!("pipe.let-go");
        // A death before this is noticed by those that wait. Where the answer cannot be had, as in a child that has no
        // slot, they notice too.
        if let Ok(false) = arena.is_needed(id) {
            self.close_queues();
        }
    }
}

#[cfg(test)]
mod tests {
    use onecopy_arena::Options;
    use proptest::prelude::*;

    use super::*;

    fn ends(duplex: bool) -> (Connection, Connection) {
        pipe(Arena::create(Options { limit: Some(32 << 20), warm: None }).unwrap(), duplex).unwrap()
    }

    fn number(received: Result<Value, Error>) -> i64 {
        let Value::Int(number) = received.unwrap() else { panic!("no number") };
        number
    }

    fn pipe_error<T: std::fmt::Debug>(result: Result<T, Error>) -> PipeError {
        match result.unwrap_err() {
            Error::Pipe(error) => error,
            other => panic!("no error of a pipe: {other:?}"),
        }
    }

    #[test]
    fn messages_go_both_ways_until_an_end_is_closed() {
        let (a, b) = ends(true);
        let arena = a.reader().unwrap().part().block().arena();
        a.send(&Value::Int(1), &Patience::none()).unwrap();
        b.send(&Value::Int(2), &Patience::none()).unwrap();
        assert_eq!((number(b.recv(&Patience::none())), number(a.recv(&Patience::none()))), (1, 2));
        assert!(matches!(a.recv(&Patience::none()), Err(Error::Queue(QueueError::TimedOut))));
        b.send(&Value::Int(3), &Patience::none()).unwrap();
        drop(b);
        assert_eq!(pipe_error(a.send(&Value::Int(4), &Patience::FOREVER)), PipeError::Broken);
        a.wait(&Patience::none()).unwrap();
        assert_eq!(number(a.recv(&Patience::FOREVER)), 3);
        assert_eq!(pipe_error(a.recv(&Patience::FOREVER)), PipeError::EndOfFile);
        a.wait(&Patience::none()).unwrap();
        drop(a);
        assert_eq!(arena.stats().unwrap().blocks, 0);
    }

    #[test]
    fn who_sent_last_expects_an_answer() {
        let (a, b) = ends(true);
        let expect = || [&a, &b].map(|end| end.reader().unwrap().expects_answer());
        assert_eq!(expect(), [false, false]);
        a.send(&Value::Int(1), &Patience::none()).unwrap();
        assert_eq!(expect(), [true, false]);
        a.recv(&Patience::none()).unwrap_err();
        assert_eq!(expect(), [true, false], "nothing came");
        b.recv(&Patience::none()).unwrap();
        assert_eq!(expect(), [true, false], "one that only receives expects none");
        b.send(&Value::Int(2), &Patience::none()).unwrap();
        a.recv(&Patience::none()).unwrap();
        assert_eq!(expect(), [false, true]);
    }

    #[test]
    fn each_direction_has_its_end() {
        let (receiving, sending) = ends(false);
        assert_eq!(pipe_error(sending.recv(&Patience::none())), PipeError::WriteOnly);
        assert_eq!(pipe_error(receiving.send(&Value::None, &Patience::none())), PipeError::ReadOnly);
        sending.give_up();
        assert_eq!(pipe_error(sending.send(&Value::None, &Patience::none())), PipeError::Closed);
        assert_eq!(pipe_error(sending.to_handle()), PipeError::Closed);
    }

    #[test]
    fn an_end_in_flight_is_open_and_one_that_was_discarded_is_not() {
        let (receiving, sending) = ends(false);
        let arena = receiving.reader().unwrap().part().block().arena();
        let handle = sending.to_handle().unwrap();
        drop(sending);
        let nothing = receiving.recv(&Patience::within(2 * LOOK));
        assert!(matches!(nothing, Err(Error::Queue(QueueError::TimedOut))), "{nothing:?}");
        let there = Connection::from_handle(&handle).unwrap();
        assert_eq!(arena.stats().unwrap().parcels, 0);
        there.send(&Value::Int(5), &Patience::none()).unwrap();
        drop(there);
        assert_eq!(number(receiving.recv(&Patience::FOREVER)), 5);
        assert_eq!(pipe_error(receiving.recv(&Patience::FOREVER)), PipeError::EndOfFile);
    }

    #[test]
    fn who_waits_is_told_of_the_end_and_of_giving_up() {
        let (a, b) = ends(true);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| a.recv(&Patience::FOREVER));
            let given_up = scope.spawn(|| {
                let (c, _d) = ends(true);
                std::thread::scope(|scope| {
                    let waiting = scope.spawn(|| c.recv(&Patience::FOREVER));
                    c.give_up();
                    waiting.join().unwrap()
                })
            });
            assert_eq!(pipe_error(given_up.join().unwrap()), PipeError::Closed);
            drop(b);
            assert_eq!(pipe_error(waiting.join().unwrap()), PipeError::EndOfFile);
        });
    }

    #[test]
    fn a_sender_waits_when_much_is_on_the_way() {
        let (receiving, sending) = ends(false);
        let one = || sending.send(&Value::Int(1), &Patience::none());
        assert_eq!((0..=MOST_ON_THE_WAY).take_while(|_| one().is_ok()).count(), MOST_ON_THE_WAY as usize);
        drop(receiving);
        assert_eq!(pipe_error(one()), PipeError::Broken);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..150)) {
            prop_assert!(Connection::from_handle(&bytes).is_err());
            prop_assert!(Connection::from_handle(&[&MAGIC[..], &bytes].concat()).is_err());
        }
    }
}
