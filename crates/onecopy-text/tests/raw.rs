//! What a sink can ask for besides records: the lines that they are on, and the texts of some fields.

mod support;

use std::io;
use std::sync::Mutex;

use onecopy_text::{Batch, Column, Expected, Options, Progress, Raw, Scalar, Schema, Sink, Source, read};
use proptest::prelude::*;
use support::{delimited, strings};

/// A record by its index: line, and of each raw field element, column, line, byte and text.
type Seen = Vec<(u64, u64, Vec<(usize, usize, u64, u64, String)>)>;

#[derive(Default)]
struct Notes {
    expected: Mutex<Option<Expected>>,
    seen: Mutex<Seen>,
}

impl Sink for Notes {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        *self.expected.lock().unwrap() = Some(expected.clone());
        Ok(())
    }

    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        let targets = self.expected.lock().unwrap().as_ref().unwrap().raw.clone();
        let mut fields = batch.raw.iter();
        let mut start = 0;
        for (i, &line) in batch.lines.iter().enumerate() {
            let of_record = targets.iter().zip(fields.by_ref()).map(|(target, field)| {
                let text = String::from_utf8(batch.raw_text[start..field.end].to_vec()).unwrap();
                start = field.end;
                (target.element, field.column, field.line, field.byte, text)
            });
            self.seen.lock().unwrap().push((batch.first_record + i as u64, line, of_record.collect()));
        }
        assert!(fields.next().is_none() && start == batch.raw_text.len());
        Ok(())
    }
}

fn notes(text: &str, options: &Options) -> Seen {
    let sink = Notes::default();
    read(
        Source::memory("test.txt", text.as_bytes()),
        &Schema::rows(Scalar::Unicode(12)),
        options,
        &sink,
        &Progress::new(),
    )
    .unwrap();
    let mut seen = sink.seen.into_inner().unwrap();
    seen.sort();
    seen
}

