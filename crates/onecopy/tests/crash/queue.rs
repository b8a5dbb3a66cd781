//! The queue: each process puts messages of its own and takes whatever comes, and says both; when all have ended, the
//! judge of histories looks whether every message came once.

use std::collections::BTreeMap;

use onecopy::{Arena, Array, Batch, BlockId, Error, Queue, QueueError, SharedObject, ValueKind};

use crate::arrays::{array_of, bytes_of};
use crate::contents::{Choices, pattern};
use crate::history::{Event, Name, Story, judge};
use crate::process::{Log, Worker, moment, patience};
use crate::subjects::{Scene, Subject};

pub(crate) const QUEUE: Subject =
    Subject { name: "queue", begin: Lane::begin, work, modules: &["onecopy_collections::queue", "onecopy_sync::gate"] };

/// The actor that stays.
const SURVIVOR: u32 = 0;
/// Contents above 16 KiB go into a block of their own.
const LONG: usize = 20_000;

struct Lane {
    queue: Queue,
    user: User,
    events: Vec<Event>,
}

impl Lane {
    fn begin(arena: &'static Arena, choices: &mut Choices) -> Box<dyn Scene> {
        let limit = [None, Some(40)][choices.below(2) as usize];
        let mut lane = Self { queue: Queue::new(arena, limit).unwrap(), user: User::new(SURVIVOR), events: Vec::new() };
        for sizes in [&[10][..], &[100, 2000], &[LONG]] {
            lane.put(sizes);
        }
        Box::new(lane)
    }

    fn put(&mut self, sizes: &[usize]) {
        let Self { queue, user, events } = self;
        user.put(queue, sizes, &patience(), &mut |event| events.push(event));
    }

    fn take(&mut self, most: u32) -> usize {
        let Self { queue, events, .. } = self;
        User::take(queue, most, &moment(), &mut |event| events.push(event))
    }
}

impl Scene for Lane {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.queue.part().block().id()]
    }

    fn go_on(&mut self) {
        self.take(2);
        self.put(&[10, 3000]);
        self.take(1);
    }

    fn settle(mut self: Box<Self>, logs: &[Log]) {
        while self.take(7) > 0 {}
        assert!(self.queue.is_empty());
        judge_all(self.events, logs);
    }
}

/// Judges what the process that stays did, and what others say that they did.
pub(crate) fn judge_all(events: Vec<Event>, logs: &[Log]) {
    let mut stories = BTreeMap::from([(SURVIVOR, Story { events, ..Story::default() })]);
    for log in logs {
        for (actor, event) in log.lines.iter().filter_map(|line| Event::from_line(line)) {
            stories.entry(actor).or_default().events.push(event);
        }
        for &actor in &log.killed {
            stories.entry(actor).or_default().killed = true;
        }
    }
    for (&actor, story) in &mut stories {
        story.producer = actor;
    }
    let stories: Vec<_> = stories.into_values().collect();
    judge(&stories).unwrap_or_else(|found| panic!("{found}: {stories:#?}"));
}

/// What a process does with a queue, and how it says so.
struct User {
    actor: u32,
    put: u32,
}

impl User {
    fn new(actor: u32) -> Self {
        Self { actor, put: 0 }
    }

    /// Puts messages of these sizes, which all go in together where there is room; the last of several is an array.
    fn put(&mut self, queue: &Queue, sizes: &[usize], patience: &onecopy::Patience<'_>, say: &mut dyn FnMut(Event)) {
        let mut batch = Batch::new();
        say(Event::Putting { first: self.put, count: sizes.len() as u32 });
        for (&size, number) in sizes.iter().zip(self.put..) {
            let bytes = pattern(u64::from(self.actor) << 32 | u64::from(number), size);
            if sizes.len() > 1 && number == self.put + sizes.len() as u32 - 1 {
                let arena = queue.part().block().arena();
                let array = array_of(arena, &bytes);
                let made = queue.push_made(&mut batch, || Ok::<_, Error>((ValueKind::Array, array.send()?)));
                made.unwrap();
            } else {
                queue.push(&mut batch, ValueKind::Bytes, &bytes).unwrap();
            }
        }
        let went_in = match queue.put_batch(&batch, patience) {
            Ok(went_in) => went_in,
            Err(Error::Queue(QueueError::TimedOut)) => 0,
            Err(error) => panic!("{error}"),
        };
        self.put += went_in;
        say(Event::Put(went_in));
    }

