//! What changes a list. All of it under the lock of those who write.

use std::sync::Arc;

use onecopy_arena::ArenaError;

use super::cells::{self, State, resolve};
use super::{Channel, geometry};
use crate::container::body::Body;
use crate::container::view::{UNIT, View};
use crate::container::{ContainerError, Item, Picked, damaged};

/// Where an item of the new order comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From this position of the list as it was. Each is named once at most.
    Old(usize),
    /// The new item of this number. Each is named once.
    New(usize),
}

impl Channel<'_> {
    /// Puts items behind the last, all of them at once.
    #[inline]
    pub fn extend(&self, items: &mut [Item<'_>]) -> Result<(), ContainerError> {
        let _writing = self.open.write()?;
        let body = self.with_room(items.len(), items)?;
        let view = body.view();
        let state = State::checked(view)?;
        for (position, at) in (state.len..).zip(self.open.append_all(view, items)?) {
            cells::place(state.cells(view), position, at)?;
        }
        state.with_len(state.len + items.len() as u32).store(view);
        Ok(())
    }

    /// Puts an item in the place of another; whether there is that index.
    #[inline]
    pub fn set(&self, index: i64, mut item: Item<'_>) -> Result<bool, ContainerError> {
        let _writing = self.open.write()?;
        let body = self.with_room(0, std::slice::from_ref(&item))?;
        let view = body.view();
        let state = State::checked(view)?;
        let Some(position) = resolve(index, state.len) else { return Ok(false) };
        let old = cells::load(state.cells(view), position)?;
        let at = self.open.append(view, &mut item)?;
        cells::place(state.cells(view), position, at)?;
        self.open.discard(view.record(old)?)?;
        Ok(true)
    }

    /// Takes an item out, if there is that index.
    pub fn pop(&self, index: i64) -> Result<Option<Picked>, ContainerError> {
        let _writing = self.open.write()?;
        let body = self.open.arc()?;
        let view = body.view();
        let state = State::checked(view)?;
        let Some(position) = resolve(index, state.len) else { return Ok(None) };
        let picked = self.open.pick(&body, cells::load(state.cells(view), position)?)?;
        if position + 1 == state.len {
            state.with_len(position).store(view);
        } else {
            let (from, to) = (state.cells(view), state.other(state.len - 1));
            let kept = (0..state.len).filter(|&old| old != position);
            for (new, old) in kept.enumerate() {
                cells::place(to.cells(view), new as u32, cells::load(from, old)?)?;
            }
            to.store(view);
        }
        self.open.discard(picked.record()?)?;
        Ok(Some(picked))
    }

    /// Puts an item before the one at an index; an index beyond either end is that end.
    pub fn insert(&self, index: i64, item: Item<'_>) -> Result<(), ContainerError> {
        let order = |len: usize| {
            let at =
                if index < 0 { (index.saturating_add(len as i64)).max(0) as usize } else { index as usize }.min(len);
            let old = |range: std::ops::Range<usize>| range.map(Origin::Old);
            Ok::<_, ContainerError>(old(0..at).chain([Origin::New(0)]).chain(old(at..len)).collect())
        };
        self.arrange(order, &mut [item])
    }

    /// Makes the list consist of old and new items in another order, at once. `order` learns how long the list is and
    /// may refuse; what it does not name goes.
    pub fn arrange<E: From<ContainerError>>(
        &self,
        order: impl FnOnce(usize) -> Result<Vec<Origin>, E>,
        items: &mut [Item<'_>],
    ) -> Result<(), E> {
        let _writing = self.open.write()?;
        let len = self.len()?;
        let order = order(len)?;
        Ok(self.arrange_as(&order, items)?)
    }

    fn arrange_as(&self, order: &[Origin], items: &mut [Item<'_>]) -> Result<(), ContainerError> {
        let body = self.with_room(items.len(), items)?;
        let view = body.view();
        let state = State::checked(view)?;
        let len = u32::try_from(order.len()).map_err(|_| ContainerError::TooLarge)?;
        let places = self.open.append_all(view, items)?;
        let (from, to) = (state.cells(view), state.other(len));
        let mut gone = vec![true; state.len as usize];
        for (position, source) in (0..len).zip(order) {
            let at = match *source {
                Origin::New(number) => places.get(number).copied(),
                Origin::Old(old) => {
                    gone.get_mut(old).map(|gone| *gone = false).and_then(|()| cells::load(from, old as u32).ok())
                }
            };
            let at = at.ok_or_else(|| damaged("a list is longer than its cells"))?;
            cells::place(to.cells(view), position, at)?;
        }
        // Before the other array may be written to again.
        let left: Vec<u64> = (0..)
            .zip(&gone)
            .filter(|(_, gone)| **gone)
            .map(|(old, _)| cells::load(from, old))
            .collect::<Result<_, _>>()?;
        to.store(view);
        for at in left {
            self.open.discard(view.record(at)?)?;
        }
        Ok(())
    }

    /// Takes all items out.
    pub fn clear(&self) -> Result<(), ContainerError> {
        let _writing = self.open.write()?;
        let old = self.open.arc()?;
        self.open.swing(&old, self.open.new_body(geometry(0, 0))?)?;
        super::each_place(old.view(), &mut |at| self.open.discard(old.view().record(at)?))?;
        Ok(())
    }

    /// The body, with room for as many more cells and for the records of the items.
    #[inline]
    fn with_room(&self, cells: usize, items: &[Item<'_>]) -> Result<Arc<Body>, ContainerError> {
        let body = self.open.arc()?;
        let view = body.view();
        let words = items.iter().map(Item::words).sum();
        let wanted = State::checked(view)?.len as usize + cells;
        if u32::try_from(wanted).is_err() {
            return Err(ContainerError::TooLarge);
        }
        if wanted <= view.cells(0).len() && view.has_room(words) { Ok(body) } else { self.rebuild(&body, cells, words) }
    }

    /// A new body with what is there, and room for more cells and words, and for as much again.
    #[cold]
    fn rebuild(&self, old: &Body, cells: usize, mut words: usize) -> Result<Arc<Body>, ContainerError> {
        let mut len = cells;
        super::each_place(old.view(), &mut |at| {
            len += 1;
            words += old.view().record(at)?.len().next_multiple_of(UNIT);
            Ok(())
        })?;
        let new = self.open.new_body(geometry(2 * len, 2 * words))?;
        copy_all(old.view(), new.view())?;
        self.open.swing(old, new)
    }
}

/// Writes all that is in one body into another that nobody knows yet.
pub(crate) fn copy_all(from: View<'_>, to: View<'_>) -> Result<(), ArenaError> {
    let mut len = 0;
    let cells = State::new(0).cells(to);
    super::each_place(from, &mut |at| {
        let place =
            to.append(&from.record(at)?.to_words()).ok_or_else(|| damaged("a list grew while it was copied"))?;
        cells::place(cells, len, place)?;
        len += 1;
        Ok(())
    })?;
    State::new(len).store(to);
    Ok(())
}