fn text(quoted: bool) -> impl Strategy<Value = String> {
    let enclosed = if quoted { "\"[a-c,\n#]{0,4}\"|\"a\"\"b\"" } else { "[\"a-c]{0,4}" };
    let field = prop_oneof!["[a-c]{0,3}", enclosed];
    let line = prop_oneof![
        6 => (field.clone(), field.clone(), field).prop_map(|(a, b, c)| format!("{a},{b},{c}")),
        1 => Just(String::new()),
        1 => Just("# note".to_owned()),
        1 => Just("xa,b,c # note".to_owned()),
    ];
    let end = prop_oneof![6 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r")];
    prop::collection::vec((line, end), 0..40)
        .prop_map(|lines| lines.into_iter().flat_map(|(l, e)| [l, e.into()]).collect())
}

/// Lines of the text before each record, one record at a time.
fn expected_lines(text: &str, options: &Options) -> Vec<u64> {
    let count = strings(text, options).unwrap().len();
    (0..count)
        .map(|i| {
            // The record begins on the first line that leaves all records from it on.
            let rest = |skip_rows: u64| {
                let rest = Options { skip_rows, ..options.clone() };
                strings(text, &rest).map_or(usize::MAX, |rows| rows.len())
            };
            (0..1000).take_while(|&lines| rest(lines) != count - i - 1 || lines == 0).last().unwrap()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn raw_fields_are_those_of_strings_wherever_they_are(
        (quoted, text) in any::<bool>().prop_flat_map(|quoted| (Just(quoted), text(quoted))),
        block_size in 1_usize..60,
        threads in 1_usize..4,
    ) {
        let quote = quoted.then_some(b'"');
        let base = Options { quote, block_size, threads, ..delimited(",") };
        let Ok(rows) = strings(&text, &Options { quote, ..delimited(",") }) else { return Ok(()) };
        let raw = Raw::Columns(vec![Column::Index(-1), Column::Index(0)]);
        let seen = notes(&text, &Options { raw, ..base.clone() });
        prop_assert_eq!(seen.len(), rows.len());
        for ((i, row), (record, line, fields)) in rows.iter().enumerate().zip(&seen) {
            prop_assert_eq!(*record, i as u64);
            let of: Vec<_> = fields.iter().map(|(element, column, _, _, text)| (*element, *column, text.as_str())).collect();
            prop_assert_eq!(of, [(0, 0, row[0].as_str()), (2, 2, row[2].as_str())]);
            let (_, _, first_line, first_byte, _) = fields[0];
            prop_assert_eq!((first_line, first_byte), (line + 1, 1));
        }
        let all = notes(&text, &Options { raw: Raw::All, ..base.clone() });
        let texts: Vec<Vec<_>> = all.iter().map(|(_, _, fields)| fields.iter().map(|field| field.4.clone()).collect()).collect();
        prop_assert_eq!(&texts, &rows);
        let at_once = notes(&text, &Options { lines: true, block_size: 1 << 20, threads: 1, ..base.clone() });
        let lines: Vec<u64> = notes(&text, &Options { lines: true, ..base }).iter().map(|seen| seen.1).collect();
        prop_assert_eq!(&lines, &at_once.iter().map(|seen| seen.1).collect::<Vec<_>>());
        prop_assert_eq!(&lines, &seen.iter().map(|seen| seen.1).collect::<Vec<_>>());
        if !quoted {
            prop_assert_eq!(lines, expected_lines(&text, &delimited(",")));
        }
    }
}

#[test]
fn the_place_of_a_raw_field_is_its_first_byte() {
    let options = Options { quote: Some(b'"'), raw: Raw::All, header: true, skip_rows: 1, ..delimited(",") };
    let seen = notes("skipped\n# note\na,b\n1,\"2\n3\"\r\n\n\"4\n\",5 # five\n", &options);
    let places: Vec<_> = seen
        .iter()
        .flat_map(|(_, _, fields)| fields)
        .map(|(_, _, line, byte, text)| (*line, *byte, text.as_str()))
        .collect();
    assert_eq!(places, [(4, 1, "1"), (4, 3, "2\n3"), (7, 1, "4\n"), (8, 3, "5 ")]);
    assert_eq!(seen.iter().map(|seen| seen.1).collect::<Vec<_>>(), [3, 6]);
}

#[test]
fn columns_are_meant_as_numpy_means_them() {
    let elements = |raw: Vec<Column>, use_columns: Option<Vec<Column>>| {
        let options = Options { raw: Raw::Columns(raw), lines: true, use_columns, ..Options::default() };
        let seen = notes("a b c\nd e f\n", &options);
        seen[0].2.iter().map(|field| (field.0, field.1)).collect::<Vec<_>>()
    };
    let (last, first, second) = (Column::Index(-1), Column::Index(0), Column::Index(1));
    assert_eq!(elements(vec![last.clone()], None), [(2, 2)]);
    // With usecols an entry means what is spelled the same, and only the first of those.
    assert_eq!(elements(vec![last.clone(), second.clone()], Some(vec![Column::Index(2), first.clone()])), []);
    assert_eq!(elements(vec![last.clone()], Some(vec![first, last.clone(), last])), [(1, 2)]);
    let error = read(
        Source::memory("test.txt", b"a b\n"),
        &Schema::rows(Scalar::Bytes(1)),
        &Options { raw: Raw::Columns(vec![second, Column::Index(-3)]), ..Options::default() },
        &Notes::default(),
        &Progress::new(),
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("converter specified for column -3, which is invalid for the number")
    );
}

#[test]
fn of_two_entries_for_one_column_the_later_counts() {
    let entries = |raw| {
        let (sink, options) = (Notes::default(), Options { raw: Raw::Columns(raw), ..Options::default() });
        let source = Source::memory("test.txt", b"a b\n");
        read(source, &Schema::rows(Scalar::Bytes(1)), &options, &sink, &Progress::new()).unwrap();
        let expected = sink.expected.into_inner().unwrap().unwrap();
        expected.raw.iter().map(|target| (target.element, target.entry)).collect::<Vec<_>>()
    };
    assert_eq!(entries(vec![Column::Index(1), Column::Index(-1)]), [(1, 1)]);
    assert_eq!(entries(vec![Column::Index(-2), Column::Index(1), Column::Index(0)]), [(0, 2), (1, 1)]);
}

#[test]
fn a_flawed_record_has_no_raw_fields() {
    for line in ["5 x", "5 x # note"] {
        let options = Options { raw: Raw::Columns(vec![Column::Index(0)]), ..Options::default() };
        let text = format!("1 2\n3 4 # note\n{line}\n7 8\n");
        let (sink, source) = (Notes::default(), Source::memory("test.txt", text.as_bytes()));
        read(source, &Schema::rows(Scalar::I32), &options, &sink, &Progress::new()).unwrap_err();
        let seen = sink.seen.into_inner().unwrap();
        let texts: Vec<_> = seen.iter().map(|(record, line, fields)| (*record, *line, fields[0].4.as_str())).collect();
        assert_eq!(texts, [(0, 0, "1"), (1, 1, "3")], "{line}");
    }
}
