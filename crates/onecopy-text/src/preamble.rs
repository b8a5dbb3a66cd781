//! The lines before the first record, read by one thread: skipped lines, comments, the header; and what they tell.

use crate::block::{Block, MAX_LINE};
use crate::dialect::{Dialect, Tokens, after_line_end, count_line_ends, trim};
use crate::error::ReadError;
use crate::options::{Encoding, Options};
use crate::plan::FirstLines;
use crate::source::Feed;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The state of the read when the first record comes.
#[derive(Debug, Default)]
pub(crate) struct Preamble {
    pub(crate) first: FirstLines,
    /// Text from the first record on that was already read.
    pub(crate) rest: Vec<u8>,
    /// Lines before `rest`.
    pub(crate) lines: u64,
    /// The first of these lines that is neither skipped nor holds anything.
    pub(crate) blank: Option<u64>,
    /// Bytes before `rest`.
    pub(crate) bytes: u64,
    /// Bytes of the source that were taken for all this.
    pub(crate) bytes_in: u64,
    /// Length of the line that holds the first record; 0 if there is none.
    pub(crate) first_length: usize,
    /// Portions taken from the feed.
    pub(crate) portions: u64,
    /// Whether the text ends with `rest`.
    pub(crate) finished: bool,
    /// What ended the feed, to be reported if nothing in `rest` is wrong.
    pub(crate) error: Option<ReadError>,
}

impl Preamble {
    /// Reads until the line of the first record is complete, or the text ends.
    /// `block` is where it works.
    pub(crate) fn read(
        file: &str,
        feed: &dyn Feed,
        dialect: &Dialect,
        options: &Options,
        block: &mut Block,
    ) -> Result<Self, ReadError> {
        let mut preamble = Self::default();
        let mut scan = Scan { skip: options.skip_rows, header: options.header, tokens: Tokens::default(), at: 0 };
        preamble.pull(feed, block, BYTE_ORDER_MARK.len());
        if dialect.encoding == Encoding::Utf8 && preamble.rest.starts_with(BYTE_ORDER_MARK) {
            scan.at = BYTE_ORDER_MARK.len();
        }
        loop {
            let found = scan.advance(file, dialect, &mut preamble)?;
            preamble.bytes += scan.at as u64;
            preamble.rest.drain(..scan.at);
            scan.at = 0;
            if found || preamble.finished || preamble.error.is_some() {
                return Ok(preamble);
            }
            if preamble.rest.len() > MAX_LINE {
                return Err(ReadError::LineTooLong { file: file.into(), line: preamble.lines + 1, limit: MAX_LINE });
            }
            // Twice as much before looking again: a long line is not searched over and over.
            let enough = 2 * preamble.rest.len() + 1;
            preamble.pull(feed, block, enough);
        }
    }

    /// Takes portions until `rest` holds `enough` bytes.
    fn pull(&mut self, feed: &dyn Feed, block: &mut Block, enough: usize) {
        while self.rest.len() < enough && !self.finished && self.error.is_none() {
            let Some(portion) = feed.next(block) else {
                self.finished = true;
                return;
            };
            self.rest.extend_from_slice(block.text());
            self.portions = portion.ticket + 1;
            self.bytes_in += portion.bytes_in;
            self.error = portion.outcome.err();
            self.finished = portion.last && self.error.is_none();
        }
    }
}

/// Goes through the lines of `Preamble::rest`.
struct Scan {
    skip: u64,
    header: bool,
    tokens: Tokens,
    at: usize,
}

impl Scan {
    /// Moves `at` to the first record; false if it, or the end of its line, is not there yet.
    fn advance(&mut self, file: &str, dialect: &Dialect, preamble: &mut Preamble) -> Result<bool, ReadError> {
        let finished = preamble.finished;
        while self.at < preamble.rest.len() {
            let text = &preamble.rest[..];
            // Skipped lines are skipped as they stand: a quote in them encloses nothing.
            let next =
                if self.skip > 0 { raw_line(text, self.at, finished) } else { line(dialect, text, self.at, finished) };
            let Some(next) = next else { return Ok(false) };
            if self.skip > 0 {
                self.skip -= 1;
            } else {
                dialect.tokenize(&text[..next], self.at, &mut self.tokens);
                let blank = self.tokens.is_blank();
                if !blank && !self.header {
                    self.check_names(file, preamble.first.names.as_deref())?;
                    preamble.first.columns = self.tokens.len();
                    preamble.first_length = next - self.at;
                    return Ok(true);
                }
                if blank {
                    let line = preamble.lines + 1;
                    preamble.blank.get_or_insert(line);
                } else {
                    preamble.first.columns = self.tokens.len();
                    preamble.first.names = Some(self.names(file, dialect.encoding)?);
                    self.header = false;
                }
            }
            preamble.lines += count_line_ends(&preamble.rest[self.at..next]);
            self.at = next;
        }
        Ok(false)
    }

    /// Names that belong to other columns than they seem to are worse than none.
    fn check_names(&self, file: &str, names: Option<&[String]>) -> Result<(), ReadError> {
        match names.map(<[String]>::len) {
            Some(count) if count != self.tokens.len() => {
                let columns = self.tokens.len();
                let message = format!(
                    "{file}: the header has {count} names and the first record {columns} columns; skip it with skiprows"
                );
                Err(ReadError::Options { message })
            }
            _ => Ok(()),
        }
    }

    fn names(&self, file: &str, encoding: Encoding) -> Result<Vec<String>, ReadError> {
        let name = |i: usize| {
            let bytes = trim(self.tokens.get(i), encoding);
            match encoding {
                Encoding::Latin1 => Ok(bytes.iter().map(|&byte| char::from(byte)).collect()),
                Encoding::Utf8 => String::from_utf8(bytes.to_vec()).map_err(|_| ReadError::Options {
                    message: format!("{file}: the header is not UTF-8; set encoding='latin-1' if the file is"),
                }),
            }
        };
        (0..self.tokens.len()).map(name).collect()
    }
}

/// Where the line behind the one at `at` begins, if the end is there.
fn raw_line(text: &[u8], at: usize, finished: bool) -> Option<usize> {
    match memchr::memchr2(b'\n', b'\r', &text[at..]) {
        Some(length) if finished || text[at + length] == b'\n' || at + length + 1 < text.len() => {
            Some(after_line_end(text, at + length))
        }
        _ => finished.then_some(text.len()),
    }
}

fn line(dialect: &Dialect, text: &[u8], at: usize, finished: bool) -> Option<usize> {
    if !dialect.has_quote(&text[at..]) {
        return raw_line(text, at, finished);
    }
    dialect.first_line(&text[at..]).map(|length| at + length).or_else(|| {
        // The rest is one line, as far as quotes tell, and it ends with the text.
        finished.then(|| at + dialect.tokenize(&text[at..], 0, &mut Tokens::default()))
    })
}
