//! Any bytes in any dialect are read or refused; and the same whatever the size of the blocks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onecopy_text::{MemorySink, Missing, Options, Progress, Sample, Scalar, Schema, Source, Unit, read};

const SCALARS: [Scalar; 12] = [
    Scalar::Bool,
    Scalar::I8,
    Scalar::I32,
    Scalar::U64,
    Scalar::F16,
    Scalar::F32,
    Scalar::F64,
    Scalar::C128,
    Scalar::Bytes(10),
    Scalar::Unicode(3),
    Scalar::DateTime(Unit::Millisecond, 1),
    Scalar::TimeDelta,
];

fn options(bits: u8, more: u8) -> Options {
    let missing = Missing { text: "NA".into(), fill: "7".into(), field: None };
    Options {
        delimiter: [None, Some(b"\t".to_vec()), Some(b",".to_vec()), Some(b"::".to_vec())][usize::from(bits & 3)]
            .clone(),
        quote: (bits & 4 != 0).then_some(b'"'),
        comments: if bits & 8 != 0 { vec![b"//".to_vec(), b"#".to_vec()] } else { vec![] },
        header: bits & 16 != 0,
        missing: if bits & 32 != 0 { vec![missing] } else { vec![] },
        truncate: bits & 64 != 0,
        skip_rows: u64::from(bits >> 7),
        max_rows: (more & 1 != 0).then_some(u64::from(more >> 5)),
        threads: 2,
        ..Options::default()
    }
}

fuzz_target!(|input: (u8, u8, u8, &[u8])| {
    let (scalar, bits, more, text) = input;
    let schema = Schema::rows(SCALARS[usize::from(scalar) % SCALARS.len()]);
    let outcomes = [1 << 20, usize::from(more) + 1].map(|block_size| {
        let sink = MemorySink::new();
        let options = Options { block_size, ..options(bits, more) };
        let outcome = read(Source::memory("fuzz", text), &schema, &options, &sink, &Progress::new());
        outcome.map(|_| sink.into_bytes()).map_err(|error| error.to_string())
    });
    assert_eq!(outcomes[0], outcomes[1]);
    if let Ok(sample) = Sample::read(Source::memory("fuzz", text)) {
        let guess = sample.guess_dialect(&Options::default());
        let _ = sample.guess_layout(&guess);
    }
});
