//! Maps, whole operations of them.

use onecopy_sync::{OnOwnerDied, Patience};

use super::{Made, Process, Shared, dies, explore, explore_deaths, process};
use crate::container::{ContainerError, Item, Key, Local};
use crate::door::Block;
use crate::map::{Channel, Map};

/// A map that processes share.
type Shelf = Shared<Map, Local>;

fn shelf() -> Shelf {
    let shelf = Shelf::new(Map::zeros(), 16);
    shelf.channel(0).begin(7).unwrap();
    shelf
}

fn key(name: &str) -> Key<'_> {
    Key::plain(1, name.as_bytes())
}

impl Shelf {
    fn channel(&self, slot: usize) -> Channel<'_> {
        let user = &self.users[slot];
        Channel::new(&self.object, &user.block, &user.local)
    }

    fn try_set(&self, slot: usize, name: &str, value: u64, blocks: &[Block]) -> Result<(), ContainerError> {
        let item = Item::new(Some(&key(name)), 0, &value.to_ne_bytes(), blocks)?;
        self.channel(slot).set(&key(name), item)
    }

    fn set(&self, slot: usize, name: &str, value: u64) {
        self.try_set(slot, name, value, &[]).unwrap();
    }

    /// A value that refers to a block of its own.
    fn set_block(&self, slot: usize, name: &str, value: u64) {
        let (block, _) = self.users[slot].arena.allocate(16).unwrap();
        self.try_set(slot, name, value, &[block]).unwrap();
    }

    /// The value of a key, with as many blocks as it refers to.
    fn get(&self, slot: usize, name: &str) -> Option<(u64, usize)> {
        let show = |record: crate::container::Record<'_>, blocks: &[Block]| {
            (u64::from_ne_bytes(record.value_word().unwrap()), blocks.len())
        };
        self.channel(slot).get(&key(name), show).unwrap()
    }

    fn number(&self, slot: usize, name: &str) -> Option<u64> {
        self.get(slot, name).map(|(value, _)| value)
    }

    /// Looks whether nothing is wrong in what processes left, and nothing is there beside it.
    fn judge(&self) {
        let all = self.channel(0).snapshot().unwrap();
        assert_eq!(self.channel(0).len().unwrap(), all.len());
        for picked in &all {
            let (_, name) = picked.record().unwrap().key();
            assert!(self.get(0, std::str::from_utf8(&name).unwrap()).is_some());
        }
        let blocks: usize = all.iter().map(|picked| picked.blocks().len()).sum();
        drop(all);
        self.users.iter().for_each(|user| user.local.forget());
        assert_eq!(self.arena().blocks(), 2 + blocks, "of the map, its body, and its values");
    }
}

fn does(work: impl Fn(&Shelf) + Send + Sync + 'static) -> Process<Shelf, ()> {
    process(work)
}

#[test]
fn who_has_seen_a_key_counts_it_and_meets_it() {
    let writer = does(|shelf| shelf.set(1, "a", 1));
    let reader = does(|shelf| {
        if shelf.number(2, "a").is_some() {
            assert_eq!(shelf.channel(2).len().unwrap(), 1);
            let mut cursor = shelf.channel(2).cursor().unwrap();
            assert!(cursor.next_key(|record| assert_eq!(record.key().1, b"a")).unwrap().is_some());
        }
    });
    explore(false, 2, shelf, [writer, reader], |shelf, _| shelf.judge());
}

#[test]
fn two_writers_lose_nothing_of_each_other_while_the_map_grows() {
    let writer = |slot: usize, names: [&'static str; 2]| {
        does(move |shelf| names.into_iter().for_each(|name| shelf.set(slot, name, slot as u64)))
    };
    let begin = || {
        let shelf = shelf();
        (0..3).for_each(|value| shelf.set(3, "a", value));
        shelf
    };
    explore(false, 2, begin, [writer(1, ["b", "c"]), writer(2, ["d", "e"])], |shelf, _| {
        let found = ["a", "b", "c", "d", "e"].map(|name| shelf.number(0, name));
        assert_eq!(found, [Some(2), Some(1), Some(1), Some(2), Some(2)]);
        shelf.judge();
    });
}

