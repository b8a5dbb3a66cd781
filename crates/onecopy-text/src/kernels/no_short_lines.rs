//! In place of `short_lines` on machines that never have AVX-512: no line is ever short.

use std::ops::Range;

use crate::dialect::Dialect;
use crate::plan::Plan;

#[derive(Default)]
pub(crate) struct Buffers;

pub(crate) struct ShortLines(std::convert::Infallible);

impl ShortLines {
    pub(crate) fn new(_: &Plan, _: &Dialect, buffers: Buffers) -> Result<Self, Buffers> {
        Err(buffers)
    }

    pub(crate) fn into_buffers(self) -> Buffers {
        match self.0 {}
    }

    pub(crate) fn begin(&mut self, _: &[u8]) -> Option<usize> {
        match self.0 {}
    }

    pub(crate) fn fill(&mut self, _: &[u8], _: &mut [u8], _: impl FnMut(usize, &[u8], &mut [u8]) -> bool) -> usize {
        match self.0 {}
    }

    pub(crate) fn pass(&mut self) -> Range<usize> {
        match self.0 {}
    }
}
