//! What the tests of the reader share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Mutex;

use flate2::Compression;
use flate2::write::GzEncoder;
use onecopy_text::{
    Batch, Expected, MemorySink, Options, Progress, ReadError, Scalar, Schema, Sink, Source, Summary, read,
};

/// Reads text from memory; in every way in which a sink can get the records.
pub(crate) fn read_bytes(text: &[u8], schema: &Schema, options: &Options) -> Result<(Summary, Vec<u8>), ReadError> {
    let (given, filled) = (MemorySink::new(), OwnMemory::default());
    let outcome = read(Source::memory("test.txt", text), schema, options, &given, &Progress::new());
    let other = read(Source::memory("test.txt", text), schema, options, &filled, &Progress::new());
    assert_eq!(outcome.as_ref().map_err(ToString::to_string), other.as_ref().map_err(ToString::to_string));
    let (given, filled) = (given.into_bytes(), filled.state.into_inner().unwrap());
    assert!(filled.overlapping.is_none(), "record {:?} came twice", filled.overlapping);
    if outcome.is_ok() {
        assert!(given == filled.bytes, "{} bytes or {}", given.len(), filled.bytes.len());
    }
    outcome.map(|summary| (summary, given))
}

/// A sink that has records made in its own memory, which is not empty: a few at a time, and sometimes not.
#[derive(Default)]
struct OwnMemory {
    state: Mutex<OwnState>,
}

#[derive(Default)]
struct OwnState {
    record_size: usize,
    bytes: Vec<u8>,
    seen: BTreeSet<u64>,
    overlapping: Option<u64>,
}

impl OwnState {
    /// The place of some records, each of which is to come once.
    fn place(&mut self, first: u64, count: usize) -> &mut [u8] {
        for record in first..first + count as u64 {
            if !self.seen.insert(record) {
                self.overlapping = Some(record);
            }
        }
        let start = first as usize * self.record_size;
        let end = start + count * self.record_size;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0xaa);
        }
        &mut self.bytes[start..end]
    }
}

impl Sink for OwnMemory {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        self.state.lock().unwrap().record_size = expected.record_size;
        Ok(())
    }

    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let count = batch.records.len().checked_div(state.record_size).unwrap_or(0);
        state.place(batch.first_record, count).copy_from_slice(batch.records);
        Ok(())
    }

    fn fill(&self, first: u64, most: usize, make: &mut dyn FnMut(&mut [u8]) -> usize) -> io::Result<bool> {
        if first % 11 == 3 {
            return Ok(false);
        }
        let mut state = self.state.lock().unwrap();
        if first % 13 == 4 {
            make(&mut []);
            return Ok(true);
        }
        let room = most.min(1 + first as usize * 5 % 97);
        make(state.place(first, room));
        Ok(true)
    }
}

/// Reads rows of float64.
pub(crate) fn floats(text: &str, options: &Options) -> Result<Vec<Vec<f64>>, ReadError> {
    let (summary, bytes) = read_bytes(text.as_bytes(), &Schema::rows(Scalar::F64), options)?;
    let values: Vec<f64> = bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    Ok(values.chunks(summary.columns.max(1)).map(<[f64]>::to_vec).collect())
}

/// Reads rows of strings of at most 12 characters.
pub(crate) fn strings(text: &str, options: &Options) -> Result<Vec<Vec<String>>, ReadError> {
    let (summary, bytes) = read_bytes(text.as_bytes(), &Schema::rows(Scalar::Unicode(12)), options)?;
    let character = |bytes: &[u8; 4]| char::from_u32(u32::from_le_bytes(*bytes)).filter(|c| *c != '\0');
    let string = |bytes: &[u8]| bytes.as_chunks().0.iter().filter_map(character).collect();
    let values: Vec<String> = bytes.chunks(48).map(string).collect();
    Ok(values.chunks(summary.columns.max(1)).map(<[String]>::to_vec).collect())
}

/// The one-line message of the error that reading rows of `scalar` gives.
pub(crate) fn error(text: &[u8], scalar: Scalar, options: &Options) -> String {
    let message = read_bytes(text, &Schema::rows(scalar), options).expect_err("an error").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

/// Options with an explicit delimiter.
pub(crate) fn delimited(delimiter: &str) -> Options {
    Options { delimiter: Some(delimiter.into()), ..Options::default() }
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::new(6));
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

pub(crate) fn zstd(text: &[u8]) -> Vec<u8> {
    // The streaming encoder does not know the size; with a checksum damage is always seen.
    let mut out = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    out.include_checksum(true).unwrap();
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

pub(crate) fn bzip2(text: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

pub(crate) fn xz(text: &[u8]) -> Vec<u8> {
    liblzma::encode_all(text, 6).unwrap()
}

/// What was there before xz, without a check sum.
pub(crate) fn lzma(text: &[u8]) -> Vec<u8> {
    let options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
    let mut out = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

/// One block of BGZF.
pub(crate) fn bgzf_block(text: &[u8]) -> Vec<u8> {
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Compression::new(6));
    deflate.write_all(text).unwrap();
    let data = deflate.finish().unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(text);
    let mut block = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0".to_vec();
    block.extend_from_slice(&((18 + data.len() + 8 - 1) as u16).to_le_bytes());
    block.extend_from_slice(&data);
    block.extend_from_slice(&crc.sum().to_le_bytes());
    block.extend_from_slice(&(text.len() as u32).to_le_bytes());
    block
}

pub(crate) fn bgzf(text: &[u8], block_size: usize) -> Vec<u8> {
    text.chunks(block_size).chain([&[][..]]).flat_map(bgzf_block).collect()
}
