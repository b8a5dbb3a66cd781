//! What happens to the bytes of one chunk: shuffle, then a codec, then a check sum.

use libdeflater::Decompressor;
use zstd::bulk;

use crate::buffer::{copied, resize};
use crate::deflate::{Plan, Zlib};
use crate::error::Error;
use crate::fletcher32::{self, fletcher32};
use crate::lzf::{self, Lzf};
use crate::shuffle::{shuffle, unshuffle};

/// How the bytes are made fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// A zlib stream: HDF5's filter 1, `gzip` in h5py.
    Deflate {
        /// 0 (none) to 9 (smallest), as in zlib.
        level: u8,
    },
    /// LZF: h5py's filter 32000.
    Lzf,
    /// Zstandard: the registered filter 32015.
    Zstd {
        /// 1 (fastest) to 22 (smallest).
        level: u8,
    },
    /// No filter.
    Plain,
}

/// The filters of a dataset, in the order in which they are applied to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pipeline {
    /// Bytes per element when chunks are shuffled first.
    pub shuffle: Option<usize>,
    /// What compresses the chunk.
    pub codec: Codec,
    /// Whether a check sum follows.
    pub fletcher32: bool,
}

impl Pipeline {
    /// The bit of HDF5's filter mask that says that the shuffle was skipped.
    fn shuffle_bit(&self) -> u32 {
        u32::from(self.shuffle.is_some())
    }

    /// The bit of HDF5's filter mask that says that the codec was skipped.
    fn codec_bit(&self) -> u32 {
        u32::from(self.codec != Codec::Plain) << self.shuffle_bit()
    }

    /// The bit of HDF5's filter mask that says that the check sum was skipped.
    fn fletcher32_bit(&self) -> u32 {
        u32::from(self.fletcher32) << (self.shuffle_bit() + u32::from(self.codec != Codec::Plain))
    }
}

/// A chunk as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes to store.
    pub bytes: Vec<u8>,
    /// HDF5's filter mask: bit `i` says that filter `i` was skipped, which happens when it would not shorten the chunk.
    pub filter_mask: u32,
}

/// What zstd says when the result is longer than the chunk; otherwise it fails only for lack of memory.
const ZSTD_LONGER: &str = "Destination buffer is too small";

/// Applies a [`Pipeline`] to chunk after chunk. One per thread.
#[expect(missing_debug_implementations, reason = "the compressor has none")]
pub struct Encoder {
    pipeline: Pipeline,
    compress: Compress,
    planes: Vec<u8>,
    output: Vec<u8>,
}

enum Compress {
    Deflate(Box<Zlib>),
    Lzf(Lzf),
    Zstd(bulk::Compressor<'static>),
    Plain,
}

impl Encoder {
    /// An encoder with its own working memory.
    ///
    /// # Panics
    /// When the deflate level exceeds 9 or the zstd level is not in 1 to 22.
    pub fn new(pipeline: Pipeline) -> Self {
        let compress = match pipeline.codec {
            Codec::Deflate { level } => Compress::Deflate(Box::new(Zlib::new(level))),
            Codec::Lzf => Compress::Lzf(Lzf::new()),
            Codec::Zstd { level } => {
                assert!((1..=22).contains(&level), "zstd level {level} is not in 1..=22");
                Compress::Zstd(bulk::Compressor::new(level.into()).expect("zstd has the levels 1 to 22"))
            }
            Codec::Plain => Compress::Plain,
        };
        Self { pipeline, compress, planes: Vec::new(), output: Vec::new() }
    }

    /// Encodes one chunk, of which nothing is known.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when there is none for buffers as large as the chunk.
    pub fn encode(&mut self, chunk: &[u8]) -> Result<Encoded, Error> {
        self.encode_by(&Plan::Whole, chunk)
    }

    /// Finds out how chunks like this one are encoded best, which takes several times as long as to encode it.
    pub(crate) fn plan(&mut self, chunk: &[u8]) -> Result<Plan, Error> {
        let (Compress::Deflate(zlib), Some(size)) = (&mut self.compress, self.pipeline.shuffle) else {
            return Ok(Plan::Whole);
        };
        zlib.plan(shuffled(chunk, size, &mut self.planes)?, size)
    }

