//! The rules of lines and fields, one test each; expected values are those of numpy.loadtxt unless said otherwise.

mod support;

use onecopy_text::{Column, Encoding, Field, Layout, Missing, Options, Scalar, Schema};
use support::{delimited, error, floats, read_bytes, strings};

#[test]
fn white_space_separates_by_default() {
    let expected = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    assert_eq!(floats(" 1  2\t3 \n\n4 5\u{2003}6", &Options::default()).unwrap(), expected);
    assert_eq!(floats("1\u{b}2\u{c}3\n4\u{1c}5\u{85}6\n \t \n", &Options::default()).unwrap(), expected);
}

#[test]
fn explicit_delimiter_separates_empty_fields_too() {
    assert_eq!(strings("a, b ,\n,,c", &delimited(",")).unwrap(), [["a", " b ", ""], ["", "", "c"]]);
    assert_eq!(floats("1, 2 ,3", &delimited(",")).unwrap(), [[1.0, 2.0, 3.0]]);
    assert_eq!(floats("1::2::3", &delimited("::")).unwrap(), [[1.0, 2.0, 3.0]]);
    assert_eq!(floats("1\u{0}2", &delimited("\0")).unwrap(), [[1.0, 2.0]]);
    assert!(
        error(b"1,,3", Scalar::F64, &delimited(","))
            .starts_with("test.txt:1:3: could not convert string '' to float64")
    );
}

#[test]
fn line_ends_are_those_of_any_system() {
    for text in ["1\n2\n3\n", "1\r\n2\r\n3", "1\r2\r3\r", "1\n\r2\r\n\r\n\n3"] {
        assert_eq!(floats(text, &Options::default()).unwrap(), [[1.0], [2.0], [3.0]], "{text:?}");
        assert_eq!(floats(text, &delimited(",")).unwrap(), [[1.0], [2.0], [3.0]], "{text:?}");
    }
}

#[test]
fn comments_are_cut_wherever_they_begin() {
    let expected = [[1.0, 2.0], [3.0, 4.0]];
    assert_eq!(floats("#x\n1 2 # c\n  # y\n3 4#z\n#", &Options::default()).unwrap(), expected);
    assert_eq!(floats("#x\n1,2 # c\n#y,\n3,4#z", &delimited(",")).unwrap(), expected);
    let comments = vec![b"//".to_vec(), b";".to_vec()];
    assert_eq!(floats("1 2// a\n; b\n3 4;//", &Options { comments, ..Options::default() }).unwrap(), expected);
    let comments = vec![];
    assert_eq!(strings("#a b", &Options { comments, ..Options::default() }).unwrap(), [["#a", "b"]]);
    let comments = vec![b"//".to_vec()];
    assert_eq!(strings("a/b c", &Options { comments, ..Options::default() }).unwrap(), [["a/b", "c"]]);
}

#[test]
fn quotes_enclose_delimiters_comments_and_line_ends() {
    let csv = Options { quote: Some(b'"'), ..delimited(",") };
    let text = "\"a,b\",\"c#d\" #x\n\"e\nf\",g\"h\"\n\"i\"\"j\"k,\"\"\n\"\",\"l\r\nm\"";
    let expected = [["a,b", "c#d "], ["e\nf", "g\"h\""], ["i\"jk", ""], ["", "l\r\nm"]];
    assert_eq!(strings(text, &csv).unwrap(), expected);
    let spaced = Options { quote: Some(b'\''), ..Options::default() };
    assert_eq!(strings("'a b'  c\n# it's\n'd\te' 'f'g", &spaced).unwrap(), [["a b", "c"], ["d\te", "fg"]]);
    assert_eq!(floats("1,\" 2 \" ,3", &csv).unwrap(), [[1.0, 2.0, 3.0]]);
    assert_eq!(strings("a,\"b", &csv).unwrap(), [["a", "b"]]);
    assert_eq!(strings("\"a\",b", &delimited(",")).unwrap(), [["\"a\"", "b"]]);
}

