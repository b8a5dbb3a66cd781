//! Containers in containers: a dictionary of lists, each of which somebody fills before it puts it there and goes on
//! filling. Whoever finds a list finds it whole, and one that was taken out goes with all that is in it.

use std::collections::BTreeMap;

use onecopy::{Arena, BlockId, Container, Dict, DictKey, Encoded, Error, List, SharedObject, Value, ValueKind};

use crate::arrays::{array_of, bytes_of, handle_in};
use crate::contents::{Choices, pattern};
use crate::process::{Log, Worker};
use crate::subjects::{Scene, Subject};

pub(crate) const NESTED: Subject =
    Subject { name: "nested", begin: Shelf::begin, work, modules: &["onecopy_collections::container"] };

/// The actor that stays.
const SURVIVOR: u32 = 0;
/// Lists of each actor.
const LISTS: u32 = 3;
/// Items with which a list is put in.
const FIRST: usize = 2;

/// Puts a list of an actor under a key of his, with its first items.
fn put_list(dict: &Dict, actor: u32, what: u32) -> List {
    let arena = dict.home().arena();
    let list = List::new(arena).unwrap();
    (0..FIRST).for_each(|_| add(&list, actor, what));
    let value = Encoded::made(dict.home(), || Ok::<_, Error>((ValueKind::Pickle, list.send()?))).unwrap();
    loop {
        match dict.set(&key(actor, what), &value) {
            Err(Error::Container(onecopy::ContainerError::Locked)) => {
                dict.wait_unlocked(&crate::process::patience()).unwrap();
            }
            other => break other.unwrap(),
        }
    }
    list
}

fn key(actor: u32, what: u32) -> DictKey<'static> {
    DictKey::Int(i64::from(actor) << 32 | i64::from(what))
}

/// Adds an array that says whose list it is in.
fn add(list: &List, actor: u32, what: u32) {
    let bytes = pattern(u64::from(actor) << 32 | u64::from(what), 64);
    list.push(&Value::Array(array_of(list.home().arena(), &bytes))).unwrap();
}

/// The list under a key of an actor, if there is one; all in it is his.
fn find(dict: &Dict, actor: u32, what: u32) -> Option<List> {
    let list = dict.read(&key(actor, what), list_of).unwrap()?;
    check(&list, actor, what);
    Some(list)
}

fn list_of(record: onecopy::Record<'_>, blocks: &[onecopy::Block]) -> List {
    List::receive(&handle_in(record, blocks)).unwrap()
}

fn check(list: &List, actor: u32, what: u32) {
    let items = list.items().unwrap();
    assert!(items.len() >= FIRST, "a list was found with {} items", items.len());
    for item in items {
        let Value::Array(array) = item else { panic!("nobody put {item:?} in") };
        assert!(
            bytes_of(&array) == pattern(u64::from(actor) << 32 | u64::from(what), 64),
            "an item of somebody else's list"
        );
    }
}

struct Shelf {
    dict: Dict,
}

impl Shelf {
    fn begin(arena: &'static Arena, _: &mut Choices) -> Box<dyn Scene> {
        let dict = Dict::new(arena).unwrap();
        (0..LISTS).for_each(|what| drop(put_list(&dict, SURVIVOR, what)));
        Box::new(Self { dict })
    }
}

impl Scene for Shelf {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.dict.part().block().id()]
    }

    fn go_on(&mut self) {
        for what in 0..LISTS {
            let list = find(&self.dict, SURVIVOR, what).expect("a list of mine is gone");
            add(&list, SURVIVOR, what);
        }
        put_list(&self.dict, SURVIVOR, 1);
    }

    fn settle(self: Box<Self>, _: &[Log]) {
        self.dict.insert(&DictKey::Str("so that it is repaired"), &Value::None).unwrap();
        let mut blocks = 2;
        let mut lists: BTreeMap<i64, List> = BTreeMap::new();
        for picked in self.dict.snapshot().unwrap() {
            let record = picked.record().unwrap();
            let (ValueKind::Int, bytes) = Dict::key_of(record).unwrap() else { continue };
            lists.insert(i64::from_le_bytes(bytes.try_into().unwrap()), list_of(record, picked.blocks()));
        }
        for (name, list) in &lists {
            let (actor, what) = ((name >> 32) as u32, *name as u32);
            // Whoever died in it has left what the next who writes repairs.
            add(list, actor, what);
            check(list, actor, what);
            blocks += 2 + list.len().unwrap();
        }
        let arena = self.dict.home().arena();
        arena.reap().unwrap();
        drop(lists);
        assert_eq!(arena.stats().unwrap().blocks as usize, blocks, "leaked in the containers");
    }
}

fn work(worker: &mut Worker) {
    let dict: Dict = worker.object(0);
    change(&dict, worker.actor);
    for what in 0..LISTS {
        // Those of others may be replaced or filled at this moment; they are whole.
        drop(find(&dict, SURVIVOR, what));
    }
    dict.lock(&crate::process::patience())
        .map(drop)
        .or_else(|_| dict.recover(&crate::process::patience()).map(drop))
        .unwrap();
    change(&dict, worker.actor);
    dict.unlock().unwrap();
    // What others would notice: a dictionary of lists that is emptied.
    let own = Dict::new(worker.arena).unwrap();
    change(&own, worker.actor);
    own.clear().unwrap();
    let places = ["map.inserted", "map.removed", "body.swung", "container.discarded"];
    let place = places[worker.choices.below(places.len() as u64) as usize];
    worker.let_a_child_die(Some(place), |child| change(&dict, child.actor));
    change(&dict, worker.actor);
    dict.len().unwrap();
}

fn change(dict: &Dict, actor: u32) {
    for what in 0..LISTS {
        let list = put_list(dict, actor, what);
        // More than its first cells: it gets another body while it lies in the dictionary.
        (0..16).for_each(|_| add(&list, actor, what));
        let found = find(dict, actor, what).expect("a list is gone that nobody else takes out");
        assert!(found.remove(-1).unwrap().is_some());
    }
    assert!(dict.remove(&key(actor, 0)).unwrap().is_some());
}
