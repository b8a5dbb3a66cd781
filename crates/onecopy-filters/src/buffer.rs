//! Buffers as large as a chunk, of which files and users say how large that is: one that cannot be had is an error, where
//! `Vec` by itself ends the process.

use crate::error::Error;

/// Makes a buffer `len` bytes long. What is added to it is zeros.
///
/// # Errors
/// [`Error::OutOfMemory`], and then the buffer is as before.
pub fn resize(buffer: &mut Vec<u8>, len: usize) -> Result<(), Error> {
    reserve(buffer, len)?;
    buffer.resize(len, 0);
    Ok(())
}

/// A buffer with these bytes, and room for `more`.
pub(crate) fn copied(bytes: &[u8], more: usize) -> Result<Vec<u8>, Error> {
    let mut buffer = Vec::new();
    reserve(&mut buffer, bytes.len().saturating_add(more))?;
    buffer.extend_from_slice(bytes);
    Ok(buffer)
}

/// Room for `len` bytes in all.
pub(crate) fn reserve<T>(buffer: &mut Vec<T>, len: usize) -> Result<(), Error> {
    let bytes = len.saturating_mul(size_of::<T>());
    buffer.try_reserve_exact(len.saturating_sub(buffer.len())).map_err(|_| Error::OutOfMemory { bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let mut buffer = vec![1, 2];
        assert_eq!(resize(&mut buffer, usize::MAX / 2), Err(Error::OutOfMemory { bytes: usize::MAX / 2 }));
        assert_eq!(buffer, [1, 2]);
        resize(&mut buffer, 3).unwrap();
        assert_eq!(buffer, [1, 2, 0]);
        resize(&mut buffer, 1).unwrap();
        assert_eq!(copied(&buffer, 7).unwrap(), [1]);
    }
}
