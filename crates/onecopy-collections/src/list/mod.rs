//! A list of values, which are bytes.
//!
//! Readers take no lock and write nothing. Of writers one at a time adds records to the log and makes them visible by one
//! store, however many there are. Design: `docs/design/containers.md`.

use std::ops::Deref;

use onecopy_arena::ArenaError;

pub(crate) mod cells;
#[cfg(all(test, not(loom)))]
mod tests;
mod write;

use crate::container::view::{Geometry, Kind, View};
use crate::container::{Container, ContainerError, Local, Open, Picked, Record, damaged};
use crate::door::Block;
use cells::State;

pub use write::Origin;

/// The shared part of a list. Zeros are no list yet: [`Channel::begin`] makes them one.
#[derive(Debug)]
#[repr(transparent)]
pub struct List(Container);

/// A list as a process uses it.
#[derive(Debug, Clone, Copy)]
pub struct Channel<'a> {
    open: Open<'a>,
}

/// Cells of each array of a new list.
const LEAST_CELLS: usize = if cfg!(loom) { 4 } else { 16 };
/// Words of the log of a new list.
const LEAST_LOG: usize = if cfg!(loom) { 20 } else { 1 << 10 };

fn geometry(cells: usize, log: usize) -> Geometry {
    Geometry { slots: 0, entries: cells.max(LEAST_CELLS), log: log.max(LEAST_LOG) }
}

#[cfg(all(test, loom))]
impl List {
    /// What zeros are in shared memory.
    pub(crate) fn zeros() -> Self {
        Self(Container::zeros())
    }
}

impl<'a> Channel<'a> {
    /// The list that lives in `block`.
    #[inline]
    pub fn new(list: &'a List, block: &'a Block, local: &'a Local) -> Self {
        Self { open: Open::new(&list.0, block, local, Kind::List) }
    }

    /// Makes zeros an empty list. Nobody else has it yet.
    pub fn begin(&self) -> Result<(), ContainerError> {
        self.open.begin(0, geometry(0, 0))
    }

    /// Shows an item, counted from the end where the index is negative, without a lock.
    #[inline]
    pub fn get<T>(
        &self,
        index: i64,
        take: impl FnOnce(Record<'_>, &[Block]) -> T,
    ) -> Result<Option<T>, ContainerError> {
        self.open.read(|view| cells::get(view, index), take)
    }

    /// How many items there are.
    pub fn len(&self) -> Result<usize, ContainerError> {
        let body = self.open.body()?;
        let view = body.as_ref().map(|body| body.view()).ok_or_else(|| damaged("no body"))?;
        Ok(State::checked(view)?.len as usize)
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> Result<bool, ContainerError> {
        Ok(self.len()? == 0)
    }

    /// The items at some positions, all at one moment; `positions` learns how long the list is then.
    pub fn snapshot(&self, positions: impl FnOnce(usize) -> Vec<usize>) -> Result<Vec<Picked>, ContainerError> {
        let _writing = self.open.exclude()?;
        let body = self.open.arc()?;
        let state = State::checked(body.view())?;
        let cells = state.cells(body.view());
        let pick = |index: usize| {
            let position = u32::try_from(index).ok().filter(|&position| position < state.len);
            let position = position.ok_or(ContainerError::OutOfRange { index, len: state.len as usize })?;
            Ok(self.open.pick(&body, cells::load(cells, position)?)?)
        };
        positions(state.len as usize).into_iter().map(pick).collect()
    }
}

impl<'a> Deref for Channel<'a> {
    type Target = Open<'a>;

    fn deref(&self) -> &Open<'a> {
        &self.open
    }
}

/// Shows the places of the records of all items, in order.
pub(crate) fn each_place(
    view: View<'_>,
    show: &mut dyn FnMut(u64) -> Result<(), ArenaError>,
) -> Result<(), ArenaError> {
    let state = State::checked(view)?;
    let cells = state.cells(view);
    (0..state.len).try_for_each(|position| show(cells::load(cells, position)?))
}
