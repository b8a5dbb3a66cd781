//! Kernels against the exact rules: when they succeed, the bytes are the same.

use super::*;
use crate::block::PADDING;
use crate::convert::Rules;
use crate::options::Encoding;
use proptest::prelude::*;

const RULES: Rules = Rules { encoding: Encoding::Utf8, truncate: false };

/// What the kernel of the type makes of `text`, between bytes that do not belong to it; `None` if it passes.
///
/// One by one, in groups of four rows and of four columns, and beside others: it must always be the same.
fn kernel(cell: Cell, text: &str, around: &str) -> Option<Vec<u8>> {
    let alone = fill(cell, &[vec![text]], around, ONE).remove(0).remove(0);
    let (rows, wide, mixed) = (vec![vec![text]; 17], vec![vec![text; 17]; 2], vec!["7", text, "7"]);
    for at_once in [ONE, FOUR, EIGHT] {
        for same in [fill(cell, &rows, around, at_once), fill(cell, &wide, around, at_once)] {
            assert!(same.iter().flatten().all(|element| *element == alone), "{cell:?} {text:?}");
        }
        for mixed in [vec![mixed.clone(); 9], vec![mixed.repeat(6)]] {
            let elements = fill(cell, &mixed, around, at_once);
            let mut elements = elements.iter().flatten().skip(1).step_by(3);
            assert!(elements.all(|element| *element == alone), "{cell:?} {text:?}");
        }
    }
    alone
}

/// The elements of the rows of `texts`, `None` where the fallback was asked.
fn fill(cell: Cell, texts: &[Vec<&str>], around: &str, at_once: usize) -> Vec<Vec<Option<Vec<u8>>>> {
    let (mut padded, mut starts, mut ends) = (around.to_owned(), Vec::new(), Vec::new());
    for text in texts.iter().flatten() {
        starts.push(padded.len() as u32);
        padded.push_str(text);
        ends.push(padded.len() as u32);
        padded.push_str(around);
    }
    padded.push_str(&"9".repeat(PADDING));
    let (size, count) = (cell.scalar.size(), texts[0].len());
    let first: Vec<u32> = (0..texts.len()).map(|row| (row * count) as u32).collect();
    let rows = Rows { padded: padded.as_bytes(), starts: &starts, ends: &ends, first: &first };
    let run = Run { column: 0, target: 0, count, cell, offset: 1 };
    let record_size = count * size + 2;
    let mut records = vec![0xaa; texts.len() * record_size];
    let mut asked = vec![vec![false; count]; texts.len()];
    let fallback = |row: usize, column: usize, text: &[u8], place: &mut [u8]| {
        assert_eq!((text, place.len()), (texts[row][column].as_bytes(), size));
        asked[row][column] = true;
        true
    };
    let job = Job { run: &run, rows, record_size, fallback };
    let done = match at_once {
        ONE => job.dispatch::<ONE>(&mut records),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instructions that the function is compiled for.
        FOUR if machine::has_avx2() => unsafe { job.dispatch_avx2(&mut records) },
        _ => run.fill(rows, &mut records, record_size, job.fallback),
    };
    assert_eq!(done, texts.len());
    let row = |(record, asked): (&[u8], Vec<bool>)| {
        assert_eq!((record[0], record[record_size - 1]), (0xaa, 0xaa), "a kernel wrote beyond its field");
        let elements = record[1..].chunks_exact(size).map(<[u8]>::to_vec);
        elements.zip(asked).map(|(element, asked)| (!asked).then_some(element)).collect()
    };
    records.chunks_exact(record_size).zip(asked).map(row).collect()
}

#[test]
fn the_row_of_the_first_refusal_is_told() {
    let cell = Cell { scalar: Scalar::I32, big_endian: false };
    for bad in 0..9 {
        let text: Vec<u8> = (0..9).map(|row| if row == bad { b'x' } else { b'1' }).chain([b' '; PADDING]).collect();
        let (starts, ends): (Vec<u32>, Vec<u32>) = ((0..9).collect(), (1..10).collect());
        let rows = Rows { padded: &text, starts: &starts, ends: &ends, first: &starts };
        let run = Run { column: 0, target: 0, count: 1, cell, offset: 0 };
        assert_eq!(run.fill(rows, &mut [0; 36], 4, |row, _, _, _| row != bad), bad);
        assert_eq!(run.fill(rows, &mut [0; 36], 4, |_, _, _, _| true), 9);
    }
}

