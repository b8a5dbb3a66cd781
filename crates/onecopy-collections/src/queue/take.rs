//! The end where messages come out.

use onecopy_arena::ArenaError;
use onecopy_sync::Patience;

use super::door::Ordering::{Acquire, Relaxed, Release};
use super::door::{Block, Memory, crash_point};
use super::record::{Batch, Enclosed, Header, Kind};
use super::segment::{Last, damaged};
use super::{Channel, Opened, Own, Position, QueueError};

impl Channel<'_> {
    /// Takes at least one and at most `most` messages (one if that is zero), waiting for the first; they are appended to `batch`.
    pub fn take(&self, most: u32, batch: &mut Batch, patience: &Patience<'_>) -> Result<u32, QueueError> {
        loop {
            // Asked first: what was put before it was closed is still taken.
            let closed = self.queue.is_closed();
            let taken = if self.seems_empty() { 0 } else { self.take_some(most.max(1), batch)? };
            if taken > 0 {
                if self.queue.limit() < super::MOST_MESSAGES {
                    self.queue.put.gate.0.open(taken);
                    crash_point!("queue.take.told");
                }
                return Ok(taken);
            }
            if closed {
                return Err(QueueError::Closed);
            }
            self.wait(patience)?;
        }
    }

    /// Whether a look without the lock finds nothing to take. It touches what the other end writes only if what is known
    /// of it has been taken.
    #[inline]
    fn seems_empty(&self) -> bool {
        let Own { other, .. } = &self.queue.take.own.0;
        let head = self.queue.take.position.0.load(Relaxed);
        head == other.load(Relaxed) && head == self.queue.put.position.0.load(Relaxed)
    }

    /// Waits until there is a message to take, or the queue has been closed.
    pub fn wait(&self, patience: &Patience<'_>) -> Result<(), QueueError> {
        let ready = || !self.queue.is_empty() || self.queue.is_closed();
        let spin = if self.local.expects_answer() { &self.local.answer } else { &self.local.message };
        Ok(self.queue.take.gate.0.wait(patience, spin, ready)?)
    }

    /// Where the first message is, and in which segment. The lock of this end is held.
    #[inline]
    pub(super) fn open_first(&self, last: &Last) -> Result<(Position, Opened), ArenaError> {
        let end = &self.queue.take;
        let head = Position::load(&end.position.0, Relaxed);
        match self.open(end, last, head.segment) {
            // Whoever emptied it died on the way to the next, whose name it had written down.
            Err(ArenaError::Stale { .. }) => {
                let head = head.next_segment();
                Ok((head, self.open(end, last, head.segment)?))
            }
            other => Ok((head, other?)),
        }
    }

    #[inline]
    fn take_some(&self, most: u32, batch: &mut Batch) -> Result<u32, QueueError> {
        let (guard, died) = self.lock(&self.queue.take);
        crash_point!("queue.take.locked");
        let mut reader = Reader::new(self)?;
        let done = reader.read(most, batch);
        reader.publish();
        let taken = reader.taken;
        reader.opened.keep(&self.local.take);
        drop(guard);
        crash_point!("queue.take.unlocked");
        if died {
            self.discard_orphans()?;
        }
        if taken > 0 { Ok(taken) } else { done.map(|()| 0) }
    }
}

/// What the holder of the lock knows of this end.
struct Reader<'a> {
    channel: &'a Channel<'a>,
    head: Position,
    tail: Position,
    opened: Opened,
    taken: u32,
}

impl<'a> Reader<'a> {
    #[inline]
    fn new(channel: &'a Channel<'a>) -> Result<Self, QueueError> {
        let end = &channel.queue.take;
        let tail = Position::load(&end.own.0.other, Relaxed);
        let (head, opened) = channel.open_first(&channel.local.take)?;
        Ok(Self { channel, head, tail, opened, taken: 0 })
    }

    #[inline]
    fn read(&mut self, most: u32, batch: &mut Batch) -> Result<(), QueueError> {
        while self.taken < most && (self.head != self.tail || self.look_again()) {
            let header = next_header(self.opened.memory, self.head, self.tail)?;
            match header.kind {
                Kind::Pad => self.head.advance(header.units()),
                Kind::Message => self.read_message(header, batch)?,
                Kind::Link => self.follow(header)?,
            }
        }
        Ok(())
    }

