//! Models of the queue, explored by loom: `RUSTFLAGS="--cfg loom" cargo test -p onecopy-collections --lib --release`.
//!
//! The code is that of the queue; only memory, arena and kernel stand in. Where nobody dies a sleep ends by a wake alone,
//! so a wake that is lost is a deadlock. Where somebody does, it dies at each of its steps in turn, as real processes do
//! in `crates/onecopy/tests/crash`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use onecopy_sync::{Patience, trust_wakes};

use super::door::{Block, Memory};
use super::record::Enclosed;
use super::stand_in::{Arena, SLOTS};
use super::{Batch, Channel, Local, MOST_MESSAGES, Queue, QueueError};

/// A queue that processes share.
struct Lane {
    queue: Queue,
    /// Of each process. The block of the queue is its ring too.
    users: [User; SLOTS],
}

struct User {
    arena: Arena,
    block: Block,
    local: Local,
}

impl Lane {
    fn new(units: u64, limit: u32) -> Self {
        let arenas = Arena::new();
        let (first, _) = arenas[0].allocate(units * 16).unwrap();
        let users = arenas.map(|arena| {
            let block = arena.get(first.id()).unwrap();
            User { arena, block, local: Local::new() }
        });
        let queue = Queue::zeros();
        queue.begin(limit);
        Self { queue, users }
    }

    fn channel(&self, slot: usize) -> Channel<'_> {
        let User { block, local, .. } = &self.users[slot];
        let home: Memory = block.memory();
        Channel::new(&self.queue, block, home, local).unwrap()
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
        let each = |message: super::Message<'_>| {
            assert!(message.enclosed().all(|enclosed| batch.block(enclosed.block).is_some()));
            assert!(message.bytes.iter().all(|&byte| byte == message.bytes[0]));
            (message.tag, message.bytes[0])
        };
        batch.messages().map(each).collect()
    }
}

type Taken = Vec<(u8, u8)>;

/// Runs all orders of the steps of the processes, each a thread in the slot of its place in the list plus 1, and then
/// `after`, with what each took.
fn explore<const N: usize>(
    trust: bool,
    preemptions: usize,
    lane: impl Fn() -> Lane + Send + Sync + 'static,
    processes: [Arc<dyn Fn(&Lane) -> Taken + Send + Sync>; N],
    after: impl Fn(&Lane, [Taken; N]) + Send + Sync + 'static,
) {
    trust_wakes(trust);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(move || {
        let lane = Arc::new(lane());
        let threads = processes.clone().map(|process| {
            let lane = lane.clone();
            loom::thread::spawn(move || process(&lane))
        });
        let taken = threads.map(|thread| thread.join().unwrap());
        after(&lane, taken);
        let Ok(lane) = Arc::try_unwrap(lane) else { panic!("a process did not end") };
        let arena = lane.users[0].arena.clone();
        drop(lane);
        assert_eq!(arena.blocks(), 0, "blocks are left");
    });
}

fn process(work: impl Fn(&Lane) -> Taken + Send + Sync + 'static) -> Arc<dyn Fn(&Lane) -> Taken + Send + Sync> {
    Arc::new(work)
}

fn puts(slot: usize, numbers: std::ops::Range<u8>) -> Arc<dyn Fn(&Lane) -> Taken + Send + Sync> {
    process(move |lane| {
        for number in numbers.clone() {
            lane.put(slot, number..number + 1, &Patience::FOREVER).unwrap();
        }
        Vec::new()
    })
}

fn takes(slot: usize, count: usize) -> Arc<dyn Fn(&Lane) -> Taken + Send + Sync> {
    process(move |lane| {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(lane.take(slot, 1, &Patience::FOREVER));
        }
        all
    })
}

#[test]
fn nobody_oversleeps_at_either_end() {
    // One message at a time: each waits for the other in turn.
    explore(
        true,
        3,
        || Lane::new(16, 1),
        [puts(1, 0..2), takes(2, 2)],
        |_, [_, taken]| {
            assert_eq!(taken, [(1, 0), (1, 1)]);
        },
    );
}

#[test]
fn room_is_not_used_again_before_what_lay_there_has_been_read() {
    // Each message takes half of the ring: the third lies where the first was.
    let put = process(|lane| {
        for number in 0..3 {
            lane.put_long(1, number..number + 1, 50, &Patience::FOREVER).unwrap();
        }
        Vec::new()
    });
    explore(
        true,
        2,
        || Lane::new(8, 1),
        [put, takes(2, 3)],
        |lane, [_, taken]| {
            assert_eq!(taken, [(1, 0), (1, 1), (1, 2)]);
            assert_eq!(lane.users[0].arena.blocks(), 1, "the ring has grown");
        },
    );
}

#[test]
fn two_producers_wake_a_consumer_for_each_message() {
    explore(
        true,
        2,
        || Lane::new(16, MOST_MESSAGES),
        [puts(1, 0..1), puts(2, 0..1), takes(3, 2)],
        |_, [.., mut taken]| {
            taken.sort_unstable();
            assert_eq!(taken, [(1, 0), (2, 0)]);
        },
    );
}

