//! The arena against a plain model, and against damage.

use proptest::prelude::*;

use super::*;

fn small(limit: u64) -> &'static Arena {
    Arena::create(Options { limit: Some(limit), warm: None }).unwrap()
}

fn fill(block: &Block, seed: u8) {
    let address = block.address(Access::ReadWrite).unwrap();
    // SAFETY: the block is as long as it says and this test is its only user.
    unsafe { std::ptr::write_bytes(address.as_ptr(), seed, block.len() as usize) }
}

fn bytes(block: &Block) -> Vec<u8> {
    let address = block.address(Access::ReadOnly).unwrap();
    // SAFETY: as in `fill`.
    unsafe { std::slice::from_raw_parts(address.as_ptr(), block.len() as usize) }.to_vec()
}

#[derive(Debug, Clone)]
enum Step {
    Allocate(u64),
    Draft { expected: u64, bound: u64, len: u64 },
    AbandonDraft(u64),
    Drop(usize),
    Clone(usize),
    Trim(u64),
    Die,
}

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..300, 0_u64..100_000, (1_u64 << 20)..(5 << 20)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => sizes().prop_map(Step::Allocate),
        2 => (sizes(), sizes(), sizes()).prop_map(|(a, b, c)| Step::Draft { expected: a, bound: b, len: c }),
        1 => sizes().prop_map(Step::AbandonDraft),
        4 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Clone),
        1 => (0_u64..8 << 20).prop_map(Step::Trim),
        1 => Just(Step::Die),
    ];
    prop::collection::vec(step, 1..40)
}

/// Leaves the heap lock as a process does that died inside it, with caches in disorder.
fn die_in_the_heap(arena: &Arena) {
    let stranger = Tag::new(77, 5);
    let heap = Heap::lock(&arena.meta, &arena.data, stranger).unwrap();
    heap.first().entries_free.store(3, Relaxed);
    heap.first().warm_bytes.store(12_345, Relaxed);
    heap.first().bins[0][40].store(1, Relaxed);
    heap.first().bins[1][0].store(u32::MAX - 1, Relaxed);
    std::mem::forget(heap);
}

fn draft(arena: &'static Arena, expected: u64, bound: u64, len: u64, seed: u8) -> Result<Block, ArenaError> {
    let draft = arena.draft(expected, bound)?;
    for start in (0..len).step_by(700_001) {
        draft.write_at(start, &vec![seed; (len - start).min(700_001) as usize])?;
    }
    draft.finish(len)
}

