//! The exact rules of lines and fields, one byte at a time; what the fast index may not decide comes here.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2, memchr2_iter, memrchr2};

use crate::options::{Encoding, Options};

/// ASCII white space as Python's `str.isspace` has it: the separators 0x1c–0x1f count.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=b' ')
}

/// Length of the white space character at the start of `text`; 0 if there is none.
pub(crate) fn space_len(text: &[u8], encoding: Encoding) -> usize {
    match (encoding, text) {
        (_, [byte, ..]) if byte.is_ascii() => usize::from(is_space(*byte)),
        (Encoding::Latin1, [0x85 | 0xa0, ..]) => 1,
        (Encoding::Utf8, [0xc2, 0x85 | 0xa0, ..]) => 2,
        (
            Encoding::Utf8,
            [0xe1, 0x9a, 0x80, ..]
            | [0xe2, 0x80, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf, ..]
            | [0xe2, 0x81, 0x9f, ..]
            | [0xe3, 0x80, 0x80, ..],
        ) => 3,
        _ => 0,
    }
}

/// `text` without white space at both ends.
pub(crate) fn trim(mut text: &[u8], encoding: Encoding) -> &[u8] {
    loop {
        match space_len(text, encoding) {
            0 => break,
            length => text = &text[length..],
        }
    }
    while let Some(length) = last_space_len(text, encoding) {
        text = &text[..text.len() - length];
    }
    text
}

/// Length of the white space character at the end of `text`.
fn last_space_len(text: &[u8], encoding: Encoding) -> Option<usize> {
    // It has one to three bytes, and no other character ends with the same bytes.
    (1..=text.len().min(3)).find(|&length| space_len(&text[text.len() - length..], encoding) == length)
}

/// Number of line ends (`\n`, `\r`, `\r\n`) in `text`.
pub(crate) fn count_line_ends(text: &[u8]) -> u64 {
    let ends = memchr2_iter(b'\n', b'\r', text);
    ends.filter(|&at| text[at] == b'\r' || at == 0 || text[at - 1] != b'\r').count() as u64
}

/// Position after the line end at `at`.
pub(crate) fn after_line_end(text: &[u8], at: usize) -> usize {
    at + 1 + usize::from(text[at] == b'\r' && text.get(at + 1) == Some(&b'\n'))
}

/// The fields of one line.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// Contents of all fields, one behind the other, quotes removed.
    scratch: Vec<u8>,
    fields: Vec<Token>,
    end: usize,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    start: usize,
    scratch_end: usize,
    quoted: bool,
}

impl Tokens {
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The content of field `i`.
    pub(crate) fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.fields[i - 1].scratch_end };
        &self.scratch[start..self.fields[i].scratch_end]
    }

    /// Where field `i` begins in the text, its quote included.
    pub(crate) fn start(&self, i: usize) -> usize {
        self.fields[i].start
    }

    /// Notes the end of the line of which `at` is outside quotes; returns where the next one begins.
    fn end_line(&mut self, text: &[u8], at: usize) -> usize {
        let end = memchr2(b'\n', b'\r', &text[at..]).map(|length| at + length);
        self.end = end.unwrap_or(text.len());
        end.map_or(text.len(), |end| after_line_end(text, end))
    }

    /// Where the line ends, before its line end.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Whether the line holds no record: nothing, or only a comment.
    pub(crate) fn is_blank(&self) -> bool {
        self.fields.is_empty() || (self.len() == 1 && !self.fields[0].quoted && self.get(0).is_empty())
    }
}

/// [`Options`] compiled for reading.
#[derive(Debug, Clone)]
pub(crate) struct Dialect {
    pub(crate) delimiter: Option<Vec<u8>>,
    pub(crate) comments: Vec<Vec<u8>>,
    pub(crate) quote: Option<u8>,
    pub(crate) encoding: Encoding,
    /// Bytes at which an unquoted field may end.
    stops: [bool; 256],
}

/// What stands at a place outside quotes.
enum Mark {
    Content,
    LineEnd,
    Comment,
    Delimiter(usize),
}

