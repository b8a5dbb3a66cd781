//! Everything that can go wrong, each as one line that says where, what and the way out.

use std::fmt;
use std::io;
use std::path::Path;

use crate::layout::Scalar;
use crate::sink::{RawField, RawTarget};

/// A place in a file, both numbers from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The name of the source.
    pub file: String,
    /// Line, with all lines of the file counted.
    pub line: u64,
    /// Byte in the line.
    pub column: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Which field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldId {
    /// By the name in the dtype or the header.
    Name(String),
    /// By the column in the file, counted from 1.
    Column(u64),
}

impl fmt::Display for FieldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "field '{name}'"),
            Self::Column(column) => write!(f, "column {column}"),
        }
    }
}

/// What is wrong with the text of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldProblem {
    /// Not a spelling of the type.
    Malformed,
    /// Listed as a missing value, but what is to be stored for it is not of the type either.
    Missing {
        /// What is to be stored.
        fill: String,
    },
    /// A number outside the range of the type.
    Overflow {
        /// The range, for example `-128 to 127`.
        range: String,
    },
    /// More characters than the field holds.
    TooLong {
        /// Characters in the text.
        length: usize,
        /// Characters that fit.
        width: usize,
    },
    /// Not UTF-8.
    InvalidUtf8,
    /// A character that one byte cannot hold.
    NotLatin1 {
        /// The character.
        character: char,
    },
    /// A byte of value zero.
    Nul,
    /// The caller's converter did not take it.
    Converter {
        /// What it says.
        reason: String,
    },
}

/// A field that cannot become an element of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where the field begins.
    pub at: Location,
    /// Row of the result, from 0.
    pub row: u64,
    /// Column of the file, from 1.
    pub column: u64,
    /// Which field.
    pub field: FieldId,
    /// The text of the field, shortened when it is long, special bytes escaped.
    pub text: String,
    /// The wanted type.
    pub expected: Scalar,
    /// What is wrong.
    pub problem: FieldProblem,
}

impl FieldError {
    /// For a raw field that the caller cannot make an element of: row `row` of the result, in `file`.
    pub fn of_raw(
        file: &str,
        row: u64,
        target: &RawTarget,
        field: &RawField,
        text: &[u8],
        problem: FieldProblem,
    ) -> Self {
        Self {
            at: Location { file: file.into(), line: field.line, column: field.byte },
            row,
            column: field.column as u64 + 1,
            field: target.field.clone(),
            text: shorten(text),
            expected: target.scalar,
            problem,
        }
    }
}

impl fmt::Display for FieldError {
    /// Begins, behind the place, with the sentence that `numpy.loadtxt` has for it, as programs look for that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, row, column, field, text, expected, problem } = self;
        write!(f, "{at}: could not convert string '{text}' to {expected} at row {row}, column {column}")?;
        if let FieldId::Name(name) = field {
            write!(f, " (field '{name}')")?;
        }
        match problem {
            FieldProblem::Malformed => {
                write!(f, "; correct it, choose another dtype, or list it as a missing value")
            }
            FieldProblem::Missing { fill } => {
                write!(f, ": it is listed as missing, but '{fill}' is no {expected} either; list another value")
            }
            FieldProblem::Overflow { range } => write!(f, ": it does not fit ({range}); choose a wider dtype"),
            FieldProblem::TooLong { length, width } => {
                write!(f, ": it has {length} characters and {width} fit; choose a wider dtype or set truncate=True")
            }
            FieldProblem::InvalidUtf8 => write!(f, ": it is not UTF-8; set encoding='latin-1' if the file is"),
            FieldProblem::NotLatin1 { character } => {
                write!(f, ": one byte cannot hold '{character}'; choose a U dtype")
            }
            FieldProblem::Converter { reason } => {
                write!(f, ": its converter raised {reason}; correct the text or the converter")
            }
            FieldProblem::Nul => write!(f, ": it contains a NUL byte; the file is binary, damaged, or in UTF-16"),
        }
    }
}

/// A compression that was recognised by the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip, of one or many members.
    Gzip,
    /// Blocked gzip as `bgzip` writes it.
    Bgzf,
    /// Zstandard.
    Zstd,
    /// bzip2, of one or many streams.
    Bzip2,
    /// xz, of one or many streams; also the older `.lzma`.
    Xz,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bgzf => "BGZF",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        })
    }
}

