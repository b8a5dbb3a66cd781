//! Models of the queue. How they are run says [`crate::models`].

mod deaths;
mod ring;
mod waits;

use onecopy_sync::Patience;

use crate::models::{self, Shared};
use crate::queue::door::Memory;
use crate::queue::record::Enclosed;
use crate::queue::{Batch, Channel, Local, Queue, QueueError};

/// A queue that processes share. Its block is its ring too.
type Lane = Shared<Queue, Local>;

fn lane(units: u64, limit: u32) -> Lane {
    let lane = Lane::new(Queue::zeros(), units * 16);
    lane.object.begin(limit);
    lane
}

impl Lane {
    fn channel(&self, slot: usize) -> Channel<'_> {
        let user = &self.users[slot];
        let home = Memory::of(&user.block).unwrap();
        Channel::new(&self.object, &user.block, home, &user.local).unwrap()
    }

    /// Puts numbers, one message each; the tag is the producer's slot.
    fn put(&self, slot: usize, numbers: std::ops::Range<u8>, patience: &Patience<'_>) -> Result<u32, QueueError> {
        self.put_long(slot, numbers, 1, patience)
    }

    /// The same, each of them so many times in a message.
    fn put_long(
        &self,
        slot: usize,
        numbers: std::ops::Range<u8>,
        len: usize,
        patience: &Patience<'_>,
    ) -> Result<u32, QueueError> {
        let mut batch = Batch::new();
        numbers.for_each(|number| batch.push(slot as u8, &vec![number; len], &[]));
        self.channel(slot).put(&batch, &mut 0, patience)
    }

    /// Puts a message that refers to a block.
    fn put_block(&self, slot: usize, number: u8) {
        let (block, _) = self.users[slot].arena.allocate(16).unwrap();
        let enclosed: Enclosed = self.channel(slot).enclose(&block).unwrap();
        drop(block);
        let mut batch = Batch::new();
        batch.push(slot as u8, &[number], &[enclosed]);
        self.channel(slot).put(&batch, &mut 0, &Patience::none()).unwrap();
    }

    /// Takes messages as (producer, number).
    fn take(&self, slot: usize, most: u32, patience: &Patience<'_>) -> Vec<(u8, u8)> {
        let mut batch = Batch::new();
        match self.channel(slot).take(most, &mut batch, patience) {
            Ok(_) | Err(QueueError::TimedOut | QueueError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
        let each = |message: crate::queue::Message<'_>| {
            assert!(message.enclosed().all(|enclosed| batch.block(enclosed.block).is_some()));
            assert!(message.bytes.iter().all(|&byte| byte == message.bytes[0]));
            (message.tag, message.bytes[0])
        };
        batch.messages().map(each).collect()
    }
}

type Taken = Vec<(u8, u8)>;
type Process = models::Process<Lane, Taken>;

fn puts(slot: usize, numbers: std::ops::Range<u8>) -> Process {
    models::process(move |lane: &Lane| {
        for number in numbers.clone() {
            lane.put(slot, number..number + 1, &Patience::FOREVER).unwrap();
        }
        Vec::new()
    })
}

fn takes(slot: usize, count: usize) -> Process {
    models::process(move |lane: &Lane| {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(lane.take(slot, 1, &Patience::FOREVER));
        }
        all
    })
}
