//! Lists, whole operations of them.

use onecopy_sync::{OnOwnerDied, Patience};

use super::{Made, Process, Shared, dies, explore, explore_deaths, process};
use crate::container::{ContainerError, Item, Local};
use crate::door::Block;
use crate::list::{Channel, List, Origin};

/// A list that processes share.
type Row = Shared<List, Local>;

fn row(values: &[u64]) -> Row {
    let row = Row::new(List::zeros(), 16);
    row.channel(0).begin().unwrap();
    row.extend(0, values);
    row
}

/// A value of a list; an odd number refers to a block of its own.
fn item(value: u64, blocks: &[Block]) -> Item<'_> {
    Item::new(None, 0, &value.to_ne_bytes(), if value % 2 == 0 { &[] } else { blocks }).unwrap()
}

impl Row {
    fn channel(&self, slot: usize) -> Channel<'_> {
        let user = &self.users[slot];
        Channel::new(&self.object, &user.block, &user.local)
    }

    fn block(&self, slot: usize) -> [Block; 1] {
        [self.users[slot].arena.allocate(16).unwrap().0]
    }

    fn try_extend(&self, slot: usize, values: &[u64]) -> Result<(), ContainerError> {
        let blocks = self.block(slot);
        let mut items: Vec<_> = values.iter().map(|&value| item(value, &blocks)).collect();
        self.channel(slot).extend(&mut items)
    }

    fn extend(&self, slot: usize, values: &[u64]) {
        self.try_extend(slot, values).unwrap();
    }

    fn get(&self, slot: usize, index: i64) -> Option<u64> {
        let show = |record: crate::container::Record<'_>, blocks: &[Block]| {
            let value = u64::from_ne_bytes(record.value_word().unwrap());
            assert_eq!(blocks.len() as u64, value % 2);
            value
        };
        self.channel(slot).get(index, show).unwrap()
    }

    /// All values, at one moment.
    fn all(&self, slot: usize) -> Vec<u64> {
        let all = self.channel(slot).snapshot(|len| (0..len).collect()).unwrap();
        all.iter().map(|picked| u64::from_ne_bytes(picked.record().unwrap().value_word().unwrap())).collect()
    }

    /// Looks whether there is nothing beside what is in the list.
    fn judge(&self) {
        let all = self.channel(0).snapshot(|len| (0..len).collect()).unwrap();
        let ids = all.iter().flat_map(|picked| picked.blocks()).map(|block| block.id().index);
        let blocks = ids.collect::<std::collections::BTreeSet<_>>().len();
        drop(all);
        self.users.iter().for_each(|user| user.local.forget());
        assert_eq!(self.arena().blocks(), 2 + blocks, "of the list, its body, and its values");
    }
}

fn does(work: impl Fn(&Row) + Send + Sync + 'static) -> Process<Row, ()> {
    process(work)
}

#[test]
fn items_that_come_together_are_there_together() {
    let writer = does(|row| row.extend(1, &[2, 3, 4]));
    let reader = does(|row| {
        let len = row.channel(2).len().unwrap();
        assert!(len == 1 || len == 4, "{len}");
        assert_eq!(row.get(2, 0), Some(0));
        let last = row.get(2, -1);
        assert!(last == Some(4) || last == Some(0) && len == 1, "{last:?} of {len}");
    });
    explore(
        false,
        3,
        || row(&[0]),
        [writer, reader],
        |row, _| {
            assert_eq!(row.all(0), [0, 2, 3, 4]);
            row.judge();
        },
    );
}

#[test]
fn two_writers_lose_nothing_of_each_other_while_the_list_grows() {
    let writer = |slot: usize, values: [u64; 2]| {
        does(move |row| values.into_iter().for_each(|value| row.extend(slot, &[value])))
    };
    explore(
        false,
        2,
        || row(&[0, 2]),
        [writer(1, [10, 12]), writer(2, [20, 22])],
        |row, _| {
            let all = row.all(0);
            let of = |ten: u64| all.iter().copied().filter(|value| value / 10 == ten).collect::<Vec<_>>();
            assert_eq!([of(0), of(1), of(2)], [[0, 2], [10, 12], [20, 22]]);
            row.judge();
        },
    );
}

