//! Where bytes come from, and how compressed ones become text; recognised by content, never by name.

mod bgzf;
mod gzip;
mod patient;
mod plain;
mod stream;
mod unchanging;

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use unchanging::{Stamp, Unchanging};

use crate::block::Block;
use crate::error::{Compression, ReadError, display_name};
use crate::progress::Progress;

/// What to read.
///
/// ```
/// use onecopy_text::Source;
/// let source = Source::memory("numbers", b"1 2\n3 4\n");
/// ```
pub struct Source<'a> {
    pub(crate) name: String,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Path(PathBuf),
    Memory(&'a [u8]),
    Stream(Box<dyn Read + Send + 'a>),
}

impl<'a> Source<'a> {
    /// A file; also a pipe or a device.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: display_name(&path), kind: Kind::Path(path) }
    }

    /// Bytes in memory, called `name` in messages.
    pub fn memory(name: impl Into<String>, bytes: &'a [u8]) -> Self {
        Self { name: name.into(), kind: Kind::Memory(bytes) }
    }

    /// Bytes that come one after the other, called `name` in messages.
    pub fn stream(name: impl Into<String>, reader: impl Read + Send + 'a) -> Self {
        Self { name: name.into(), kind: Kind::Stream(Box::new(reader)) }
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens the source; `block_size` is what [`Feed::next`] delivers at a time, more or less.
    pub(crate) fn open(self, block_size: usize, progress: &'a Progress) -> Result<Box<dyn Feed + 'a>, ReadError> {
        let Self { name, kind } = self;
        let opener = Opener { name, block_size, progress };
        match kind {
            Kind::Path(path) => opener.path(&path),
            Kind::Memory(bytes) => opener.sized(bytes, bytes.len() as u64),
            Kind::Stream(reader) => opener.stream(reader),
        }
    }
}

/// A part of the text, in the order of its ticket.
pub(crate) struct Portion {
    /// Consecutive from 0.
    pub(crate) ticket: u64,
    /// Whether the text ends here.
    pub(crate) last: bool,
    /// Bytes of the source that it took, before decompression.
    pub(crate) bytes_in: u64,
    pub(crate) outcome: Result<(), ReadError>,
}

/// What can be said about the size of a text before it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TextSize {
    Exact(u64),
    /// From the size of the compressed data.
    Guess(u64),
    Unknown,
}

impl TextSize {
    /// For compressed data of `size` bytes.
    fn of_compressed(size: u64) -> Self {
        Self::Guess(size.saturating_mul(4))
    }
}

/// Delivers the text in portions, to any thread.
pub(crate) trait Feed: Sync {
    /// Fills `block` with the next portion; `None` after the last. With an error the block holds what came before it.
    fn next(&self, block: &mut Block) -> Option<Portion>;

    /// Size of the whole text.
    fn text_size(&self) -> TextSize;

    /// What can only be seen when everything was read.
    fn finish(&self) -> Result<(), ReadError> {
        Ok(())
    }
}

/// Bytes that any thread may read at any place.
pub(crate) trait ReadAt: Sync {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for Arc<File> {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&**self, out, offset)
    }
}