    /// Looks where the other end is now; answers whether there is anything to read.
    #[inline]
    fn look_again(&mut self) -> bool {
        let queue = self.channel.queue;
        // SYNC POINT: acquire pairs with the release in `Writer::publish`.
        self.tail = Position::load(&queue.put.position.0, Acquire);
        self.tail.store(&queue.take.own.0.other, Relaxed);
        crash_point!("queue.take.looked");
        self.head != self.tail
    }

    #[inline]
    fn read_message(&mut self, header: Header, batch: &mut Batch) -> Result<(), QueueError> {
        let start = batch.len();
        if !self.opened.memory.read(self.head.units, header, batch.bytes_mut()) {
            return Err(damaged("a message reaches beyond the end of its queue").into());
        }
        crash_point!("queue.take.copied");
        let mut whole = true;
        if header.enclosed > 0 {
            let received = batch.last_from(start).map_or(Ok(None), |message| self.receive(message.enclosed()));
            match received {
                Ok(Some(blocks)) => batch.keep(blocks),
                Ok(None) => whole = false,
                Err(error) => {
                    batch.truncate(start);
                    return Err(error.into());
                }
            }
        }
        if whole {
            self.taken += 1;
        } else {
            batch.truncate(start);
        }
        self.head.advance(header.units());
        self.head.count = self.head.count.wrapping_add(1);
        if header.enclosed > 0 {
            // Its parcels are received: another consumer could not take it any more.
            self.publish();
        }
        Ok(())
    }

    /// The blocks that a message refers to; none if one is gone, because a consumer died that had begun to take the
    /// message.
    fn receive(&self, enclosed: impl Iterator<Item = Enclosed>) -> Result<Option<Vec<Block>>, ArenaError> {
        let arena = self.channel.block.arena();
        let receive = |e: Enclosed| {
            let block = arena.receive(e.block, Some(e.parcel));
            crash_point!("queue.take.received");
            block
        };
        let received = enclosed.map(receive).collect();
        match received {
            Err(ArenaError::Stale { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Goes on in the next segment.
    #[cold]
    fn follow(&mut self, header: Header) -> Result<(), QueueError> {
        let (channel, end) = (self.channel, &self.channel.queue.take);
        let name = linked(self.opened.memory, self.head, header)?;
        let next = self.head.next_segment();
        let left = end.own.0.segments[(self.head.segment & 1) as usize].get(self.head.segment).flatten();
        let opened = channel.open_named(&channel.local.take, name)?;
        crash_point!("queue.follow.opened");
        // The messages before this are taken now, as the place they lie in goes.
        self.publish();
        end.own.0.segments[(next.segment & 1) as usize].set(next.segment, Some(name));
        crash_point!("queue.follow.named");
        // From here on the next consumer finds its way even if it finds the old segment gone.
        if let Some(left) = left {
            channel.block.arena().discard(left.parcel)?;
            crash_point!("queue.follow.discarded");
        }
        self.head = next;
        self.publish();
        self.opened = opened;
        Ok(())
    }

    #[inline]
    fn publish(&self) {
        // SYNC POINT: release pairs with the acquire in `Writer::look_again`. With this store the messages are taken.
        self.head.store(&self.channel.queue.take.position.0, Release);
        crash_point!("queue.take.published");
    }
}

/// The header at the start of what is to be read, if the record lies in what was written.
#[inline]
pub(super) fn next_header(memory: Memory, head: Position, tail: Position) -> Result<Header, ArenaError> {
    let written = if head.segment == tail.segment { tail.units_since(head.units) } else { memory.units() };
    let header = memory.header(head.units).filter(|header| header.units() <= written.min(memory.to_end(head.units)));
    header.ok_or_else(|| damaged("what lies in a queue is no message"))
}

/// The segment that a link leads to.
pub(super) fn linked(memory: Memory, head: Position, header: Header) -> Result<Enclosed, ArenaError> {
    let mut record = Vec::new();
    let read = memory.read(head.units, header, &mut record);
    let name = super::record::message_of(&record).and_then(|link| link.enclosed().next());
    name.filter(|_| read).ok_or_else(|| damaged("a queue ends in a link to nowhere"))
}
