//! Models of the arena, explored by loom: `RUSTFLAGS="--cfg loom" cargo test -p onecopy-arena --lib --release`.

mod blocks;
mod death;
mod slots;

pub(crate) use death::pass;
