//! Every form of compression gives the same records, and whatever is missing or damaged is named.

mod support;

use std::io::{self, Read, Write};

use proptest::prelude::*;

use onecopy_text::{MemorySink, Options, Progress, ReadError, Scalar, Schema, Source, read};
use support::{bgzf, bgzf_block, bzip2, gzip, lzma, read_bytes, xz, zstd};

const ROWS: usize = 300;

fn text() -> Vec<u8> {
    let mut text = Vec::new();
    for i in 0..ROWS {
        writeln!(text, "{i} {} {}", i * i, (i * 7919) % 1000).unwrap();
    }
    text
}

fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let text = text();
    let (head, tail) = text.split_at(1234);
    vec![
        ("gzip", gzip(&text)),
        ("gzip of two members", [gzip(head), gzip(tail)].concat()),
        ("gzip of an empty and a full member, padded", [gzip(b""), gzip(&text), vec![0; 700]].concat()),
        ("bgzf of small blocks", bgzf(&text, 100)),
        ("bgzf of one block", bgzf(&text, 60_000)),
        ("zstd", zstd(&text)),
        ("bgzf and gzip", [bgzf(head, 100), gzip(tail)].concat()),
        ("bgzf between gzip", [gzip(b""), bgzf(head, 5000), gzip(tail)].concat()),
        ("bgzf and a short gzip", [bgzf(&text[..text.len() - 4], 900), gzip(&text[text.len() - 4..])].concat()),
        ("bgzf, padded", [bgzf(&text, 1000), vec![0; 700]].concat()),
        ("zstd of two frames", [zstd(head), zstd(tail)].concat()),
        ("bzip2", bzip2(&text)),
        ("bzip2 of two streams", [bzip2(head), bzip2(tail)].concat()),
        ("xz", xz(&text)),
        ("xz of two streams", [xz(head), xz(tail)].concat()),
        ("lzma", lzma(&text)),
    ]
}

fn read_i32(bytes: &[u8], block_size: usize, threads: usize) -> Result<Vec<u8>, ReadError> {
    let options = Options { block_size, threads, ..Options::default() };
    read_bytes(bytes, &Schema::rows(Scalar::I32), &options).map(|(_, records)| records)
}

#[test]
fn all_forms_give_the_same_records() {
    let expected = read_i32(&text(), 1 << 20, 1).unwrap();
    assert_eq!(expected.len(), ROWS * 12);
    for (name, bytes) in forms() {
        for block_size in [1, 7, 64, 1000, 1 << 20] {
            for threads in [1, 2, 3] {
                assert_eq!(read_i32(&bytes, block_size, threads).unwrap(), expected, "{name}, block size {block_size}");
            }
        }
    }
}

#[test]
fn both_sizes_are_summed_up() {
    for (name, bytes) in forms() {
        let options = Options { block_size: 300, threads: 2, ..Options::default() };
        let (summary, _) = read_bytes(&bytes, &Schema::rows(Scalar::I32), &options).unwrap();
        assert_eq!((summary.bytes_in, summary.bytes_text), (bytes.len() as u64, text().len() as u64), "{name}");
    }
}

#[test]
fn streams_give_the_same_records() {
    /// Gives one byte at a time.
    struct Drip<'a>(&'a [u8]);
    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let length = out.len().min(1);
            self.0.read(&mut out[..length])
        }
    }
    let expected = read_i32(&text(), 1 << 20, 1).unwrap();
    for (name, bytes) in forms().into_iter().chain([("plain", text())]) {
        let (sink, progress) = (MemorySink::new(), Progress::new());
        let source = Source::stream(name, Drip(&bytes));
        read(source, &Schema::rows(Scalar::I32), &Options::default(), &sink, &progress).unwrap();
        assert_eq!(sink.into_bytes(), expected, "{name}");
        assert_eq!((progress.bytes_read(), progress.bytes_total()), (bytes.len() as u64, 0), "{name}");
    }
}

#[test]
fn truncation_at_any_byte_is_an_error_or_harmless() {
    let expected = read_i32(&text(), 1 << 20, 1).unwrap();
    for (name, bytes) in forms() {
        // Nothing can tell that a second member or frame was there, nor that padding was.
        let whole: Vec<usize> = match name {
            "gzip of two members" => vec![gzip(&text()[..1234]).len()],
            "gzip of an empty and a full member, padded" => {
                (bytes.len() - 700..bytes.len()).chain([gzip(b"").len()]).collect()
            }
            "bgzf and gzip" => vec![bgzf(&text()[..1234], 100).len()],
            "bgzf between gzip" => {
                let (empty, marker) = (gzip(b"").len(), bgzf(b"", 1).len());
                let end = empty + bgzf(&text()[..1234], 5000).len();
                vec![empty, end - marker, end]
            }
            "bgzf and a short gzip" => vec![bgzf(&text()[..text().len() - 4], 900).len()],
            "bgzf, padded" => (bytes.len() - 700..bytes.len()).collect(),
            "zstd of two frames" => vec![zstd(&text()[..1234]).len()],
            "bzip2 of two streams" => vec![bzip2(&text()[..1234]).len()],
            "xz of two streams" => vec![xz(&text()[..1234]).len()],
            _ => vec![],
        };
        for length in 0..bytes.len() {
            let outcome = read_i32(&bytes[..length], 200, 2);
            if let Ok(records) = &outcome {
                // Of less than a header nobody can say what it was.
                assert!(expected.starts_with(records) && (length < 4 || whole.contains(&length)), "{name} at {length}");
            } else if length >= 18 && !whole.contains(&length) {
                let truncated = matches!(outcome, Err(ReadError::Truncated { .. }));
                assert!(truncated, "{name} at {length}: {outcome:?}");
            }
        }
    }
}

