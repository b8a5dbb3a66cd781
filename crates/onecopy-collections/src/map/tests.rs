use std::collections::HashMap;

use onecopy_arena::{Access, Arena, Options};
use onecopy_sync::{OnOwnerDied, Patience};
use proptest::prelude::*;

use super::*;
use crate::container::Item;

/// A map as a process has it.
struct Owned {
    block: Block,
    local: Local,
}

fn arena() -> &'static Arena {
    Arena::create(Options { limit: Some(64 << 20), warm: None }).unwrap()
}

impl Owned {
    fn new(arena: &'static Arena) -> Self {
        let owned = Self { block: arena.allocate_zeroed(size_of::<Map>() as u64).unwrap(), local: Local::default() };
        owned.channel().begin(7).unwrap();
        owned
    }

    /// The same map, as another process has it.
    fn again(&self) -> Self {
        Self { block: self.block.clone(), local: Local::default() }
    }

    fn map(&self) -> &Map {
        let first = self.block.address(Access::ReadWrite).unwrap().cast();
        // SAFETY: the block has room for a map, aligned to 64, and a map is made of atomics.
        unsafe { first.as_ref() }
    }

    fn channel(&self) -> Channel<'_> {
        Channel::new(self.map(), &self.block, &self.local)
    }

    fn set(&self, key: &[u8], value: &[u8]) {
        self.set_with(key, value, &[]);
    }

    fn set_with(&self, key: &[u8], value: &[u8], blocks: &[Block]) {
        let key = Key::plain(1, key);
        self.channel().set(&key, Item::new(Some(&key), 9, value, blocks).unwrap()).unwrap();
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.channel().get(&Key::plain(1, key), |record, _| value_of(record)).unwrap()
    }

    fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pairs = self.channel().snapshot().unwrap();
        pairs.iter().map(|picked| picked.record().unwrap()).map(|r| (r.key().1, value_of(r))).collect()
    }

    fn walk(&self) -> Vec<Vec<u8>> {
        let mut cursor = self.channel().cursor().unwrap();
        std::iter::from_fn(|| cursor.next_key(|record| record.key().1).unwrap()).collect()
    }
}

fn value_of(record: Record<'_>) -> Vec<u8> {
    let mut bytes = vec![0; record.value_len()];
    record.copy_value(&mut bytes);
    bytes
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, Vec<u8>),
    SetDefault(u8, Vec<u8>),
    Pop(u8),
    Remove(u8),
    PopLast,
    Clear,
    Fill(u16),
}

fn steps() -> impl Strategy<Value = Step> {
    let value = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        8 => (0_u8..20, value()).prop_map(|(key, value)| Step::Set(key, value)),
        2 => (0_u8..20, value()).prop_map(|(key, value)| Step::SetDefault(key, value)),
        2 => (0_u8..20).prop_map(Step::Pop),
        2 => (0_u8..20).prop_map(Step::Remove),
        1 => Just(Step::PopLast),
        1 => (0_u16..300).prop_map(Step::Fill),
        1 => Just(Step::Clear),
    ]
}

/// A map in the order of insertion, written down without any cunning.
#[derive(Default)]
struct Model(Vec<(Vec<u8>, Vec<u8>)>);

impl Model {
    fn find(&self, key: &[u8]) -> Option<usize> {
        self.0.iter().position(|pair| pair.0 == key)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.find(key) {
            Some(i) => self.0[i].1 = value.to_vec(),
            None => self.0.push((key.to_vec(), value.to_vec())),
        }
    }

