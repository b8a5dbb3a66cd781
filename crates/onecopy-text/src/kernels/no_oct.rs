//! In place of `oct` on machines that never have AVX-512: nothing ever loads eight numbers.

use std::marker::PhantomData;

pub(super) struct Oct<'a> {
    never: std::convert::Infallible,
    text: PhantomData<&'a [u8]>,
}

impl<'a> Oct<'a> {
    pub(super) fn gather(_: &'a [u8], _: (&[u32], &[u32]), _: &[u32; 8], _: usize) -> Option<Self> {
        None
    }

    pub(super) fn consecutive(_: &'a [u8], _: &[u32; 8], _: &[u32; 8]) -> Option<Self> {
        None
    }

    pub(super) fn integers(&self) -> Option<[i32; 8]> {
        match self.never {}
    }

    pub(super) fn long_integers(&self) -> Option<[i64; 8]> {
        match self.never {}
    }

    pub(super) fn floats(&self) -> Option<[f64; 8]> {
        match self.never {}
    }

    pub(super) fn long_floats(&self) -> Option<[f64; 8]> {
        match self.never {}
    }
}

pub(super) fn string(_: &[u8], _: &mut [u8]) -> bool {
    false
}
