//! A look at the first lines: what the dialect and the types of the columns probably are.

use std::ops::Range;

use crate::block::Block;
use crate::convert::{Cell, Rules};
use crate::dialect::{Dialect, Tokens, trim};
use crate::error::ReadError;
use crate::layout::{Layout, Scalar};
use crate::options::{Encoding, Missing, Options};
use crate::plan::choose;
use crate::preamble::Preamble;
use crate::progress::Progress;
use crate::source::{Feed, Portion, Source, TextSize};

/// Bytes of text that are looked at.
const SIZE: usize = 1 << 20;
/// Lines that a delimiter is tried on.
const TRIED_LINES: usize = 1000;
/// Lines by which types are guessed that nobody needs.
const FEW_LINES: usize = 10;
/// Delimiters in the order of preference; white space, which is last, also occurs within fields.
const DELIMITERS: [Option<&[u8]>; 5] = [Some(b"\t"), Some(b","), Some(b";"), Some(b"|"), None];

/// The first lines of a text, decompressed.
///
/// ```
/// use onecopy_text::{Options, Sample, Scalar, Source};
///
/// let sample = Sample::read(Source::memory("calls.csv", b"chr,pos,pct\nchr1,258,0.5\nchr21,9411193,12.25\n"))?;
/// let options = sample.guess_dialect(&Options::default());
/// assert_eq!(options.delimiter.as_deref(), Some(&b","[..]));
/// assert!(options.header);
/// let layout = sample.guess_layout(&options)?;
/// let types: Vec<_> = layout.fields().iter().map(|field| (field.name.as_str(), field.scalar)).collect();
/// assert_eq!(types, [("chr", Scalar::Bytes(8)), ("pos", Scalar::I32), ("pct", Scalar::F64)]);
/// # Ok::<(), onecopy_text::ReadError>(())
/// ```
#[derive(Debug)]
pub struct Sample {
    file: String,
    text: Vec<u8>,
}

impl Sample {
    /// Reads about a megabyte of text.
    ///
    /// # Errors
    /// Those of [`read`](crate::read) that come from the source.
    pub fn read(source: Source<'_>) -> Result<Self, ReadError> {
        let file = source.name.clone();
        let progress = Progress::new();
        let feed = source.open(SIZE, &progress)?;
        let mut block = Block::default();
        let mut text = Vec::new();
        while text.len() < SIZE {
            let Some(portion) = feed.next(&mut block) else { return Ok(Self { file, text }) };
            text.extend_from_slice(block.text());
            match portion.outcome {
                Err(error) if text.is_empty() => return Err(error),
                // What is wrong further down is for the read to say.
                Err(_) => break,
                Ok(()) if portion.last => return Ok(Self { file, text }),
                Ok(()) => {}
            }
        }
        // The last line may be cut. If there is only one, it has to do.
        if let Some(end) = memchr::memrchr2(b'\n', b'\r', &text) {
            text.truncate(end + 1);
        }
        Ok(Self { file, text })
    }

    /// Number of columns of the first record; 0 if there is none.
    ///
    /// # Errors
    /// Those of [`Options`] that contradict each other or the text.
    pub fn count_columns(&self, options: &Options) -> Result<usize, ReadError> {
        Ok(self.preamble(options)?.first.columns)
    }

    /// The names in the header line; `None` if `options` has no header.
    ///
    /// # Errors
    /// Those of [`Options`] that contradict each other or the text.
    pub fn names(&self, options: &Options) -> Result<Option<Vec<String>>, ReadError> {
        Ok(self.preamble(options)?.first.names)
    }

