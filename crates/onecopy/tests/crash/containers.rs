//! Dictionaries and lists: each process changes what is its own, and says so before and after; when all have ended, each
//! change must be there as a whole, but for the one that a killed process was making, which may or may not be.

use std::collections::{BTreeMap, BTreeSet};

use onecopy::{
    Arena, BlockId, Container, Dict, DictKey, Encoded, Error, List, LockError, Origin, Picked, SharedObject, Value,
    ValueKind,
};

use crate::arrays::{array_of, bytes_of};
use crate::contents::{Choices, pattern};
use crate::process::{Log, Worker, patience};
use crate::subjects::{Scene, Subject};

pub(crate) const DICT: Subject = Subject {
    name: "dict",
    begin: Keys::begin,
    work: work_on_dict,
    modules: &["onecopy_collections::container", "onecopy_collections::map"],
};
pub(crate) const LIST: Subject = Subject {
    name: "list",
    begin: Items::begin,
    work: work_on_list,
    modules: &["onecopy_collections::container", "onecopy_collections::list"],
};

/// The actor that stays.
const SURVIVOR: u32 = 0;
/// Contents above 4 KiB go into a block of their own.
const LONG: usize = 5_000;

// --- what a value is ---

/// What a value says of itself, by its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    actor: u32,
    what: u16,
    version: u16,
}

impl Name {
    fn seed(self) -> u64 {
        u64::from(self.actor) << 32 | u64::from(self.what) << 16 | u64::from(self.version)
    }

    /// A value with this name: bytes in the record or in a block, or an array.
    fn value(self, arena: &'static Arena) -> Value {
        let bytes = pattern(self.seed(), [16, 200, LONG, 64][usize::from(self.version) % 4]);
        if self.version % 4 == 3 {
            return Value::Array(array_of(arena, &bytes));
        }
        Value::Bytes(bytes)
    }

    /// The name of a value, which must be whole.
    fn of(value: &Value) -> Self {
        let bytes = match value {
            Value::Bytes(bytes) => bytes.clone(),
            Value::Array(array) => bytes_of(array),
            other => panic!("nobody put {other:?} in"),
        };
        let seed = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
        assert!(bytes == pattern(seed, bytes.len()), "a value of {} bytes holds wrong bytes", bytes.len());
        Self { actor: (seed >> 32) as u32, what: (seed >> 16) as u16, version: seed as u16 }
    }
}

// --- what somebody says that he does ---

/// What each thing of an actor is (a version, or zero where it is not there), and what he was about to make it.
#[derive(Debug, Default)]
struct Account(BTreeMap<(u32, u16), (u16, Option<u16>)>);

impl Account {
    fn begin(&mut self, actor: u32, what: u16, version: u16) {
        self.0.entry((actor, what)).or_default().1 = Some(version);
    }

    fn end(&mut self, actor: u32, what: u16) {
        let entry = self.0.entry((actor, what)).or_default();
        entry.0 = entry.1.take().unwrap_or(entry.0);
    }

    fn learn(&mut self, log: &Log) {
        for line in &log.lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| words[i].parse::<u32>().unwrap();
            match words[0] {
                "begin" => self.begin(number(1), number(2) as u16, number(3) as u16),
                "end" => self.end(number(1), number(2) as u16),
                _ => {}
            }
        }
    }

    /// Looks whether everything is as it should be.
    fn judge(&self, found: &BTreeMap<(u32, u16), u16>) {
        for thing in found.keys().chain(self.0.keys()) {
            let is = found.get(thing).copied().unwrap_or(0);
            let (was, pending) = self.0.get(thing).copied().unwrap_or_default();
            assert!(is == was || Some(is) == pending, "{thing:?} is {is}, and should be {was} or {pending:?}");
        }
    }
}

/// Who changes something, and where that is said.
trait Teller {
    fn begin(&mut self, what: u16, version: u16);
    fn end(&mut self, what: u16);
}

struct Aloud(u32);

impl Teller for Aloud {
    fn begin(&mut self, what: u16, version: u16) {
        Worker::say(&format!("begin {} {what} {version}\n", self.0));
    }
    fn end(&mut self, what: u16) {
        Worker::say(&format!("end {} {what}\n", self.0));
    }
}

