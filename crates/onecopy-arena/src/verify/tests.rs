//! Damage of every kind, planted.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;

use crate::arena::{Arena, Block, Options};
use crate::heap::{Heap, State, state_of};
use crate::layout::{BlockEntry, NONE, ParcelEntry, Superblock};
use crate::{ArenaError, BlockId};

/// An arena with blocks `a`, `b` and `c`, free extents among them, unused entries, and parcels in flight, in a block and
/// empty.
struct Planted {
    arena: &'static Arena,
    blocks: Vec<Block>,
}

impl Planted {
    fn new() -> Self {
        let arena = Arena::create(Options { limit: Some(16 << 20), warm: None }).unwrap();
        let mut blocks: Vec<_> = (0..7).map(|n| arena.allocate(2000 + n * 64).unwrap().0).collect();
        drop((blocks.remove(5), blocks.remove(3), blocks.remove(1)));
        for _ in 0..3 {
            blocks[1].post_owned(&blocks[0]).unwrap();
        }
        let empty = [blocks[2].post().unwrap(), blocks[2].post().unwrap()];
        assert!(empty.into_iter().all(|parcel| arena.discard(parcel).unwrap()));
        drop(arena.allocate(3 << 20).unwrap());
        arena.verify().unwrap();
        Self { arena, blocks }
    }

    fn id(&self, n: usize) -> BlockId {
        self.blocks[n].id()
    }

