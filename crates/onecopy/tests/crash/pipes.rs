//! Pipes: each end of one is had by several processes, in a dictionary and on its way. Every message comes once, as through
//! a queue; and when all who had an end have closed it or died, the other end is told.

use onecopy::{
    Arena, Batch, BlockId, Connection, Container, Dict, DictKey, Encoded, Error, Patience, PipeError, QueueError,
    SharedObject, ValueKind, pipe,
};

use crate::arrays::handle_in;
use crate::contents::{Choices, pattern};
use crate::history::{Event, Name};
use crate::process::{Log, Worker, moment, patience};
use crate::queue::{judge_all, name_of};
use crate::subjects::{Scene, Subject};

pub(crate) const PIPE: Subject = Subject { name: "pipe", begin: Line::begin, work, modules: &["onecopy::pipe"] };

/// The actor that stays.
const SURVIVOR: u32 = 0;

/// What an actor says of messages, and how many he has sent.
struct User<'a> {
    actor: u32,
    sent: &'a mut u32,
    say: &'a mut dyn FnMut(Event),
}

impl User<'_> {
    fn send(&mut self, end: &Connection, patience: &Patience<'_>) {
        let number = *self.sent;
        (self.say)(Event::Putting { first: number, count: 1 });
        let queue = end.writer().unwrap();
        let mut batch = Batch::new();
        let bytes = pattern(u64::from(self.actor) << 32 | u64::from(number), [10, 200, 20_000][number as usize % 3]);
        queue.push(&mut batch, ValueKind::Raw, &bytes).unwrap();
        let went_in = match end.put(&batch, patience) {
            Ok(()) => 1,
            Err(Error::Queue(QueueError::TimedOut)) => {
                queue.drop_rest(&batch, 0).unwrap();
                0
            }
            Err(error) => panic!("{error}"),
        };
        *self.sent += went_in;
        (self.say)(Event::Put(went_in));
    }

    fn receive(&mut self, end: &Connection, patience: &Patience<'_>) -> Received {
        (self.say)(Event::Taking { most: 1 });
        let mut batch = Batch::new();
        let received = match end.take(&mut batch, patience) {
            Ok(()) => Received::Message,
            Err(Error::Queue(QueueError::TimedOut)) => Received::Nothing,
            Err(Error::Pipe(PipeError::EndOfFile)) => Received::End,
            Err(error) => panic!("{error}"),
        };
        let names: Vec<Name> = batch.messages().map(|message| name_of(&batch, &message)).collect();
        (self.say)(Event::Took(names));
        received
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Received {
    Message,
    Nothing,
    End,
}

const THERE: DictKey<'static> = DictKey::Str("the other end");

/// The end that lies in a dictionary, as another reference to it.
fn end_in(dict: &Dict) -> Connection {
    dict.read(&THERE, |record, blocks| Connection::from_handle(&handle_in(record, blocks)).unwrap())
        .unwrap()
        .expect("the end is not there")
}

struct Line {
    here: Connection,
    there: Dict,
    sent: u32,
    events: Vec<Event>,
}

impl Line {
    fn begin(arena: &'static Arena, _: &mut Choices) -> Box<dyn Scene> {
        let (here, other) = pipe(arena, true).unwrap();
        let there = Dict::new(arena).unwrap();
        let value = Encoded::made(there.home(), || Ok::<_, Error>((ValueKind::Pickle, other.to_handle()?)));
        there.set(&THERE, &value.unwrap()).unwrap();
        let mut line = Self { here, there, sent: 0, events: Vec::new() };
        (0..3).for_each(|_| line.user(|user, here| user.send(here, &patience())));
        Box::new(line)
    }

    fn user<T>(&mut self, work: impl FnOnce(&mut User<'_>, &Connection) -> T) -> T {
        let Self { here, sent, events, .. } = self;
        work(&mut User { actor: SURVIVOR, sent, say: &mut |event| events.push(event) }, here)
    }
}

impl Scene for Line {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.there.part().block().id()]
    }

    fn go_on(&mut self) {
        self.user(|user, here| {
            user.receive(here, &moment());
            user.send(here, &patience());
        });
    }

    fn settle(mut self: Box<Self>, logs: &[Log]) {
        // What nobody has received of what went there.
        let other = end_in(&self.there);
        self.user(|user, _| while user.receive(&other, &Patience::none()) == Received::Message {});
        drop(other);
        // With this the last who has the end is gone, however the others ended; but for a handle that one had made for
        // nobody when he was killed.
        self.there.clear().unwrap();
        self.there.home().arena().reap_in_flight().unwrap();
        self.user(|user, here| {
            let mut last = Received::Message;
            while last == Received::Message {
                last = user.receive(here, &patience());
            }
            assert_eq!(last, Received::End, "the death of the other end is not told");
            let closed = here.send(&onecopy::Value::None, &Patience::none());
            assert!(matches!(closed, Err(Error::Pipe(PipeError::Broken))), "{closed:?}");
        });
        judge_all(self.events, logs);
    }
}

fn work(worker: &mut Worker) {
    let dict: Dict = worker.object(0);
    let there = end_in(&dict);
    talk(worker, &there);
    private(worker);
    // A child with the end that others wait for.
    let place = ["pipe.received", "pipe.let-go", "pipe.posted"][worker.choices.below(3) as usize];
    worker.let_a_child_die(Some(place), |child| {
        let there = end_in(&dict);
        child.put = 0;
        talk(child, &there);
        let handle = there.to_handle().unwrap();
        drop(there);
        drop(Connection::from_handle(&handle).unwrap());
    });
    talk(worker, &there);
}

fn talk(worker: &mut Worker, there: &Connection) {
    let actor = worker.actor;
    let mut say = |event: Event| Worker::say(&event.to_line(actor));
    let mut user = User { actor, sent: &mut worker.put, say: &mut say };
    for _ in 0..4 {
        user.send(there, &moment());
        assert_ne!(user.receive(there, &Patience::none()), Received::End, "the other end is there");
    }
}

/// A pipe of the worker's own: its ends travel, and are closed.
fn private(worker: &mut Worker) {
    let (here, there) = pipe(worker.arena, true).unwrap();
    let handle = there.to_handle().unwrap();
    drop(there);
    let there = Connection::from_handle(&handle).unwrap();
    there.send(&onecopy::Value::Int(1), &patience()).unwrap();
    // The child has both ends, and dies with them or lets go of them.
    worker.let_a_child_die(Some("pipe.let-go"), |_| drop(end_of(here.to_handle())));
    worker.let_a_child_die(None, |_| ());
    drop(there);
    assert!(here.recv(&patience()).is_ok());
    let end = here.recv(&patience());
    assert!(matches!(end, Err(Error::Pipe(PipeError::EndOfFile))), "{end:?}");
}

fn end_of(handle: Result<Vec<u8>, Error>) -> Connection {
    Connection::from_handle(&handle.unwrap()).unwrap()
}
