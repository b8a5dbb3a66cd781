//! Where the bytes of a stored chunk are.

use crate::error::Error;

/// The bytes of a stored chunk, or a place from which the thread that decodes it can fetch them.
pub trait Stored: Send {
    /// The bytes; `buffer`, which a thread uses for chunk after chunk, is there to hold them.
    ///
    /// # Errors
    /// [`Error::Read`] when they cannot be had.
    fn bytes<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Error>;
}

impl<T: AsRef<[u8]> + Send> Stored for T {
    fn bytes<'a>(&'a self, _: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
        Ok(self.as_ref())
    }
}
