//! Short lines against the exact rules: where a line is plain, the bytes are the same.

use super::*;
use crate::block::PADDING;
use crate::convert::{Cell, Rules};
use crate::layout::{Layout, Scalar, Schema};
use crate::options::{Encoding, Options};
use crate::plan::FirstLines;
use proptest::prelude::*;

const RULES: Rules = Rules { encoding: Encoding::Utf8, truncate: false };

const SCALARS: [Scalar; 16] = [
    Scalar::Bool,
    Scalar::I8,
    Scalar::U8,
    Scalar::I16,
    Scalar::U16,
    Scalar::I32,
    Scalar::U32,
    Scalar::I64,
    Scalar::U64,
    Scalar::F32,
    Scalar::F64,
    Scalar::F16,
    Scalar::Bytes(3),
    Scalar::Bytes(20),
    Scalar::Bytes(70),
    Scalar::Unicode(4),
];

/// Lines of fields, and how they are written.
#[derive(Debug, Clone)]
struct Table {
    scalars: Vec<Scalar>,
    lines: Vec<Vec<String>>,
    delimiter: Option<&'static str>,
}

impl Table {
    fn text(&self) -> String {
        let line = |line: &Vec<String>| line.join(self.delimiter.unwrap_or(" ")) + "\n";
        self.lines.iter().map(line).collect()
    }

    fn options(&self) -> Options {
        Options { delimiter: self.delimiter.map(Into::into), quote: Some(b'"'), ..Options::default() }
    }

    fn plan(&self) -> Plan {
        let schema: Schema = Layout::packed(self.scalars.iter().map(|scalar| ("x", *scalar))).into();
        let first = FirstLines { columns: self.scalars.len(), names: None };
        Plan::new("test.txt", &self.options(), &schema, &first).unwrap()
    }

    fn reader(&self) -> Option<ShortLines> {
        ShortLines::new(&self.plan(), &Dialect::new(&self.options()), Buffers::default()).ok()
    }

    /// The record of a line by the exact rules, if it is one.
    fn record(&self, line: &[String]) -> Option<Vec<u8>> {
        let mut record = Vec::new();
        for (scalar, text) in self.scalars.iter().zip(line) {
            let mut element = vec![0; scalar.size()];
            Cell { scalar: *scalar, big_endian: false }.convert(text.as_bytes(), RULES, &mut element).ok()?;
            record.extend(element);
        }
        (line.len() == self.scalars.len()).then_some(record)
    }
}

/// Behind the text stands what was there before, which must not count.
fn pad(text: &str) -> Vec<u8> {
    let before = b"9\n 9,9\t\"#\0\xff9\n\n".iter().copied();
    text.bytes().chain(before.cycle().take(PADDING)).collect()
}

/// Reads the table in batches of `batch` records; the numbers of the lines that were not plain.
fn read(reader: &mut ShortLines, table: &Table, batch: usize) -> Vec<usize> {
    assert_eq!(reader.begin(&pad(&table.text())), Some(table.lines.len()));
    go_on(reader, table, batch)
}

/// As [`read`], after the reader has begun.
fn go_on(reader: &mut ShortLines, table: &Table, batch: usize) -> Vec<usize> {
    let (text, size) = (table.text(), table.scalars.iter().map(|scalar| scalar.size()).sum::<usize>());
    let padded = pad(&text);
    let (mut row, mut passed) = (0, Vec::new());
    while row < table.lines.len() {
        let rows = batch.min(table.lines.len() - row);
        let mut records = vec![0xaa; rows * size];
        let other = |target: usize, text: &[u8], place: &mut [u8]| {
            Cell { scalar: table.scalars[target], big_endian: false }.convert(text, RULES, place).is_ok()
        };
        let done = reader.fill(&padded, &mut records, other);
        for (line, record) in table.lines[row..row + done].iter().zip(records.chunks(size)) {
            assert_eq!(table.record(line).as_deref(), Some(record), "{line:?} as {:?}", table.scalars);
        }
        row += done;
        if done < rows {
            let line = reader.pass();
            let start = table.lines[..row].iter().flatten().map(|field| field.len() + 1).sum::<usize>();
            assert_eq!(line, start..start + text[start..].find('\n').unwrap());
            passed.push(row);
            row += 1;
        }
    }
    passed
}