    /// `options` with the delimiter, the quote and the header that the lines suggest.
    ///
    /// A delimiter is right when all lines have the same number of columns, more than one. A header is a line of words
    /// over at least one column that is mostly numbers.
    pub fn guess_dialect(&self, options: &Options) -> Options {
        let fitting = DELIMITERS.iter().find_map(|delimiter| {
            let delimiter = delimiter.map(<[u8]>::to_vec);
            let unquoted = Options { delimiter, quote: None, header: false, ..options.clone() };
            // With a byte that is delimiter and comment the options make no sense.
            unquoted.validate().ok()?;
            let quoted = Options { quote: Some(b'"'), ..unquoted.clone() };
            let tried = if self.has_quoted_field(&unquoted) && quoted.validate().is_ok() { quoted } else { unquoted };
            let lines = self.lines(&tried, TRIED_LINES);
            let columns = lines.columns(0)?;
            (columns > 1 && (0..lines.len()).all(|line| lines.columns(line) == Some(columns))).then_some(tried)
        });
        let mut guess = fitting.unwrap_or_else(|| Options { header: false, ..options.clone() });
        guess.header = is_header(&self.lines(&guess, TRIED_LINES), &guess);
        guess
    }

    /// Whether the first line looks like a header, where `options` have the right delimiter: words over at least one column that is mostly numbers.
    pub fn guess_header(&self, options: &Options) -> bool {
        let headless = Options { header: false, ..options.clone() };
        is_header(&self.lines(&headless, TRIED_LINES), &headless)
    }

    /// A field for each column that `options` chooses, with the name in the header or else `f0`, `f1` …
    ///
    /// Integers become `int32` if those in the sample fit and else `int64`, other numbers `float64`, and texts strings
    /// of half as much again as the longest.
    ///
    /// # Errors
    /// Those of [`Options`] that contradict each other or the text.
    pub fn guess_layout(&self, options: &Options) -> Result<Layout, ReadError> {
        self.layout_of(options, usize::MAX)
    }

    /// As [`Self::guess_layout`], but whoever asks has types of his own: those are guessed by a few lines.
    ///
    /// # Errors
    /// Those of [`Options`] that contradict each other or the text.
    pub fn guess_columns(&self, options: &Options) -> Result<Layout, ReadError> {
        self.layout_of(options, FEW_LINES)
    }

    fn layout_of(&self, options: &Options, limit: usize) -> Result<Layout, ReadError> {
        let first = self.preamble(options)?.first;
        let chosen = match &options.use_columns {
            Some(columns) => choose(&self.file, columns, &first)?,
            None => (0..first.columns as i64).collect(),
        };
        let lines = self.lines(options, limit);
        let begin = usize::from(options.header).min(lines.len());
        let field = |(i, column): (usize, i64)| {
            let index = if column < 0 { column + first.columns as i64 } else { column } as usize;
            let name = first.names.as_ref().and_then(|names| names.get(index).cloned());
            let fields = (begin..lines.len()).filter_map(|line| lines.field(line, index));
            let name = name.unwrap_or_else(|| format!("f{i}"));
            let scalar = guess_scalar(fields, &name, options);
            (name, scalar)
        };
        Ok(Layout::packed(chosen.into_iter().enumerate().map(field)))
    }

    fn preamble(&self, options: &Options) -> Result<Preamble, ReadError> {
        options.validate()?;
        Preamble::read(&self.file, self, &Dialect::new(options), options, &mut Block::default())
    }

    fn has_quoted_field(&self, options: &Options) -> bool {
        let is_quoted = |field: &[u8]| field.len() > 1 && field.starts_with(b"\"") && field.ends_with(b"\"");
        self.lines(options, TRIED_LINES).fields().any(is_quoted)
    }

    /// The fields of the lines that are not blank, header included.
    fn lines(&self, options: &Options, limit: usize) -> Lines {
        let headless = Options { header: false, ..options.clone() };
        let Ok(preamble) = self.preamble(&headless) else { return Lines::default() };
        let dialect = Dialect::new(options);
        let (mut lines, mut tokens, mut at) = (Lines::default(), Tokens::default(), 0);
        while at < preamble.rest.len() && lines.len() < limit {
            at = dialect.tokenize(&preamble.rest, at, &mut tokens);
            if !tokens.is_blank() {
                lines.push(&tokens);
            }
        }
        lines
    }
}

/// The fields of some lines, all in one place: there may be hundreds of thousands.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    /// Where each field ends in `text`.
    field_ends: Vec<usize>,
    /// How many fields there are up to the end of each line.
    line_ends: Vec<usize>,
}

