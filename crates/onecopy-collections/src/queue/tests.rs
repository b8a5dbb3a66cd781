use std::time::{Duration, Instant};

use onecopy_arena::{Access, Arena, Options};
use proptest::prelude::*;

use super::*;

/// A queue with a ring of `ring` bytes, as a process has it.
struct Owned {
    block: Block,
    local: Local,
    ring: u64,
}

const STATE: u64 = size_of::<Queue>().next_multiple_of(64) as u64;

impl Owned {
    fn new(ring: u64, limit: u32) -> Self {
        let arena = Arena::create(Options { limit: Some(64 << 20), warm: None }).unwrap();
        let block = arena.allocate_zeroed(STATE + ring).unwrap();
        let owned = Self { block, local: Local::new(), ring };
        owned.queue().begin(limit);
        owned
    }

    fn queue(&self) -> &Queue {
        let first = self.block.address(Access::ReadWrite).unwrap().cast();
        // SAFETY: the block begins with room for a queue, aligned to 64, and a queue is made of atomics.
        unsafe { first.as_ref() }
    }

    fn channel(&self) -> Channel<'_> {
        let first = self.block.address(Access::ReadWrite).unwrap();
        // SAFETY: the ring lies behind the queue in the same block.
        let home = unsafe { Memory::new(first.add(STATE as usize), self.ring) }.unwrap();
        Channel::new(self.queue(), &self.block, home, &self.local).unwrap()
    }

    fn put(&self, messages: impl IntoIterator<Item = Vec<u8>>) -> Result<u32, QueueError> {
        let mut batch = Batch::new();
        messages.into_iter().for_each(|bytes| batch.push(0, &bytes, &[]));
        self.channel().put(&batch, &mut 0, &Patience::none())
    }

    fn take(&self, most: u32) -> Vec<Vec<u8>> {
        let mut batch = Batch::new();
        match self.channel().take(most, &mut batch, &Patience::none()) {
            Ok(_) | Err(QueueError::TimedOut | QueueError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
        batch.messages().map(|message| message.bytes.to_vec()).collect()
    }

    fn blocks(&self) -> u32 {
        self.block.arena().verify().unwrap();
        self.block.arena().stats().unwrap().blocks
    }
}

fn numbered(range: std::ops::Range<u32>, len: usize) -> Vec<Vec<u8>> {
    range.map(|n| n.to_le_bytes().into_iter().cycle().take(len.max(4)).collect()).collect()
}

#[test]
fn messages_of_all_lengths_come_out_in_order_through_wraps_and_growth() {
    for len in [4, 8, 9, 63, 64, 100, 1000, MOST_BYTES] {
        let owned = Owned::new(4096, MOST_MESSAGES);
        let (mut put, mut taken) = (0_u32, 0_u32);
        for round in 0..60 {
            let more = round * 7 % 23;
            owned.put(numbered(put..put + more, len)).unwrap();
            put += more;
            let some = owned.take(1 + round * 5 % 19);
            let next = taken + some.len() as u32;
            assert_eq!(some, numbered(taken..next, len), "{len}");
            taken = next;
            assert_eq!(owned.queue().len(), put - taken);
        }
        assert_eq!(owned.take(u32::MAX), numbered(taken..put, len));
        // The queue, and at most the segment that it ended up in with the one that was left last.
        assert!(owned.blocks() <= 3, "{len}: {}", owned.blocks());
    }
}

#[test]
fn a_deep_queue_gives_its_memory_back() {
    let owned = Owned::new(4096, MOST_MESSAGES);
    owned.put(numbered(0..100_000, 100)).unwrap();
    assert!(owned.blocks() > 10);
    assert_eq!(owned.take(u32::MAX), numbered(0..100_000, 100));
    assert!(owned.blocks() <= 3);
    owned.put(numbered(0..1, 4)).unwrap();
    let arena = owned.block.arena();
    drop(owned);
    assert_eq!(arena.stats().unwrap().blocks, 0);
}

#[test]
fn a_full_queue_takes_what_fits_and_goes_on() {
    let owned = Owned::new(4096, 3);
    assert_eq!(owned.put(numbered(0..5, 4)).unwrap(), 3);
    assert!(matches!(owned.put(numbered(3..4, 4)), Err(QueueError::TimedOut)));
    assert_eq!(owned.take(1), numbered(0..1, 4));
    assert_eq!(owned.put(numbered(3..5, 4)).unwrap(), 1);
    assert_eq!(owned.take(9), numbered(1..4, 4));
}

#[test]
fn who_takes_none_takes_one() {
    let owned = Owned::new(4096, 3);
    owned.put(numbered(0..2, 4)).unwrap();
    assert_eq!(owned.channel().take(0, &mut Batch::new(), &Patience::FOREVER).unwrap(), 1);
    assert_eq!(owned.take(9), numbered(1..2, 4));
}

#[test]
fn a_closed_queue_is_emptied_and_lets_nothing_in() {
    let owned = Owned::new(4096, 3);
    owned.put(numbered(0..2, 4)).unwrap();
    owned.queue().close();
    assert!(matches!(owned.put(numbered(2..3, 4)), Err(QueueError::Closed)));
    assert_eq!(owned.take(9), numbered(0..2, 4));
    let end = owned.channel().take(1, &mut Batch::new(), &Patience::FOREVER);
    assert!(matches!(end, Err(QueueError::Closed)));
}

#[test]
fn tasks_are_counted() {
    let owned = Owned::new(4096, 9);
    owned.put(numbered(0..2, 4)).unwrap();
    owned.queue().task_done().unwrap();
    assert!(owned.queue().join(&Patience::none()).is_err());
    owned.queue().task_done().unwrap();
    owned.queue().join(&Patience::FOREVER).unwrap();
    assert!(matches!(owned.queue().task_done(), Err(QueueError::TooManyDone)));
}

#[test]
fn enclosed_blocks_live_with_the_message_and_die_with_the_queue() {
    let owned = Owned::new(4096, MOST_MESSAGES);
    let arena = owned.block.arena();
    let enclose = || {
        let (block, _) = arena.allocate(100).unwrap();
        owned.channel().enclose(&block).unwrap()
    };
    let mut batch = Batch::new();
    (0..3).for_each(|tag| batch.push(tag, b"x", &[enclose(), enclose()]));
    owned.channel().put(&batch, &mut 0, &Patience::none()).unwrap();
    assert_eq!(owned.blocks(), 7);
    let mut out = Batch::new();
    owned.channel().take(1, &mut out, &Patience::none()).unwrap();
    let ids: Vec<_> = out.messages().flat_map(|message| message.enclosed()).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|enclosed| out.block(enclosed.block).is_some()));
    drop(out);
    assert_eq!(owned.blocks(), 5);
    owned.queue().close();
    let mut refused = Batch::new();
    refused.push(0, b"", &[enclose()]);
    assert!(owned.channel().put(&refused, &mut 0, &Patience::none()).is_err());
    owned.channel().discard(&refused, 0).unwrap();
    assert_eq!(owned.blocks(), 5);
    drop(owned);
    assert_eq!(arena.stats().unwrap().blocks, 0);
}