    fn with<T>(&self, act: impl FnOnce(&Heap<'_>) -> T) -> T {
        act(&self.arena.heap().unwrap())
    }
}

fn entry<'a>(heap: &'a Heap<'_>, index: u32) -> &'a BlockEntry {
    heap.meta.block(index).unwrap()
}

fn parcel<'a>(heap: &'a Heap<'_>, index: u32) -> &'a ParcelEntry {
    heap.meta.parcel(index).unwrap()
}

fn first_of(heap: &Heap<'_>, state: State) -> u32 {
    (0..heap.first().entries_touched.load(Relaxed)).find(|&i| state_of(entry(heap, i)) == state).unwrap()
}

fn set(word: &AtomicU32, value: u32) {
    word.store(value, Relaxed);
}

fn raise(word: &AtomicU64, by: u64) {
    word.fetch_add(by, Relaxed);
}

type Damage = fn(&Heap<'_>, &dyn Fn(usize) -> BlockId);

/// What is damaged, what the verifier says of it, and whether recovery has what it takes to mend it.
const DAMAGES: &[(&str, bool, Damage)] = &[
    ("the magic number", false, |h, _| raise(&h.first().magic, 1)),
    ("the superblock says", false, |h, _| set(&h.first().blocks, 5)),
    ("a limit of", false, |h, _| h.first().limit.store(u64::MAX, Relaxed)),
    ("has the word", false, |h, _| h.meta.slot(9).word.damage(77)),
    ("which promised 4096 bytes", false, |h, _| raise(&h.meta.slot(9).promised, 4096)),
    ("the janitor's slot is Live", false, |h, _| h.meta.slot(0).word.damage(2)),
    ("which nobody has", false, |h, id| h.meta.set_holder(id(0).index, 200)),
    ("entries have been in use", true, |h, _| set(&h.first().entries_touched, u32::MAX)),
    ("link to block 4294967294", true, |h, id| set(&entry(h, id(0).index).after, NONE - 1)),
    ("is linked to", true, |h, id| set(&entry(h, id(1).index).before, 0)),
    ("starts at", true, |h, id| set(&entry(h, id(1).index).after, id(0).index)),
    ("has 0 bytes", true, |h, _| entry(h, first_of(h, State::Warm)).size.store(0, Relaxed)),
    ("spans 2105344 + 18446744073709551552", true, |h, _| {
        entry(h, first_of(h, State::Fresh)).size.store(u64::MAX - 63, Relaxed);
    }),
    ("of 1048576 bytes has", false, |h, id| entry(h, id(0).index).len.store(1 << 20, Relaxed)),
    ("has flags 0x80", false, |h, id| set(&entry(h, id(1).index).flags, 0x80)),
    ("extents, ", true, |h, _| set(&entry(h, h.first().entries_free.load(Relaxed)).state, State::Warm as u32)),
    ("is in 0 bins, not 1", true, |h, _| h.first().bins[0].iter().for_each(|head| set(head, NONE))),
    ("a bin", true, |h, id| set(&entry(h, first_of(h, State::Warm)).bin_next, id(0).index)),
    ("in a bin, linked to", true, |h, _| set(&entry(h, first_of(h, State::Warm)).bin_previous, 3)),
    ("is in bin", true, |h, _| {
        let warm = first_of(h, State::Warm);
        let head = h.first().bins[0].iter().find(|head| head.load(Relaxed) == warm).unwrap();
        set(&h.first().bins[0][7], head.swap(NONE, Relaxed));
    }),
    ("is listed as unused", true, |h, id| set(&h.first().entries_free, id(0).index)),
    ("the list of unused entries runs in a circle", true, |h, _| {
        let head = h.first().entries_free.load(Relaxed);
        set(&entry(h, head).bin_next, head);
    }),
    ("entries are unused, 0 are listed", true, |h, _| set(&h.first().entries_free, NONE)),
    ("used bytes are counted as", true, |h, _| raise(&h.first().used_bytes, 64)),
    ("warm bytes are counted as", true, |h, _| raise(&h.first().warm_bytes, 64)),
    ("used blocks are counted as 9", true, |h, _| set(&h.first().used_blocks, 9)),
    ("parcels have been in use", true, |h, _| set(&h.first().parcels_touched, u32::MAX)),
    ("which is gone", true, |h, _| set(&parcel(h, 0).generation, 99)),
    ("which is gone", true, |h, _| set(&parcel(h, 0).owner_generation, 99)),
    ("which is gone", true, |h, _| set(&parcel(h, 0).block, u32::MAX)),
    ("was sent by", false, |h, _| parcel(h, 0).word.damage(|word| raise(word, 1000))),
    ("are counted as full", true, |h, _| set(&h.first().parcels_full, 0)),
    ("counts 0 parcels, there are 3", true, |h, id| set(&entry(h, id(1).index).parcels, 0)),
    ("lists 0 parcels, in it lie 3", true, |h, id| set(&entry(h, id(0).index).owned, NONE)),
    ("is linked to block", true, |h, id| set(&entry(h, id(0).index).owned, 4)),
    ("has the wrong neighbour", true, |h, _| set(&parcel(h, 1).previous, 0)),
    // A ring of parcels.
    ("has the wrong neighbour", true, |h, id| {
        let head = entry(h, id(0).index).owned.load(Relaxed);
        let next = parcel(h, head).next.load(Relaxed);
        set(&parcel(h, parcel(h, next).next.load(Relaxed)).next, head);
        set(&parcel(h, head).previous, parcel(h, next).next.load(Relaxed));
        set(&entry(h, id(0).index).owned, next);
        set(&parcel(h, next).previous, NONE);
    }),
    ("the list of empty parcels runs in a circle", true, |h, _| set(&parcel(h, 3).next, 3)),
    ("is listed as empty", true, |h, _| set(&h.first().parcels_free, 0)),
    ("parcels are empty, 0 are listed", true, |h, _| set(&h.first().parcels_free, NONE)),
    ("two blocks overlap", false, |h, id| {
        let (a, b) = (entry(h, id(0).index), entry(h, id(1).index));
        b.offset.store(a.offset.load(Relaxed), Relaxed);
    }),
];

#[test]
fn every_kind_of_damage_is_named_and_what_can_be_mended_is() {
    for (named, mended, damage) in DAMAGES {
        let planted = Planted::new();
        planted.with(|heap| damage(heap, &|n| planted.id(n)));
        let error = planted.arena.verify().expect_err(named);
        let is_named = error.to_string().contains(named) || *named == "two blocks overlap";
        assert!(matches!(error, ArenaError::Damaged(_)) && is_named, "{named}: {error}");
        let again = planted.arena.verify();
        assert_eq!(again.is_ok(), *mended, "{named}: {again:?}");
    }
}

/// What can be done to a word.
#[derive(Debug, Clone)]
enum Blow {
    Store(u64),
    Flip(u32),
    Copy(usize),
}

fn blows() -> impl Strategy<Value = Vec<(usize, Blow)>> {
    let blow = prop_oneof![
        any::<u64>().prop_map(Blow::Store),
        (0_u64..70).prop_map(Blow::Store),
        Just(Blow::Store(u64::from(NONE))),
        (0_u32..64).prop_map(Blow::Flip),
        (0_usize..4000).prop_map(Blow::Copy),
    ];
    prop::collection::vec((any::<usize>(), blow), 1..12)
}

/// Strikes among the words that are in use, but for the heap lock: a lock that names this process is waited for.
fn strike(arena: &Arena, blows: Vec<(usize, Blow)>) {
    let (words, geometry) = (arena.meta.words(), arena.meta.geometry());
    let tables = [geometry.slots_at(), geometry.directory_at(), geometry.holders_at(), geometry.parcels_at()];
    let lock = std::mem::offset_of!(Superblock, heap_lock) / 8;
    let superblock = (0..size_of::<Superblock>() / 8).filter(|&place| place != lock);
    let in_use: Vec<_> = superblock.chain(tables.iter().flat_map(|&at| at / 8..at / 8 + 160)).collect();
    for (place, blow) in blows {
        let word = &words[in_use[place % in_use.len()]];
        match blow {
            Blow::Store(value) => word.store(value, Relaxed),
            Blow::Flip(bit) => drop(word.fetch_xor(1 << bit, Relaxed)),
            Blow::Copy(from) => word.store(words[in_use[from % in_use.len()]].load(Relaxed), Relaxed),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_it_panic_or_hang(blows in blows()) {
        let Planted { arena, blocks } = Planted::new();
        strike(arena, blows);
        let _ = arena.verify();
        for block in &blocks {
            let _ = (arena.get(block.id()), block.post(), block.owned());
        }
        let new: Vec<_> = [100, 5000, 2 << 20].into_iter().map(|len| arena.allocate(len)).collect();
        let _ = (arena.reap(), arena.reap_in_flight(), arena.stats(), arena.trim(0), arena.verify());
        drop((new, blocks));
        let _ = arena.verify();
    }
}