#[test]
fn skipped_rows_are_raw_lines() {
    let skip = |skip_rows| Options { skip_rows, ..Options::default() };
    let text = "x y\n# h\n\n1 2\n3 4";
    assert_eq!(floats(text, &skip(1)).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
    assert_eq!(floats(text, &skip(3)).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
    assert_eq!(floats(text, &skip(4)).unwrap(), [[3.0, 4.0]]);
    assert!(floats(text, &skip(99)).unwrap().is_empty());
    let quoted = Options { quote: Some(b'"'), skip_rows: 1, ..Options::default() };
    assert_eq!(floats("a \"\n1\r\n", &quoted).unwrap(), [[1.0]]);
}

#[test]
fn max_rows_counts_records_and_looks_no_further() {
    let max = |max_rows| Options { max_rows: Some(max_rows), ..Options::default() };
    let text = "1\n#\n\n2\nrubbish and more\n";
    assert_eq!(floats(text, &max(2)).unwrap(), [[1.0], [2.0]]);
    assert_eq!(floats(text, &max(0)).unwrap().len(), 0);
    assert!(floats(text, &max(3)).is_err());
    assert_eq!(floats("1\n2", &max(9)).unwrap(), [[1.0], [2.0]]);
}

#[test]
fn columns_are_chosen_by_index_and_by_name() {
    let choose = |columns: &[Column]| Options { use_columns: Some(columns.to_vec()), ..Options::default() };
    let (i, n) = (Column::Index, |name: &str| Column::Name(name.into()));
    assert_eq!(floats("1 2 3\n4 5 6", &choose(&[i(-1), i(0)])).unwrap(), [[3.0, 1.0], [6.0, 4.0]]);
    assert_eq!(floats("1 2 3\n4 5\n6 7 8 9", &choose(&[i(1), i(-2)])).unwrap(), [[2.0, 2.0], [5.0, 4.0], [7.0, 8.0]]);
    let named = Options { header: true, ..choose(&[n("c"), n("a"), i(1)]) };
    let (summary, _) = read_bytes(b"a b c\n1 2 3", &Schema::rows(Scalar::F64), &named).unwrap();
    assert_eq!(summary.names.unwrap(), ["c", "a", "b"]);
    assert_eq!(floats("# first\n\n a b c\n1 2 3", &named).unwrap(), [[3.0, 1.0, 2.0]]);

    assert_eq!(
        error(b"1 2 3\n4", Scalar::F64, &choose(&[i(-2)])),
        "test.txt:2:2: invalid column index -2 at row 2 with 1 columns; correct the line, or choose another delimiter or usecols"
    );
    assert!(
        error(b"1 2", Scalar::F64, &choose(&[i(5)]))
            .starts_with("test.txt:1:4: invalid column index 5 at row 1 with 2 columns")
    );
    assert!(error(b"a\n1", Scalar::F64, &named).contains("no column is called 'c'; the header has a"));
    assert!(error(b"1 2 3", Scalar::F64, &choose(&[n("a")])).contains("there is no header"));
}

#[test]
fn header_gives_names() {
    let options = Options { header: true, quote: Some(b'"'), ..delimited(",") };
    let (summary, bytes) = read_bytes(b"\"a,b\", c \n1,2\n", &Schema::rows(Scalar::U8), &options).unwrap();
    assert_eq!(summary.names.unwrap(), ["a,b", "c"]);
    assert_eq!(bytes, [1, 2]);
    let message = error(b"x,y\n1,2\n3,z\n", Scalar::U8, &options);
    assert!(
        message.starts_with("test.txt:3:3: could not convert string 'z' to uint8 at row 1, column 2 (field 'y')"),
        "{message}"
    );
    assert!(error(b"x,y\n1\n", Scalar::U8, &options).contains("the header has 2 names and the first record 1 columns"));
    assert!(error(b"a\xff\n1", Scalar::U8, &options).contains("header is not UTF-8"));
}

#[test]
fn missing_values_are_filled() {
    let missing = |text: &str, fill: &str, field: Option<&str>| Missing {
        text: text.into(),
        fill: fill.into(),
        field: field.map(Into::into),
    };
    let options = Options { missing: vec![missing("NA", "-1", None), missing("", "-2", None)], ..delimited(",") };
    assert_eq!(floats("NA,1\n2,\n, NA ", &options).unwrap(), [[-1.0, 1.0], [2.0, -2.0], [-2.0, -1.0]]);

    let layout = Layout::packed([("a", Scalar::I16), ("b", Scalar::F32), ("c", Scalar::Bytes(2))]);
    let schema = Schema::from(layout);
    let options = Options {
        missing: vec![missing("-9999", "0", Some("a")), missing("-9999", "inf", Some("b")), missing("x", "7", None)],
        ..Options::default()
    };
    let (_, bytes) = read_bytes(b"-9999 -9999 ok\n-9999 1 x\nx x x # slow\n", &schema, &options).unwrap();
    let record = |a: i16, b: f32, c: &[u8]| [&a.to_le_bytes()[..], &b.to_le_bytes(), c].concat();
    assert_eq!(bytes, [record(0, f32::INFINITY, b"ok"), record(0, 1.0, b"7\0"), record(7, 7.0, b"7\0")].concat());

    let options = Options { missing: vec![missing("NA", "nan", Some("a"))], ..Options::default() };
    let message = read_bytes(b"1 2 c", &schema, &options).unwrap_err().to_string();
    assert_eq!(message, "'nan', to be stored for 'NA' in field 'a', is not int16; give another value");
    let options = Options { missing: vec![missing("NA", "nan", Some("z"))], ..Options::default() };
    assert!(read_bytes(b"1 2 c", &schema, &options).unwrap_err().to_string().contains("field 'z', which there is not"));
    let options = Options { missing: vec![missing("NA", "nan", None)], ..Options::default() };
    assert!(
        read_bytes(b"NA 2 c", &schema, &options)
            .unwrap_err()
            .to_string()
            .contains("could not convert string 'NA' to int16")
    );
}

#[test]
fn padding_is_zero_and_sub_arrays_take_columns() {
    let mut points = Field::new("p", Scalar::U16, 6);
    (points.count, points.big_endian) = (2, true);
    let layout =
        Layout::new(vec![Field::new("a", Scalar::U8, 1), points, Field::new("b", Scalar::Bytes(1), 3)], 12).unwrap();
    let (_, bytes) = read_bytes(b"1 258 3 x\n4 5 6 y\n", &layout.into(), &Options::default()).unwrap();
    assert_eq!(bytes, [[0, 1, 0, b'x', 0, 0, 1, 2, 0, 3, 0, 0], [0, 4, 0, b'y', 0, 0, 0, 5, 0, 6, 0, 0]].concat());
}

#[test]
fn padding_of_any_width_is_zero_wherever_it_is() {
    for (first, second, size) in
        [(0, 100, 108), (0, 9, 17), (0, 8, 17), (1, 9, 17), (9, 0, 18), (0, 8, 16), (5, 120, 200)]
    {
        let layout = [Field::new("a", Scalar::I64, first), Field::new("b", Scalar::I64, second)];
        let layout = Layout::new(layout.into(), size).unwrap();
        // So many lines, of which some are for the kernels and some for the exact rules.
        let lines: Vec<_> = (0..60).map(|n| format!("{n} {}\n", if n % 7 == 0 { "'8'" } else { "9" })).collect();
        let options = Options { quote: Some(b'\''), ..Options::default() };
        let (_, bytes) = read_bytes(lines.concat().as_bytes(), &layout.into(), &options).unwrap();
        for (n, record) in bytes.chunks(size).enumerate() {
            let mut expected = vec![0; size];
            expected[first..first + 8].copy_from_slice(&(n as i64).to_le_bytes());
            expected[second] = if n % 7 == 0 { 8 } else { 9 };
            assert_eq!(record, expected, "record {n} of fields at {first} and {second} of {size}");
        }
    }
}

#[test]
fn byte_order_mark_is_skipped_in_utf8_only() {
    assert_eq!(floats("\u{feff}1 2", &Options::default()).unwrap(), [[1.0, 2.0]]);
    assert_eq!(floats("\u{feff}1 2", &Options { block_size: 1, ..Options::default() }).unwrap(), [[1.0, 2.0]]);
    assert!(floats("\u{feff}1 2", &Options { encoding: Encoding::Latin1, ..Options::default() }).is_err());
}

#[test]
fn latin1_is_read_as_such() {
    let options = Options { encoding: Encoding::Latin1, header: true, ..Options::default() };
    let (summary, bytes) =
        read_bytes(b"caf\xe9 \xb5\n1\xa0\xe9\x85\n", &Schema::rows(Scalar::Unicode(1)), &options).unwrap();
    assert_eq!((summary.names.unwrap(), summary.columns), (vec!["café".to_owned(), "µ".to_owned()], 2));
    assert_eq!(bytes, [b'1', 0, 0, 0, 0xe9, 0, 0, 0]);
}

#[test]
fn empty_inputs_hold_no_records() {
    for text in ["", "\n\n", "# only\n#comments", "\u{feff}", " \r\n \r"] {
        let (summary, bytes) = read_bytes(text.as_bytes(), &Schema::rows(Scalar::F64), &Options::default()).unwrap();
        assert_eq!((summary.records, bytes.len()), (0, 0), "{text:?}");
    }
    let chosen = Options { use_columns: Some(vec![Column::Index(1), Column::Index(-3)]), ..Options::default() };
    assert_eq!(read_bytes(b"", &Schema::rows(Scalar::F64), &chosen).unwrap().0.columns, 2);
    let header = Options { header: true, ..Options::default() };
    let (summary, _) = read_bytes(b"a b", &Schema::rows(Scalar::F64), &header).unwrap();
    assert_eq!((summary.records, summary.names.unwrap().len()), (0, 2));
}

#[test]
fn records_without_fields_are_counted() {
    let options = Options { use_columns: Some(vec![]), ..delimited(",") };
    let layout = Layout::new(vec![], 0).unwrap();
    let (summary, bytes) = read_bytes(b"0,0\n0,x,0\n\n0\n", &layout.into(), &options).unwrap();
    assert_eq!((summary.records, summary.columns, bytes.len()), (3, 0, 0));
}

#[test]
fn long_lines_of_many_columns_are_read() {
    let row: Vec<String> = (0..40_000).map(|i| format!("{}.5", i % 977)).collect();
    let text = format!("{}\n{}\n", row.join(" "), row.join(" "));
    let expected: Vec<f64> = (0..40_000).map(|i| f64::from(i % 977) + 0.5).collect();
    for block_size in [1000, 4096, 1 << 20] {
        let options = Options { block_size, threads: 2, ..Options::default() };
        assert_eq!(floats(&text, &options).unwrap(), [&expected[..], &expected[..]], "block size {block_size}");
    }
}

#[test]
fn lines_that_hold_nothing_are_told_where_they_do_not_count() {
    let blank = |text: &[u8], options: Options, max_rows| {
        let options = Options { max_rows, block_size: 4, ..options };
        read_bytes(text, &Schema::rows(Scalar::U8), &options).unwrap().0.blank_line
    };
    let text = b"1\n2\n\n# c\n3\n4\n\n5\n";
    assert_eq!(blank(text, Options::default(), Some(3)), Some(3));
    assert_eq!(blank(text, Options::default(), Some(2)), None);
    assert_eq!(blank(text, Options::default(), None), None);
    assert_eq!(blank(text, Options { skip_rows: 3, ..Options::default() }, Some(3)), Some(4));
    assert_eq!(blank(b"\n1\n", Options::default(), Some(1)), Some(1));
    let quoted = Options { quote: Some(b'"'), ..delimited(",") };
    assert_eq!(blank(b"\"1\n\"\n\n\"2\n\n\"\n", quoted, Some(2)), Some(3));
}