    /// Takes up to so many messages, each of which must be whole.
    fn take(queue: &Queue, most: u32, patience: &onecopy::Patience<'_>, say: &mut dyn FnMut(Event)) -> usize {
        let mut batch = Batch::new();
        say(Event::Taking { most });
        match queue.take_batch(most, &mut batch, patience) {
            Ok(_) | Err(Error::Queue(QueueError::TimedOut)) => {}
            Err(error) => panic!("{error}"),
        }
        let names: Vec<Name> = batch.messages().map(|message| name_of(&batch, &message)).collect();
        let taken = names.len();
        say(Event::Took(names));
        taken
    }
}

/// Which message it is; its bytes follow from that.
pub(crate) fn name_of(batch: &Batch, message: &onecopy::Message<'_>) -> Name {
    let contents = Queue::contents(batch, message).unwrap();
    let mut bytes = vec![0; contents.len()];
    contents.copy_to(&mut bytes);
    if ValueKind::of(message).unwrap() == ValueKind::Array {
        bytes = bytes_of(&Array::receive(&bytes).unwrap());
    }
    let seed = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == pattern(seed, bytes.len()), "a message of {} bytes holds wrong bytes", bytes.len());
    ((seed >> 32) as u32, seed as u32)
}

// --- the worker ---

/// Where children die, so that others inherit from them a lock of the queue and orphans in it.
const IN_THE_QUEUE: [&str; 5] =
    ["queue.put.written", "queue.take.received", "queue.grow.enclosed", "queue.follow.named", "queue.put.published"];

fn work(worker: &mut Worker) {
    let queue: Queue = worker.object(0);
    let mut user = User { actor: worker.actor, put: worker.put };
    let say = |worker: &Worker, event: Event| Worker::say(&event.to_line(worker.actor));
    let put = |worker: &Worker, user: &mut User, sizes: &[usize]| {
        user.put(&queue, sizes, &moment(), &mut |event| say(worker, event));
    };
    let take = |worker: &Worker, most| User::take(&queue, most, &moment(), &mut |event| say(worker, event));
    put(worker, &mut user, &[20]);
    put(worker, &mut user, &[30, 40, 5000]);
    take(worker, 2);
    put(worker, &mut user, &[LONG]);
    // More than a ring holds: it grows, twice.
    put(worker, &mut user, &[12_000; 24]);
    for most in [1, 3, 20, 40] {
        take(worker, most);
    }
    // Of a length that no ring is a multiple of: at its end there is padding.
    for _ in 0..12 {
        put(worker, &mut user, &[9000]);
        take(worker, 1);
    }
    put(worker, &mut user, &[3000; 30]);
    while take(worker, 5) > 0 {}
    meet(worker.arena);
    private(worker);
    let place = IN_THE_QUEUE[worker.choices.below(IN_THE_QUEUE.len() as u64) as usize];
    worker.put = user.put;
    worker.let_a_child_die(Some(place), |child| {
        let mut user = User::new(child.actor);
        put(child, &mut user, &[12_000; 24]);
        put(child, &mut user, &[100, 200]);
        take(child, 9);
        while take(child, 20) > 0 {}
    });
    // Whichever lock it died with: both are taken now.
    put(worker, &mut user, &[10, 20]);
    take(worker, 1);
    worker.put = user.put;
}

/// One sleeps until another wakes it: in a queue of the worker's own, as its own threads could not be told apart.
fn meet(arena: &'static Arena) {
    let own = Queue::new(arena, Some(1)).unwrap();
    let mut batch = Batch::new();
    own.push(&mut batch, ValueKind::Bytes, &[7; 8]).unwrap();
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| own.take_batch(1, &mut Batch::new(), &patience()).unwrap());
        // For most wakes to meet a sleeper; which of the two comes first does not matter otherwise.
        std::thread::sleep(std::time::Duration::from_micros(300));
        own.put_batch(&batch, &patience()).unwrap();
        assert_eq!(taker.join().unwrap(), 1);
    });
}

/// What others would notice: the end of a queue, and the count of tasks.
fn private(worker: &Worker) {
    let queue = Queue::new(worker.arena, Some(2)).unwrap();
    let batch = |count: usize| {
        let mut batch = Batch::new();
        let array = array_of(worker.arena, &[1; 8]);
        for _ in 0..count {
            queue.push_made(&mut batch, || Ok::<_, Error>((ValueKind::Array, array.send()?))).unwrap();
        }
        batch
    };
    assert_eq!(queue.put_batch(&batch(3), &moment()).unwrap(), 2);
    queue.take_batch(2, &mut Batch::new(), &patience()).unwrap();
    queue.task_done().unwrap();
    queue.task_done().unwrap();
    queue.join(&patience()).unwrap();
    queue.close();
    assert!(matches!(queue.put_batch(&batch(1), &patience()), Err(Error::Queue(QueueError::Closed))));
}
