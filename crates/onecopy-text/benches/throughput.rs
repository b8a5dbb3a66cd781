//! MB/s of text into records in memory, from files in the page cache, with 1 and 2 threads, and the share of the speed at
//! which one core counts lines. Medians of rounds in which all take turns.
//!
//! `cargo bench -p onecopy-text [-- NAME]`; a name selects the cases that contain it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use onecopy_text::{Batch, Expected, Layout, Options, Progress, Scalar, Schema, Sink, Source, read};

const ROUNDS: usize = 7;

/// Memory that was written before, as recycled shared memory is.
struct WarmMemory {
    bytes: *mut u8,
    size: usize,
    record_size: OnceLock<usize>,
}

// SAFETY: the only access through the pointer is in `write`, to ranges that the reader keeps disjoint.
unsafe impl Sync for WarmMemory {}

impl WarmMemory {
    fn new(memory: &mut [u8]) -> Self {
        Self { bytes: memory.as_mut_ptr(), size: memory.len(), record_size: OnceLock::new() }
    }
}

impl Sink for WarmMemory {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        self.record_size.set(expected.record_size).map_err(|_| io::Error::other("begun twice"))
    }

    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        let size = self.record_size.get().ok_or(io::ErrorKind::InvalidInput)?;
        let (records, offset) = (batch.records, batch.first_record as usize * size);
        if offset + records.len() > self.size {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // SAFETY: the range lies within the memory, which outlives the sink, and no other write touches it.
        unsafe { std::ptr::copy_nonoverlapping(records.as_ptr(), self.bytes.add(offset), records.len()) };
        Ok(())
    }
}

/// Repeatable numbers, good enough for digits.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn methylation(out: &mut dyn Write, rows: u64) -> io::Result<()> {
    let (mut random, mut position) = (Random(1), 10_000);
    for row in 0..rows {
        position += 2 + random.below(598);
        let (c, t) = (random.below(40), random.below(40));
        let percent = 100.0 * c as f64 / (c + t).max(1) as f64;
        writeln!(out, "chr{}\t{position}\t{percent:.4}\t{c}\t{t}", 1 + row * 22 / rows)?;
    }
    Ok(())
}

fn grid(out: &mut dyn Write, rows: u64, columns: u64) -> io::Result<()> {
    let mut random = Random(2);
    for _ in 0..rows {
        for column in 0..columns {
            let value = (random.below(800_000) as f64 - 300_000.0) / 10_000.0;
            write!(out, "{value:.4}{}", if column + 1 == columns { '\n' } else { ' ' })?;
        }
    }
    Ok(())
}

fn exponents(out: &mut dyn Write, rows: u64) -> io::Result<()> {
    let mut random = Random(3);
    for _ in 0..rows {
        let mut value = || (random.below(1 << 31) as f64 - 1e9) / 12_345.678;
        writeln!(out, "{:.18e} {:.18e} {:.18e}", value(), value(), value())?;
    }
    Ok(())
}

fn make(directory: &Path, name: &str, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<PathBuf> {
    let path = directory.join(name);
    let mut out = BufWriter::new(File::create(&path)?);
    fill(&mut out)?;
    out.flush()?;
    Ok(path)
}

fn compress(path: &Path, name: &str, with: impl FnOnce(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<PathBuf> {
    let compressed = path.with_file_name(name);
    std::fs::write(&compressed, with(&std::fs::read(path)?)?)?;
    Ok(compressed)
}

fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    out.write_all(text)?;
    out.finish()
}

fn bgzf(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    for text in text.chunks(65_280).chain([&[][..]]) {
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
        deflate.write_all(text)?;
        let data = deflate.finish()?;
        let mut crc = flate2::Crc::new();
        crc.update(text);
        out.extend_from_slice(b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0");
        out.extend_from_slice(&(data.len() as u16 + 25).to_le_bytes());
        out.extend_from_slice(&data);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    }
    Ok(out)
}

fn main() -> io::Result<()> {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let directory = tempfile::tempdir()?;
    let mut memory = vec![1; 320 << 20];
    let tabs = Options { delimiter: Some(b"\t".to_vec()), ..Options::default() };
    let record: Schema = Layout::packed([
        ("chr", Scalar::Bytes(10)),
        ("pos", Scalar::I32),
        ("pct", Scalar::F32),
        ("c", Scalar::I32),
        ("t", Scalar::I32),
    ])
    .into();
    let calls = make(directory.path(), "calls.tsv", |out| methylation(out, 5_000_000))?;
    let mut run = |name: &str, path: &Path, plain: &Path, schema: &Schema, options: &Options| {
        if name.contains(&filter) {
            let text = std::fs::read(plain).expect("the file was just made");
            report(name, path, &text, schema, options, &mut memory);
        }
    };
    run("methylation, tabs", &calls, &calls, &record, &tabs);
    run("methylation, white space", &calls, &calls, &record, &Options::default());
    if "gzip".contains(&filter) {
        let compressed = compress(&calls, "calls.tsv.gz", gzip)?;
        run("methylation, gzip", &compressed, &calls, &record, &tabs);
    }
    if "bgzf".contains(&filter) {
        let compressed = compress(&calls, "calls.tsv.bgz", bgzf)?;
        run("methylation, bgzf", &compressed, &calls, &record, &tabs);
    }
    if "zstd".contains(&filter) {
        let compressed = compress(&calls, "calls.tsv.zst", |text| zstd::bulk::compress(text, 3))?;
        run("methylation, zstd", &compressed, &calls, &record, &tabs);
    }
    let path = make(directory.path(), "grid.txt", |out| grid(out, 13_000, 1000))?;
    run("grid of 1,000 columns, float32", &path, &path, &Schema::rows(Scalar::F32), &Options::default());
    run("grid of 1,000 columns, float64", &path, &path, &Schema::rows(Scalar::F64), &Options::default());
    let path = make(directory.path(), "savetxt.txt", |out| exponents(out, 1_000_000))?;
    run("as numpy.savetxt writes, float64", &path, &path, &Schema::rows(Scalar::F64), &Options::default());
    Ok(())
}

/// What the machine does at the moment: lines counted by memchr in text that is in memory, on one core.
fn limit(text: &[u8]) -> f64 {
    let start = Instant::now();
    assert!(std::hint::black_box(memchr::memchr_iter(b'\n', std::hint::black_box(text)).count()) > 0);
    text.len() as f64 / start.elapsed().as_secs_f64()
}

fn rate(path: &Path, schema: &Schema, options: &Options, memory: &mut [u8]) -> f64 {
    let sink = WarmMemory::new(memory);
    let start = Instant::now();
    let summary = read(Source::path(path), schema, options, &sink, &Progress::new()).expect("the file is right");
    summary.bytes_text as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(name: &str, path: &Path, text: &[u8], schema: &Schema, options: &Options, memory: &mut [u8]) {
    let mut rounds: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        rounds[0].push(limit(text));
        for threads in [1, 2] {
            rounds[threads].push(rate(path, schema, &Options { threads, ..options.clone() }, memory));
        }
    }
    let [limit, one, two] = rounds.map(median);
    println!(
        "{name:34}  1 thread: {:6.0} MB/s, {:4.1} % of {:5.0} MB/s by memchr; 2 threads: {:6.0} MB/s, {:4.2} x",
        one / 1e6,
        100.0 * one / limit,
        limit / 1e6,
        two / 1e6,
        two / one
    );
}
