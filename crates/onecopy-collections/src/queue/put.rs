//! The end where messages go in.

use onecopy_sync::Patience;

use super::door::Ordering::{Acquire, Relaxed, Release};
use super::door::crash_point;
use super::record::{Batch, Enclosed, Header, Kind, UNIT};
use super::segment::{MOST_UNITS, Segment, damaged};
use super::{Channel, Opened, Position, QueueError};

/// Units of a link with the one block it refers to.
const LINK_UNITS: u32 = 2;
/// Units that are always left for a link, and for the padding before it.
const RESERVE: u32 = 2 * LINK_UNITS;

impl Channel<'_> {
    /// Puts the messages of a batch from a position between two on, waiting for room; answers how many went in, and
    /// moves the position behind them. That is less than all only if the time was up after some.
    #[inline]
    pub fn put(&self, batch: &Batch, from: &mut usize, patience: &Patience<'_>) -> Result<u32, QueueError> {
        let mut total = 0;
        loop {
            let put = self.put_some(batch, from)?;
            total += put;
            if put > 0 {
                self.queue.take.gate.0.open(put);
                crash_point!("queue.put.told");
            }
            if *from >= batch.len() {
                return Ok(total);
            }
            let waited = self.queue.put.gate.0.wait(patience, &self.local.room, || !self.is_full());
            match waited.map_err(QueueError::from) {
                Err(QueueError::TimedOut) if total > 0 => return Ok(total),
                other => other?,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= self.queue.limit() && !self.queue.is_closed()
    }

    /// Lets go of what the messages of a batch refer to, from a position on: they are not put.
    pub fn discard(&self, batch: &Batch, from: usize) -> Result<(), QueueError> {
        for (_, record) in batch.records(from) {
            for enclosed in super::record::message_of(record).iter().flat_map(super::Message::enclosed) {
                self.block.arena().discard(enclosed.parcel)?;
                crash_point!("queue.put.discarded");
            }
        }
        Ok(())
    }

    /// Puts as many messages as there is room for.
    #[inline]
    fn put_some(&self, batch: &Batch, from: &mut usize) -> Result<u32, QueueError> {
        let (guard, died) = self.lock(&self.queue.put);
        crash_point!("queue.put.locked");
        if self.queue.is_closed() {
            return Err(QueueError::Closed);
        }
        let mut writer = Writer::new(self)?;
        let done = writer.write(batch, from);
        let put = writer.publish();
        if put > 0 {
            writer.opened.memory.expect_write(writer.tail.units);
        }
        writer.opened.keep(&self.local.put);
        drop(guard);
        crash_point!("queue.put.unlocked");
        if died {
            self.discard_orphans()?;
        }
        // What went in is in; the next call meets what stopped this one again.
        if put > 0 { Ok(put) } else { done.map(|()| 0) }
    }
}

/// What the holder of the lock knows of this end.
struct Writer<'a> {
    channel: &'a Channel<'a>,
    start: u32,
    tail: Position,
    head: Position,
    opened: Opened,
}

impl<'a> Writer<'a> {
    #[inline]
    fn new(channel: &'a Channel<'a>) -> Result<Self, QueueError> {
        let end = &channel.queue.put;
        let tail = Position::load(&end.position.0, Relaxed);
        let head = Position::load(&end.own.0.other, Relaxed);
        let opened = channel.open(end, &channel.local.put, tail.segment)?;
        Ok(Self { channel, start: tail.count, tail, head, opened })
    }

    #[inline]
    fn write(&mut self, batch: &Batch, from: &mut usize) -> Result<(), QueueError> {
        for (header, record) in batch.records(*from) {
            if self.is_full() && (!self.look_again() || self.is_full()) {
                return Ok(());
            }
            let units = header.units();
            let fits = self.fits(units) || (self.look_again() && self.fits(units));
            if !fits {
                self.grow(units)?;
            }
            self.place(header, record)?;
            self.tail.count = self.tail.count.wrapping_add(1);
            *from += record.len();
        }
        Ok(())
    }

