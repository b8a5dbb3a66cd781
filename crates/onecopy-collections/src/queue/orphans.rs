//! What the dead left in the queue's block without putting it into the queue.

use std::collections::HashSet;

use onecopy_arena::ParcelId;

use super::door::Ordering::Acquire;
use super::door::crash_point;
use super::record::Kind;
use super::take::{linked, next_header};
use super::{Channel, Last, Position, QueueError};

impl Channel<'_> {
    /// Discards the parcels of producers that were killed after they had made them and before their message was in the
    /// queue; answers how many there were.
    pub fn discard_orphans(&self) -> Result<u32, QueueError> {
        // Nobody else takes both locks, so the order is free.
        let (_taking, _) = self.lock(&self.queue.take);
        let (_putting, _) = self.lock(&self.queue.put);
        crash_point!("queue.orphans.locked");
        let known = self.parcels_in_queue()?;
        let mut discarded = 0;
        for owned in self.block.owned()? {
            if !owned.sender_lives && !known.contains(&owned.parcel) {
                discarded += u32::from(self.block.arena().discard(owned.parcel)?);
                crash_point!("queue.orphans.discarded");
            }
        }
        Ok(discarded)
    }

    /// The parcels of all messages and segments. Both ends are locked.
    fn parcels_in_queue(&self) -> Result<HashSet<ParcelId>, QueueError> {
        let (take, put) = (&self.queue.take, &self.queue.put);
        let last = Last::new();
        let (mut head, mut opened) = self.open_first(&last)?;
        let tail = Position::load(&put.position.0, Acquire);
        let mut known = HashSet::new();
        for (end, number) in [(take, head.segment), (take, Position::number_after(head.segment)), (put, tail.segment)] {
            let name = end.own.0.segments[(number & 1) as usize].get(number).flatten();
            known.extend(name.map(|name| name.parcel));
        }
        let mut bytes = Vec::new();
        while head != tail {
            let header = next_header(opened.memory, head, tail)?;
            if header.kind == Kind::Link {
                let name = linked(opened.memory, head, header)?;
                known.insert(name.parcel);
                opened = self.open_named(&last, name)?;
                head = head.next_segment();
                continue;
            }
            if header.enclosed > 0 && opened.memory.read(head.units, header, &mut bytes) {
                known.extend(
                    super::record::message_of(&bytes).iter().flat_map(super::Message::enclosed).map(|e| e.parcel),
                );
                bytes.clear();
            }
            head.advance(header.units());
            head.count = head.count.wrapping_add(u32::from(header.kind == Kind::Message));
        }
        Ok(known)
    }
}