/// Why a text could not be read. `Display` is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A field that cannot become an element of its type.
    #[error("{0}")]
    Field(Box<FieldError>),
    /// A line has another number of columns than the first line.
    #[error(
        "{at}: the number of columns changed from {expected} to {found} at row {row}; correct the line, or choose \
         columns with usecols or another delimiter"
    )]
    ColumnsChanged {
        /// Where the first column too many begins, or where the line ends too early.
        at: Location,
        /// Row of the result, from 1.
        row: u64,
        /// Columns of the first line.
        expected: usize,
        /// Columns of this line.
        found: usize,
    },
    /// A line has another number of columns than the dtype.
    #[error(
        "{at}: the dtype passed requires {expected} columns but {found} were found at row {row}; choose columns with \
         usecols, or another dtype or delimiter"
    )]
    ColumnsOfDType {
        /// Where the first column too many begins, or where the line ends too early.
        at: Location,
        /// Row of the result, from 1.
        row: u64,
        /// Columns of the dtype.
        expected: usize,
        /// Columns of this line.
        found: usize,
    },
    /// A line does not have one of the chosen columns.
    #[error(
        "{at}: invalid column index {column} at row {row} with {found} columns; correct the line, or choose another \
         delimiter or usecols"
    )]
    NoSuchColumn {
        /// Where the line ends.
        at: Location,
        /// Row of the result, from 1.
        row: u64,
        /// The column that was chosen, negative from the end of the line.
        column: i64,
        /// Columns of this line.
        found: usize,
    },
    /// A line is longer than this reader takes; mostly a quote that is never closed, or no text at all.
    #[error("{file}:{line}: the line is longer than {limit} bytes; is a quote not closed, or the file not text?")]
    LineTooLong {
        /// The name of the source.
        file: String,
        /// The line.
        line: u64,
        /// The longest line that can be read, in bytes.
        limit: usize,
    },
    /// A column was chosen by a name that the header does not have.
    #[error("{file}: no column is called '{name}'; the header has {names}")]
    NoSuchName {
        /// The name of the source.
        file: String,
        /// The name asked for.
        name: String,
        /// The names there are.
        names: String,
    },
    /// Options that contradict each other or the dtype.
    #[error("{message}")]
    Options {
        /// What to change.
        message: String,
    },
    /// There is no such file.
    #[error("{file}: no such file; check the name")]
    NotFound {
        /// The name of the source.
        file: String,
    },
    /// The path is a directory.
    #[error("{file}: is a directory; name the files in it")]
    IsDirectory {
        /// The name of the source.
        file: String,
    },
    /// The file may not be read.
    #[error("{file}: permission denied; make it readable for this user")]
    PermissionDenied {
        /// The name of the source.
        file: String,
    },
    /// Reading failed below this library.
    #[error("{file}: cannot read: {source}")]
    Io {
        /// The name of the source.
        file: String,
        /// The error of the system.
        source: io::Error,
    },
    /// Compressed data that ends too early.
    #[error("{file}: truncated {compression} data: it ends at byte {offset}; copy or download it again")]
    Truncated {
        /// The name of the source.
        file: String,
        /// How it is compressed.
        compression: Compression,
        /// Bytes of compressed data there are.
        offset: u64,
    },
    /// Compressed data that does not decompress.
    #[error("{file}: corrupt {compression} data at byte {offset}: {reason}; copy or download it again")]
    Corrupt {
        /// The name of the source.
        file: String,
        /// How it is compressed.
        compression: Compression,
        /// Where in the compressed data, as far as known.
        offset: u64,
        /// What the decompressor says.
        reason: String,
    },
    /// The file was written to while it was read.
    #[error("{file}: changed while it was read{}; read it again when its writer is done", resized(*before, *now))]
    Changed {
        /// The name of the source.
        file: String,
        /// Size in bytes at the start.
        before: u64,
        /// Size in bytes at the end.
        now: u64,
    },
    /// The sink did not take the records.
    #[error("{0}")]
    Sink(#[source] io::Error),
    /// [`Progress::cancel`](crate::Progress::cancel) was called.
    #[error("cancelled")]
    Cancelled,
}

impl ReadError {
    /// Where in the text, if it is about a place in the text.
    pub fn location(&self) -> Option<&Location> {
        match self {
            Self::Field(error) => Some(&error.at),
            Self::ColumnsChanged { at, .. } | Self::ColumnsOfDType { at, .. } | Self::NoSuchColumn { at, .. } => {
                Some(at)
            }
            _ => None,
        }
    }

    /// The error of the system for the file called `file`, sorted by what a user would do about it.
    pub(crate) fn from_io(file: &str, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { file },
            io::ErrorKind::IsADirectory => Self::IsDirectory { file },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { file },
            _ => Self::Io { file, source },
        }
    }
}

fn resized(before: u64, now: u64) -> String {
    if before == now { String::new() } else { format!(" (from {before} to {now} bytes)") }
}

/// The name of a path for messages.
pub(crate) fn display_name(path: &Path) -> String {
    path.display().to_string()
}

/// `text` for a message: at most 40 characters, what is not printable escaped.
pub(crate) fn shorten(text: &[u8]) -> String {
    const LIMIT: usize = 40;
    let head = &text[..text.len().min(4 * LIMIT)];
    let mut shown = String::new();
    let mut count = 0;
    for chunk in head.utf8_chunks() {
        for character in chunk.valid().chars() {
            shown.extend(character.escape_debug().filter(|_| count < LIMIT));
            count += 1;
        }
        for byte in chunk.invalid() {
            shown.extend(byte.escape_ascii().map(char::from).filter(|_| count < LIMIT));
            count += 1;
        }
    }
    if count > LIMIT || head.len() < text.len() {
        shown.push('…');
    }
    shown.replace("\\'", "'").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_is_short_and_printable() {
        assert_eq!(shorten(b"a'b"), "a'b");
        assert_eq!(shorten(b"a\tb\0\xff"), "a\\tb\\0\\xff");
        assert_eq!(shorten(&[b'x'; 41]), format!("{}…", "x".repeat(40)));
        assert_eq!(shorten("é".repeat(500).as_bytes()), format!("{}…", "é".repeat(40)));
    }

    #[test]
    fn messages_are_one_line_with_a_way_out() {
        let at = Location { file: "a.txt".into(), line: 3, column: 7 };
        let field = FieldError {
            at,
            row: 2,
            column: 4,
            field: FieldId::Name("pos".into()),
            text: "9999".into(),
            expected: Scalar::I8,
            problem: FieldProblem::Overflow { range: "-128 to 127".into() },
        };
        let message = ReadError::Field(Box::new(field)).to_string();
        assert_eq!(
            message,
            "a.txt:3:7: could not convert string '9999' to int8 at row 2, column 4 (field 'pos'): it does not fit \
             (-128 to 127); choose a wider dtype"
        );
    }
}
