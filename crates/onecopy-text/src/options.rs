//! How the text is written: delimiter, comments, quotes, which lines and columns count.

use crate::ReadError;
use crate::dialect::space_len;

/// How bytes stand for characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// UTF-8; a byte order mark at the start is skipped.
    #[default]
    Utf8,
    /// ISO 8859-1: each byte is a character.
    Latin1,
}

/// A column of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// Counted from 0; negative from the end of the line.
    Index(i64),
    /// The name in the header line.
    Name(String),
}

/// A text that stands for a missing value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The whole field, without the white space around it; may be empty.
    pub text: String,
    /// What is stored instead, written as the file would write it, for example `nan`.
    pub fill: String,
    /// Only in the field of this name; `None` means in every field of a type that can hold `fill`.
    pub field: Option<String>,
}

/// Which fields are handed to the sink as text, for it to make the elements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Raw {
    /// No field.
    #[default]
    Nothing,
    /// Every field.
    All,
    /// The fields of these columns. As in numpy, with [`Options::use_columns`] an entry means the first of them that is
    /// spelled the same, and if there is none, nothing.
    Columns(Vec<Column>),
}

/// The dialect and selection; the default is that of `numpy.loadtxt`.
///
/// ```
/// use onecopy_text::Options;
/// let csv = Options { delimiter: Some(b",".to_vec()), quote: Some(b'"'), header: true, ..Options::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What stands between fields; `None` means runs of white space.
    pub delimiter: Option<Vec<u8>>,
    /// Each starts a comment that reaches to the end of the line, wherever it stands outside quotes.
    pub comments: Vec<Vec<u8>>,
    /// Encloses fields that contain delimiters, comments or line ends; doubled, it stands for itself.
    pub quote: Option<u8>,
    /// Lines to skip at the start, comments and blank lines included.
    pub skip_rows: u64,
    /// Read no more records than this.
    pub max_rows: Option<u64>,
    /// The columns to keep, in the order of the fields; `None` keeps all and insists on equally long lines.
    pub use_columns: Option<Vec<Column>>,
    /// Whether the first line that is neither skipped, blank nor comment holds the names of the columns.
    pub header: bool,
    /// Texts that stand for missing values.
    pub missing: Vec<Missing>,
    /// Cut strings that are longer than their field instead of refusing them.
    pub truncate: bool,
    /// Fields that the sink makes.
    pub raw: Raw,
    /// Tell the sink on which line each record is.
    pub lines: bool,
    /// Encoding of the text.
    pub encoding: Encoding,
    /// Threads that parse, the caller's included; 0 means one per core.
    pub threads: usize,
    /// Bytes of text that a thread takes at a time. The result does not depend on it.
    pub block_size: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            delimiter: None,
            comments: vec![b"#".to_vec()],
            quote: None,
            skip_rows: 0,
            max_rows: None,
            use_columns: None,
            header: false,
            missing: Vec::new(),
            truncate: false,
            raw: Raw::Nothing,
            lines: false,
            encoding: Encoding::Utf8,
            threads: 0,
            block_size: 128 << 10,
        }
    }
}

impl Options {
    pub(crate) fn validate(&self) -> Result<(), ReadError> {
        let refuse = |message: &str| Err(ReadError::Options { message: message.into() });
        let is_line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let has_line_end = |bytes: &[u8]| bytes.iter().any(is_line_end);
        if self.block_size == 0 {
            return refuse("block_size is 0; give the number of bytes that a thread takes at a time");
        }
        if self.comments.iter().any(Vec::is_empty) {
            return refuse("comments cannot be an empty string; use no comment at all to switch them off");
        }
        if self.comments.iter().any(|c| has_line_end(c)) || self.quote.as_ref().is_some_and(is_line_end) {
            return refuse("a comment or quote character cannot be a newline (`\\r` or `\\n`)");
        }
        match &self.delimiter {
            Some(delimiter) if delimiter.is_empty() => refuse("the delimiter is empty; use None for white space"),
            Some(delimiter) if has_line_end(delimiter) => refuse("the delimiter cannot be a newline (`\\r` or `\\n`)"),
            Some(delimiter) => {
                self.validate_apart(|bytes| bytes.starts_with(delimiter) || delimiter.starts_with(bytes))
            }
            None => self.validate_apart(|bytes| space_len(bytes, self.encoding) > 0),
        }
    }

    /// Delimiter, comment and quote must be told apart by what they begin with.
    fn validate_apart(&self, is_delimiter: impl Fn(&[u8]) -> bool) -> Result<(), ReadError> {
        let quote = self.quote.map(|byte| [byte]);
        let clash =
            self.comments.iter().map(Vec::as_slice).chain(quote.as_ref().map(|q| &q[..])).find(|b| is_delimiter(b));
        if let Some(bytes) = clash {
            let shown = bytes.escape_ascii();
            return Err(ReadError::Options {
                message: format!("'{shown}' is a delimiter and a comment or quote; choose others"),
            });
        }
        if let Some(quote) = quote.filter(|q| self.comments.iter().any(|comment| comment.starts_with(q))) {
            let shown = quote.escape_ascii();
            return Err(ReadError::Options {
                message: format!("'{shown}' begins a comment and a quoted field; choose others"),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Options)) -> String {
        let mut options = Options::default();
        change(&mut options);
        options.validate().unwrap_err().to_string()
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(refused(|o| o.block_size = 0).contains("block_size"));
        assert!(refused(|o| o.comments = vec![vec![]]).contains("empty"));
        assert!(refused(|o| o.comments = vec![b"\n".to_vec()]).contains("newline"));
        assert!(refused(|o| o.quote = Some(b'\r')).contains("newline"));
        assert!(refused(|o| o.delimiter = Some(b"\n".to_vec())).contains("newline"));
        assert!(refused(|o| o.delimiter = Some(vec![])).contains("empty"));
        assert!(refused(|o| o.delimiter = Some(b"#".to_vec())).contains("'#' is a delimiter"));
        assert!(refused(|o| o.quote = Some(b' ')).contains("' ' is a delimiter"));
        assert!(refused(|o| o.comments = vec!["\u{2003}".into()]).contains("is a delimiter"));
        assert!(refused(|o| o.quote = Some(b'#')).contains("begins a comment"));
        Options::default().validate().unwrap();
    }
}