#[test]
fn a_reader_finds_what_the_list_had_while_items_change_places() {
    let writer = does(|row| {
        row.channel(1).insert(0, item(6, &[])).unwrap();
        assert!(row.channel(1).pop(1).unwrap().is_some());
        assert!(row.channel(1).set(0, item(8, &[])).unwrap());
    });
    let reader = does(|row| {
        let first = row.get(2, 0);
        assert!([Some(0), Some(6), Some(8)].contains(&first), "{first:?}");
        // Popped before what came in its place was set.
        let second = row.get(2, 1);
        assert!([Some(2), Some(0)].contains(&second), "{second:?}");
        assert!(first != Some(8) || second == Some(2), "{first:?} and then {second:?}");
    });
    explore(
        false,
        3,
        || row(&[0, 2]),
        [writer, reader],
        |row, _| {
            assert_eq!(row.all(0), [8, 2]);
            row.judge();
        },
    );
}

#[test]
fn what_is_read_and_changed_under_the_lock_of_programs_is_one_change() {
    let holder = does(|row| {
        let channel = row.channel(1);
        let _held = channel.lock(&Patience::FOREVER, OnOwnerDied::Take).unwrap();
        let len = channel.len().unwrap() as u64;
        row.extend(1, &[2 * len]);
        assert!(channel.unlock().unwrap());
    });
    let other = does(|row| {
        while let Err(error) = row.try_extend(2, &[10]) {
            assert!(matches!(error, ContainerError::Locked), "{error}");
            row.channel(2).wait(&Patience::FOREVER).unwrap();
        }
    });
    explore(
        false,
        2,
        || row(&[]),
        [holder, other],
        |row, _| {
            let all = row.all(0);
            assert!(all == [0, 10] || all == [10, 2], "{all:?}");
            row.judge();
        },
    );
}

/// The list after each of the changes of the one that dies.
const STATES: [&[u64]; 8] = [&[1], &[1, 2, 3], &[5, 2, 3], &[7, 5, 2, 3], &[7, 2, 3], &[7, 2], &[7], &[]];

#[test]
fn a_writer_that_dies_has_made_each_change_or_not_and_leaves_nothing() {
    explore_deaths(|steps, died| {
        let made = Made::default();
        let begin = {
            let made = made.clone();
            move || {
                made.reset();
                row(&[1])
            }
        };
        let change = made.clone();
        let victim = dies(steps, died, move |row: &Row| {
            let channel = row.channel(1);
            let all_but_last = |len: usize| Ok::<_, ContainerError>((0..len - 1).map(Origin::Old).collect());
            let changes: [&dyn Fn(); 7] = [
                &|| row.extend(1, &[2, 3]),
                // There is no room for this: the list moves.
                &|| assert!(channel.set(0, item(5, &row.block(1))).unwrap()),
                &|| channel.insert(0, item(7, &row.block(1))).unwrap(),
                &|| assert!(channel.pop(1).unwrap().is_some()),
                &|| channel.arrange(all_but_last, &mut []).unwrap(),
                &|| assert!(channel.pop(-1).unwrap().is_some()),
                &|| channel.clear().unwrap(),
            ];
            for make in changes {
                make();
                change.one_more();
            }
        });
        let other = does(|row| {
            let last = row.get(2, -1);
            assert!(STATES.iter().any(|state| state.last().copied() == last), "{last:?}");
        });
        explore(false, 1, begin, [victim, other], move |row, _| {
            let found = row.all(0);
            assert!(made.states(&STATES).contains(&&*found), "{found:?}");
            // Whatever the dead one left is repaired before this.
            row.extend(0, &[8]);
            assert_eq!(row.all(0), [&*found, &[8]].concat());
            row.judge();
        });
    });
}