#[test]
fn a_message_that_a_dead_consumer_had_begun_to_take_is_skipped() {
    let owned = Owned::new(4096, MOST_MESSAGES);
    let (block, _) = owned.block.arena().allocate(100).unwrap();
    let enclosed = owned.channel().enclose(&block).unwrap();
    drop(block);
    let mut batch = Batch::new();
    batch.push(1, b"lost", &[enclosed]);
    batch.push(2, b"next", &[]);
    owned.channel().put(&batch, &mut 0, &Patience::none()).unwrap();
    // What the dead one did, and what the sweep does after it.
    owned.block.arena().discard(enclosed.parcel).unwrap();
    assert_eq!(owned.take(9), [b"next".to_vec()]);
    assert_eq!(owned.queue().len(), 0);
}

#[test]
fn damage_is_an_error() {
    let owned = Owned::new(4096, MOST_MESSAGES);
    owned.put(numbered(0..3, 40)).unwrap();
    let memory = owned.channel().home;
    for header in [u64::MAX, 0, 1 << 40 | 0xffff_ffff, 3 << 40, 2 << 40 | 4096] {
        assert!(memory.write(0, &header.to_le_bytes()));
        let taken = owned.channel().take(9, &mut Batch::new(), &Patience::none());
        assert!(matches!(taken, Err(QueueError::Arena(_))), "{header:x}: {taken:?}");
    }
    Position { segment: 7, units: 0, count: 9 }.store(&owned.queue().take.position.0, Relaxed);
    assert!(matches!(owned.channel().take(9, &mut Batch::new(), &Patience::none()), Err(QueueError::Arena(_))));
}

