//! How entries become visible, and how they are found without a lock.
//!
//! | word | values |
//! |---|---|
//! | slot | 0: never used; else high half of the hash, number of the entry + 1 |
//! | entry | 0: not there (yet); 1: gone for good; else the place of its record |
//!
//! A slot is written once. An entry is given out once; the store of a place in it is what makes the key be there, have
//! another value, or be gone. Readers meet slots whose entry is not there yet, and go past them.

use crate::container::record::Key;
use crate::container::view::View;
use crate::container::{Damaged, damaged};
use crate::door::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, crash_point};

const GONE: u64 = 1;

/// An entry with the place of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) entry: u32,
    pub(crate) at: u64,
}

fn low(hash: u64) -> usize {
    hash as u32 as usize
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The place of the record of an entry, if it is there.
#[inline]
pub(crate) fn place(entry: &AtomicU64) -> Option<u64> {
    // SYNC POINT: acquire pairs with the releases below: the record at a place has been written.
    Some(entry.load(Acquire)).filter(|&at| at > GONE)
}

/// Finds a key; any number of writes may go on meanwhile.
#[inline]
pub(crate) fn find(view: View<'_>, hash: u64, key: &Key<'_>) -> Result<Option<Found>, Damaged> {
    let (slots, entries) = (view.slots(), view.entries());
    let mut position = low(hash);
    for _ in 0..slots.len() {
        let slot = slots[position & (slots.len() - 1)].load(Relaxed);
        if slot == 0 {
            return Ok(None);
        }
        if (slot >> 32) as u32 == tag(hash) {
            let number = (slot as u32).wrapping_sub(1);
            let entry = entries.get(number as usize).ok_or_else(|| damaged("a map's slot names no entry"))?;
            if let Some(at) = place(entry)
                && view.record(at)?.has_key(key)
            {
                return Ok(Some(Found { entry: number, at }));
            }
        }
        position = position.wrapping_add(1);
    }
    Ok(None)
}

/// Whether another key has room in the tables.
pub(crate) fn has_room(view: View<'_>) -> bool {
    view.next().load(Relaxed) < view.entries().len() as u64
}

/// Adds a key that is not there, with the record at a place; whether there was room. Only one writes at a time.
pub(crate) fn insert(view: View<'_>, hash: u64, at: u64) -> Result<bool, Damaged> {
    let (slots, entries) = (view.slots(), view.entries());
    let next = view.next().load(Relaxed);
    let Some(entry) = entries.get(next as usize) else { return Ok(false) };
    let probes = (0..slots.len()).map(|i| &slots[low(hash).wrapping_add(i) & (slots.len() - 1)]);
    let free = probes.into_iter().find(|slot| slot.load(Relaxed) == 0);
    let free = free.ok_or_else(|| damaged("a map has fewer slots than entries"))?;
    // First: should this process die, the entry stays empty for ever, and the slot leads nowhere.
    view.next().store(next + 1, Relaxed);
    crash_point!("map.given-out");
    free.store(u64::from(tag(hash)) << 32 | (next + 1), Relaxed);
    crash_point!("map.indexed");
    // SYNC POINT: release pairs with the acquire in `place`. With this store the key is there.
    entry.store(at, Release);
    crash_point!("map.inserted");
    view.count().store(view.count().load(Relaxed).wrapping_add(1), Relaxed);
    view.last().store(next + 1, Relaxed);
    Ok(true)
}

/// Gives a key that is there another record.
pub(crate) fn update(view: View<'_>, found: Found, at: u64) {
    // SYNC POINT: release pairs with the acquire in `place`. With this store the key has the new value.
    view.entries()[found.entry as usize].store(at, Release);
    crash_point!("map.updated");
}

/// Takes a key away.
pub(crate) fn remove(view: View<'_>, found: Found) {
    // SYNC POINT: release orders this after what was read before. With this store the key is gone.
    view.entries()[found.entry as usize].store(GONE, Release);
    crash_point!("map.removed");
    view.count().store(view.count().load(Relaxed).saturating_sub(1), Relaxed);
}