fn plain(scalar: Scalar) -> BoxedStrategy<String> {
    match scalar {
        Scalar::Bool => "[01]".boxed(),
        Scalar::I8 => "-?[0-9]{1,2}".boxed(),
        Scalar::U8 => "[0-9]{1,2}".boxed(),
        Scalar::I16 => "-?[0-9]{1,4}".boxed(),
        Scalar::U16 => "[0-9]{1,4}".boxed(),
        Scalar::I32 => "-?[0-9]{1,9}".boxed(),
        Scalar::U32 => "[0-9]{1,9}".boxed(),
        Scalar::I64 => "-?[0-9]{1,15}".boxed(),
        Scalar::U64 => "[0-9]{1,16}".boxed(),
        Scalar::F32 => prop_oneof!["-?[0-9]{1,4}", "-?[0-9]{0,3}\\.[0-9]{1,4}"].boxed(),
        Scalar::F64 => {
            prop_oneof!["-?[0-9]{1,15}", "-?[0-9]{1,4}\\.", "-?[0-9]{0,7}\\.[0-9]{1,7}", "-?\\.[0-9]{1,13}"].boxed()
        }
        Scalar::F16 => "[0-9]{1,3}".boxed(),
        _ => "[a-z#-]{1,3}".prop_map(|text| text.replace('#', ".")).boxed(),
    }
}

/// As [`plain`], of numbers that are no longer than eight characters.
fn brief(scalar: Scalar) -> BoxedStrategy<String> {
    match scalar {
        Scalar::I32 | Scalar::I64 => "-?[0-9]{1,7}".boxed(),
        Scalar::U32 | Scalar::U64 => "[0-9]{1,8}".boxed(),
        Scalar::F64 => prop_oneof!["-?[0-9]{1,7}", "-?[0-9]{0,3}\\.[0-9]{1,3}"].boxed(),
        _ => plain(scalar),
    }
}

fn odd() -> impl Strategy<Value = String> {
    const SPELLINGS: [&str; 34] = [
        "-",
        ".",
        "-.",
        "--1",
        "1-",
        "1.2.3",
        "..",
        "1..2",
        "+1",
        "1e5",
        "nan",
        "x",
        "-0",
        "-0.0",
        "300",
        "70000",
        "99999999999",
        "2099999999",
        "-2100000000",
        "2147483647",
        "2147483648",
        "-2147483648",
        "-2147483649",
        "-129",
        "4294967295",
        "1234567890123",
        "1000000000007",
        "0000000000007",
        "-7",
        "12345678901234567",
        "9007199254740993",
        "0.12345678901234567",
        "1_0",
        "abcdefghijklmnopqrstu",
    ];
    proptest::sample::select(&SPELLINGS[..]).prop_map(str::to_owned)
}

