//! What readers without a lock meet, step by step. Writers exclude each other by a lock, so there is one; and a body is
//! words and no block, so that nothing but these words orders the two.

use std::sync::Arc;

use crate::container::Current;
use crate::container::record::{Draft, Key};
use crate::container::view::{Geometry, Kind, View};
use crate::door::{AtomicU64, Ordering::Relaxed};
use crate::list::cells::{self, State};
use crate::map::{self, index};

/// Two bodies, the second of which nobody knows at first.
struct Bodies {
    words: [Vec<AtomicU64>; 2],
    kind: Kind,
    current: Current,
    /// A step that both take at each turn. The checker tries both orders of two accesses to a word only if no third one
    /// comes between, as the load does that a writer makes before its store.
    turns: AtomicU64,
}

impl Bodies {
    fn new(kind: Kind, geometry: Geometry) -> Self {
        let words = || (0..geometry.words(kind).unwrap()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let bodies = Self { words: [words(), words()], kind, current: Current::new(0), turns: AtomicU64::new(0) };
        for words in &bodies.words {
            View::make(words, kind, geometry).unwrap();
        }
        bodies
    }

    fn of(&self, number: u64) -> View<'_> {
        View::over(&self.words[number as usize], self.kind).unwrap()
    }

    fn current(&self) -> View<'_> {
        self.turn();
        self.of(self.current.load())
    }

    fn turn(&self) {
        self.turns.fetch_add(1, Relaxed);
    }
}

/// Runs all orders of the steps of a writer and a reader.
fn explore<T: Send + Sync + 'static>(
    shared: impl Fn() -> T + Send + Sync + 'static,
    writer: impl Fn(&T) + Copy + Send + Sync + 'static,
    reader: impl Fn(&T) + Copy + Send + Sync + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let shared = Arc::new(shared());
        let other = loom::thread::spawn({
            let shared = shared.clone();
            move || writer(&shared)
        });
        reader(&shared);
        other.join().unwrap();
    });
}

// --- maps ---

/// Both keys have the same place in the index, and the same tag.
const HASH: u64 = 3;
const GEOMETRY: Geometry = Geometry { slots: 4, entries: 3, log: 24 };

fn append(view: View<'_>, key: Option<&[u8]>, value: u64) -> u64 {
    let key = key.map(|key| Key::plain(1, key));
    view.append(Draft::new(key.as_ref(), 0, &value.to_ne_bytes(), 0).unwrap().words()).unwrap()
}

fn set(view: View<'_>, key: &[u8], value: u64) {
    let at = append(view, Some(key), value);
    match index::find(view, HASH, &Key::plain(1, key)).unwrap() {
        Some(found) => index::update(view, found, at),
        None => assert!(index::insert(view, HASH, at).unwrap()),
    }
}

fn remove(view: View<'_>, key: &[u8]) {
    index::remove(view, index::find(view, HASH, &Key::plain(1, key)).unwrap().unwrap());
}

/// The value of a key; one that is not whole, or of another key, fails.
fn get(view: View<'_>, key: &[u8]) -> Option<u64> {
    let found = index::find(view, HASH, &Key::plain(1, key)).unwrap()?;
    let record = view.record(found.at).unwrap();
    Some(u64::from_ne_bytes(record.value_word().unwrap()))
}

fn map() -> Bodies {
    Bodies::new(Kind::Map, GEOMETRY)
}

#[test]
fn a_key_is_there_with_a_whole_value_or_not() {
    explore(
        map,
        |bodies| {
            set(bodies.current(), b"a", 1);
            set(bodies.current(), b"a", 2);
            bodies.turn();
        },
        |bodies| {
            let view = bodies.current();
            let mut seen = Vec::new();
            map::each_place(view, &mut |at| {
                let record = view.record(at)?;
                assert_eq!(record.key().1, b"a", "a record that is not whole");
                seen.push(record.value_word().map(u64::from_ne_bytes));
                Ok(())
            })
            .unwrap();
            seen.push(get(view, b"a"));
            // Once seen it stays, and does not go back.
            assert!(seen.is_sorted() && [None, Some(1), Some(2)].contains(&seen[0]), "{seen:?}");
        },
    );
}