struct Noted<'a>(&'a mut Account);

impl Teller for Noted<'_> {
    fn begin(&mut self, what: u16, version: u16) {
        self.0.begin(SURVIVOR, what, version);
    }
    fn end(&mut self, what: u16) {
        self.0.end(SURVIVOR, what);
    }
}

/// All that the container keeps, and nothing else: blocks of it, of its body, and of its values.
fn expect_nothing_beside(arena: &'static Arena, items: Vec<Picked>) {
    let distinct = |items: &[Picked]| -> BTreeSet<u32> {
        items.iter().flat_map(Picked::blocks).map(|block| block.id().index).collect()
    };
    let inside = distinct(&items).len();
    drop(items);
    arena.reap().unwrap();
    assert_eq!(arena.stats().unwrap().blocks as usize, 2 + inside, "leaked in the container");
}

/// Takes the lock of a container, told of deaths or not.
fn hold(container: &impl Container) {
    match container.lock(&patience()) {
        Ok(_) => {}
        Err(LockError::OwnerDied) => drop(container.recover(&patience()).unwrap()),
        Err(error) => panic!("{error}"),
    }
}

// --- the dictionary ---

struct Keys {
    dict: Dict,
    account: Account,
    version: u16,
}

/// Keys of an actor, in a form that is also a number to others.
fn with_key<T>(actor: u32, what: u16, show: impl FnOnce(&DictKey<'_>) -> T) -> T {
    let number = i64::from(actor) << 16 | i64::from(what);
    match what % 3 {
        0 => show(&DictKey::Int(number)),
        1 => show(&DictKey::Float(number as f64)),
        _ => show(&DictKey::Str(&format!("a key in so many words: {number}"))),
    }
}

fn set(dict: &Dict, teller: &mut impl Teller, actor: u32, what: u16, version: u16) {
    let value = Name { actor, what, version }.value(dict.home().arena());
    teller.begin(what, version);
    with_key(actor, what, |key| dict.insert(key, &value)).unwrap();
    teller.end(what);
    assert_eq!(get(dict, actor, what), Some(version));
}

fn take(dict: &Dict, teller: &mut impl Teller, actor: u32, what: u16) -> Option<u16> {
    teller.begin(what, 0);
    let value = with_key(actor, what, |key| dict.remove(key)).unwrap();
    teller.end(what);
    assert_eq!(get(dict, actor, what), None);
    value.map(|value| Name::of(&value).version)
}

fn get(dict: &Dict, actor: u32, what: u16) -> Option<u16> {
    let name = Name::of(&with_key(actor, what, |key| dict.get(key)).unwrap()?);
    assert_eq!((name.actor, name.what), (actor, what));
    Some(name.version)
}

impl Keys {
    fn begin(arena: &'static Arena, _choices: &mut Choices) -> Box<dyn Scene> {
        let mut keys = Self { dict: Dict::new(arena).unwrap(), account: Account::default(), version: 1 };
        (0..6).for_each(|what| keys.set(what));
        Box::new(keys)
    }

    fn set(&mut self, what: u16) {
        self.version += 1;
        set(&self.dict, &mut Noted(&mut self.account), SURVIVOR, what, self.version);
    }
}

impl Scene for Keys {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.dict.part().block().id()]
    }

    fn go_on(&mut self) {
        assert!((1..6).all(|what| get(&self.dict, SURVIVOR, what).is_some()));
        (0..3).for_each(|what| self.set(what));
        hold(&self.dict);
        self.set(3);
        self.dict.unlock().unwrap();
        assert!(take(&self.dict, &mut Noted(&mut self.account), SURVIVOR, 0).is_some());
    }

    fn settle(mut self: Box<Self>, logs: &[Log]) {
        for log in logs {
            self.account.learn(log);
        }
        let items = self.dict.items().unwrap();
        assert_eq!(self.dict.len().unwrap(), items.len());
        let names: Vec<_> = items.iter().map(|(_, value)| Name::of(value)).collect();
        drop(items);
        assert_eq!(names.len(), names.iter().map(|name| (name.actor, name.what)).collect::<BTreeSet<_>>().len());
        for name in &names {
            assert_eq!(get(&self.dict, name.actor, name.what), Some(name.version));
        }
        self.account.judge(&names.iter().map(|name| ((name.actor, name.what), name.version)).collect());
        expect_nothing_beside(self.dict.home().arena(), self.dict.snapshot().unwrap());
    }
}