fn table(oddities: u32) -> impl Strategy<Value = Table> {
    let scalars = proptest::collection::vec(proptest::sample::select(&SCALARS[..]), 1..6);
    let delimiter = proptest::sample::select(&[None, Some(","), Some("\t")][..]);
    (scalars, delimiter, any::<bool>()).prop_flat_map(move |(scalars, delimiter, is_brief)| {
        let usual = |scalar: Scalar| if is_brief { brief(scalar) } else { plain(scalar) };
        let field = |scalar: &Scalar| match oddities {
            0 => usual(*scalar),
            _ => prop_oneof![200 => usual(*scalar), oddities => odd()].boxed(),
        };
        let fields: Vec<_> = scalars.iter().map(field).collect();
        let line = (fields, 0..100 * (oddities + 1)).prop_map(move |(mut line, dice)| {
            match dice {
                1 if oddities > 0 => line.push("7".into()),
                2 if oddities > 0 && line.len() > 1 => drop(line.pop()),
                _ => {}
            }
            line
        });
        let lines = proptest::collection::vec(line, 1..150);
        (lines, Just(scalars), Just(delimiter)).prop_map(|(lines, scalars, delimiter)| Table {
            scalars,
            lines,
            delimiter,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plain_lines_are_what_the_exact_rules_make_of_them(table in table(3), batch in 1..200usize) {
        let text = pad(&table.text());
        // Some tables are for the index: their lines or numbers are too long.
        if let Some(mut reader) = table.reader().and_then(|mut reader| reader.begin(&text).map(|_| reader)) {
            read(&mut reader, &table, batch);
        }
    }

    #[test]
    fn lines_are_passed_only_to_learn_how_long_numbers_are(table in table(0), batch in 1..200usize) {
        let lengths = table.lines.iter().map(|line| line.iter().map(|field| field.len() + 1).sum::<usize>());
        let is_short = lengths.max().unwrap() <= 64;
        let text = pad(&table.text());
        let begun = table.reader().and_then(|mut reader| reader.begin(&text).map(|_| reader));
        if let Some(mut reader) = begun.filter(|_| is_short) {
            let passed = read(&mut reader, &table, batch);
            // Otherwise the numbers together have become too long.
            if reader.shapes.is_some() {
                prop_assert!(passed.len() <= 3 * table.scalars.len(), "{passed:?}");
                let begins = (0..9).any(|_| reader.begin(&text).is_some());
                prop_assert!(begins);
                let passed = go_on(&mut reader, &table, batch);
                let passed: Vec<_> = passed.iter().map(|&line| &table.lines[line]).collect();
                prop_assert!(passed.is_empty(), "{passed:?} as {:?}", table.scalars);
            }
        }
    }
}

fn begins(delimiter: Option<&'static str>, text: &str) -> Option<usize> {
    let lines = vec![vec!["1".to_owned(), "2".to_owned()]];
    let table = Table { scalars: vec![Scalar::I8, Scalar::I32], lines, delimiter };
    table.reader().map_or(Some(usize::MAX), |mut reader| reader.begin(&pad(text)))
}

#[test]
fn blocks_that_are_not_plain_are_for_the_index() {
    if !machine::has_avx512() {
        return;
    }
    for lines in 0..40 {
        for (delimiter, space) in [(None, " "), (Some(","), ",")] {
            let before = format!("1{space}22\n").repeat(lines);
            let odd = |line: &str| begins(delimiter, &format!("{before}{line}3{space}4\n"));
            assert_eq!(odd(""), Some(lines + 1));
            for line in ["\n", "#\n", "\"1\",2\n", "1,2\r\n", "\u{e9},1\n", "\0,1\n"] {
                assert_eq!(odd(line), None, "{line:?} behind {lines} lines");
            }
            assert_eq!(odd(" 1,2\n").is_none(), delimiter.is_none());
            assert_eq!(odd("1  2\n").is_none(), delimiter.is_none());
            assert_eq!(odd("1,2 \n").is_none(), delimiter.is_none());
            assert_eq!(begins(delimiter, &format!("{before}1{space}2")), None, "no line end");
        }
    }
}

#[test]
fn what_does_not_pay_is_tried_ever_more_rarely() {
    let line = |text: &str| vec![text.to_owned()];
    let table = |text: &str| Table { scalars: vec![Scalar::F64], lines: vec![line(text); 40], delimiter: Some(",") };
    let (good, bad) = (table("1.5"), table("1e5"));
    let Some(mut reader) = good.reader() else { return };
    let skips = |reader: &mut ShortLines, table: &Table| {
        let text = pad(&table.text());
        (0..200).take_while(|_| reader.begin(&text).is_none()).count()
    };
    read(&mut reader, &good, 100);
    for skipped in [0, 1, 3, 7, 15, 31, 63, 64, 64] {
        assert_eq!(skips(&mut reader, &bad), skipped);
        assert_eq!(go_on(&mut reader, &bad, 100).len(), 40);
    }
    assert_eq!(skips(&mut reader, &good), 64);
    assert!(go_on(&mut reader, &good, 100).len() < 2);
    assert_eq!(read(&mut reader, &bad, 100).len(), 40);
    assert_eq!(skips(&mut reader, &good), 1, "one good block makes up for all");
}

#[test]
fn some_columns_are_for_the_index() {
    let reader = |scalars: Vec<Scalar>, options: Options| {
        let table = Table { scalars, lines: vec![], delimiter: Some(",") };
        ShortLines::new(&table.plan(), &Dialect::new(&options), Buffers::default()).is_ok()
    };
    let options = || Options { delimiter: Some(b",".to_vec()), ..Options::default() };
    assert_eq!(reader(vec![Scalar::I8; 16], options()), machine::has_avx512());
    assert!(!reader(vec![Scalar::I8; 17], options()), "too many");
    assert!(!reader(vec![Scalar::Bytes(4); 3], options()), "no numbers");
    assert!(!reader(vec![Scalar::I8], Options { delimiter: Some(b"::".to_vec()), ..options() }));
}