fn run(arena: &'static Arena, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut live: Vec<(Block, u8)> = Vec::new();
    for (seed, step) in (1_u8..).zip(steps) {
        match step {
            Step::Allocate(len) => {
                if let Ok((block, contents)) = arena.allocate(len) {
                    prop_assert!(contents == Contents::Garbage || bytes(&block).iter().all(|&b| b == 0));
                    fill(&block, seed);
                    live.push((block, seed));
                }
            }
            Step::Draft { expected, bound, len } => match draft(arena, expected, bound, len, seed) {
                Ok(block) => live.push((block, seed)),
                Err(error) => prop_assert!(matches!(error, ArenaError::OutOfMemory { .. }), "{}", error),
            },
            Step::AbandonDraft(len) => drop(arena.draft(len, len * 3).map(|d| d.write_at(len, &[1, 2, 3]))),
            Step::Drop(i) if !live.is_empty() => drop(live.swap_remove(i % live.len())),
            Step::Clone(i) if !live.is_empty() => {
                let (block, seed) = &live[i % live.len()];
                live.push((block.clone(), *seed));
            }
            Step::Trim(keep) => drop(arena.trim(keep).unwrap()),
            Step::Die => die_in_the_heap(arena),
            Step::Drop(_) | Step::Clone(_) => {}
        }
        arena.verify().map_err(|e| TestCaseError::fail(e.to_string()))?;
        for (block, seed) in &live {
            prop_assert!(bytes(block).iter().all(|b| b == seed), "a block changed");
        }
    }
    drop(live);
    let stats = arena.stats().unwrap();
    prop_assert_eq!((stats.used_bytes, stats.blocks, stats.parcels), (0, 0, 0));
    prop_assert_eq!(arena.roll().promised(), 0);
    prop_assert!(stats.warm_bytes <= stats.warm_budget);
    arena.trim(0).unwrap();
    arena.verify().map_err(|e| TestCaseError::fail(e.to_string()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn it_behaves_like_its_model(steps in steps()) {
        run(small(16 << 20), steps)?;
    }
}

#[test]
fn who_looks_sees_a_dead_owner_of_the_heap_lock_and_repairs_nothing() {
    let arena = small(16 << 20);
    let (_kept, _) = arena.allocate(5000).unwrap();
    assert_eq!(arena.roll().details().heap_lock, None);
    die_in_the_heap(arena);
    for _ in 0..2 {
        let details = arena.roll().details();
        assert_eq!((details.heap_lock, details.stats.warm_bytes), (Some((0, false)), 12_345));
        assert_eq!(details.largest[0].bytes, 5000);
    }
    // A member that takes the lock repairs.
    assert_eq!(arena.stats().unwrap().warm_bytes, arena.details().unwrap().warm.bytes);
    arena.verify().unwrap();
}

#[test]
fn freed_memory_is_used_again() {
    let arena = small(64 << 20);
    let (block, contents) = arena.allocate(4 << 20).unwrap();
    assert_eq!(contents, Contents::Zeros);
    let address = block.address(Access::ReadWrite);
    drop(block);
    let (again, contents) = arena.allocate(4 << 20).unwrap();
    assert_eq!((again.address(Access::ReadWrite), contents), (address, Contents::Garbage));
}

#[test]
fn a_draft_grows_out_of_recycled_memory_into_what_lies_behind() {
    let arena = small(64 << 20);
    let (kept, _) = arena.allocate(2 << 20).unwrap();
    let first = draft(arena, 6 << 20, 30 << 20, 6 << 20, 1).unwrap();
    let address = first.address(Access::ReadWrite);
    drop(first);
    // A little longer than the one before: it begins in the same memory, and only the rest is new.
    let longer = draft(arena, 7 << 20, 30 << 20, (6 << 20) + 12_345, 2).unwrap();
    assert_eq!(longer.address(Access::ReadWrite), address);
    assert!(bytes(&longer).iter().all(|&b| b == 2));
    let stats = arena.stats().unwrap();
    assert_eq!((stats.used_bytes, stats.warm_bytes), ((8 << 20) + (16 << 10), 0));
    drop(longer);
    // And shorter: what it does not need stays warm.
    let shorter = draft(arena, 7 << 20, 30 << 20, 4 << 20, 3).unwrap();
    assert_eq!(
        (shorter.address(Access::ReadWrite), arena.stats().unwrap().warm_bytes),
        (address, (2 << 20) + (16 << 10))
    );
    arena.verify().unwrap();
    assert_eq!(arena.roll().promised(), 0);
    drop((kept, shorter));
}

#[test]
fn memory_beyond_the_warm_budget_goes_back() {
    let arena = Arena::create(Options { limit: Some(64 << 20), warm: Some(2 << 20) }).unwrap();
    drop(arena.allocate(32 << 20).unwrap());
    let stats = arena.stats().unwrap();
    assert_eq!((stats.used_bytes, stats.warm_bytes), (0, 2 << 20));
    let allocated: u64 = arena.data.files().iter().map(|file| file.allocated().unwrap()).sum();
    assert_eq!(allocated, 2 << 20);
}

#[test]
fn the_limit_is_an_error_with_figures_and_warm_memory_gives_way() {
    let arena = small(32 << 20);
    let (kept, _) = arena.allocate(20 << 20).unwrap();
    let error = arena.allocate(20 << 20).unwrap_err();
    let ArenaError::OutOfMemory { asked, free, .. } = &error else { panic!("{error}") };
    assert_eq!((*asked, *free), (20 << 20, 12 << 20));
    assert!(error.to_string().contains("ONECOPY_LIMIT"), "{error}");
    drop(kept);
    assert!(arena.allocate(30 << 20).is_ok());
}

#[test]
fn more_than_a_process_can_address_is_too_much_for_the_limit() {
    let arena = small(32 << 20);
    for len in [(1 << 47) + 1, 1 << 48, u64::MAX - 1, u64::MAX] {
        for error in [arena.allocate(len).map(drop).unwrap_err(), arena.draft(len, len).map(drop).unwrap_err()] {
            let ArenaError::OutOfMemory { asked, free, limit, .. } = error else { panic!("{error}") };
            assert_eq!((asked, free, limit), (len, 32 << 20, 32 << 20));
        }
    }
}

#[test]
fn an_interrupted_allocation_leaves_nothing() {
    let arena = small(64 << 20);
    let (mut asked, len) = (0, 30 << 20);
    let mut third_time = || {
        asked += 1;
        asked == 3
    };
    assert!(matches!(arena.allocate_interruptibly(len, &mut third_time), Err(ArenaError::Interrupted)));
    assert_eq!(asked, 3, "it is asked between pieces");
    assert_eq!(arena.stats().unwrap().used_bytes, 0);
    arena.verify().unwrap();
}

#[test]
fn a_block_has_its_memory_and_its_zeros_where_it_lies() {
    let arena = small(64 << 20);
    let (first, _) = arena.allocate(20 << 20).unwrap();
    fill(&first, 7);
    let committed = arena.data.allocated();
    let (second, _) = arena.allocate(20 << 20).unwrap();
    assert_eq!(arena.data.allocated() - committed, 20 << 20);
    fill(&second, 9);
    second.zero_interruptibly(&mut || false).unwrap();
    assert!(bytes(&first).iter().all(|&b| b == 7) && bytes(&second).iter().all(|&b| b == 0));
    assert!(matches!(second.zero_interruptibly(&mut || true), Err(ArenaError::Interrupted)));
}

#[test]
fn a_parcel_keeps_its_block_and_is_received_once() {
    let arena = small(16 << 20);
    let (block, _) = arena.allocate(100).unwrap();
    fill(&block, 9);
    let (id, parcel) = (block.id(), block.post().unwrap());
    drop(block);
    assert_eq!(arena.stats().unwrap().blocks, 1);
    let received = arena.receive(id, Some(parcel)).unwrap();
    assert_eq!(bytes(&received), [9; 100]);
    // A second use of the same handle finds no parcel, but the block is held.
    drop(arena.receive(id, Some(parcel)).unwrap());
    drop(received);
    assert!(matches!(arena.receive(id, Some(parcel)), Err(ArenaError::Stale { .. })));
    assert_eq!(arena.stats().unwrap().parcels, 0);
}

#[test]
fn what_lies_in_a_container_ends_with_it() {
    let arena = small(16 << 20);
    let (outer, _) = arena.allocate(64).unwrap();
    let mut inner = Vec::new();
    for n in 1..200_u64 {
        let (middle, _) = arena.allocate(64 * n).unwrap();
        let (leaf, _) = arena.allocate(100).unwrap();
        fill(&leaf, n as u8);
        leaf.post_owned(&middle).unwrap();
        inner.push((middle.post_owned(&outer).unwrap(), middle.id(), leaf.id(), n as u8));
    }
    arena.verify().unwrap();
    assert_eq!(arena.stats().unwrap().blocks, 399);
    for &(_, middle, leaf, seed) in &inner {
        assert_eq!(bytes(&arena.get(leaf).unwrap()), [seed; 100]);
        assert_eq!(arena.get(middle).unwrap().owned().unwrap()[0].block, leaf);
    }
    let listed: Vec<_> = outer.owned().unwrap().iter().map(|owned| (owned.parcel, owned.block)).collect();
    assert!(inner.iter().rev().map(|&(parcel, middle, ..)| (parcel, middle)).eq(listed));
    // From the middle, the ends and in between.
    for i in [100, 0, 196, 50] {
        let (parcel, middle, leaf, _) = inner.swap_remove(i);
        assert!(arena.discard(parcel).unwrap());
        assert!(!arena.discard(parcel).unwrap());
        assert!(arena.get(middle).is_err() && arena.get(leaf).is_err());
        arena.verify().unwrap();
    }
    let received = arena.receive(inner[7].1, Some(inner[7].0)).unwrap();
    drop(outer);
    arena.verify().unwrap();
    let stats = arena.stats().unwrap();
    assert_eq!((stats.blocks, stats.parcels), (2, 1), "what was received has left the container");
    drop(received);
    assert_eq!(arena.stats().unwrap().used_bytes, 0);
}

#[test]
fn a_parcel_whose_owner_is_gone_is_garbage() {
    let arena = small(16 << 20);
    let (owner, _) = arena.allocate(64).unwrap();
    let (value, _) = arena.allocate(64).unwrap();
    value.post_owned(&owner).unwrap();
    let id = value.id();
    drop(value);
    // As if a process had died between ending the owner and dropping its parcels.
    let generation = &arena.meta.block(owner.id().index).unwrap().generation;
    generation.store(owner.id().generation + 1, Relaxed);
    arena.meta.clear_holder(owner.id().index, arena.me().unwrap().slot());
    die_in_the_heap(arena);
    assert_eq!(arena.reap().unwrap().1, 2);
    assert!(arena.get(id).is_err());
    arena.verify().unwrap();
}

#[test]
fn a_block_lies_in_a_block_of_its_own_arena() {
    let (a, b) = (small(16 << 20), small(16 << 20));
    let (value, owner) = (a.allocate(1).unwrap().0, b.allocate(1).unwrap().0);
    let error = value.post_owned(&owner).unwrap_err();
    assert!(error.to_string().contains("cannot lie in one of arena"), "{error}");
    assert_eq!((a.stats().unwrap().parcels, b.stats().unwrap().parcels), (0, 0));
}

#[test]
fn a_handle_does_not_lead_to_the_next_block_of_its_entry() {
    let arena = small(16 << 20);
    let old = arena.allocate(100).unwrap().0.id();
    let (new, _) = arena.allocate(100).unwrap();
    assert_eq!(new.id().index, old.index, "the entry is used again");
    assert!(matches!(arena.get(old), Err(ArenaError::Stale { .. })));
}

#[test]
fn forged_handles_are_errors() {
    let arena = small(16 << 20);
    let (block, _) = arena.allocate(100).unwrap();
    let id = block.id();
    for (index, generation) in [(u32::MAX, 0), (id.index, id.generation + 1), (id.index + 1, 0), (1 << 20, 0)] {
        assert!(arena.receive(BlockId { index, generation }, None).is_err());
    }
    assert!(arena.receive(id, Some(ParcelId { index: u32::MAX, sequence: 0 })).is_err());
    let other = arena.receive(id, Some(ParcelId { index: 5, sequence: 0 })).unwrap();
    assert_eq!(other.id(), id);
}

#[test]
fn an_address_leads_to_its_block() {
    let arena = small(16 << 20);
    let (block, _) = arena.allocate(1000).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let address = block.address(access).unwrap().as_ptr() as usize;
        let (found, offset, through) = arena.block_at(address + 77).unwrap();
        assert_eq!((found.id(), offset, through), (block.id(), 77, access));
        assert!(arena.block_at(address + 1001).is_none());
    }
    assert!(arena.block_at(std::ptr::from_ref(&block) as usize).is_none());
}

#[test]
fn a_sealed_block_has_no_writable_address() {
    let arena = small(16 << 20);
    let (mut block, _) = arena.allocate(10).unwrap();
    block.seal().unwrap();
    assert!(block.address(Access::ReadWrite).is_none());
    let again = arena.receive(block.id(), None).unwrap();
    assert!(again.is_sealed() && again.address(Access::ReadWrite).is_none());
}

#[test]
fn all_warm_memory_can_be_given_back_at_once() {
    let arena = small(16 << 20);
    drop(arena.allocate(2 << 20).unwrap());
    assert_eq!(arena.stats().unwrap().warm_bytes, 2 << 20);
    assert_eq!(arena.give_back_some(u64::MAX).unwrap(), 2 << 20);
    assert_eq!(arena.stats().unwrap().warm_bytes, 0);
    arena.verify().unwrap();
}

#[test]
fn a_panic_inside_the_heap_is_repaired() {
    let arena = small(16 << 20);
    let (block, _) = arena.allocate(1000).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let heap = arena.heap().unwrap();
        heap.first().used_bytes.store(1, Relaxed);
        heap.first().bins[0][3].store(7, Relaxed);
        panic!("in the middle of something");
    }));
    assert!(panicked.is_err());
    arena.verify().unwrap();
    drop(block);
    assert_eq!(arena.stats().unwrap().used_bytes, 0);
}