    /// Makes visible what was written; answers how many messages it is since the start.
    #[inline]
    fn publish(&mut self) -> u32 {
        // SYNC POINT: release pairs with the acquire in `Reader::new`. With this store the messages are in the queue.
        self.tail.store(&self.channel.queue.put.position.0, Release);
        crash_point!("queue.put.published");
        self.tail.count.wrapping_sub(self.start)
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.tail.messages_since(self.head) >= self.channel.queue.limit()
    }

    /// Looks where the other end is now; answers whether it has gone on.
    #[cold]
    fn look_again(&mut self) -> bool {
        // SYNC POINT: acquire pairs with the release in `Reader::publish`: what was taken has been read.
        let now = Position::load(&self.channel.queue.take.position.0, Acquire);
        let moved = now != self.head;
        self.head = now;
        now.store(&self.channel.queue.put.own.0.other, Relaxed);
        crash_point!("queue.put.looked");
        moved
    }

    /// Whether a record has room in this segment, with the padding before it and a link behind it.
    #[inline]
    fn fits(&self, units: u32) -> bool {
        let memory = self.opened.memory;
        // Consumers that are not in this segment yet will begin at its start.
        let start = if self.head.segment == self.tail.segment { self.head.units } else { 0 };
        let to_end = memory.to_end(self.tail.units);
        let padding = if units > to_end { to_end } else { 0 };
        self.tail.units_since(start) + padding + units + RESERVE <= memory.units()
    }

    /// Writes a record behind the last, at the start of the memory if it does not fit before its end.
    #[inline]
    fn place(&mut self, header: Header, record: &[u8]) -> Result<(), QueueError> {
        let (memory, units) = (self.opened.memory, header.units());
        let to_end = memory.to_end(self.tail.units);
        if units > to_end {
            if !memory.write(self.tail.units, &Header::pad(to_end).pack().to_le_bytes()) {
                return Err(damaged("a queue has no room for padding").into());
            }
            crash_point!("queue.put.padded");
            self.tail.advance(to_end);
        }
        if !memory.write(self.tail.units, record) {
            return Err(damaged("a queue has less room than it says").into());
        }
        crash_point!("queue.put.written");
        self.tail.advance(units);
        Ok(())
    }

    /// Goes on in a new segment.
    #[cold]
    fn grow(&mut self, units: u32) -> Result<(), QueueError> {
        let channel = self.channel;
        let size = (2 * self.opened.memory.units()).max(4 * units.next_power_of_two()).min(MOST_UNITS);
        let far = Position::load(&channel.queue.take.position.0, Relaxed);
        if self.tail.is_far_from(far) {
            return Err(damaged("a queue has more segments than it can number").into());
        }
        let (block, _) = channel.block.arena().allocate(u64::from(size) * UNIT as u64)?;
        crash_point!("queue.grow.allocated");
        let segment = Box::new(Segment::over(block)?);
        let name = channel.enclose(segment.block())?;
        crash_point!("queue.grow.enclosed");
        self.link(name)?;
        let next = self.tail.next_segment();
        channel.queue.put.own.0.segments[(next.segment & 1) as usize].set(next.segment, Some(name));
        crash_point!("queue.grow.named");
        self.tail = next;
        // From here on the new segment is the queue's. Another may follow in the same batch, and its name takes the
        // place of the old one's: so this is told at once.
        self.publish();
        self.opened = Opened { memory: segment.memory(), segment: Some(segment) };
        Ok(())
    }

    fn link(&mut self, next: Enclosed) -> Result<(), QueueError> {
        let header = Header { kind: Kind::Link, tag: 0, len: 0, enclosed: 1 };
        let mut record = [0; LINK_UNITS as usize * UNIT];
        record[..8].copy_from_slice(&header.pack().to_le_bytes());
        record[8..24].copy_from_slice(&next.encode());
        self.place(header, &record)
    }
}