/// Where children die, so that others inherit from them the lock of writers and what they left.
const IN_A_DICT: [&str; 6] =
    ["map.indexed", "map.inserted", "map.updated", "map.removed", "body.swung", "container.enclosed"];

fn change_keys(dict: &Dict, actor: u32, rounds: u16) {
    let mut teller = Aloud(actor);
    for version in 1..=rounds {
        for what in 0..12 {
            set(dict, &mut teller, actor, what, 4 * version + what % 4);
        }
        // Replaced, and moved with all others when the body is full.
        (0..40).for_each(|n| set(dict, &mut teller, actor, 12, 1000 + n));
        assert!(take(dict, &mut teller, actor, version % 12).is_some());
        assert!(take(dict, &mut teller, actor, 40).is_none());
    }
}

fn work_on_dict(worker: &mut Worker) {
    let dict: Dict = worker.object(0);
    change_keys(&dict, worker.actor, 2);
    hold(&dict);
    change_keys(&dict, worker.actor, 1);
    dict.unlock().unwrap();
    // What others would notice.
    let own = Dict::new(worker.arena).unwrap();
    for what in 0..30 {
        own.insert(&DictKey::Int(what), &Name { actor: 0, what: 0, version: 3 }.value(worker.arena)).unwrap();
    }
    assert!(own.pop_last().unwrap().is_some());
    own.clear().unwrap();
    assert!(own.is_empty().unwrap());
    drop(own);
    let place = IN_A_DICT[worker.choices.below(IN_A_DICT.len() as u64) as usize];
    worker.let_a_child_die(Some(place), |child| change_keys(&dict, child.actor, 2));
    // Who inherits the lock repairs.
    change_keys(&dict, worker.actor, 1);
    dict.len().unwrap();
}

// --- the list ---

struct Items {
    list: List,
    account: Account,
    next: u16,
}

/// Items that come and go together.
const TOGETHER: u16 = 3;

fn encode(list: &List, name: Name) -> Encoded<'static> {
    match name.value(list.home().arena()) {
        Value::Array(array) => {
            Encoded::made(list.home(), || Ok::<_, Error>((ValueKind::Array, array.send()?))).unwrap()
        }
        Value::Bytes(bytes) => Encoded::new(list.home(), ValueKind::Bytes, bytes).unwrap(),
        other => panic!("no form of {other:?}"),
    }
}

/// Does what changes a list, after those who hold its lock.
fn patiently<T>(list: &List, mut work: impl FnMut() -> Result<T, Error>) -> T {
    loop {
        match work() {
            Err(Error::Container(onecopy::ContainerError::Locked)) => list.wait_unlocked(&patience()).unwrap(),
            other => return other.unwrap(),
        }
    }
}

fn add(list: &List, teller: &mut impl Teller, actor: u32, what: u16) {
    let items: Vec<_> = (0..TOGETHER).map(|part| encode(list, Name { actor, what, version: 1 + part })).collect();
    teller.begin(what, 1);
    patiently(list, || list.extend(&items));
    teller.end(what);
}

/// Puts three in at the start, in one step.
fn add_first(list: &List, teller: &mut impl Teller, actor: u32, what: u16) {
    let items: Vec<_> = (0..TOGETHER).map(|part| encode(list, Name { actor, what, version: 1 + part })).collect();
    teller.begin(what, 1);
    patiently(list, || {
        let order = |len: usize| Ok((0..items.len()).map(Origin::New).chain((0..len).map(Origin::Old)).collect());
        list.arrange::<Error>(order, &items)
    });
    teller.end(what);
}

fn names(list: &List) -> Vec<Name> {
    list.items().unwrap().iter().map(Name::of).collect()
}

