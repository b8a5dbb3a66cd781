use onecopy_arena::{Access, Arena, Options};
use proptest::prelude::*;

use super::cells::resolve;
use super::*;
use crate::container::Item;
use crate::door::Ordering::Relaxed;

/// A list as a process has it.
struct Owned {
    block: Block,
    local: Local,
}

fn arena() -> &'static Arena {
    Arena::create(Options { limit: Some(64 << 20), warm: None }).unwrap()
}

impl Owned {
    fn new(arena: &'static Arena) -> Self {
        let owned = Self { block: arena.allocate_zeroed(size_of::<List>() as u64).unwrap(), local: Local::default() };
        owned.channel().begin().unwrap();
        owned
    }

    /// The same list, as another process has it.
    fn again(&self) -> Self {
        Self { block: self.block.clone(), local: Local::default() }
    }

    fn list(&self) -> &List {
        let first = self.block.address(Access::ReadWrite).unwrap().cast();
        // SAFETY: the block has room for a list, aligned to 64, and a list is made of atomics.
        unsafe { first.as_ref() }
    }

    fn channel(&self) -> Channel<'_> {
        Channel::new(self.list(), &self.block, &self.local)
    }

    fn extend(&self, values: &[&[u8]]) {
        let mut items: Vec<_> = values.iter().map(|value| item(value, &[])).collect();
        self.channel().extend(&mut items).unwrap();
    }

    fn get(&self, index: i64) -> Option<Vec<u8>> {
        self.channel().get(index, |record, _| value_of(record)).unwrap()
    }

    fn all(&self) -> Vec<Vec<u8>> {
        let all = self.channel().snapshot(|len| (0..len).collect()).unwrap();
        all.iter().map(|picked| value_of(picked.record().unwrap())).collect()
    }
}

fn item<'a>(value: &[u8], blocks: &'a [Block]) -> Item<'a> {
    Item::new(None, 5, value, blocks).unwrap()
}

fn value_of(record: Record<'_>) -> Vec<u8> {
    let mut bytes = vec![0; record.value_len()];
    record.copy_value(&mut bytes);
    bytes
}

#[derive(Debug, Clone)]
enum Step {
    Extend(Vec<Vec<u8>>),
    Set(i64, Vec<u8>),
    Insert(i64, Vec<u8>),
    Pop(i64),
    /// Cuts a range out and puts values there.
    Splice(prop::sample::Index, prop::sample::Index, Vec<Vec<u8>>),
    Reverse,
    Clear,
    Fill(u16),
}