#[test]
fn damaged_caches_are_an_error_once_and_rebuilt() {
    let arena = small(16 << 20);
    let (block, _) = arena.allocate(1000).unwrap();
    fill(&block, 5);
    arena.meta.superblock().bins[0].iter().for_each(|bin| bin.store(u32::MAX - 5, Relaxed));
    assert!(matches!(arena.allocate(1000), Err(ArenaError::Damaged(_))));
    let (other, _) = arena.allocate(1000).unwrap();
    arena.verify().unwrap();
    assert_eq!(bytes(&block), [5; 1000]);
    drop((block, other));
}

#[test]
fn rings_of_containers_are_garbage() {
    let arena = small(16 << 20);
    let (kept, _) = arena.allocate(64).unwrap();
    for _ in 0..3 {
        let ring: Vec<_> = (0..4).map(|_| arena.allocate(64).unwrap().0).collect();
        for i in 0..4 {
            ring[i].post_owned(&ring[(i + 1) % 4]).unwrap();
        }
        ring[0].post_owned(&ring[0]).unwrap();
        ring[1].post_owned(&kept).unwrap();
    }
    let in_flight = {
        let (a, b) = (arena.allocate(64).unwrap().0, arena.allocate(64).unwrap().0);
        a.post_owned(&b).unwrap();
        b.post_owned(&a).unwrap();
        (a.id(), a.post().unwrap())
    };
    assert_eq!(arena.reap().unwrap(), (0, 0), "all of it can be come by");
    let received = arena.receive(in_flight.0, Some(in_flight.1)).unwrap();
    drop(received);
    assert_eq!(arena.reap().unwrap(), (0, 2));
    drop(kept);
    assert_eq!(arena.stats().unwrap().blocks, 12);
    assert_eq!(arena.reap().unwrap(), (0, 12));
    arena.verify().unwrap();
    let stats = arena.stats().unwrap();
    assert_eq!((stats.blocks, stats.parcels, stats.used_bytes), (0, 0, 0));
}

#[test]
fn a_full_table_is_an_error() {
    let geometry = Geometry { slots: 64, blocks: 16, parcels: 16, stripe: 1 << 20, capacity: 4 << 20 };
    let meta = Meta::create(Place::Memory, ArenaId(1), geometry).unwrap();
    meta.superblock().limit.store(4 << 20, Relaxed);
    let arena = Arena::leaked(meta, Data::create(Place::Memory, ArenaId(1), &geometry).unwrap());
    arena.take_slot().unwrap();
    arena.heap().unwrap().format().unwrap();
    arena.meta.seal();
    let mut blocks = Vec::new();
    let error = loop {
        match arena.allocate(64) {
            Ok((block, _)) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ArenaError::TableFull { what: "blocks", .. }), "{error}");
    let sent = std::iter::repeat_with(|| blocks[0].post()).take_while(Result::is_ok).count();
    assert_eq!(sent, 16);
    arena.verify().unwrap();
    drop(blocks);
    arena.verify().unwrap();
}