    /// Encodes one chunk in the way that was found for it or for another one.
    pub(crate) fn encode_by(&mut self, plan: &Plan, chunk: &[u8]) -> Result<Encoded, Error> {
        let (input, size) = match self.pipeline.shuffle {
            Some(size) => (shuffled(chunk, size, &mut self.planes)?, size),
            None => (chunk, 1),
        };
        let (stored, filter_mask) = match self.compress.run(input, size, plan, &mut self.output)? {
            Some(len) => (&self.output[..len], 0),
            None => (input, self.pipeline.codec_bit()),
        };
        let mut bytes = copied(stored, if self.pipeline.fletcher32 { fletcher32::LEN } else { 0 })?;
        if self.pipeline.fletcher32 {
            let sum = fletcher32(&bytes);
            bytes.extend(sum.to_le_bytes());
        }
        Ok(Encoded { bytes, filter_mask })
    }
}

/// The planes of a chunk, in memory that is used again for the next one.
fn shuffled<'a>(chunk: &[u8], size: usize, planes: &'a mut Vec<u8>) -> Result<&'a [u8], Error> {
    resize(planes, chunk.len())?;
    shuffle(chunk, size, planes);
    Ok(planes)
}

impl Compress {
    /// Compresses `input` into `output`; the length of the result, or `None` when it would not be shorter.
    fn run(&mut self, input: &[u8], size: usize, plan: &Plan, output: &mut Vec<u8>) -> Result<Option<usize>, Error> {
        if !matches!(self, Self::Plain | Self::Deflate(_)) {
            resize(output, input.len())?;
        }
        let len = match self {
            Self::Deflate(zlib) => zlib.compress(input, size, plan, output)?,
            Self::Lzf(lzf) => lzf.compress(input, output),
            // The frame says how long the chunk is, which the plug-in of others relies on.
            Self::Zstd(compressor) => match compressor.compress_to_buffer(input, output.as_mut_slice()) {
                Ok(len) => Some(len),
                Err(error) if error.to_string() == ZSTD_LONGER => None,
                // For its tables, of which there are more for longer chunks.
                Err(_) => return Err(Error::OutOfMemory { bytes: input.len() }),
            },
            Self::Plain => None,
        };
        Ok(len.filter(|len| *len < input.len()))
    }
}

/// Undoes a [`Pipeline`] for chunk after chunk. One per thread.
#[expect(missing_debug_implementations, reason = "the decompressor has none")]
pub struct Decoder {
    pipeline: Pipeline,
    inflate: Decompressor,
    zstd: bulk::Decompressor<'static>,
    planes: Vec<u8>,
}

impl Decoder {
    /// A decoder with its own working memory.
    pub fn new(pipeline: Pipeline) -> Self {
        let zstd = bulk::Decompressor::new().expect("a decompressor without a dictionary");
        Self { pipeline, inflate: Decompressor::new(), zstd, planes: Vec::new() }
    }

    /// Makes sure of the memory for chunks of so many bytes.
    pub(crate) fn reserve(&mut self, chunk: usize) -> Result<(), Error> {
        if self.pipeline.shuffle.is_some() { resize(&mut self.planes, chunk) } else { Ok(()) }
    }

    /// Decodes the stored bytes of one chunk, of which the filters in `filter_mask` were skipped, into exactly
    /// `output`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the stored bytes do not decode to as many bytes as `output` has, [`Error::OutOfMemory`]
    /// when there is none for a buffer as large as the chunk.
    pub fn decode(&mut self, stored: &[u8], filter_mask: u32, output: &mut [u8]) -> Result<(), Error> {
        let stored = self.without_check_sum(stored, filter_mask)?;
        let compressed = self.pipeline.codec != Codec::Plain && filter_mask & self.pipeline.codec_bit() == 0;
        match self.pipeline.shuffle.filter(|_| filter_mask & self.pipeline.shuffle_bit() == 0) {
            None => self.expand(stored, compressed, output),
            Some(size) => {
                let mut planes = std::mem::take(&mut self.planes);
                let result = resize(&mut planes, output.len());
                let result = result.and_then(|()| self.expand(stored, compressed, &mut planes));
                if result.is_ok() {
                    unshuffle(&planes, size, output);
                }
                self.planes = planes;
                result
            }
        }
    }

