//! In place of `quad` on machines that never have AVX2: nothing ever loads four numbers.

pub(super) enum Quad {}

impl Quad {
    pub(super) fn load(_: &[u8], _: [u32; 4], _: [u32; 4]) -> Self {
        unreachable!("quads are for AVX2 only")
    }

    pub(super) fn integers(self) -> Option<[i32; 4]> {
        match self {}
    }

    pub(super) fn floats(self) -> Option<[f64; 4]> {
        match self {}
    }
}
