//! The extension module `onecopy._native`: converts, releases the GIL, delegates to the Rust crates.
//!
//! Each file adds its own names to the module through a `register` function.

use pyo3::prelude::*;

mod array;
mod background;
mod containers;
mod counter;
mod dtype;
mod errors;
mod files;
mod filters;
mod inspect;
mod interrupt;
mod locks;
mod named;
mod ndarray;
mod object;
mod open_arena;
mod pipe;
mod queue;
mod reads;
mod session;
mod text;
mod value;
mod waiting;
mod writes;

/// The compiled half of the package `onecopy`.
#[pymodule(gil_used = true)]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    // numpy's C API is looked up at its first use, with Python code; an exception in there, such as that of Ctrl-C, would be
    // a panic. So it is used here for the first time.
    numpy::dtype::<u8>(m.py());
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    array::register(m)?;
    background::register(m)?;
    containers::register(m)?;
    counter::register(m)?;
    files::register(m)?;
    filters::register(m)?;
    inspect::register(m)?;
    locks::register(m)?;
    named::register(m)?;
    pipe::register(m)?;
    object::register(m)?;
    open_arena::register(m)?;
    queue::register(m)?;
    reads::register(m)?;
    session::register(m)?;
    text::register(m)?;
    value::register(m)?;
    waiting::register(m)
}