#[test]
fn producers_and_consumers_in_threads_lose_and_double_nothing() {
    const EACH: u32 = 30_000;
    for limit in [5, MOST_MESSAGES] {
        let owned = Owned::new(4096, limit);
        let received = std::thread::scope(|scope| {
            let producers: Vec<_> = (0..3_u32)
                .map(|producer| {
                    let owned = &owned;
                    scope.spawn(move || {
                        let mut batch = Batch::new();
                        for n in 0..EACH {
                            batch.clear();
                            batch.push(producer as u8, &n.to_le_bytes(), &[]);
                            owned.channel().put(&batch, &mut 0, &Patience::FOREVER).unwrap();
                        }
                    })
                })
                .collect();
            let consumers: Vec<_> = (0..2)
                .map(|_| {
                    let owned = &owned;
                    scope.spawn(move || {
                        let (mut all, mut batch) = (Vec::new(), Batch::new());
                        loop {
                            batch.clear();
                            match owned.channel().take(3, &mut batch, &Patience::FOREVER) {
                                Ok(_) => all.extend(
                                    batch.messages().map(|m| (m.tag, u32::from_le_bytes(m.bytes.try_into().unwrap()))),
                                ),
                                Err(QueueError::Closed) => return all,
                                Err(error) => panic!("{error}"),
                            }
                        }
                    })
                })
                .collect();
            for producer in producers {
                producer.join().unwrap();
            }
            owned.queue().close();
            consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect::<Vec<_>>()
        });
        for producer in 0..3 {
            let of = |all: &Vec<(u8, u32)>| all.iter().filter(|m| m.0 == producer).map(|m| m.1).collect::<Vec<_>>();
            assert!(received.iter().all(|all| of(all).is_sorted()));
            let mut all: Vec<_> = received.iter().flat_map(of).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..EACH));
        }
    }
}

#[test]
fn a_wait_for_a_message_keeps_the_time() {
    let owned = Owned::new(4096, 1);
    let start = Instant::now();
    let taken = owned.channel().take(1, &mut Batch::new(), &Patience::within(Duration::from_millis(30)));
    assert!(matches!(taken, Err(QueueError::TimedOut)) && start.elapsed() >= Duration::from_millis(30));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn messages_of_any_lengths_come_out_as_they_went_in(
        steps in prop::collection::vec((prop::collection::vec(4_usize..400, 0..4), 0_u32..6), 1..80),
    ) {
        // The smallest ring, nearly full at most times, so that what does not fit before its end comes to lie at its start
        // with all amounts of room left, and links where there is just room for one.
        let owned = Owned::new(1024, MOST_MESSAGES);
        let (mut put, mut expected) = (0, std::collections::VecDeque::new());
        for (lengths, most) in steps {
            let messages: Vec<_> = (put..).zip(&lengths).flat_map(|(n, &len)| numbered(n..n + 1, len)).collect();
            put += lengths.len() as u32;
            expected.extend(messages.iter().cloned());
            owned.put(messages).unwrap();
            let taken = if most == 0 { Vec::new() } else { owned.take(most) };
            prop_assert_eq!(&taken, &expected.drain(..taken.len()).collect::<Vec<_>>());
        }
        prop_assert_eq!(owned.take(u32::MAX), Vec::from(expected));
        prop_assert!(owned.blocks() <= 3);
    }
}
