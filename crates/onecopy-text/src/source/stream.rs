//! Sources that only one thread at a time can advance: pipes, gzip, zstd, bzip2, xz. While one decompresses, the others parse.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bzip2::bufread::MultiBzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream as lzma;

use super::{Feed, Portion, TextSize, gzip};
use crate::block::Block;
use crate::error::{Compression, ReadError};
use crate::progress::Progress;

/// Bytes that are read from the source at a time.
const INPUT_BUFFER: usize = 128 << 10;
/// What xz may need to decompress; `xz -9` needs 65 MiB.
const MOST_FOR_XZ: u64 = 1 << 30;

pub(super) struct StreamFeed<'a> {
    state: Mutex<State<'a>>,
    name: String,
    compression: Option<Compression>,
    size: TextSize,
    block_size: usize,
    consumed: Arc<AtomicU64>,
    progress: &'a Progress,
}

struct State<'a> {
    /// `None` after the end.
    reader: Option<Box<dyn Read + Send + 'a>>,
    next: u64,
    /// Bytes of the source in the portions so far. Decompressors read the first header when they are made.
    reported: u64,
}

impl<'a> StreamFeed<'a> {
    pub(super) fn new(
        reader: Box<dyn Read + Send + 'a>,
        compression: Option<Compression>,
        size: TextSize,
        name: String,
        block_size: usize,
        progress: &'a Progress,
    ) -> Result<Self, ReadError> {
        let input = Counted::new(reader, 0, progress);
        let consumed = Arc::clone(&input.consumed);
        let reader: Box<dyn Read + Send + 'a> = match compression {
            None => Box::new(input),
            Some(Compression::Gzip | Compression::Bgzf) => Box::new(gzip::Members::new(input)),
            Some(Compression::Zstd) => {
                let decoder = zstd::stream::read::Decoder::with_buffer(input);
                Box::new(decoder.map_err(|error| ReadError::from_io(&name, error))?)
            }
            Some(Compression::Bzip2) => Box::new(MultiBzDecoder::new(input)),
            Some(Compression::Xz) => {
                let stream = lzma::Stream::new_auto_decoder(MOST_FOR_XZ, lzma::CONCATENATED);
                let stream = stream.map_err(|error| ReadError::from_io(&name, error.into()))?;
                Box::new(XzDecoder::new_stream(input, stream))
            }
        };
        let state = Mutex::new(State { reader: Some(reader), next: 0, reported: 0 });
        Ok(Self { state, name, compression, size, block_size, consumed, progress })
    }

    /// The gzip members from byte `offset` on, in front of which is BGZF.
    pub(super) fn behind_bgzf(
        reader: Box<dyn Read + Send + 'a>,
        offset: u64,
        name: String,
        block_size: usize,
        progress: &'a Progress,
    ) -> Result<Self, ReadError> {
        let input = Counted::new(reader, offset, progress);
        let consumed = Arc::clone(&input.consumed);
        let compression = Some(Compression::Gzip);
        let empty = State { reader: None, next: 0, reported: offset };
        let size = TextSize::Unknown;
        let mut feed = Self { state: Mutex::new(empty), name, compression, size, block_size, consumed, progress };
        let members = gzip::Members::behind_others(input).map_err(|error| feed.error(error))?;
        feed.state.get_mut().unwrap_or_else(PoisonError::into_inner).reader = Some(Box::new(members));
        Ok(feed)
    }

    fn error(&self, error: io::Error) -> ReadError {
        if self.progress.is_cancelled() {
            return ReadError::Cancelled;
        }
        let file = self.name.clone();
        let offset = self.consumed.load(Ordering::Relaxed);
        match (self.compression, error.kind()) {
            (Some(compression), io::ErrorKind::UnexpectedEof) => ReadError::Truncated { file, compression, offset },
            (Some(compression), kind) if kind != io::ErrorKind::Interrupted && error.raw_os_error().is_none() => {
                ReadError::Corrupt { file, compression, offset, reason: error.to_string() }
            }
            _ => ReadError::from_io(&file, error),
        }
    }
}

impl Feed for StreamFeed<'_> {
    fn next(&self, block: &mut Block) -> Option<Portion> {
        // A reader that panicked is gone; the panic itself ends the read.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reader = state.reader.take()?;
        let ticket = state.next;
        state.next += 1;
        block.clear();
        // After an error comes nothing more, but what came before it is in the block.
        let outcome = fill(&mut reader, block, self.block_size).map_err(|error| self.error(error));
        let last = !matches!(outcome, Ok(false));
        if !last {
            state.reader = Some(reader);
        }
        let consumed = self.consumed.load(Ordering::Relaxed);
        let bytes_in = consumed - std::mem::replace(&mut state.reported, consumed);
        Some(Portion { ticket, last, bytes_in, outcome: outcome.map(drop) })
    }

    fn text_size(&self) -> TextSize {
        self.size
    }
}

/// Reads up to `length` bytes; returns whether the text ends here.
fn fill(reader: &mut dyn Read, block: &mut Block, length: usize) -> io::Result<bool> {
    let mut left = length;
    while left > 0 {
        match reader.read(block.spare(left)) {
            Ok(0) => return Ok(true),
            Ok(length) => {
                block.grow(length);
                left -= length;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Counts what the decompressor has really used, for messages and for the progress.
struct Counted<'a, R> {
    buffer: BufReader<R>,
    consumed: Arc<AtomicU64>,
    progress: &'a Progress,
}

impl<'a, R: Read> Counted<'a, R> {
    /// Begins to count at `offset`.
    fn new(reader: R, offset: u64, progress: &'a Progress) -> Self {
        let buffer = BufReader::with_capacity(INPUT_BUFFER, reader);
        Self { buffer, consumed: Arc::new(AtomicU64::new(offset)), progress }
    }
}

impl<R: Read> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.buffer.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.buffer.consume(length);
        self.consumed.fetch_add(length as u64, Ordering::Relaxed);
        self.progress.add_read(length as u64);
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.buffer.read(out)?;
        self.consumed.fetch_add(length as u64, Ordering::Relaxed);
        self.progress.add_read(length as u64);
        Ok(length)
    }
}