impl Dialect {
    pub(crate) fn new(options: &Options) -> Self {
        let mut stops = [false; 256];
        let mut stop = |byte: u8| stops[byte as usize] = true;
        [b'\n', b'\r'].into_iter().chain(options.comments.iter().map(|c| c[0])).for_each(&mut stop);
        match &options.delimiter {
            Some(delimiter) => stop(delimiter[0]),
            None => (0..=255).filter(|byte| is_space(*byte) || !byte.is_ascii()).for_each(stop),
        }
        Self {
            delimiter: options.delimiter.clone(),
            comments: options.comments.clone(),
            quote: options.quote,
            encoding: options.encoding,
            stops,
        }
    }

    fn mark(&self, text: &[u8]) -> Mark {
        if !self.stops[text[0] as usize] {
            return Mark::Content;
        }
        if matches!(text[0], b'\n' | b'\r') {
            return Mark::LineEnd;
        }
        if self.comments.iter().any(|comment| begins_with(text, comment)) {
            return Mark::Comment;
        }
        let length = match &self.delimiter {
            Some(delimiter) if begins_with(text, delimiter) => delimiter.len(),
            Some(_) => 0,
            None => space_len(text, self.encoding),
        };
        if length == 0 { Mark::Content } else { Mark::Delimiter(length) }
    }

    /// Whether `text` may hold a quoted field.
    pub(crate) fn has_quote(&self, text: &[u8]) -> bool {
        self.quote.is_some_and(|quote| memchr(quote, text).is_some())
    }

    /// Splits the line that begins at `start`; returns where the next one begins.
    pub(crate) fn tokenize(&self, text: &[u8], start: usize, tokens: &mut Tokens) -> usize {
        tokens.scratch.clear();
        tokens.fields.clear();
        let mut at = start;
        loop {
            if self.delimiter.is_none() {
                at = self.skip_space(text, at);
                if at == text.len() || !matches!(self.mark(&text[at..]), Mark::Content) {
                    return tokens.end_line(text, at);
                }
            }
            let (content_end, quoted) = self.field(text, at, &mut tokens.scratch);
            tokens.fields.push(Token { start: at, scratch_end: tokens.scratch.len(), quoted });
            at = content_end;
            match text.get(at..).filter(|rest| !rest.is_empty()).map(|rest| self.mark(rest)) {
                Some(Mark::Delimiter(length)) => at += length,
                _ => return tokens.end_line(text, at),
            }
        }
    }

    /// Copies the field at `at` into `scratch`; returns where it ends, and whether it was quoted.
    fn field(&self, text: &[u8], at: usize, scratch: &mut Vec<u8>) -> (usize, bool) {
        let Some(quote) = self.quote.filter(|&quote| text.get(at) == Some(&quote)) else {
            let end = self.unquoted_end(text, at);
            scratch.extend_from_slice(&text[at..end]);
            return (end, false);
        };
        let mut from = at + 1;
        // Like csv.reader and numpy, a quote that is never closed encloses the rest.
        while let Some(length) = memchr(quote, &text[from..]) {
            let close = from + length;
            scratch.extend_from_slice(&text[from..close]);
            if text.get(close + 1) != Some(&quote) {
                let end = self.unquoted_end(text, close + 1);
                scratch.extend_from_slice(&text[close + 1..end]);
                return (end, true);
            }
            scratch.push(quote);
            from = close + 2;
        }
        scratch.extend_from_slice(&text[from.min(text.len())..]);
        (text.len(), true)
    }

    fn unquoted_end(&self, text: &[u8], at: usize) -> usize {
        let stop = |&at: &usize| self.stops[text[at] as usize] && !matches!(self.mark(&text[at..]), Mark::Content);
        (at..text.len()).find(stop).unwrap_or(text.len())
    }

    fn skip_space(&self, text: &[u8], mut at: usize) -> usize {
        while at < text.len() {
            match self.mark(&text[at..]) {
                Mark::Delimiter(length) => at += length,
                _ => break,
            }
        }
        at
    }