#[test]
fn damage_at_any_byte_is_an_error_or_harmless() {
    let expected = read_i32(&text(), 1 << 20, 1).unwrap();
    for (name, bytes) in forms() {
        for at in (0..bytes.len()).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            // Some bytes of a header carry nothing, and some errors show as text that is no number.
            if let Ok(records) = read_i32(&damaged, 500, 2) {
                assert!(records == expected || name.contains("padded") || name == "lzma", "{name} at {at}");
            }
        }
    }
}

#[test]
fn damage_is_named_with_its_place() {
    let mut bytes = bgzf(&text(), 1000);
    let second = bgzf_block(&text()[..1000]).len();
    bytes[second + 30] ^= 1;
    let message = read_i32(&bytes, 500, 2).unwrap_err().to_string();
    assert!(message.starts_with(&format!("test.txt: corrupt BGZF data at byte {second}: ")), "{message}");
    assert!(message.ends_with("; copy or download it again"), "{message}");

    for (size, reason) in [(1001_u32, "a block is shorter than it says"), (u32::MAX, "a block of more than 64 KiB")] {
        let mut bytes = bgzf(&text(), 1000);
        bytes[second - 4..second].copy_from_slice(&size.to_le_bytes());
        let message = read_i32(&bytes, 500, 2).unwrap_err().to_string();
        assert!(message.starts_with(&format!("test.txt: corrupt BGZF data at byte 0: {reason}")), "{message}");
    }

    let mut bytes = gzip(&text());
    let length = bytes.len();
    bytes[length - 6] ^= 1;
    let message = read_i32(&bytes, 500, 2).unwrap_err().to_string();
    assert!(message.starts_with("test.txt: corrupt gzip data at byte "), "{message}");

    let message = read_i32(&bytes[..length - 3], 500, 2).unwrap_err().to_string();
    assert!(message.starts_with("test.txt: truncated gzip data: it ends at byte "), "{message}");

    let no_marker = text().chunks(1000).flat_map(bgzf_block).collect::<Vec<u8>>();
    let message = read_i32(&no_marker, 500, 2).unwrap_err().to_string();
    assert!(message.starts_with("test.txt: truncated BGZF data: "), "{message}");

    let garbage = [gzip(&text()), b"garbage".to_vec()].concat();
    let message = read_i32(&garbage, 500, 2).unwrap_err().to_string();
    assert!(message.ends_with("something else follows the compressed data; copy or download it again"), "{message}");
}

#[test]
fn an_error_in_the_text_before_the_damage_wins() {
    let text = [b"x 1\n", &text().repeat(200)[..]].concat();
    for bytes in [gzip(&text), bgzf(&text, 1000), zstd(&text)] {
        let message = read_i32(&bytes[..bytes.len() - 40], 1 << 20, 2).unwrap_err().to_string();
        assert!(message.starts_with("test.txt:1:1: could not convert string 'x' to int32"), "{message}");
    }
}

#[test]
fn rows_before_the_damage_are_enough_when_no_more_are_wanted() {
    let text = text().repeat(50);
    for bytes in [gzip(&text), bgzf(&text, 100), zstd(&text)] {
        let options = Options { max_rows: Some(3), block_size: 50, ..Options::default() };
        let cut = &bytes[..bytes.len() - 10];
        let (summary, _) = read_bytes(cut, &Schema::rows(Scalar::I32), &options).unwrap();
        assert_eq!(summary.records, 3);
    }
}

/// Lines of numbers, notes and quotes, some of which are wrong.
fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        8 => (0..99_i32, 0..9999_i32).prop_map(|(a, b)| format!("{a},{b}")),
        1 => Just("# \"note".to_owned()),
        1 => Just(String::new()),
        1 => Just("7,\"12\"".to_owned()),
        1 => prop_oneof![20 => Just("1,2 # tail"), 1 => Just("1,x"), 1 => Just("1,2,3")].prop_map(str::to_owned),
    ];
    let end = prop_oneof![6 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r")];
    prop::collection::vec((line, end), 0..80)
        .prop_map(|lines| lines.into_iter().flat_map(|(line, end)| [line, end.into()]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn members_of_any_kind_and_size_are_the_plain_text(
        text in lines(),
        cuts in prop::collection::vec(0..700_usize, 0..6),
        kinds in prop::collection::vec(0..3_usize, 7),
        other in 0..3_usize,
        block_size in 1..200_usize,
        threads in 1..4_usize,
    ) {
        let text = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let parts = || cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
        let members = parts().zip(&kinds).map(|(part, kind)| match kind {
            0 => gzip(part),
            1 => bgzf(part, 37),
            _ => part.chunks(53).flat_map(bgzf_block).collect(),
        });
        // A file of blocks ends with its marker.
        let members: Vec<u8> = members.chain([bgzf(b"", 1)]).flatten().collect();
        let others: Vec<u8> = parts().flat_map([zstd, bzip2, xz][other]).collect();
        let outcome = |bytes: &[u8], block_size, threads| {
            let delimiter = Some(b",".to_vec());
            let options = Options { block_size, threads, delimiter, quote: Some(b'"'), ..Options::default() };
            let read = read_bytes(bytes, &Schema::rows(Scalar::I32), &options);
            read.map(|(summary, bytes)| (summary.records, bytes)).map_err(|error| error.to_string())
        };
        let plain = outcome(text, 1 << 20, 1);
        prop_assert_eq!(&outcome(text, block_size, threads), &plain);
        prop_assert_eq!(&outcome(&members, block_size, threads), &plain);
        prop_assert_eq!(&outcome(&others, block_size, threads), &plain);
    }
}