impl Lines {
    fn push(&mut self, tokens: &Tokens) {
        for i in 0..tokens.len() {
            self.text.extend_from_slice(tokens.get(i));
            self.field_ends.push(self.text.len());
        }
        self.line_ends.push(self.field_ends.len());
    }

    fn len(&self) -> usize {
        self.line_ends.len()
    }

    /// The numbers of the fields of a line.
    fn line(&self, line: usize) -> Option<Range<usize>> {
        let end = *self.line_ends.get(line)?;
        Some(line.checked_sub(1).map_or(0, |before| self.line_ends[before])..end)
    }

    fn columns(&self, line: usize) -> Option<usize> {
        self.line(line).map(|fields| fields.len())
    }

    fn field(&self, line: usize, column: usize) -> Option<&[u8]> {
        self.line(line)?.nth(column).map(|number| self.numbered(number))
    }

    fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.field_ends.len()).map(|number| self.numbered(number))
    }

    fn numbered(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.field_ends[before]);
        &self.text[start..self.field_ends[number]]
    }
}

/// So that the preamble reads a sample as it reads a file.
impl Feed for Sample {
    fn next(&self, block: &mut Block) -> Option<Portion> {
        block.clear();
        block.push(&self.text);
        Some(Portion { ticket: 0, last: true, bytes_in: 0, outcome: Ok(()) })
    }

    fn text_size(&self) -> TextSize {
        TextSize::Exact(self.text.len() as u64)
    }
}

fn is(scalar: Scalar, text: &[u8], options: &Options) -> bool {
    let mut place = [0; 8];
    Cell { scalar, big_endian: false }.convert(text, Rules::from(options), &mut place[..scalar.size()]).is_ok()
}

fn missing<'o>(text: &[u8], name: Option<&str>, options: &'o Options) -> Option<&'o Missing> {
    let text = trim(text, options.encoding);
    let here = |missing: &&Missing| missing.field.as_deref().is_none_or(|field| Some(field) == name);
    options.missing.iter().filter(here).find(|missing| missing.text.as_bytes() == text)
}

fn is_header(lines: &Lines, options: &Options) -> bool {
    let Some(columns) = lines.columns(0) else { return false };
    let is_number = |field: &[u8]| is(Scalar::F64, field, options);
    let is_name = |field: &[u8]| !trim(field, options.encoding).is_empty() && !is_number(field);
    let is_number_column = |column: usize| {
        let is_number = |field: &[u8]| is_number(field) || missing(field, None, options).is_some();
        let numbers = (1..lines.len()).filter(|line| lines.field(*line, column).is_some_and(is_number)).count();
        // Most of them: some may be missing, by a word that nobody has told us.
        numbers > 0 && 2 * numbers >= lines.len() - 1
    };
    (0..columns).filter_map(|column| lines.field(0, column)).all(is_name) && (0..columns).any(is_number_column)
}

fn guess_scalar<'a>(fields: impl Iterator<Item = &'a [u8]> + Clone, name: &str, options: &Options) -> Scalar {
    // What will be stored for a missing value has to fit as well.
    let stored = |field| missing(field, Some(name), options).map_or(field, |missing| missing.fill.as_bytes());
    let mut texts = fields.map(stored).peekable();
    if texts.peek().is_some() {
        for scalar in [Scalar::I32, Scalar::I64, Scalar::F64] {
            // An integer that fits no integer type would lose digits as a float: then it is text.
            let fits =
                |text: &[u8]| is(scalar, text, options) && (scalar != Scalar::F64 || !is_long_integer(text, options));
            if texts.clone().all(fits) {
                return scalar;
            }
        }
    }
    let decoded = texts.map(|text| match options.encoding {
        Encoding::Latin1 => text.iter().map(|&byte| char::from(byte)).collect(),
        Encoding::Utf8 => String::from_utf8_lossy(text),
    });
    let (mut longest, mut wide) = (0, false);
    for text in decoded {
        longest = longest.max(text.chars().count());
        wide |= text.chars().any(|c| c > '\u{ff}');
    }
    let width = (longest + longest / 2).next_multiple_of(4).max(4);
    if wide { Scalar::Unicode(width) } else { Scalar::Bytes(width) }
}