    fn pop(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.find(key).map(|i| self.0.remove(i).1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_is_a_map(all in prop::collection::vec((steps(), any::<bool>()), 1..80)) {
        let one = Owned::new(arena());
        let (other, mut model) = (one.again(), Model::default());
        for (step, second) in all {
            let map = if second { &other } else { &one };
            let popped = |picked: Option<Picked>| picked.map(|picked| value_of(picked.record().unwrap()));
            match step {
                Step::Set(key, value) => {
                    map.set(&[key], &value);
                    model.set(&[key], &value);
                }
                Step::SetDefault(key, value) => {
                    let name = [key];
                    let name = Key::plain(1, &name);
                    let item = Item::new(Some(&name), 9, &value, &[]).unwrap();
                    let there = match map.channel().set_default(&name, item, |record, _| value_of(record)).unwrap() {
                        write::Entry::There(value) => Some(value),
                        write::Entry::Added => None,
                    };
                    prop_assert_eq!(there.as_ref(), model.find(&[key]).map(|i| &model.0[i].1));
                    if there.is_none() {
                        model.set(&[key], &value);
                    }
                }
                Step::Pop(key) => {
                    let got = popped(map.channel().pop(&Key::plain(1, &[key])).unwrap());
                    prop_assert_eq!(got, model.pop(&[key]));
                }
                Step::Remove(key) => {
                    let got = map.channel().remove(&Key::plain(1, &[key])).unwrap();
                    prop_assert_eq!(got, model.pop(&[key]).is_some());
                }
                Step::PopLast => {
                    let got = popped(map.channel().pop_last().unwrap());
                    prop_assert_eq!(got, model.0.pop().map(|pair| pair.1));
                }
                Step::Clear => {
                    map.channel().clear().unwrap();
                    model.0.clear();
                }
                Step::Fill(many) => {
                    for n in 0..many {
                        let key = [n.to_le_bytes().as_slice(), b"!"].concat();
                        map.set(&key, &n.to_be_bytes());
                        model.set(&key, &n.to_be_bytes());
                    }
                }
            }
            prop_assert_eq!(map.channel().len().unwrap(), model.0.len());
            for key in 0..20 {
                let got = one.get(&[key]);
                prop_assert_eq!(got.as_ref(), model.find(&[key]).map(|i| &model.0[i].1));
            }
        }
        prop_assert_eq!(other.all(), model.0.clone());
        prop_assert_eq!(other.walk(), model.0.into_iter().map(|pair| pair.0).collect::<Vec<_>>());
        one.block.arena().verify().unwrap();
    }
}

#[test]
fn blocks_of_values_live_with_them() {
    let arena = arena();
    let map = Owned::new(arena);
    let there = || {
        arena.verify().unwrap();
        arena.stats().unwrap().blocks - 2
    };
    let block = || arena.allocate(100).unwrap().0;
    map.set_with(b"a", b"1", &[block(), block()]);
    map.set_with(b"b", b"2", &[block()]);
    assert_eq!(there(), 3);
    let held = map.channel().get(&Key::plain(1, b"a"), |_, blocks| blocks.to_vec()).unwrap().unwrap();
    assert_eq!(held.len(), 2);
    map.set(b"a", b"none");
    assert_eq!(there(), 3);
    drop(held);
    assert_eq!(there(), 1);
    // Growth takes the references along.
    (0..500_u16).for_each(|n| map.set(&n.to_le_bytes(), b"x"));
    assert_eq!(there(), 1);
    let picked = map.channel().pop(&Key::plain(1, b"b")).unwrap().unwrap();
    assert_eq!((picked.blocks().len(), there()), (1, 1));
    drop(picked);
    assert_eq!(there(), 0);
    map.set_with(b"c", b"3", &[block()]);
    map.channel().clear().unwrap();
    assert_eq!(there(), 0);
    map.set_with(b"c", b"3", &[block()]);
    drop(map);
    assert_eq!(arena.stats().unwrap().blocks, 0);
}

#[test]
fn a_walk_meets_what_stays_once() {
    let map = Owned::new(arena());
    let key = |n: u16| n.to_le_bytes();
    (0..200).for_each(|n| map.set(&key(n), b"stays"));
    let mut cursor = map.channel().cursor().unwrap();
    let mut met = HashMap::new();
    let mut next = 200;
    while let Some(found) = cursor.next_key(|record| record.key().1).unwrap() {
        *met.entry(found).or_insert(0) += 1;
        // Enough for the map to be moved several times.
        (0..5).for_each(|_| {
            map.set(&key(next), b"new");
            next += 1;
        });
        map.set(&key(next % 200), b"changed");
        assert!(met.len() < 2_000);
    }
    assert!((0..200).all(|n| met.get(&key(n)[..]) == Some(&1)));
    assert!(met.values().all(|&times| times == 1));
}

#[test]
fn the_lock_keeps_other_threads_from_writing_and_not_this_one() {
    let map = Owned::new(arena());
    let take = OnOwnerDied::Take;
    let _ = map.channel().lock(&Patience::FOREVER, take).unwrap();
    let _ = map.channel().lock(&Patience::FOREVER, take).unwrap();
    map.set(b"a", b"1");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let key = Key::plain(1, b"a");
            let refused = map.channel().set(&key, Item::new(Some(&key), 0, b"2", &[]).unwrap());
            assert!(matches!(refused, Err(ContainerError::Locked)), "{refused:?}");
            assert!(map.channel().wait(&Patience::none()).is_err());
            assert_eq!(map.get(b"a").as_deref(), Some(&b"1"[..]));
            assert!(!map.channel().unlock().unwrap());
        });
    });
    assert!(map.channel().unlock().unwrap() && map.channel().is_locked());
    assert!(map.channel().unlock().unwrap() && !map.channel().is_locked());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            map.channel().wait(&Patience::FOREVER).unwrap();
            map.set(b"a", b"2");
        });
    });
    assert_eq!(map.get(b"a").as_deref(), Some(&b"2"[..]));
}

