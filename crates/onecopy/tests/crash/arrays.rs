//! Arrays of bytes as values, and handles of what lies in a dictionary.

use onecopy::{Access, Arena, Array, Block, DType, Dict, Record};

/// An array of these bytes.
pub(crate) fn array_of(arena: &'static Arena, bytes: &[u8]) -> Array {
    Array::copy_of(arena, bytes, DType::scalar("|u1").unwrap(), &[bytes.len() as u64]).unwrap()
}

/// The bytes of an array that nobody changes.
pub(crate) fn bytes_of(array: &Array) -> Vec<u8> {
    let mut bytes = vec![0; array.nbytes() as usize];
    let first = array.address(Access::ReadOnly).unwrap();
    // SAFETY: the array has as many bytes, and none of them changes after it was put somewhere.
    unsafe { first.as_ptr().copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
    bytes
}

/// The bytes of a value of a dictionary that is a handle.
pub(crate) fn handle_in(record: Record<'_>, blocks: &[Block]) -> Vec<u8> {
    let (_, payload) = Dict::value_of(record, blocks).unwrap();
    let mut handle = vec![0; payload.len()];
    payload.copy_to(&mut handle);
    handle
}
