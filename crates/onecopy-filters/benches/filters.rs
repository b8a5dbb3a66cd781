//! MB/s of arrays of each step for records such as methylation calls (26 bytes: S10, i4, f4, i4, i4).
//!
//! `cargo bench -p onecopy-filters`; the best of several runs, on the threads named in each line.

use std::hint::black_box;
use std::time::Instant;

use onecopy_filters::{Codec, Encoder, Error, Grid, Pipeline, Source, StoredChunk, Target, compress, decompress};
use onecopy_filters::{shuffle, unshuffle};

const RECORD: usize = 26;
const ROWS: usize = 2_000_000;
const CHUNK_ROWS: usize = 40_329;

fn main() {
    let records = records();
    let chunk = &records[..CHUNK_ROWS * RECORD];
    let mut out = vec![0; chunk.len()];
    report("shuffle", 1, chunk.len(), || shuffle(black_box(chunk), RECORD, &mut out));
    report("unshuffle", 1, chunk.len(), || unshuffle(black_box(chunk), RECORD, &mut out));
    let deflate = (1..=6).map(|level| Codec::Deflate { level });
    for codec in deflate.chain([1, 3, 5].map(|level| Codec::Zstd { level })).chain([Codec::Lzf, Codec::Plain]) {
        let pipeline = Pipeline { shuffle: Some(RECORD), codec, fletcher32: codec == Codec::Plain };
        let mut encoder = Encoder::new(pipeline);
        report(&format!("encode one chunk, {codec:?}"), 1, chunk.len(), || drop(black_box(encoder.encode(chunk))));
    }
    for codec in [Codec::Deflate { level: 4 }, Codec::Zstd { level: 3 }, Codec::Lzf, Codec::Plain] {
        for threads in [1, 2] {
            whole_array(
                &records,
                Pipeline { shuffle: Some(RECORD), codec, fletcher32: codec == Codec::Plain },
                threads,
            );
        }
    }
}

fn whole_array(records: &[u8], pipeline: Pipeline, threads: usize) {
    let grid = Grid::new(&[ROWS], &[CHUNK_ROWS], RECORD).expect("a valid grid");
    let mut stored = Vec::new();
    report(&format!("compress, {:?}", pipeline.codec), threads, records.len(), || {
        stored.clear();
        // SAFETY: `records` outlives the call.
        let source = unsafe { Source::new(records.as_ptr(), records.len()) };
        compress::<Error>(source, &grid, &pipeline, threads, |cell, chunk| {
            stored.push(StoredChunk { cell, bytes: chunk.bytes, filter_mask: chunk.filter_mask });
            Ok(())
        })
        .expect("sizes agree");
    });
    let size: usize = stored.iter().map(|chunk| chunk.bytes.len()).sum();
    println!("{:>60.1} % of the size", 100.0 * size as f64 / records.len() as f64);
    let mut back = vec![0; records.len()];
    report(&format!("decompress, {:?}", pipeline.codec), threads, records.len(), || {
        // SAFETY: `back` outlives the call and is used by it alone.
        let mut target = unsafe { Target::new(back.as_mut_ptr(), back.len()) };
        let chunks = stored.iter().map(|chunk| {
            Ok::<_, Error>(StoredChunk { cell: chunk.cell, bytes: &chunk.bytes, filter_mask: chunk.filter_mask })
        });
        decompress(&mut target, &grid, &pipeline, threads, chunks).expect("whole chunks");
    });
    assert!(back == records, "the records come back");
}

fn report(name: &str, threads: usize, bytes: usize, mut run: impl FnMut()) {
    let seconds = (0..7).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    let best = seconds.fold(f64::MAX, f64::min);
    println!("{name:40} {threads} threads {:8.0} MB/s", bytes as f64 / best / 1e6);
}

fn records() -> Vec<u8> {
    let mut state = 1u64;
    let mut random = |below: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) as u32) % below
    };
    let mut position = 10_000;
    let mut bytes = Vec::with_capacity(ROWS * RECORD);
    for row in 0..ROWS {
        position += 1 + random(500);
        let (covered, methylated) = (1 + random(60), random(60));
        bytes.extend(if row < ROWS / 2 { b"chr1\0\0\0\0\0\0" } else { b"chr10\0\0\0\0\0" });
        bytes.extend(position.to_le_bytes());
        bytes.extend((100.0 * methylated as f32 / (covered + methylated) as f32).to_le_bytes());
        bytes.extend(methylated.to_le_bytes());
        bytes.extend(covered.to_le_bytes());
    }
    bytes
}
