//! What changes a map. All of it under the lock of those who write.

use std::sync::Arc;

use super::{Channel, Found, geometry, index};
use crate::container::body::Body;
use crate::container::view::View;
use crate::container::{ContainerError, Item, Key, Picked, Record};
use crate::door::{Block, Ordering::Relaxed};

/// What was there when a value was to be put under a key that has none.
#[derive(Debug)]
pub enum Entry<T> {
    /// The value that the key has.
    There(T),
    /// The key had none, and has the new one now.
    Added,
}

impl Channel<'_> {
    /// Puts a value under a key, instead of the one that it has.
    #[inline]
    pub fn set(&self, key: &Key<'_>, item: Item<'_>) -> Result<(), ContainerError> {
        let _writing = self.open.write()?;
        self.put(key, item)
    }

    /// Puts several values under keys of theirs, while nobody else writes.
    pub fn set_all<'k>(&self, items: impl IntoIterator<Item = (Key<'k>, Item<'k>)>) -> Result<(), ContainerError> {
        let _writing = self.open.write()?;
        items.into_iter().try_for_each(|(key, item)| self.put(&key, item))
    }

    /// Puts a value under a key that has none; shows the value of one that has.
    pub fn set_default<T>(
        &self,
        key: &Key<'_>,
        item: Item<'_>,
        take: impl FnOnce(Record<'_>, &[Block]) -> T,
    ) -> Result<Entry<T>, ContainerError> {
        let writing = self.open.write()?;
        let body = self.open.arc()?;
        if let Some(found) = index::find(body.view(), self.hash(key), key)? {
            let picked = self.open.pick(&body, found.at)?;
            drop(writing);
            return Ok(Entry::There(take(picked.record()?, picked.blocks())));
        }
        self.put(key, item)?;
        Ok(Entry::Added)
    }

    fn put(&self, key: &Key<'_>, mut item: Item<'_>) -> Result<(), ContainerError> {
        let hash = self.hash(key);
        let loaded = self.open.body()?;
        let Some(body) = loaded.as_ref() else { return Err(crate::container::damaged("no body").into()) };
        let found = index::find(body.view(), hash, key)?;
        if let Some(found) = found {
            item.draft_mut().under_key_of(&body.view().record(found.at)?);
        }
        if body.view().has_room(item.words()) && (found.is_some() || index::has_room(body.view())) {
            return self.put_in(body.view(), hash, found, item);
        }
        let body = self.rebuild(body, item.words())?;
        let found = index::find(body.view(), hash, key)?;
        self.put_in(body.view(), hash, found, item)
    }

    #[inline]
    fn put_in(
        &self,
        view: View<'_>,
        hash: u64,
        found: Option<Found>,
        mut item: Item<'_>,
    ) -> Result<(), ContainerError> {
        let at = self.open.append(view, &mut item)?;
        match found {
            Some(found) => {
                index::update(view, found, at);
                self.open.discard(view.record(found.at)?)?;
            }
            None if index::insert(view, hash, at)? => {}
            None => return Err(crate::container::damaged("a map has less room than it says").into()),
        }
        Ok(())
    }

    /// Takes a key away and answers its value, if it has one.
    pub fn pop(&self, key: &Key<'_>) -> Result<Option<Picked>, ContainerError> {
        let _writing = self.open.write()?;
        let body = self.open.arc()?;
        let found = index::find(body.view(), self.hash(key), key)?;
        found.map(|found| self.take(&body, found)).transpose()
    }

    /// Takes the key away that was put in last.
    pub fn pop_last(&self) -> Result<Option<Picked>, ContainerError> {
        let _writing = self.open.write()?;
        let body = self.open.arc()?;
        let view = body.view();
        let end = view.last().load(Relaxed).min(view.entries().len() as u64);
        for entry in (0..end as usize).rev() {
            if let Some(at) = index::place(&view.entries()[entry]) {
                view.last().store(entry as u64, Relaxed);
                return self.take(&body, Found { entry: entry as u32, at }).map(Some);
            }
        }
        view.last().store(0, Relaxed);
        Ok(None)
    }

    fn take(&self, body: &Arc<Body>, found: Found) -> Result<Picked, ContainerError> {
        let picked = self.open.pick(body, found.at)?;
        index::remove(body.view(), found);
        self.open.discard(picked.record()?)?;
        Ok(picked)
    }

    /// Takes a key away; whether it was there.
    pub fn remove(&self, key: &Key<'_>) -> Result<bool, ContainerError> {
        let _writing = self.open.write()?;
        let body = self.open.arc()?;
        let Some(found) = index::find(body.view(), self.hash(key), key)? else { return Ok(false) };
        index::remove(body.view(), found);
        self.open.discard(body.view().record(found.at)?)?;
        Ok(true)
    }

    /// Takes all keys away.
    pub fn clear(&self) -> Result<(), ContainerError> {
        let _writing = self.open.write()?;
        let old = self.open.arc()?;
        self.open.swing(&old, self.open.new_body(geometry(0, 0))?)?;
        super::each_place(old.view(), &mut |at| self.open.discard(old.view().record(at)?))?;
        Ok(())
    }

    /// A new body with what is there, and room for one more record of so many words, and for as much again.
    #[cold]
    fn rebuild(&self, old: &Body, more: usize) -> Result<Arc<Body>, ContainerError> {
        let (mut count, mut words) = (1, more);
        super::each_place(old.view(), &mut |at| {
            count += 1;
            words += old.view().record(at)?.len().next_multiple_of(crate::container::view::UNIT);
            Ok(())
        })?;
        let new = self.open.new_body(geometry(2 * count, 2 * words))?;
        copy_all(old.view(), new.view(), self.open.seed())?;
        self.open.swing(old, new)
    }
}

/// Writes all that is in one body into another that nobody knows yet.
pub(crate) fn copy_all(from: View<'_>, to: View<'_>, seed: u64) -> Result<(), onecopy_arena::ArenaError> {
    super::each_place(from, &mut |at| {
        let record = from.record(at)?;
        let (tag, bytes) = record.key();
        let at = to.append(&record.to_words());
        let copied = at.map(|at| index::insert(to, Key::plain(tag, &bytes).hash(seed), at)).transpose()?;
        if copied == Some(true) {
            Ok(())
        } else {
            Err(crate::container::damaged("a map grew while it was copied").into())
        }
    })
}
