//! Random texts in random dialects, at block sizes that put a boundary everywhere, against a parser that is slow and obvious.

mod support;

use onecopy_text::{Column, Layout, Missing, Options, ReadError, Scalar, Schema};
use proptest::prelude::*;
use support::read_bytes;

/// The place of an error (byte in the text), or the bytes of the records.
type Outcome = Result<Vec<u8>, usize>;

struct Field {
    at: usize,
    text: String,
    quoted: bool,
}

struct Reference<'a> {
    text: &'a str,
    options: &'a Options,
    at: usize,
}

impl Reference<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn starts_with(&self, bytes: &[u8]) -> bool {
        self.rest().as_bytes().starts_with(bytes)
    }

    fn at_line_end(&self) -> bool {
        self.rest().is_empty() || self.starts_with(b"\n") || self.starts_with(b"\r")
    }

    fn at_comment(&self) -> bool {
        self.options.comments.iter().any(|comment| self.starts_with(comment))
    }

    /// Length of the delimiter here.
    fn delimiter(&self) -> Option<usize> {
        match &self.options.delimiter {
            Some(delimiter) => self.starts_with(delimiter).then_some(delimiter.len()),
            None => self.rest().chars().next().filter(|c| is_space(*c)).map(char::len_utf8),
        }
    }

    fn take(&mut self) -> char {
        let c = self.rest().chars().next().unwrap();
        self.at += c.len_utf8();
        c
    }

    /// Position of the end of the line, which is then skipped.
    fn end_line(&mut self) -> usize {
        while !self.at_line_end() {
            self.take();
        }
        let end = self.at;
        self.at += if self.starts_with(b"\r\n") { 2 } else { usize::from(!self.rest().is_empty()) };
        end
    }

    fn field(&mut self) -> Field {
        let mut field = Field { at: self.at, text: String::new(), quoted: false };
        if let Some(quote) = self.options.quote.filter(|quote| self.starts_with(&[*quote])) {
            field.quoted = true;
            self.take();
            while !self.rest().is_empty() {
                if self.starts_with(&[quote, quote]) {
                    self.take();
                } else if self.starts_with(&[quote]) {
                    self.take();
                    break;
                }
                field.text.push(self.take());
            }
        }
        while !self.at_line_end() && !self.at_comment() && self.delimiter().is_none() {
            field.text.push(self.take());
        }
        field
    }

    /// The fields of the next line and where it ends; empty if it holds no record.
    fn line(&mut self) -> (Vec<Field>, usize) {
        let mut fields = Vec::new();
        loop {
            while let (None, false, Some(length)) = (&self.options.delimiter, self.at_line_end(), self.delimiter()) {
                self.at += length;
            }
            if self.options.delimiter.is_none() && (self.at_line_end() || self.at_comment()) {
                break;
            }
            fields.push(self.field());
            match self.delimiter().filter(|_| !self.at_line_end() && !self.at_comment()) {
                Some(length) => self.at += length,
                None => break,
            }
        }
        if matches!(&fields[..], [field] if field.text.is_empty() && !field.quoted) {
            fields.clear();
        }
        let end = self.end_line();
        (fields, end)
    }

    fn read(&mut self, scalars: &[Scalar]) -> Outcome {
        let (mut out, mut count) = (Vec::new(), 0);
        for _ in 0..self.options.skip_rows {
            self.end_line();
        }
        while self.at < self.text.len() && self.options.max_rows.is_none_or(|max| count < max) {
            let (fields, end) = self.line();
            if fields.is_empty() {
                continue;
            }
            if self.options.use_columns.is_none() && fields.len() != scalars.len() {
                return Err(fields.get(scalars.len()).map_or(end, |field| field.at));
            }
            for (i, scalar) in scalars.iter().enumerate() {
                let column = match self.options.use_columns.as_ref().map(|columns| &columns[i]) {
                    Some(Column::Index(index)) if *index < 0 => fields.len().checked_add_signed(*index as isize),
                    Some(Column::Index(index)) => Some(*index as usize),
                    _ => Some(i),
                };
                let field = column.and_then(|column| fields.get(column)).ok_or(end)?;
                out.extend(self.convert(&field.text, *scalar).ok_or(field.at)?);
            }
            count += 1;
        }
        Ok(out)
    }

    fn convert(&self, text: &str, scalar: Scalar) -> Option<Vec<u8>> {
        let trimmed = text.trim_matches(is_space);
        let missing = self.options.missing.iter().find(|missing| missing.text == trimmed);
        let (text, trimmed) = missing.map_or((text, trimmed), |missing| (&missing.fill, &missing.fill));
        match scalar {
            Scalar::I16 => Some(trimmed.parse::<i16>().ok()?.to_le_bytes().to_vec()),
            Scalar::F64 => Some(trimmed.parse::<f64>().ok()?.to_le_bytes().to_vec()),
            Scalar::Bytes(width) => {
                let mut bytes = text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<Vec<u8>>>()?;
                (bytes.len() <= width).then(|| bytes.resize(width, 0)).map(|()| bytes)
            }
            _ => unreachable!("not among the test's types"),
        }
    }
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The byte in the text that an error is about.
fn place(text: &str, error: &ReadError) -> usize {
    let at = error.location().unwrap_or_else(|| panic!("{error}"));
    let mut reference = Reference { text, options: &Options::default(), at: 0 };
    for _ in 1..at.line {
        reference.end_line();
    }
    reference.at + at.column as usize - 1
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![Just(Scalar::I16), Just(Scalar::F64), Just(Scalar::Bytes(5)), Just(Scalar::Bytes(20))]
}