#[test]
fn a_key_that_stays_is_there_while_the_map_moves() {
    let begin = || {
        let shelf = shelf();
        (0..5).for_each(|value| shelf.set(3, "stays", value));
        shelf
    };
    // There is no room for this.
    let writer = does(|shelf| shelf.set(1, "new", 1));
    let reader = does(|shelf| assert_eq!(shelf.number(2, "stays"), Some(4)));
    explore(false, 3, begin, [writer, reader], |shelf, _| shelf.judge());
}

#[test]
fn a_value_is_read_with_its_blocks_while_it_is_replaced() {
    let begin = || {
        let shelf = shelf();
        shelf.set_block(3, "a", 1);
        shelf
    };
    let writer = does(|shelf| shelf.set_block(1, "a", 2));
    let reader = does(|shelf| {
        let seen = shelf.get(2, "a");
        assert!([Some((1, 1)), Some((2, 1))].contains(&seen), "{seen:?}");
    });
    explore(false, 3, begin, [writer, reader], |shelf, _| shelf.judge());
}

#[test]
fn a_value_that_moves_to_another_key_is_always_under_one_of_them() {
    let begin = || {
        let shelf = shelf();
        shelf.set(3, "from", 1);
        shelf
    };
    let writer = does(|shelf| {
        shelf.set(1, "to", 1);
        assert!(shelf.channel(1).remove(&key("from")).unwrap());
    });
    let reader = does(|shelf| assert!(["from", "to"].iter().any(|name| shelf.number(2, name) == Some(1))));
    explore(false, 3, begin, [writer, reader], |shelf, _| shelf.judge());
}

#[test]
fn what_is_read_and_changed_under_the_lock_of_programs_is_one_change() {
    let begin = || {
        let shelf = shelf();
        shelf.set(3, "a", 1);
        shelf
    };
    let holder = does(|shelf| {
        let channel = shelf.channel(1);
        let _held = channel.lock(&Patience::FOREVER, OnOwnerDied::Take).unwrap();
        shelf.set(1, "a", shelf.number(1, "a").unwrap() + 1);
        assert!(channel.unlock().unwrap());
    });
    let other = does(|shelf| {
        while let Err(error) = shelf.try_set(2, "a", 10, &[]) {
            assert!(matches!(error, ContainerError::Locked), "{error}");
            shelf.channel(2).wait(&Patience::FOREVER).unwrap();
        }
    });
    explore(false, 2, begin, [holder, other], |shelf, _| {
        let last = shelf.number(0, "a");
        assert!([Some(10), Some(11)].contains(&last), "{last:?}");
        shelf.judge();
    });
}

/// The keys `a` and `b` after each of the changes of the one that dies.
const STATES: [[Option<u64>; 2]; 7] = [
    [None, None],
    [Some(1), None],
    [Some(1), Some(2)],
    [Some(3), Some(2)],
    [Some(4), Some(2)],
    [None, Some(2)],
    [None, None],
];

#[test]
fn a_writer_that_dies_has_made_each_change_or_not_and_leaves_nothing() {
    explore_deaths(|steps, died| {
        let made = Made::default();
        let begin = {
            let made = made.clone();
            move || {
                made.reset();
                shelf()
            }
        };
        let change = made.clone();
        let victim = dies(steps, died, move |shelf: &Shelf| {
            let changes: [&dyn Fn(); 6] = [
                &|| shelf.set_block(1, "a", 1),
                &|| shelf.set_block(1, "b", 2),
                &|| shelf.set_block(1, "a", 3),
                // There is no room for this: the map moves.
                &|| shelf.set_block(1, "a", 4),
                &|| assert!(shelf.channel(1).remove(&key("a")).unwrap()),
                &|| shelf.channel(1).clear().unwrap(),
            ];
            for make in changes {
                make();
                change.one_more();
            }
        });
        let other = does(|shelf| {
            let seen = ["a", "b"].map(|name| shelf.number(2, name));
            let each = |place: usize| STATES.iter().any(|state| state[place] == seen[place]);
            assert!(each(0) && each(1), "{seen:?}");
        });
        explore(false, 1, begin, [victim, other], move |shelf, _| {
            let found = ["a", "b"].map(|name| shelf.number(0, name));
            assert!(made.states(&STATES).contains(&found), "{found:?}");
            // Whatever the dead one left is repaired before this.
            shelf.set(0, "c", 7);
            assert_eq!(["a", "b"].map(|name| shelf.number(0, name)), found);
            shelf.judge();
        });
    });
}