fn is_long_integer(text: &[u8], options: &Options) -> bool {
    let digits = trim(text, options.encoding);
    digits.len() > 18
        && digits.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+'))
        && !is(Scalar::I64, text, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Column;

    fn sample(text: &str) -> Sample {
        Sample::read(Source::memory("test.txt", text.as_bytes())).unwrap()
    }

    fn guess(text: &str) -> (Options, Vec<(String, Scalar)>) {
        let sample = sample(text);
        let options = sample.guess_dialect(&Options::default());
        let layout = sample.guess_layout(&options).unwrap();
        (options, layout.fields().iter().map(|field| (field.name.clone(), field.scalar)).collect())
    }

    fn check(text: &str, delimiter: Option<&str>, header: bool, types: &[(&str, Scalar)]) {
        let (options, fields) = guess(text);
        assert_eq!(options.delimiter.as_deref(), delimiter.map(str::as_bytes), "{text}");
        assert_eq!(options.header, header, "{text}");
        assert_eq!(fields.iter().map(|(name, scalar)| (name.as_str(), *scalar)).collect::<Vec<_>>(), types, "{text}");
    }

    #[test]
    fn delimiters_headers_and_types() {
        use Scalar::{Bytes, F64, I32, I64, Unicode};
        let text = "chrBase\tchr\tbase\tstrand\tfreqC\nchr21.98\tchr21\t98\tF\t18.75\nchr21.99\tchr21\t99\tR\t81\n";
        let types = [("chrBase", Bytes(12)), ("chr", Bytes(8)), ("base", I32), ("strand", Bytes(4)), ("freqC", F64)];
        check(text, Some("\t"), true, &types);
        check(
            "chr20 195575 CpG:_28\nchr20 3 CpG:_32",
            None,
            false,
            &[("f0", Bytes(8)), ("f1", I32), ("f2", Bytes(12))],
        );
        check("a b;5000000000\nc, d;1", Some(";"), false, &[("f0", Bytes(8)), ("f1", I64)]);
        check("x|y\n1|nan\n2|1e3", Some("|"), true, &[("x", I32), ("y", F64)]);
        check("1.5\n2\n", None, false, &[("f0", F64)]);
        check("value\n2\n", None, true, &[("value", I32)]);
        check("a,b\nc,d\n", Some(","), false, &[("f0", Bytes(4)), ("f1", Bytes(4))]);
        check("99999999999999999999 żółć\n1 x", None, false, &[("f0", Bytes(32)), ("f1", Unicode(8))]);
        check("", None, false, &[]);
    }

    #[test]
    fn quotes_are_noticed() {
        let (options, fields) = guess("\"a, b\",\"n\"\n\"c\nd\",1\n\"e\",2\n");
        assert_eq!((options.quote, options.header), (Some(b'"'), true));
        assert_eq!(fields, [("a, b".to_owned(), Scalar::Bytes(4)), ("n".to_owned(), Scalar::I32)]);
    }

    #[test]
    fn choices_and_missing_values_count() {
        let sample = sample("# c\na,b,c\n1,NA,x\n2,3,yy\n");
        let na = Missing { text: "NA".into(), fill: "nan".into(), field: Some("b".into()) };
        let use_columns = Some(vec![Column::Index(-1), Column::Name("b".into())]);
        let options = sample.guess_dialect(&Options { missing: vec![na], use_columns, ..Options::default() });
        assert!(options.header);
        let layout = sample.guess_layout(&options).unwrap();
        assert_eq!(layout, Layout::packed([("c", Scalar::Bytes(4)), ("b", Scalar::F64)]));
        assert_eq!(sample.count_columns(&options).unwrap(), 3);
        assert_eq!(sample.names(&options).unwrap().unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn a_long_text_is_cut_at_a_line() {
        let text = "12 3456\n".repeat(SIZE / 4);
        let sample = sample(&text);
        assert!(sample.text.len() <= SIZE && sample.text.ends_with(b"\n") && sample.text.len() > SIZE - 10);
    }
}