fn scalars() -> Vec<Scalar> {
    use Scalar::*;
    let mut all = vec![Bool, I8, I16, I32, I64, U8, U16, U32, U64, F16, F32, F64, C64, C128, TimeDelta];
    all.extend((1..=40).map(Bytes));
    all.extend((1..=5).map(Unicode));
    all
}

fn check(text: &str) {
    for scalar in scalars() {
        for (big_endian, around) in [(false, "\t"), (true, "\n"), (false, "7"), (false, ".")] {
            let cell = Cell { scalar, big_endian };
            let mut exact = vec![0; scalar.size()];
            let outcome = cell.convert(text.as_bytes(), RULES, &mut exact);
            if let Some(fast) = kernel(cell, text, around) {
                assert_eq!((outcome, fast), (Ok(()), exact), "{cell:?} {text:?}");
            }
        }
    }
}

#[test]
fn kernels_know_the_common_spellings() {
    let known = |scalar, text: &str| kernel(Cell { scalar, big_endian: false }, text, "\t").is_some();
    for text in ["0", "-7", "12345678", "-12345678", "123456789", "1234567890123456", "-9999999999999999"] {
        assert!(known(Scalar::I64, text), "{text}");
    }
    for text in ["0", "-7.25", ".5", "5.", "123456.7", "-1234567.8", "1234567.12345678", "1.000000000000000000e+00"] {
        assert!(known(Scalar::F64, text), "{text}");
        assert!(known(Scalar::F32, text), "{text}");
    }
    assert!(
        known(Scalar::Bytes(10), "chr21") && known(Scalar::Bytes(10), "") && known(Scalar::Bytes(30), &"x".repeat(30))
    );
    assert!(known(Scalar::Unicode(5), "chr21"));
}

#[test]
fn kernels_pass_what_needs_the_rules() {
    let passes = |scalar, text: &str| kernel(Cell { scalar, big_endian: false }, text, "1").is_none();
    for text in ["", "-", "+1", "--1", " 1", "1 ", "1.0", "1e3", "/", ":", "1/", "12345678:", "\u{b2}"] {
        assert!(passes(Scalar::I64, text), "{text}");
    }
    for text in ["", "-", ".", "-.", "..", "1.2.3", "1.2345678.", "nan", "-inf", "1 ", "1,5", "9007199254740993"] {
        assert!(passes(Scalar::F64, text), "{text}");
    }
    for text in ["abcd", "a\0b", "\0", "é"] {
        assert!(passes(Scalar::Bytes(3), text), "{text}");
        assert!(passes(Scalar::Unicode(3), text), "{text}");
    }
    assert!(
        passes(Scalar::I8, "128")
            && passes(Scalar::U8, "-1")
            && passes(Scalar::Bytes(40), &format!("{}é", "x".repeat(20)))
    );
}

proptest! {
    #[test]
    fn kernels_agree_with_the_rules_on_numbers(text in "-?[0-9]{0,10}[.]?[0-9]{0,10}(e-?[0-9]{1,3})?") {
        check(&text);
    }

    #[test]
    fn kernels_agree_with_the_rules_on_integers(text in "[+-]?[0-9]{0,21}") {
        check(&text);
    }

    #[test]
    fn kernels_agree_with_the_rules_on_anything(text in "[ -9;A-Zé\0]{0,20}") {
        check(&text);
    }

    #[test]
    fn doubles_survive(value in any::<f64>().prop_filter("finite", |v| v.is_finite()), digits in 0..9usize) {
        check(&value.to_string());
        check(&format!("{value:e}"));
        check(&format!("{:.digits$}", value % 1e6));
    }
}