#[test]
fn readers_see_whole_values_while_others_write() {
    let map = Owned::new(arena());
    let value = |n: u32| n.to_le_bytes().repeat(1 + n as usize % 40);
    let keys = 0..30_u8;
    keys.clone().for_each(|key| map.set(&[key], &value(0)));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let map = map.again();
            let (done, keys) = (&done, keys.clone());
            scope.spawn(move || {
                let mut last = [0_u32; 30];
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for key in keys.clone() {
                        let got = map.get(&[key]).expect("the key is there all the time");
                        let n = u32::from_le_bytes(got[..4].try_into().unwrap());
                        assert!(got == value(n) && n >= last[key as usize]);
                        last[key as usize] = n;
                    }
                }
            });
        }
        for n in 1..3_000 {
            keys.clone().for_each(|key| map.set(&[key], &value(n)));
            let other = [100, n as u8];
            map.set(&other, b"comes and goes");
            assert!(map.channel().remove(&Key::plain(1, &other)).unwrap());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_is_an_error(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), any::<bool>()), 1..6)) {
        let arena = arena();
        let map = Owned::new(arena);
        (0..20_u8).for_each(|n| map.set(&[n], &[n; 30]));
        map.set_with(b"block", b"1", &[arena.allocate(64).unwrap().0]);
        let body = map.channel().open.arc().unwrap();
        let words = body.view().raw();
        for (place, value, small) in damage {
            // The head is read when the body is opened; all else may be damaged at any time.
            let used = words.len().min(600);
            let word = &words[place.index(used)];
            word.store(if small { value % 700 } else { value }, Relaxed);
        }
        for map in [&map, &map.again()] {
            let channel = map.channel();
            for n in 0..20_u8 {
                let key = Key::plain(1, std::slice::from_ref(&n));
                let _ = channel.get(&key, |record, _| value_of(record));
                let _ = channel.set(&key, Item::new(Some(&key), 0, b"new", &[]).unwrap());
                let _ = channel.pop(&key);
            }
            let _ = (channel.snapshot(), channel.len(), channel.pop_last());
            if let Ok(mut cursor) = channel.cursor() {
                let _ = (0..100).map_while(|_| cursor.next(&channel, |record, _| value_of(record)).ok().flatten()).count();
            }
            let _ = channel.clear();
        }
    }
}