#[test]
fn a_key_that_stays_is_found_behind_those_that_come_and_go() {
    explore(
        || {
            let bodies = map();
            set(bodies.current(), b"gone", 1);
            set(bodies.current(), b"stays", 2);
            bodies
        },
        |bodies| {
            remove(bodies.current(), b"gone");
            set(bodies.current(), b"gone", 3);
            bodies.turn();
        },
        |bodies| {
            assert_eq!(get(bodies.current(), b"stays"), Some(2));
            let seen = get(bodies.current(), b"gone");
            assert!([None, Some(1), Some(3)].contains(&seen), "{seen:?}");
        },
    );
}

#[test]
fn a_map_that_moves_loses_no_key_and_no_change() {
    explore(
        || {
            let bodies = map();
            set(bodies.current(), b"a", 1);
            bodies
        },
        |bodies| {
            map::write::copy_all(bodies.of(0), bodies.of(1), HASH).unwrap();
            bodies.current.store(1);
            bodies.turn();
            // In the model keys are found by one hash for all, which `copy_all` does not know.
            set(bodies.current(), b"b", 5);
            bodies.turn();
        },
        |bodies| {
            let mut found = Vec::new();
            let view = bodies.current();
            map::each_place(view, &mut |at| {
                found.push(view.record(at)?.key().1);
                Ok(())
            })
            .unwrap();
            assert!(found == [b"a"] || found == [b"a", b"b"], "{found:?}");
        },
    );
}

// --- lists ---

fn list(len: u32) -> Bodies {
    let bodies = Bodies::new(Kind::List, Geometry { slots: 0, entries: 4, log: 24 });
    push(bodies.current(), 0..u64::from(len));
    bodies
}

fn push(view: View<'_>, values: std::ops::Range<u64>) {
    let mut state = State::load(view);
    for value in values {
        cells::place(state.cells(view), state.len, append(view, None, value)).unwrap();
        state = state.with_len(state.len + 1);
    }
    state.store(view);
}

fn reverse(view: View<'_>) {
    let state = State::load(view);
    let other = state.other(state.len);
    for position in 0..state.len {
        let at = cells::load(state.cells(view), state.len - 1 - position).unwrap();
        cells::place(other.cells(view), position, at).unwrap();
    }
    other.store(view);
}

fn item(view: View<'_>, index: i64) -> Option<u64> {
    let at = cells::get(view, index).unwrap()?;
    Some(u64::from_ne_bytes(view.record(at).unwrap().value_word().unwrap()))
}

#[test]
fn items_come_and_go_at_the_end() {
    explore(
        || list(1),
        |bodies| {
            let view = bodies.current();
            push(view, 1..3);
            let state = State::load(view);
            bodies.turn();
            state.with_len(2).store(view);
            bodies.turn();
            push(view, 7..8);
            bodies.turn();
        },
        |bodies| {
            assert_eq!(item(bodies.current(), 0), Some(0));
            let seen = item(bodies.current(), 2);
            assert!([None, Some(2), Some(7)].contains(&seen), "{seen:?}");
            // Before it is there for all, nobody sees it.
            if seen == Some(7) {
                assert_eq!(State::load(bodies.current()).len, 3);
            }
        },
    );
}

#[test]
fn an_item_is_where_one_of_the_orders_has_it() {
    explore(
        || list(3),
        |bodies| {
            reverse(bodies.current());
            // Back in the first array, which a slow reader may still look at.
            let view = bodies.current();
            let state = State::load(view);
            let other = state.other(1);
            cells::place(other.cells(view), 0, append(view, None, 9)).unwrap();
            bodies.turn();
            other.store(view);
            bodies.turn();
        },
        |bodies| {
            let seen = item(bodies.current(), 0);
            assert!([Some(0), Some(2), Some(9)].contains(&seen), "{seen:?}");
            let last = item(bodies.current(), 2);
            assert!([Some(2), Some(0), None].contains(&last), "{last:?}");
            if seen == Some(9) {
                assert_eq!(last, None);
            }
        },
    );
}

#[test]
fn an_order_that_was_prepared_and_given_up_is_never_seen() {
    explore(
        || list(1),
        |bodies| {
            reverse(bodies.current());
            let view = bodies.current();
            let other = State::load(view).other(1);
            cells::place(other.cells(view), 0, append(view, None, 5)).unwrap();
            bodies.turn();
            // Whoever wrote that died; the next prepares another order in the same array, which a slow reader looks at.
            cells::place(other.cells(view), 0, append(view, None, 9)).unwrap();
            bodies.turn();
            other.store(view);
            bodies.turn();
        },
        |bodies| {
            let seen = item(bodies.current(), 0);
            assert!([Some(0), Some(9)].contains(&seen), "{seen:?}");
        },
    );
}