    fn without_check_sum<'a>(&self, stored: &'a [u8], filter_mask: u32) -> Result<&'a [u8], Error> {
        if !self.pipeline.fletcher32 || filter_mask & self.pipeline.fletcher32_bit() != 0 {
            return Ok(stored);
        }
        let corrupt =
            |reason: &str| Error::Corrupt { codec: "fletcher32", stored: stored.len(), reason: reason.into() };
        let Some((bytes, sum)) = stored.split_last_chunk::<{ fletcher32::LEN }>() else {
            return Err(corrupt("it is shorter than a check sum"));
        };
        if fletcher32::matches(bytes, *sum) { Ok(bytes) } else { Err(corrupt("its check sum is that of other bytes")) }
    }

    fn expand(&mut self, stored: &[u8], compressed: bool, output: &mut [u8]) -> Result<(), Error> {
        let expected = output.len();
        let wrong_size = |found: usize| format!("it holds {found} bytes instead of {expected}");
        let corrupt = |codec, reason| Err(Error::Corrupt { codec, stored: stored.len(), reason });
        match self.pipeline.codec {
            _ if !compressed && stored.len() != expected => corrupt("plain", wrong_size(stored.len())),
            _ if !compressed => {
                output.copy_from_slice(stored);
                Ok(())
            }
            Codec::Deflate { .. } => match self.inflate.zlib_decompress(stored, output) {
                Ok(len) if len == expected => Ok(()),
                Ok(len) => corrupt("gzip", wrong_size(len)),
                Err(error) => corrupt("gzip", error.to_string()),
            },
            Codec::Lzf => lzf::decompress(stored, output).or_else(|reason| corrupt("lzf", reason.to_owned())),
            Codec::Zstd { .. } => match self.zstd.decompress_to_buffer(stored, output) {
                Ok(len) if len == expected => Ok(()),
                Ok(len) => corrupt("zstd", wrong_size(len)),
                Err(error) => corrupt("zstd", error.to_string()),
            },
            Codec::Plain => unreachable!("nothing is compressed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn any_pipeline() -> impl Strategy<Value = Pipeline> {
        let deflate = (0u8..=9).prop_map(|level| Codec::Deflate { level });
        let zstd = (1u8..=5).prop_map(|level| Codec::Zstd { level });
        let codec = prop_oneof![deflate, zstd, Just(Codec::Lzf), Just(Codec::Plain)];
        (proptest::option::of(1usize..40), codec, any::<bool>()).prop_map(|(shuffle, codec, fletcher32)| Pipeline {
            shuffle,
            codec,
            fletcher32,
        })
    }

    fn compressible() -> impl Strategy<Value = Vec<u8>> {
        (1u8..=255, proptest::collection::vec(any::<u8>(), 1..5000))
            .prop_map(|(n, bytes)| bytes.into_iter().map(|b| b % n).collect())
    }

    proptest! {
        #[test]
        fn comes_back(pipeline in any_pipeline(), chunk in compressible()) {
            let encoded = Encoder::new(pipeline).encode(&chunk).unwrap();
            prop_assert!(encoded.bytes.len() <= chunk.len() + 4 * usize::from(pipeline.fletcher32));
            let mut back = vec![0; chunk.len()];
            Decoder::new(pipeline).decode(&encoded.bytes, encoded.filter_mask, &mut back).unwrap();
            prop_assert_eq!(back, chunk);
        }

        #[test]
        fn zlib_reads_what_deflate_writes(chunk in compressible(), level in 1u8..=9) {
            let encoded = Encoder::new(Pipeline { shuffle: None, codec: Codec::Deflate { level }, fletcher32: false }).encode(&chunk).unwrap();
            let mut back = Vec::new();
            if encoded.filter_mask == 0 {
                flate2::read::ZlibDecoder::new(encoded.bytes.as_slice()).read_to_end(&mut back).unwrap();
            } else {
                back = encoded.bytes;
            }
            prop_assert_eq!(back, chunk);
        }

        #[test]
        fn any_bytes_are_refused_or_decoded(
            pipeline in any_pipeline(), bytes in proptest::collection::vec(any::<u8>(), 0..200), mask in 0u32..8,
        ) {
            let _ = Decoder::new(pipeline).decode(&bytes, mask, &mut [0; 100]);
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored_as_it_is() {
        let pipeline = Pipeline { shuffle: Some(4), codec: Codec::Deflate { level: 4 }, fletcher32: false };
        let encoded = Encoder::new(pipeline).encode(b"abcd").unwrap();
        assert_eq!(encoded, Encoded { bytes: b"abcd".to_vec(), filter_mask: 0b10 });
        let pipeline = Pipeline { shuffle: None, ..pipeline };
        assert_eq!(Encoder::new(pipeline).encode(b"abcd").unwrap().filter_mask, 0b1);
    }

    #[test]
    fn a_skipped_shuffle_is_not_undone() {
        let pipeline = Pipeline { shuffle: Some(2), codec: Codec::Lzf, fletcher32: false };
        let mut out = [0; 4];
        Decoder::new(pipeline).decode(b"1234", 0b11, &mut out).unwrap();
        assert_eq!(&out, b"1234");
    }

    #[test]
    fn a_check_sum_follows_what_is_stored() {
        let pipeline = Pipeline { shuffle: None, codec: Codec::Zstd { level: 3 }, fletcher32: true };
        let encoded = Encoder::new(pipeline).encode(b"abcd").unwrap();
        let sum = fletcher32(b"abcd").to_le_bytes();
        assert_eq!(encoded, Encoded { bytes: [*b"abcd", sum].concat(), filter_mask: 0b01 });
        let mut decoder = Decoder::new(pipeline);
        let mut out = [0; 4];
        decoder.decode(b"wxyz", 0b11, &mut out).unwrap();
        assert_eq!(&out, b"wxyz");
        let mut damaged = Encoder::new(pipeline).encode(&[1; 1000]).unwrap().bytes;
        damaged[5] ^= 4;
        let error = decoder.decode(&damaged, 0, &mut [0; 1000]).unwrap_err();
        assert!(error.to_string().starts_with("a fletcher32 chunk of"), "{error}");
        assert!(matches!(decoder.decode(b"abc", 0, &mut out), Err(Error::Corrupt { codec: "fletcher32", .. })));
        let plain = Pipeline { codec: Codec::Plain, shuffle: Some(2), ..pipeline };
        let bytes = Encoder::new(plain).encode(b"aAbB").unwrap().bytes;
        assert_eq!(bytes, [*b"abAB", fletcher32(b"abAB").to_le_bytes()].concat());
        // The check sum is the second filter where there is no codec.
        Decoder::new(plain).decode(b"abAB", 0b10, &mut out).unwrap();
        assert_eq!(&out, b"aAbB");
    }

    #[test]
    fn damage_is_named() {
        let pipeline = Pipeline { shuffle: None, codec: Codec::Deflate { level: 6 }, fletcher32: false };
        let mut stored = Encoder::new(pipeline).encode(&[7; 1000]).unwrap().bytes;
        let mut decoder = Decoder::new(pipeline);
        let short = decoder.decode(&stored, 0, &mut [0; 1001]).unwrap_err();
        assert_eq!(
            short.to_string(),
            "a gzip chunk of 17 stored bytes is corrupt: it holds 1000 bytes instead of 1001"
        );
        *stored.last_mut().unwrap() ^= 1;
        assert!(matches!(decoder.decode(&stored, 0, &mut [0; 1000]), Err(Error::Corrupt { codec: "gzip", .. })));
        assert!(matches!(decoder.decode(&stored, 1, &mut [0; 1000]), Err(Error::Corrupt { codec: "plain", .. })));
    }
}