fn field(scalar: Scalar) -> BoxedStrategy<String> {
    let fit = match scalar {
        Scalar::I16 => "-?[0-9]{1,4}",
        Scalar::F64 => "-?[0-9]{1,9}(\\.[0-9]{1,9})?(e-?[0-9]{1,2})?",
        _ => "[a-c.é]{1,5}",
    };
    prop_oneof![60 => fit, 2 => Just("NA".to_owned()), 1 => Just("40000".to_owned()), 1 => "[ -~\u{a0}]{0,7}"].boxed()
}

#[derive(Debug, Clone)]
struct Case {
    scalars: Vec<Scalar>,
    options: Options,
    text: String,
}

fn dialect() -> impl Strategy<Value = Options> {
    let delimiters = prop_oneof![Just(None), Just(Some(",")), Just(Some("\t")), Just(Some("::"))];
    let comments = prop_oneof![Just(vec!["#"]), Just(vec!["//", ";"]), Just(vec![])];
    let quote = prop_oneof![2 => Just(None), 1 => Just(Some(b'"'))];
    (delimiters, comments, quote, any::<bool>(), 0..3u64, proptest::option::of(0..12u64)).prop_map(
        |(delimiter, comments, quote, missing, skip_rows, max_rows)| Options {
            delimiter: delimiter.map(Into::into),
            comments: comments.into_iter().map(Into::into).collect(),
            quote,
            skip_rows,
            max_rows,
            missing: if missing { vec![Missing { text: "NA".into(), fill: "7".into(), field: None }] } else { vec![] },
            ..Options::default()
        },
    )
}

fn line(scalars: &[Scalar], options: &Options) -> BoxedStrategy<String> {
    let fields: Vec<_> = scalars.iter().map(|scalar| field(*scalar)).collect();
    let delimiter = options.delimiter.clone().map_or(" ".into(), |delimiter| String::from_utf8(delimiter).unwrap());
    let comment = options.comments.first().map_or(String::new(), |c| String::from_utf8(c.clone()).unwrap());
    let quote = options.quote.is_some();
    let row = (fields, any::<u16>()).prop_map(move |(mut fields, dice)| {
        if let (true, Some(field)) = (quote && dice.is_multiple_of(3), fields.first_mut()) {
            let inside = ["", "\n", "\"\"", ",", "#"][dice as usize % 5];
            *field = format!("\"{field}{inside}\"");
        }
        let mut line = fields.join(&delimiter);
        match dice % 23 {
            0 => line = format!("{line}{comment} x"),
            1 => line.push_str(&delimiter),
            2 => line = format!(" {line} "),
            _ => {}
        }
        line
    });
    let comment = options.comments.last().map_or(String::new(), |c| String::from_utf8(c.clone()).unwrap());
    prop_oneof![12 => row, 1 => Just(format!("{comment} a \"b")), 1 => "[ \t]{0,3}"].boxed()
}

