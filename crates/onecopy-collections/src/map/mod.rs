//! A map from keys to values, both bytes, in the order in which keys were first put in.
//!
//! Readers take no lock and write nothing. Of writers one at a time adds a record to the log and makes it visible by one
//! store. Design: `docs/design/containers.md`.

use std::ops::Deref;
use std::sync::Arc;

use onecopy_arena::ArenaError;

pub(crate) mod index;
#[cfg(all(test, not(loom)))]
mod tests;
pub(crate) mod write;

pub use write::Entry;

use crate::container::body::Body;
use crate::container::view::{Geometry, Kind, View};
use crate::container::{Container, ContainerError, Key, Local, Open, Picked, Record, damaged};
use crate::door::{Block, Ordering::Relaxed};
use index::Found;

/// The shared part of a map. Zeros are no map yet: [`Channel::begin`] makes them one.
#[derive(Debug)]
#[repr(transparent)]
pub struct Map(Container);

/// A map as a process uses it.
#[derive(Debug, Clone, Copy)]
pub struct Channel<'a> {
    open: Open<'a>,
}

/// Entries of a new map.
const LEAST_ENTRIES: usize = if cfg!(loom) { 4 } else { 10 };
/// Words of the log of a new map.
const LEAST_LOG: usize = if cfg!(loom) { 20 } else { 1 << 10 };

/// Tables for a number of entries: at most five of eight slots are used.
fn geometry(entries: usize, log: usize) -> Geometry {
    let entries = entries.max(LEAST_ENTRIES);
    let slots = (entries + entries / 5 * 3 + 1).next_power_of_two();
    Geometry { slots, entries: slots / 8 * 5, log: log.max(LEAST_LOG) }
}

#[cfg(all(test, loom))]
impl Map {
    /// What zeros are in shared memory.
    pub(crate) fn zeros() -> Self {
        Self(Container::zeros())
    }
}

impl<'a> Channel<'a> {
    /// The map that lives in `block`.
    #[inline]
    pub fn new(map: &'a Map, block: &'a Block, local: &'a Local) -> Self {
        Self { open: Open::new(&map.0, block, local, Kind::Map) }
    }

    /// Makes zeros an empty map. Nobody else has it yet.
    pub fn begin(&self, seed: u64) -> Result<(), ContainerError> {
        self.open.begin(seed, geometry(0, 0))
    }

    #[inline]
    fn hash(&self, key: &Key<'_>) -> u64 {
        key.hash(self.open.seed())
    }

    /// Shows the value of a key, without a lock.
    #[inline]
    pub fn get<T>(
        &self,
        key: &Key<'_>,
        take: impl FnOnce(Record<'_>, &[Block]) -> T,
    ) -> Result<Option<T>, ContainerError> {
        let hash = self.hash(key);
        self.open.read(|view| Ok(index::find(view, hash, key)?.map(|found| found.at)), take)
    }

    /// Whether there is a key.
    #[inline]
    pub fn contains(&self, key: &Key<'_>) -> Result<bool, ContainerError> {
        let body = self.open.body()?;
        let view = body.as_ref().map(|body| body.view()).ok_or_else(|| damaged("no body"))?;
        Ok(index::find(view, self.hash(key), key)?.is_some())
    }

    /// How many keys there are.
    pub fn len(&self) -> Result<usize, ContainerError> {
        // The count follows the entry: who writes may have stored the one and not the other.
        let _writing = if self.open.is_calm() { None } else { Some(self.open.exclude()?) };
        Ok(self.open.arc()?.view().count().load(Relaxed) as usize)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> Result<bool, ContainerError> {
        Ok(self.len()? == 0)
    }

    /// All that is in the map at one moment.
    pub fn snapshot(&self) -> Result<Vec<Picked>, ContainerError> {
        let _writing = self.open.exclude()?;
        let body = self.open.arc()?;
        let mut all = Vec::new();
        each_place(body.view(), &mut |at| {
            all.push(self.open.pick(&body, at)?);
            Ok(())
        })?;
        Ok(all)
    }

    /// Goes through the map as it is when one comes by: a key that is there all the time is met once.
    pub fn cursor(&self) -> Result<Cursor, ContainerError> {
        Ok(Cursor { body: self.open.arc()?, entry: 0 })
    }
}

/// A walk through a map.
#[derive(Debug)]
pub struct Cursor {
    body: Arc<Body>,
    entry: usize,
}

impl Cursor {
    /// Shows the next key with its value, which may be a moment old.
    pub fn next<T>(
        &mut self,
        channel: &Channel<'_>,
        take: impl FnOnce(Record<'_>, &[Block]) -> T,
    ) -> Result<Option<T>, ContainerError> {
        loop {
            let Some(at) = self.next_place() else { return Ok(None) };
            let record = self.body.view().record(at)?;
            if !record.is_enclosing() {
                return Ok(Some(take(record, &[])));
            }
            match channel.open.references(record) {
                Ok(blocks) => return Ok(Some(take(record, &blocks))),
                // The key has another value by now, or none.
                Err(ArenaError::Stale { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let (tag, bytes) = record.key();
            let key = Key::plain(tag, &bytes);
            let hash = channel.hash(&key);
            let picked =
                channel.open.pick_patiently(|view| Ok(index::find(view, hash, &key)?.map(|found| found.at)))?;
            if let Some(picked) = picked {
                return Ok(Some(take(picked.record()?, picked.blocks())));
            }
        }
    }

    /// Shows the next key.
    pub fn next_key<T>(&mut self, take: impl FnOnce(Record<'_>) -> T) -> Result<Option<T>, ContainerError> {
        let Some(at) = self.next_place() else { return Ok(None) };
        Ok(Some(take(self.body.view().record(at)?)))
    }

    fn next_place(&mut self) -> Option<u64> {
        let view = self.body.view();
        loop {
            let entry = view.entries().get(self.entry).filter(|_| (self.entry as u64) < view.next().load(Relaxed))?;
            self.entry += 1;
            if let Some(at) = index::place(entry) {
                return Some(at);
            }
        }
    }
}

impl<'a> Deref for Channel<'a> {
    type Target = Open<'a>;

    fn deref(&self) -> &Open<'a> {
        &self.open
    }
}

/// Shows the places of the records of all entries that are there, in order.
pub(crate) fn each_place(
    view: View<'_>,
    show: &mut dyn FnMut(u64) -> Result<(), ArenaError>,
) -> Result<(), ArenaError> {
    let given_out = view.next().load(Relaxed) as usize;
    view.entries().iter().take(given_out).filter_map(index::place).try_for_each(show)
}

/// Counts anew what is there.
pub(crate) fn recount(view: View<'_>) -> Result<(), ArenaError> {
    let mut count = 0;
    each_place(view, &mut |_| {
        count += 1;
        Ok(())
    })?;
    view.count().store(count, Relaxed);
    view.last().store(view.next().load(Relaxed), Relaxed);
    Ok(())
}