#[test]
fn two_consumers_are_woken_for_one_message_each() {
    let put_two = process(|lane| {
        assert_eq!(lane.put(1, 0..2, &Patience::FOREVER).unwrap(), 2);
        Vec::new()
    });
    explore(
        true,
        2,
        || Lane::new(16, MOST_MESSAGES),
        [put_two, takes(2, 1), takes(3, 1)],
        |_, [_, a, b]| {
            let mut all = [a, b].concat();
            all.sort_unstable();
            assert_eq!(all, [(1, 0), (1, 1)]);
        },
    );
}

#[test]
fn a_close_reaches_whoever_waits() {
    let close = process(|lane| {
        lane.queue.close();
        Vec::new()
    });
    let wait = process(|lane| lane.take(2, 1, &Patience::FOREVER));
    explore(true, 3, || Lane::new(16, 1), [close, wait], |_, [_, taken]| assert_eq!(taken, []));
}

#[test]
fn a_ring_that_wraps_and_grows_keeps_the_order() {
    // Four units are kept free for a link, so the ring holds four messages and grows with the fifth.
    let put = process(|lane| {
        assert_eq!(lane.put(1, 0..3, &Patience::FOREVER).unwrap(), 3);
        assert_eq!(lane.put(1, 3..7, &Patience::FOREVER).unwrap(), 4);
        Vec::new()
    });
    let take = process(|lane| [lane.take(2, 2, &Patience::none()), lane.take(2, 9, &Patience::none())].concat());
    explore(
        false,
        3,
        || Lane::new(8, MOST_MESSAGES),
        [put, take],
        |lane, [_, mut taken]| {
            taken.extend(lane.take(2, 9, &Patience::none()));
            assert_eq!(taken, (0..7).map(|number| (1, number)).collect::<Vec<_>>());
        },
    );
}

/// Explores the death of a process after each number of steps, until there is an order in which it survives them all.
fn explore_deaths(explore: impl Fn(u32, Arc<AtomicBool>)) {
    for steps in 0..200 {
        let died = Arc::new(AtomicBool::new(false));
        explore(steps, died.clone());
        if !died.load(SeqCst) {
            assert!(steps > 15, "there are only {steps} steps");
            return;
        }
    }
    panic!("a process does not come to its end");
}

/// A process in slot 1 that is killed after so many steps.
fn dies(
    steps: u32,
    died: Arc<AtomicBool>,
    work: impl Fn(&Lane) + Send + Sync + 'static,
) -> Arc<dyn Fn(&Lane) -> Taken + Send + Sync> {
    process(move |lane| {
        if lane.users[1].arena.run_and_kill(steps, || work(lane)) {
            died.store(true, SeqCst);
        }
        Vec::new()
    })
}

/// The numbers of one producer, which are in order.
fn of(producer: u8, taken: &Taken) -> Vec<u8> {
    let numbers: Vec<u8> = taken.iter().filter(|message| message.0 == producer).map(|message| message.1).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{taken:?}");
    numbers
}

#[test]
fn a_producer_that_dies_takes_no_message_of_another_with_it() {
    explore_deaths(|steps, died| {
        let victim = dies(steps, died, |lane| {
            lane.put(1, 0..3, &Patience::none()).unwrap();
            lane.put_block(1, 3);
            lane.put(1, 4..6, &Patience::none()).unwrap();
        });
        let other = process(|lane| {
            lane.put(2, 0..2, &Patience::none()).unwrap();
            lane.take(2, 1, &Patience::none())
        });
        explore(
            false,
            1,
            || Lane::new(8, MOST_MESSAGES),
            [victim, other],
            |lane, [_, mut taken]| {
                // Whatever lock the dead one had is taken over here, at both ends.
                lane.put(2, 2..3, &Patience::none()).unwrap();
                taken.extend(lane.take(2, 99, &Patience::none()));
                assert_eq!(of(2, &taken), [0, 1, 2]);
                let dead = of(1, &taken);
                assert_eq!(dead, (0..dead.len() as u8).collect::<Vec<_>>());
                lane.channel(2).discard_orphans().unwrap();
                assert!(lane.users[0].arena.blocks() <= 2, "orphans are left");
            },
        );
    });
}

#[test]
fn a_consumer_that_dies_loses_at_most_what_it_had_in_hand() {
    explore_deaths(|steps, died| {
        let victim = dies(steps, died, |lane| {
            for _ in 0..4 {
                lane.take(1, 1, &Patience::none());
            }
        });
        let full = || {
            let lane = Lane::new(8, MOST_MESSAGES);
            lane.put_block(3, 0);
            lane.put(3, 1..6, &Patience::none()).unwrap();
            lane
        };
        let other = process(|lane| lane.take(2, 1, &Patience::none()));
        explore(false, 2, full, [victim, other], |lane, [_, mut taken]| {
            taken.extend(lane.take(2, 99, &Patience::none()));
            let rest = of(3, &taken);
            // What the dead one has is a beginning, but for the one that another took in between.
            assert!(rest.len() >= 2 && rest.ends_with(&[5]), "{rest:?}");
            assert!(lane.queue.is_empty());
            assert_eq!(lane.put(2, 0..1, &Patience::none()).unwrap(), 1);
            assert_eq!(lane.take(2, 9, &Patience::none()), [(2, 0)]);
        });
    });
}