fn steps() -> impl Strategy<Value = Step> {
    let value = || prop::collection::vec(any::<u8>(), 0..60);
    let values = move || prop::collection::vec(value(), 0..5);
    prop_oneof![
        3 => values().prop_map(Step::Extend),
        3 => (-9_i64..9, value()).prop_map(|(i, value)| Step::Set(i, value)),
        3 => (-9_i64..9, value()).prop_map(|(i, value)| Step::Insert(i, value)),
        3 => (-9_i64..9).prop_map(Step::Pop),
        2 => (any::<prop::sample::Index>(), any::<prop::sample::Index>(), values()).prop_map(|(a, b, v)| Step::Splice(a, b, v)),
        1 => Just(Step::Reverse),
        1 => (0_u16..200).prop_map(Step::Fill),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_is_a_list(all in prop::collection::vec((steps(), any::<bool>()), 1..60)) {
        let one = Owned::new(arena());
        let (other, mut model) = (one.again(), Vec::<Vec<u8>>::new());
        for (step, second) in all {
            let list = if second { &other } else { &one };
            let at = |index: i64, len: usize| resolve(index, len as u32).map(|i| i as usize);
            match step {
                Step::Extend(values) => {
                    list.extend(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
                    model.extend(values);
                }
                Step::Set(i, value) => {
                    prop_assert_eq!(list.channel().set(i, item(&value, &[])).unwrap(), at(i, model.len()).is_some());
                    if let Some(i) = at(i, model.len()) {
                        model[i] = value;
                    }
                }
                Step::Insert(i, value) => {
                    list.channel().insert(i, item(&value, &[])).unwrap();
                    let len = model.len() as i64;
                    model.insert(if i < 0 { (i + len).max(0) } else { i.min(len) } as usize, value);
                }
                Step::Pop(i) => {
                    let popped = list.channel().pop(i).unwrap();
                    let got = popped.map(|picked| value_of(picked.record().unwrap()));
                    prop_assert_eq!(got, at(i, model.len()).map(|i| model.remove(i)));
                }
                Step::Splice(a, b, values) => {
                    let (a, b) = (a.index(model.len() + 1), b.index(model.len() + 1));
                    let (start, stop) = (a.min(b), a.max(b));
                    let mut items: Vec<_> = values.iter().map(|value| item(value, &[])).collect();
                    let order = |len: usize| {
                        let new = (0..values.len()).map(Origin::New);
                        Ok::<_, ContainerError>((0..start).map(Origin::Old).chain(new).chain((stop..len).map(Origin::Old)).collect())
                    };
                    list.channel().arrange(order, &mut items).unwrap();
                    model.splice(start..stop, values.clone());
                }
                Step::Reverse => {
                    let order = |len: usize| Ok::<_, ContainerError>((0..len).rev().map(Origin::Old).collect());
                    list.channel().arrange(order, &mut []).unwrap();
                    model.reverse();
                }
                Step::Clear => {
                    list.channel().clear().unwrap();
                    model.clear();
                }
                Step::Fill(many) => {
                    for n in 0..many {
                        list.extend(&[&n.to_le_bytes()]);
                        model.push(n.to_le_bytes().to_vec());
                    }
                }
            }
            prop_assert_eq!(list.channel().len().unwrap(), model.len());
            for i in -10..10 {
                let got = one.get(i);
                prop_assert_eq!(got.as_ref(), at(i, model.len()).map(|i| &model[i]));
            }
        }
        prop_assert_eq!(other.all(), model);
        one.block.arena().verify().unwrap();
    }
}

#[test]
fn blocks_of_items_live_with_them() {
    let arena = arena();
    let list = Owned::new(arena);
    let there = || {
        arena.verify().unwrap();
        arena.stats().unwrap().blocks - 2
    };
    let blocks = || [arena.allocate(100).unwrap().0];
    for _ in 0..4 {
        list.channel().extend(&mut [item(b"x", &blocks())]).unwrap();
    }
    assert_eq!(there(), 4);
    assert!(list.channel().set(0, item(b"y", &blocks())).unwrap());
    assert_eq!(there(), 4);
    assert!(list.channel().set(-1, item(b"none", &[])).unwrap());
    assert_eq!(there(), 3);
    list.channel().arrange(|_| Ok::<_, ContainerError>(vec![Origin::Old(2), Origin::Old(0)]), &mut []).unwrap();
    assert_eq!(there(), 2);
    (0..100).for_each(|_| list.extend(&[b"growth"]));
    assert_eq!(there(), 2);
    let picked = list.channel().pop(0).unwrap().unwrap();
    assert_eq!((picked.blocks().len(), there()), (1, 2));
    drop(picked);
    assert_eq!(there(), 1);
    let refused = list.channel().arrange(|_| Err(ContainerError::TooLarge), &mut []);
    assert!(refused.is_err() && there() == 1);
    list.channel().clear().unwrap();
    assert_eq!(there(), 0);
    list.channel().insert(0, item(b"x", &blocks())).unwrap();
    drop(list);
    assert_eq!(arena.stats().unwrap().blocks, 0);
}

#[test]
fn readers_see_one_order_or_the_other() {
    const LEN: i64 = 20;
    let list = Owned::new(arena());
    (0..LEN).for_each(|n| list.extend(&[&n.to_le_bytes()]));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (list, done) = (list.again(), &done);
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    for i in 0..LEN {
                        // Forwards or backwards, and at times with one more at the start.
                        let n = i64::from_le_bytes(list.get(i).unwrap().try_into().unwrap());
                        assert!([i, LEN - 1 - i, i - 1, LEN - i].contains(&n), "{n} at {i}");
                    }
                }
            });
        }
        for n in 0..5_000_i64 {
            let reverse = |len: usize| Ok::<_, ContainerError>((0..len).rev().map(Origin::Old).collect());
            list.channel().arrange(reverse, &mut []).unwrap();
            list.channel().insert(0, item(&(if n % 2 == 0 { LEN } else { -1 }).to_le_bytes(), &[])).unwrap();
            list.channel().pop(0).unwrap().unwrap();
            assert!(list.channel().set(3, item(&(if n % 2 == 0 { LEN - 4 } else { 3 }).to_le_bytes(), &[])).unwrap());
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn a_length_that_cannot_be_is_an_error() {
    let list = Owned::new(arena());
    list.extend(&[&[1; 30]]);
    let channel = list.channel();
    channel.open.arc().unwrap().view().state().store(u64::from(u32::MAX), Relaxed);
    assert!(channel.insert(0, item(b"new", &[])).is_err());
    assert!(channel.snapshot(|len| (0..len).collect()).is_err());
    assert!(channel.len().is_err());
    assert!(channel.extend(&mut [item(b"new", &[])]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_is_an_error(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), any::<bool>()), 1..6)) {
        let arena = arena();
        let list = Owned::new(arena);
        (0..12_u8).for_each(|n| list.extend(&[&[n; 30]]));
        list.channel().extend(&mut [item(b"x", &[arena.allocate(64).unwrap().0])]).unwrap();
        let body = list.channel().open.arc().unwrap();
        let words = body.view().raw();
        for (place, value, small) in damage {
            words[place.index(words.len().min(150))].store(if small { value % 200 } else { value }, Relaxed);
        }
        for list in [&list, &list.again()] {
            let channel = list.channel();
            for i in 0..15 {
                let _ = channel.get(i, |record, _| value_of(record));
                let _ = channel.set(i, item(b"new", &[]));
            }
            let _ = channel.snapshot(|len| (0..len.min(1000)).collect());
            let _ = (channel.insert(3, item(b"new", &[])), channel.pop(2), channel.pop(-1), channel.len());
            let _ = channel.extend(&mut [item(b"new", &[])]);
            let _ = channel.clear();
        }
    }
}
