//! The memory of a ring, for the models: loom watches every unit.

use std::ptr::NonNull;

use super::record::{HEADER, Header};
use crate::stand_in::{Block, UNIT, Unit};

/// As the real one, a position in memory that somebody else keeps.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    first: NonNull<Unit>,
    units: u32,
}

// SAFETY: whoever uses the memory keeps it; loom watches who touches which unit.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn over(cells: &[Unit]) -> Self {
        assert!(cells.len().is_power_of_two());
        Self { first: NonNull::from(&cells[0]), units: cells.len() as u32 }
    }

    pub(super) fn of(block: &Block) -> Option<Self> {
        Some(Self::over(block.units()))
    }

    pub(super) fn units(self) -> u32 {
        self.units
    }

    pub(super) fn to_end(self, position: u32) -> u32 {
        self.units - (position & (self.units - 1))
    }

    fn cells(&self, position: u32, bytes: usize) -> Option<&[Unit]> {
        let (start, units) = (position & (self.units - 1), bytes.div_ceil(UNIT));
        if start as usize + units > self.units as usize {
            return None;
        }
        // SAFETY: the units lie inside the memory, which somebody keeps.
        Some(unsafe { std::slice::from_raw_parts(self.first.as_ptr().add(start as usize), units) })
    }

    pub(super) fn header(self, position: u32) -> Option<Header> {
        let cells = self.cells(position, HEADER)?;
        // SAFETY: loom reports it where somebody writes at the same time.
        let unit = cells[0].with(|unit| unsafe { *unit });
        Header::unpack(u64::from_le_bytes(*unit.first_chunk().unwrap()))
    }

    #[must_use]
    pub(super) fn write(self, position: u32, record: &[u8]) -> bool {
        let Some(cells) = self.cells(position, record.len()) else { return false };
        for (cell, bytes) in cells.iter().zip(record.chunks(UNIT)) {
            // SAFETY: loom reports it where somebody reads or writes at the same time.
            cell.with_mut(|unit| unsafe { (&mut *unit)[..bytes.len()].copy_from_slice(bytes) });
        }
        true
    }

    pub(super) fn expect_write(self, _position: u32) {}

    #[must_use]
    pub(super) fn read(self, position: u32, header: Header, bytes: &mut Vec<u8>) -> bool {
        let Some(cells) = self.cells(position, header.units() as usize * UNIT) else { return false };
        for cell in cells {
            // SAFETY: loom reports it where somebody writes at the same time.
            bytes.extend_from_slice(&cell.with(|unit| unsafe { *unit }));
        }
        true
    }
}