impl ReadAt for &[u8] {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset as usize + out.len();
        out.copy_from_slice(self.get(offset as usize..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Longest piece of the start that [`recognise`] looks at.
const HEAD: usize = 512;

/// Whether data that begins with `head` would be decompressed, and is not read as it is.
///
/// ```
/// assert!(onecopy_text::is_compressed(b"\x1f\x8b\x08\x00"));
/// assert!(!onecopy_text::is_compressed(b"1 2 3"));
/// ```
pub fn is_compressed(head: &[u8]) -> bool {
    recognise(&head[..head.len().min(HEAD)]).is_some()
}

/// The compression of data that begins with `head`; `None` for plain text.
fn recognise(head: &[u8]) -> Option<Compression> {
    match head {
        [0x1f, 0x8b, 8, ..] if bgzf::block_size(head).is_some() => Some(Compression::Bgzf),
        [0x1f, 0x8b, 8, ..] => Some(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Compression::Zstd),
        // Behind the name a level, and then the first block or the end: a text may well begin with BZh.
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Some(Compression::Bzip2),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] | [0x5d, 0, 0, ..] => Some(Compression::Xz),
        _ => None,
    }
}

struct Opener<'a> {
    name: String,
    block_size: usize,
    progress: &'a Progress,
}

impl<'a> Opener<'a> {
    fn path(self, path: &std::path::Path) -> Result<Box<dyn Feed + 'a>, ReadError> {
        let fail = |error| ReadError::from_io(&self.name, error);
        let file = patient::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Err(ReadError::IsDirectory { file: self.name });
        }
        // Files of /proc are regular and claim to be empty.
        if metadata.is_file() && metadata.len() > 0 {
            let (file, name) = (Arc::new(file), self.name.clone());
            let before = Stamp::of(&file).map_err(fail)?;
            let feed = self.sized(Arc::clone(&file), before.size)?;
            Ok(Box::new(Unchanging { feed, file, before, name }))
        } else {
            let progress = self.progress;
            self.stream(Box::new(patient::Patient { file, progress }))
        }
    }

    fn sized(self, input: impl ReadAt + Clone + Send + 'a, size: u64) -> Result<Box<dyn Feed + 'a>, ReadError> {
        let mut head = vec![0; HEAD.min(size as usize)];
        input.read_exact_at(&mut head, 0).map_err(|error| ReadError::from_io(&self.name, error))?;
        self.progress.add_total(size);
        Ok(match recognise(&head) {
            None => Box::new(plain::PlainFeed::new(input, size, self.name, self.block_size, self.progress)),
            Some(Compression::Bgzf) => {
                Box::new(bgzf::BgzfFeed::new(input, size, self.name, self.block_size, self.progress))
            }
            compression => {
                let reader = Box::new(Sequential { input, size, offset: 0 });
                Box::new(self.decoded(reader, compression, TextSize::of_compressed(size))?)
            }
        })
    }

    fn stream(self, mut reader: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Feed + 'a>, ReadError> {
        let mut head = Vec::new();
        if let Err(error) = reader.by_ref().take(HEAD as u64).read_to_end(&mut head) {
            if self.progress.is_cancelled() {
                return Err(ReadError::Cancelled);
            }
            // It counts behind what came before it.
            reader = Box::new(Failing(Some(error)));
        }
        // Blocks of a stream cannot be found ahead of time: BGZF is then gzip like any other.
        let compression = recognise(&head).map(|c| if c == Compression::Bgzf { Compression::Gzip } else { c });
        Ok(Box::new(self.decoded(Box::new(Cursor::new(head).chain(reader)), compression, TextSize::Unknown)?))
    }

    fn decoded(
        self,
        reader: Box<dyn Read + Send + 'a>,
        compression: Option<Compression>,
        size: TextSize,
    ) -> Result<stream::StreamFeed<'a>, ReadError> {
        stream::StreamFeed::new(reader, compression, size, self.name, self.block_size, self.progress)
    }
}

/// Fails once, as what is read from has done.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// [`ReadAt`] from the start to the end.
struct Sequential<R> {
    input: R,
    size: u64,
    offset: u64,
}

impl<R: ReadAt> Read for Sequential<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = out.len().min((self.size - self.offset) as usize);
        self.input.read_exact_at(&mut out[..length], self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        assert_eq!(recognise(b"chr\tpos"), None);
        assert_eq!(recognise(b""), None);
        assert_eq!(recognise(b"\x1f\x8b"), None);
        assert_eq!(recognise(b"\x1f\x8b\x08\x00rest"), Some(Compression::Gzip));
        let bgzf = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0";
        assert_eq!(recognise(bgzf), Some(Compression::Bgzf));
        assert_eq!(recognise(b"\x28\xb5\x2f\xfd\x04"), Some(Compression::Zstd));
        assert_eq!(recognise(b"\x53\x2a\x4d\x18\x04"), Some(Compression::Zstd));
        assert_eq!(recognise(b"BZh91AY&SY"), Some(Compression::Bzip2));
        assert_eq!(recognise(b"BZh9\x17\x72\x45\x38\x50\x90"), Some(Compression::Bzip2));
        assert_eq!(recognise(b"BZh9 is a gene"), None);
        assert_eq!(recognise(b"\xfd7zXZ\0"), Some(Compression::Xz));
        assert_eq!(recognise(b"]\0\0\x80"), Some(Compression::Xz));
    }
}