    /// Where the last complete line of `text` ends; `text` begins at the start of a line.
    ///
    /// A `\r` at the very end is not complete: a `\n` may follow. Quoted line ends do not count.
    pub(crate) fn complete_lines(&self, text: &[u8]) -> usize {
        match self.quote {
            Some(quote) if self.has_quote(text) => self.complete_quoted_lines(text, quote),
            _ => last_line_end(text),
        }
    }

    fn complete_quoted_lines(&self, text: &[u8], quote: u8) -> usize {
        let mut complete = 0;
        if self.delimiter.as_ref().is_some_and(|delimiter| delimiter.len() > 1) {
            // What stands before a quote does not say where a delimiter of many bytes began.
            while let Some(next) = self.skip_line(text, complete) {
                complete = next;
            }
            return complete;
        }
        let mut at = 0;
        while let Some(open) = memchr(quote, &text[at..]).map(|length| at + length) {
            if let Some(end) = memrchr2(b'\n', b'\r', &text[at..open]) {
                at += end + 1;
                complete = at;
            }
            // Quotes in a comment are none, and outside quotes they open a field only at its start.
            if let Some(comment) = self.find_comment(text, at..open) {
                let Some(next) = complete_line(text, comment) else { return complete };
                (at, complete) = (next, next);
            } else if open == complete || self.ends_with_separator(&text[..open]) {
                let Some(next) = close_quote(text, open, quote) else { return complete };
                at = next;
            } else {
                at = open + 1;
            }
        }
        match last_line_end(&text[at..]) {
            0 => complete,
            length => at + length,
        }
    }

    /// The first comment that begins in `range`.
    fn find_comment(&self, text: &[u8], range: Range<usize>) -> Option<usize> {
        let starts = |comment: &Vec<u8>| {
            let mut found = memchr_iter(comment[0], &text[range.clone()]).map(|length| range.start + length);
            found.find(|&at| text[at..].starts_with(comment))
        };
        self.comments.iter().filter_map(starts).min()
    }

    /// Whether a field may begin behind `text`, if the delimiter has one byte.
    fn ends_with_separator(&self, text: &[u8]) -> bool {
        match &self.delimiter {
            Some(delimiter) => text.ends_with(delimiter),
            None => last_space_len(text, self.encoding).is_some(),
        }
    }

    /// Length of the first line with its line end, if that is in the text.
    pub(crate) fn first_line(&self, text: &[u8]) -> Option<usize> {
        self.skip_line(text, 0)
    }

    /// Where the line after the one at `start` begins; `None` if its end is not in the text.
    fn skip_line(&self, text: &[u8], start: usize) -> Option<usize> {
        let quote = self.quote?;
        let mut at = start;
        loop {
            if self.delimiter.is_none() {
                at = self.skip_space(text, at);
            }
            if *text.get(at)? == quote {
                at = close_quote(text, at, quote)?;
            }
            at = self.unquoted_end(text, at);
            match self.mark(text.get(at..).filter(|rest| !rest.is_empty())?) {
                Mark::Delimiter(length) => at += length,
                _ => break,
            }
        }
        complete_line(text, at)
    }
}

/// Position after the next line end. A `\r` at the very end is none yet: a `\n` may follow.
fn complete_line(text: &[u8], at: usize) -> Option<usize> {
    let end = at + memchr2(b'\n', b'\r', &text[at..])?;
    (text[end] == b'\n' || end + 1 < text.len()).then(|| after_line_end(text, end))
}

/// `text.starts_with(mark)` for marks that are mostly one byte, which is compared without a call.
fn begins_with(text: &[u8], mark: &[u8]) -> bool {
    text[0] == mark[0] && (mark.len() == 1 || text.starts_with(mark))
}

/// Position after the quote that closes the field whose opening quote is at `open`.
fn close_quote(text: &[u8], open: usize, quote: u8) -> Option<usize> {
    let mut from = open + 1;
    loop {
        let close = from + memchr(quote, text.get(from..)?)?;
        if text.get(close + 1) != Some(&quote) {
            return Some(close + 1);
        }
        from = close + 2;
    }
}

