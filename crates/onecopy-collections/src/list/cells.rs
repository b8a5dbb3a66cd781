//! How items become visible, and how they are read without a lock.
//!
//! There are two arrays of cells. The state says in one word which is the list's, how much of it, and how often the
//! arrays have changed places:
//!
//! | bits | what |
//! |---|---|
//! | 32 … 63 | version: one more each time the other array becomes the list's; its lowest bit says which that is |
//! | 0 … 31 | length |
//!
//! An item is replaced by a store in its cell. Items come and go at the end by a store of the length. All else is
//! written into the other array, and then one store makes that the list's. A reader looks at the state again after it
//! has read a cell: it then was the list's all the time.

use crate::container::view::View;
use crate::container::{Damaged, damaged};
use crate::door::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, crash_point};

/// What the state of a list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    version: u32,
    pub(crate) len: u32,
}

impl State {
    /// The state of a new list of `len` items.
    pub(crate) fn new(len: u32) -> Self {
        Self { version: 0, len }
    }

    fn unpack(word: u64) -> Self {
        Self { version: (word >> 32) as u32, len: word as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.version) << 32 | u64::from(self.len)
    }

    #[inline]
    pub(crate) fn load(view: View<'_>) -> Self {
        // SYNC POINT: acquire pairs with the releases of `store`: what the state says has been written.
        Self::unpack(view.state().load(Acquire))
    }

    /// The state, where the arrays are as long as it says; who makes room for so many items need not fear damage.
    pub(crate) fn checked(view: View<'_>) -> Result<Self, Damaged> {
        let state = Self::load(view);
        if state.len as usize > state.cells(view).len() {
            Err(damaged("a list is longer than its cells"))
        } else {
            Ok(state)
        }
    }

    /// With this store the list is what the state says.
    pub(crate) fn store(self, view: View<'_>) {
        view.state().store(self.pack(), Release);
        crash_point!("list.published");
    }

    /// The array that is the list's.
    pub(crate) fn cells(self, view: View<'_>) -> &[AtomicU64] {
        view.cells(self.version as usize & 1)
    }

    /// The other array, with `len` items of it.
    pub(crate) fn other(self, len: u32) -> Self {
        Self { version: self.version.wrapping_add(1), len }
    }

    /// The same array, with `len` items of it.
    pub(crate) fn with_len(self, len: u32) -> Self {
        Self { len, ..self }
    }
}

/// A position from the start, or from the end where it is negative.
#[inline]
pub(crate) fn resolve(index: i64, len: u32) -> Option<u32> {
    let position = if index < 0 { index.checked_add(i64::from(len))? } else { index };
    u32::try_from(position).ok().filter(|&position| position < len)
}

/// The place of the record of an item; any number of writes may go on meanwhile.
#[inline]
pub(crate) fn get(view: View<'_>, index: i64) -> Result<Option<u64>, Damaged> {
    loop {
        let before = State::load(view);
        let Some(position) = resolve(index, before.len) else { return Ok(None) };
        let at = load(before.cells(view), position)?;
        let after = State::unpack(view.state().load(Relaxed));
        if after.version == before.version && resolve(index, after.len) == Some(position) {
            return Ok(Some(at));
        }
    }
}

/// The place in a cell.
#[inline]
pub(crate) fn load(cells: &[AtomicU64], position: u32) -> Result<u64, Damaged> {
    let cell = cells.get(position as usize).ok_or_else(|| damaged("a list is longer than its cells"))?;
    // SYNC POINT: acquire pairs with the release in `place`: the record has been written; and the state that was stored
    // before the cell was is seen by whoever looks at it after this.
    Ok(cell.load(Acquire))
}

/// Writes a place into a cell: the item's, if the cell is one of the list's.
pub(crate) fn place(cells: &[AtomicU64], position: u32, at: u64) -> Result<(), Damaged> {
    let cell = cells.get(position as usize).ok_or_else(|| damaged("a list is longer than its cells"))?;
    cell.store(at, Release);
    crash_point!("list.placed");
    Ok(())
}
