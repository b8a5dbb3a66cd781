//! Each error says where, what and the way out, and it is always the first in the file.

mod support;

use std::io;

use onecopy_text::{
    Batch, Encoding, Expected, Layout, MemorySink, Options, Progress, ReadError, Scalar, Schema, Sink, Source, Unit,
    read,
};
use support::{bgzf, delimited, error, gzip, read_bytes, zstd};

#[test]
fn messages_name_the_place_the_value_and_the_way_out() {
    let spaces = Options::default();
    let cases = [
        (
            error(b"1 2\n3 abc\n", Scalar::F64, &spaces),
            "test.txt:2:3: could not convert string 'abc' to float64 at row 1, column 2; correct it, choose another dtype, or list \
             it as a missing value",
        ),
        (
            error(b"1\n300\n", Scalar::U8, &spaces),
            "test.txt:2:1: could not convert string '300' to uint8 at row 1, column 1: it does not fit (0 to 255); choose a \
             wider dtype",
        ),
        (
            error(b"1 2\n\n3\n", Scalar::F64, &spaces),
            "test.txt:3:2: the number of columns changed from 2 to 1 at row 2; correct the line, or choose columns with usecols \
             or another delimiter",
        ),
        (
            error(b"1 2\r\n3 4 5 6\r\n", Scalar::F64, &spaces),
            "test.txt:2:5: the number of columns changed from 2 to 4 at row 2; correct the line, or choose columns with usecols \
             or another delimiter",
        ),
        (
            error(b"chromosome1", Scalar::Bytes(4), &spaces),
            "test.txt:1:1: could not convert string 'chromosome1' to S4 at row 0, column 1: it has 11 characters and 4 fit; \
             choose a wider dtype or set truncate=True",
        ),
        (
            error(b"ab \xff\xfe", Scalar::Bytes(4), &delimited(" ")),
            "test.txt:1:4: could not convert string '\\xff\\xfe' to S4 at row 0, column 2: it is not UTF-8; set \
             encoding='latin-1' if the file is",
        ),
        (
            error("€".as_bytes(), Scalar::Bytes(4), &spaces),
            "test.txt:1:1: could not convert string '€' to S4 at row 0, column 1: one byte cannot hold '€'; choose a U dtype",
        ),
        (
            error(b"1 2\0", Scalar::I32, &spaces),
            "test.txt:1:3: could not convert string '2\\0' to int32 at row 0, column 2: it contains a NUL byte; the file is \
             binary, damaged, or in UTF-16",
        ),
        (
            error(b"2012-02-30", Scalar::DateTime(Unit::Day, 1), &spaces),
            "test.txt:1:1: could not convert string '2012-02-30' to datetime64[D] at row 0, column 1; correct it, choose another \
             dtype, or list it as a missing value",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(message, expected);
    }
}

#[test]
fn structured_errors_carry_their_parts() {
    let schema = Schema::from(Layout::packed([("chr", Scalar::Bytes(5)), ("pos", Scalar::I32)]));
    let failure = read_bytes(b"chr1 1\nchr2 99999999999\n", &schema, &Options::default()).unwrap_err();
    let at = failure.location().unwrap();
    assert_eq!((at.file.as_str(), at.line, at.column), ("test.txt", 2, 6));
    let ReadError::Field(field) = failure else { panic!("{failure}") };
    assert_eq!((field.field.to_string().as_str(), field.text.as_str()), ("field 'pos'", "99999999999"));
    assert_eq!(field.expected, Scalar::I32);

    let failure = read_bytes(b"chr1 1 2\n", &schema, &Options::default()).unwrap_err();
    assert!(matches!(failure, ReadError::ColumnsOfDType { expected: 2, found: 3, .. }), "{failure}");
    let failure = read_bytes(b"chr1\n", &schema, &Options::default()).unwrap_err();
    assert!(matches!(failure, ReadError::ColumnsOfDType { expected: 2, found: 1, .. }), "{failure}");
}

#[test]
fn first_error_wins_whatever_thread_finds_one() {
    let good = "1 2\n".repeat(300);
    let text = format!("{good}1 x\n{good}1\n{good}y 2\n# c\n1 2 3\n{good}");
    for block_size in [1, 3, 16, 100, 1000, 1 << 20] {
        for threads in [1, 2, 4] {
            let options = Options { block_size, threads, ..Options::default() };
            let message = error(text.as_bytes(), Scalar::U8, &options);
            assert!(
                message.starts_with("test.txt:301:3: could not convert string 'x' to uint8 at row 300, column 2"),
                "{message}"
            );
        }
    }
}

#[test]
fn first_error_of_a_line_and_of_neighbours() {
    let schema = Schema::from(Layout::packed([("a", Scalar::I8), ("b", Scalar::F32), ("c", Scalar::I8)]));
    let failure = read_bytes(b"1 2 3\n4 5 x\n6 y 8\nz 1 2\n", &schema, &Options::default()).unwrap_err();
    assert!(
        failure
            .to_string()
            .starts_with("test.txt:2:5: could not convert string 'x' to int8 at row 1, column 3 (field 'c')"),
        "{failure}"
    );
    let failure = read_bytes(b"1 2 3\n4 x y\n", &schema, &Options::default()).unwrap_err();
    assert!(
        failure
            .to_string()
            .starts_with("test.txt:2:3: could not convert string 'x' to float32 at row 1, column 2 (field 'b')"),
        "{failure}"
    );
}

#[test]
fn places_in_quoted_lines_are_physical() {
    let csv = Options { quote: Some(b'"'), ..delimited(",") };
    let message = error(b"\"1\n\",2\n\"3\n\n\",x\n", Scalar::I8, &csv);
    assert!(message.starts_with("test.txt:5:3: could not convert string 'x' to int8 at row 1, column 2"), "{message}");
    let message = error(b"\"1\n\",2\n\"3\",4,\"5\"\n", Scalar::I8, &csv);
    assert!(message.starts_with("test.txt:3:7: the number of columns changed from 2 to 3 at row 2"), "{message}");
}

#[test]
fn skipped_header_and_comment_lines_count() {
    let options = Options { skip_rows: 2, header: true, ..Options::default() };
    let message = error(b"s\r\n\"\r#c\r\na b\n\n1 2\n#\n3 q", Scalar::F32, &options);
    assert!(
        message.starts_with("test.txt:8:3: could not convert string 'q' to float32 at row 1, column 2 (field 'b')"),
        "{message}"
    );
}

#[test]
fn options_that_do_not_fit_are_refused_before_reading() {
    let schema = Schema::from(Layout::packed([("a", Scalar::I8)]));
    let columns = Some(vec![onecopy_text::Column::Index(0), onecopy_text::Column::Index(1)]);
    let failure = read_bytes(b"1 2", &schema, &Options { use_columns: columns, ..Options::default() }).unwrap_err();
    assert_eq!(failure.to_string(), "usecols names 2 columns and the dtype has 1; give as many as the dtype has");
    assert!(error(b"1", Scalar::Bytes(0), &Options::default()).contains("S0"));
    assert!(error(b"1", Scalar::I8, &Options { block_size: 0, ..Options::default() }).contains("block_size"));
}

#[test]
fn truncation_is_allowed_when_asked_for() {
    let truncate = Options { truncate: true, ..Options::default() };
    assert_eq!(read_bytes(b"abcdef\nxy", &Schema::rows(Scalar::Bytes(3)), &truncate).unwrap().1, b"abcxy\0");
    let latin1 = Options { encoding: Encoding::Latin1, ..truncate };
    assert_eq!(read_bytes(b"ab\xe9\xff", &Schema::rows(Scalar::Bytes(3)), &latin1).unwrap().1, b"ab\xe9");
}

#[test]
fn all_records_before_an_error_are_written() {
    let good = "12 34\n".repeat(900);
    for block_size in [50, 1000, 1 << 20] {
        let text = format!("{good}1 x\n{good}");
        let options = Options { block_size, threads: 3, ..Options::default() };
        let sink = MemorySink::new();
        let source = Source::memory("test.txt", text.as_bytes());
        read(source, &Schema::rows(Scalar::U8), &options, &sink, &Progress::new()).unwrap_err();
        assert_eq!(sink.into_bytes()[..1800], [12, 34].repeat(900));
    }
}

/// Takes all records and keeps none.
struct Nowhere;

impl Sink for Nowhere {
    fn begin(&self, _: &Expected) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: &Batch<'_>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn row_100_000_000_names_its_line_in_every_compression() {
    const PARTS: usize = 2000;
    let rows = "1\n".repeat(50_000);
    for (name, part, tail) in [
        ("plain", rows.clone().into_bytes(), b"x\n1\n".to_vec()),
        ("gzip", gzip(rows.as_bytes()), gzip(b"x\n1\n")),
        ("BGZF", bgzf(rows.as_bytes(), 50_000), bgzf(b"x\n1\n", 100)),
        ("zstd", zstd(rows.as_bytes()), zstd(b"x\n1\n")),
    ] {
        let bytes = [part.repeat(PARTS), tail].concat();
        let options = Options { threads: 2, ..Options::default() };
        let source = Source::memory("test.txt", &bytes);
        let error = read(source, &Schema::rows(Scalar::I8), &options, &Nowhere, &Progress::new()).unwrap_err();
        let told = "test.txt:100000001:1: could not convert string 'x' to int8 at row 100000000, column 1";
        assert!(error.to_string().starts_with(told), "{name}: {error}");
    }
}