fn last_line_end(text: &[u8]) -> usize {
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    memrchr2(b'\n', b'\r', text).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(delimiter: Option<&str>, quote: Option<u8>) -> Dialect {
        let delimiter = delimiter.map(|d| d.as_bytes().to_vec());
        Dialect::new(&Options { delimiter, quote, ..Options::default() })
    }

    fn fields(dialect: &Dialect, text: &str) -> Vec<Vec<String>> {
        let (mut tokens, mut at, mut lines) = (Tokens::default(), 0, Vec::new());
        while at < text.len() {
            at = dialect.tokenize(text.as_bytes(), at, &mut tokens);
            if !tokens.is_blank() {
                lines.push((0..tokens.len()).map(|i| String::from_utf8(tokens.get(i).to_vec()).unwrap()).collect());
            }
        }
        lines
    }

    #[test]
    fn white_space_runs_separate_and_surround() {
        let d = dialect(None, None);
        assert_eq!(fields(&d, " 1  2 \n\n\t3\u{a0}4#x\r\r\n# c\n5"), [vec!["1", "2"], vec!["3", "4"], vec!["5"]]);
        assert_eq!(fields(&d, "\x0b1\x0c2\x1c3\x1f4\u{85}5\u{2003}6"), [["1", "2", "3", "4", "5", "6"]]);
        assert_eq!(fields(&d, "é ü"), [["é", "ü"]]);
    }

    #[test]
    fn explicit_delimiter_keeps_inner_blanks_and_empty_fields() {
        let d = dialect(Some(","), None);
        assert_eq!(fields(&d, "1, 2 ,\n   \n\n,#c\n"), [vec!["1", " 2 ", ""], vec!["   "], vec!["", ""]]);
        assert_eq!(fields(&dialect(Some("::"), None), "a::b:c::\n"), [["a", "b:c", ""]]);
    }

    #[test]
    fn quotes_follow_numpy() {
        let d = dialect(Some(","), Some(b'"'));
        let cases = [
            (r#""a""b",c"#, vec!["a\"b", "c"]),
            (r#""a"x,c"#, vec!["ax", "c"]),
            (r#"x"a",c"#, vec!["x\"a\"", "c"]),
            (r#""a,b",c"#, vec!["a,b", "c"]),
            ("\"a#b\",c#d", vec!["a#b", "c"]),
            ("\"a\r\nb\",c", vec!["a\r\nb", "c"]),
            (r#" "a",c"#, vec![" \"a\"", "c"]),
            (r#""""#, vec![""]),
            (r#"""#, vec![""]),
            (r#""a"#, vec!["a"]),
            (r#""a" "b",c"#, vec!["a \"b\"", "c"]),
        ];
        for (text, expected) in cases {
            assert_eq!(fields(&d, text), [expected], "{text}");
        }
        let d = dialect(None, Some(b'"'));
        assert_eq!(fields(&d, "\"a b\" \"c\nd\"  e\n"), [["a b", "c\nd", "e"]]);
    }

    #[test]
    fn complete_lines_respect_quotes_comments_and_carriage_returns() {
        let d = dialect(Some(","), Some(b'"'));
        let cases: [(&[u8], usize); 12] = [
            (b"", 0),
            (b"a", 0),
            (b"a\n", 2),
            (b"a\nb", 2),
            (b"a\r", 0),
            (b"a\rb", 2),
            (b"a\r\n", 3),
            (b"\"a\n", 0),
            (b"x\n\"a\nb", 2),
            (b"x\n\"a\nb\"\"\n\"\nc", 11),
            (b"#\"\na", 3),
            (b"x\"\na", 3),
        ];
        for (text, expected) in cases {
            assert_eq!(d.complete_lines(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn trim_knows_unicode_space() {
        assert_eq!(trim(" \u{a0}\u{2003}1 2\u{202f}\n".as_bytes(), Encoding::Utf8), b"1 2");
        assert_eq!(trim(b"\xa01\x85", Encoding::Latin1), b"1");
        assert_eq!(trim(" \u{3000} ".as_bytes(), Encoding::Utf8), b"");
    }

    #[test]
    fn line_ends_are_counted_as_lines_are_split() {
        assert_eq!(count_line_ends(b"a\nb\r\nc\rd\r\r\n\n\re"), 7);
        assert_eq!(count_line_ends(b""), 0);
    }
}