fn take_out(list: &List, teller: &mut impl Teller, actor: u32, what: u16) {
    hold(list);
    let all = names(list);
    teller.begin(what, 0);
    let keep = |position: &usize| (all[*position].actor, all[*position].what) != (actor, what);
    list.arrange::<Error>(|len| Ok((0..len).filter(keep).map(Origin::Old).collect()), &[]).unwrap();
    teller.end(what);
    list.unlock().unwrap();
}

/// Gives an item another form, in its place.
fn replace(list: &List, actor: u32) {
    hold(list);
    if let Some((position, name)) = (0..).zip(names(list)).find(|(_, name)| name.actor == actor) {
        assert!(list.set(position, &encode(list, name)).unwrap());
    }
    list.unlock().unwrap();
}

fn reverse(list: &List) {
    patiently(list, || list.arrange::<Error>(|len| Ok((0..len).rev().map(Origin::Old).collect()), &[]));
}

impl Items {
    fn begin(arena: &'static Arena, _choices: &mut Choices) -> Box<dyn Scene> {
        let mut items = Self { list: List::new(arena).unwrap(), account: Account::default(), next: 0 };
        (0..3).for_each(|_| items.add());
        Box::new(items)
    }

    fn add(&mut self) {
        add(&self.list, &mut Noted(&mut self.account), SURVIVOR, self.next);
        self.next += 1;
    }
}

impl Scene for Items {
    fn blocks(&self) -> Vec<BlockId> {
        vec![self.list.part().block().id()]
    }

    fn go_on(&mut self) {
        self.add();
        reverse(&self.list);
        take_out(&self.list, &mut Noted(&mut self.account), SURVIVOR, 1);
        assert!(names(&self.list).iter().any(|name| (name.actor, name.what) == (SURVIVOR, 0)));
    }

    fn settle(mut self: Box<Self>, logs: &[Log]) {
        for log in logs {
            self.account.learn(log);
        }
        // So that what the dead left is repaired.
        self.add();
        let mut together: BTreeMap<(u32, u16), Vec<u16>> = BTreeMap::new();
        for name in names(&self.list) {
            together.entry((name.actor, name.what)).or_default().push(name.version);
        }
        for (thing, parts) in &mut together {
            parts.sort_unstable();
            assert_eq!(*parts, [1, 2, 3], "{thing:?} is there in part");
        }
        self.account.judge(&together.keys().map(|&thing| (thing, 1)).collect());
        let all = self.list.snapshot(|len| (0..len).collect()).unwrap();
        expect_nothing_beside(self.list.home().arena(), all);
    }
}

const IN_A_LIST: [&str; 5] = ["list.placed", "list.published", "body.filled", "body.swung", "container.discarded"];

/// Changes a list; `first` is a number below which all things of this actor are that it had so far.
fn change_items(list: &List, actor: u32, first: &mut u32) {
    let mut teller = Aloud(actor);
    let start = *first as u16;
    *first += 12;
    for what in start..start + 6 {
        add(list, &mut teller, actor, what);
        add_first(list, &mut teller, actor, what + 6);
        replace(list, actor);
        reverse(list);
        take_out(list, &mut teller, actor, what + 6);
    }
    (start..start + 5).for_each(|what| take_out(list, &mut teller, actor, what));
}

fn work_on_list(worker: &mut Worker) {
    let list: List = worker.object(0);
    change_items(&list, worker.actor, &mut worker.put);
    // What others would notice.
    let own = List::new(worker.arena).unwrap();
    let value = || Name { actor: 0, what: 0, version: 3 }.value(worker.arena);
    own.insert(0, &value()).unwrap();
    own.push(&value()).unwrap();
    assert!(own.replace(0, &value()).unwrap());
    assert!(own.remove(0).unwrap().is_some() && own.remove(-1).unwrap().is_some());
    own.push(&value()).unwrap();
    own.clear().unwrap();
    drop(own);
    let place = IN_A_LIST[worker.choices.below(IN_A_LIST.len() as u64) as usize];
    worker.let_a_child_die(Some(place), |child| change_items(&list, child.actor, &mut 0));
    // Who inherits the lock repairs.
    change_items(&list, worker.actor, &mut worker.put);
}