fn case() -> impl Strategy<Value = Case> {
    (proptest::collection::vec(scalar(), 1..5), dialect()).prop_flat_map(|(scalars, options)| {
        let end = prop_oneof![4 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r")];
        let lines = proptest::collection::vec((line(&scalars, &options), end), 0..25);
        (lines, Just(scalars), Just(options), any::<bool>(), any::<u8>()).prop_map(
            |(lines, scalars, mut options, newline, dice)| {
                let mut text: String = lines.into_iter().flat_map(|(line, end)| [line, end.into()]).collect();
                if !newline {
                    text.pop();
                }
                if dice < 40 {
                    let column =
                        |i: usize| Column::Index(if dice.is_multiple_of(2) { i as i64 } else { -1 - i as i64 });
                    options.use_columns = Some((0..scalars.len()).map(column).collect());
                }
                Case { scalars, options, text }
            },
        )
    })
}

/// Many lines, nearly all of which are plain: short ones are read several at a time where the machine can.
fn long_case() -> impl Strategy<Value = Case> {
    (proptest::collection::vec(scalar(), 1..5), dialect()).prop_flat_map(|(scalars, options)| {
        let plain = |scalar: &Scalar| match scalar {
            Scalar::I16 => "-?[0-9]{1,4}".boxed(),
            Scalar::F64 => "-?[0-9]{1,7}(\\.[0-9]{0,7})?".boxed(),
            _ => "[a-c.]{1,5}".boxed(),
        };
        let delimiter = options.delimiter.clone().map_or(" ".into(), |delimiter| String::from_utf8(delimiter).unwrap());
        let fields: Vec<_> = scalars.iter().map(plain).collect();
        let plain = fields.prop_map(move |fields| fields.join(&delimiter)).boxed();
        let line = prop_oneof![60 => plain, 1 => line(&scalars, &options)];
        let lines = proptest::collection::vec(line, 50..150);
        (lines, Just(scalars), Just(options)).prop_map(|(lines, scalars, options)| {
            let text = lines.join("\n") + "\n";
            Case { scalars, options: Options { max_rows: None, ..options }, text }
        })
    })
}

fn check(case: &Case, block_sizes: [usize; 2], threads: usize) -> Result<(), TestCaseError> {
    let Case { scalars, options, text } = case;
    let expected = Reference { text, options, at: 0 }.read(scalars);
    let schema = Schema::from(Layout::packed(scalars.iter().map(|scalar| ("x", *scalar))));
    for block_size in block_sizes {
        let options = Options { block_size, threads, ..options.clone() };
        let outcome = read_bytes(text.as_bytes(), &schema, &options);
        match (&outcome, &expected) {
            (Ok((summary, records)), Ok(expected)) => {
                prop_assert_eq!(records, expected);
                prop_assert_eq!(summary.records as usize * schema_size(scalars), records.len());
            }
            (Err(error), Err(at)) => prop_assert_eq!(place(text, error), *at, "{}", error),
            _ => prop_assert!(false, "{outcome:?} instead of {expected:?}"),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_and_errors_are_those_of_the_obvious_parser(case in case(), block_size in 1..70usize, threads in 1..4usize) {
        check(&case, [block_size, 1 << 16], threads)?;
    }

    #[test]
    fn so_are_those_of_many_plain_lines(case in long_case(), block_size in 70..2000usize, threads in 1..4usize) {
        check(&case, [block_size, 1 << 16], threads)?;
    }

    #[test]
    fn anything_is_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..300), options in dialect(), block_size in 1..70usize) {
        let options = Options { block_size, threads: 2, ..options };
        for scalar in [Scalar::F32, Scalar::Bytes(3), Scalar::Unicode(300), Scalar::C64, Scalar::TimeDelta] {
            if let Err(error) = read_bytes(&text, &Schema::rows(scalar), &options) {
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }
    }
}

fn schema_size(scalars: &[Scalar]) -> usize {
    scalars.iter().map(|scalar| scalar.size()).sum()
}
