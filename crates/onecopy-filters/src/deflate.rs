//! A chunk as a zlib stream, each plane of a shuffled chunk in the way that suits it.
//!
//! Shuffled elements are planes of bytes, and planes differ: the high bytes of counts are all zero, those of sorted
//! positions repeat, the low bytes of measurements are noise. A search for matches in the noise takes long and finds
//! nothing, and one Huffman code for all planes is a long one. Deflate can be joined from blocks of different makers, so
//! each plane has its own, and is searched for matches or, several times faster, for runs alone. Which it is, a [`Plan`]
//! says, found by trying both on one chunk of many.

use libdeflater::{CompressionLvl, Compressor, adler32};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Strategy};

use crate::buffer::{reserve, resize};
use crate::error::Error;

/// Planes shorter than this share their blocks with others: tables and ends of blocks take some 100 bytes.
const PLANE_BYTES: usize = 4096;
/// Levels above this ask for the smallest result, not for the fastest: matches are searched for everywhere.
const MOST_PLANAR: u8 = 6;
/// What a way may lose in size against another one that takes longer: 1 / 64.
const WORTH: usize = 64;
/// A result this many times smaller than the planes says nothing of other chunks, and any way is fast.
const TINY: usize = 32;
/// The head of a zlib stream: deflate with a window of 32 KiB.
const HEAD: [u8; 2] = [0x78, 0x9c];
/// A last block without anything in it.
const LAST: [u8; 2] = [3, 0];

/// How one plane is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Runs of one byte, and a Huffman code. When that takes more bytes than this, the plane is not as those were that
    /// the plan was made for.
    Runs { most: usize },
    /// Whatever occurred before.
    Matches,
}

/// How chunks of one dataset are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// In one piece.
    Whole,
    /// Plane by plane.
    Planes(Vec<Method>),
}

/// Compresses chunk after chunk. One per thread.
pub(crate) struct Zlib {
    level: u8,
    whole: Compressor,
    /// Made when the first planes come.
    planar: Option<Planar>,
}

impl Zlib {
    /// # Panics
    /// When the level exceeds 9.
    pub(crate) fn new(level: u8) -> Self {
        assert!(level <= 9, "deflate level {level} is not in 0..=9");
        let whole = Compressor::new(CompressionLvl::new(level.into()).expect("libdeflate has the levels 0 to 12"));
        Self { level, whole, planar: None }
    }

    /// Whether chunks of so many elements of so many bytes can be written in several ways.
    pub(crate) fn has_choice(level: u8, elements: usize, size: usize) -> bool {
        (1..=MOST_PLANAR).contains(&level) && size > 1 && elements * size >= 4 * PLANE_BYTES
    }

    /// Finds out how chunks like this one, of elements of `size` bytes, are written best.
    pub(crate) fn plan(&mut self, planes: &[u8], size: usize) -> Result<Plan, Error> {
        if !Self::has_choice(self.level, planes.len() / size, size) {
            return Ok(Plan::Whole);
        }
        let planar = self.planar.get_or_insert_with(|| Planar::new(self.level));
        let tried = segments(planes, size).map(|segment| planar.choose(segment)).collect::<Result<Vec<_>, _>>()?;
        let total: usize = tried.iter().map(|(_, len)| len).sum();
        let matched = tried.iter().filter(|(method, _)| *method == Method::Matches).count();
        // In one piece, a search is faster, and finds what planes have in common.
        let whole = if 2 * matched > tried.len() { total + total / WORTH } else { total - total / WORTH };
        // What was tried is known; its memory is free for this.
        resize(&mut planar.trial, whole)?;
        if total < planes.len() / TINY || self.whole.zlib_compress(planes, &mut planar.trial).is_ok() {
            return Ok(Plan::Whole);
        }
        Ok(Plan::Planes(tried.into_iter().map(|(method, _)| method).collect()))
    }

    /// Compresses a chunk of elements of `size` bytes, whose planes are `input`; the length of the result, or `None`
    /// when it would be longer than the chunk.
    pub(crate) fn compress(
        &mut self,
        input: &[u8],
        size: usize,
        plan: &Plan,
        output: &mut Vec<u8>,
    ) -> Result<Option<usize>, Error> {
        let Plan::Planes(methods) = plan else {
            resize(output, input.len())?;
            return Ok(self.whole.zlib_compress(input, output).ok());
        };
        let planar = self.planar.get_or_insert_with(|| Planar::new(self.level));
        output.clear();
        let rooms: usize = segments(input, size).map(|segment| room(segment.len())).sum();
        reserve(output, HEAD.len() + rooms + LAST.len() + size_of::<u32>())?;
        output.extend(HEAD);
        for (segment, method) in segments(input, size).zip(methods) {
            let len = output.len();
            output.resize(len + room(segment.len()), 0);
            let Some(added) = planar.compress(segment, *method, &mut output[len..])? else { return Ok(None) };
            output.truncate(len + added);
        }
        output.extend(LAST);
        output.extend(adler32(input).to_be_bytes());
        Ok((output.len() <= input.len()).then_some(output.len()))
    }
}

/// Compressors for planes, of which each begins anew for each plane: so blocks of any can follow those of any.
struct Planar {
    runs: Deflate,
    matches: Deflate,
    /// Where ways are tried out.
    trial: Vec<u8>,
}

impl Planar {
    fn new(level: u8) -> Self {
        let make = |level, strategy| {
            Deflate::new_with_config(DeflateConfig {
                level,
                // Without the head and the sum of a zlib stream.
                window_bits: -15,
                mem_level: 9,
                strategy,
                ..DeflateConfig::default()
            })
        };
        // Level 1 of this library has one Huffman code for everything.
        let matches = make(i32::from(level.max(2)), Strategy::Default);
        Self { runs: make(1, Strategy::Rle), matches, trial: Vec::new() }
    }

    /// The way to write segments like this one, and how long it becomes.
    fn choose(&mut self, segment: &[u8]) -> Result<(Method, usize), Error> {
        resize(&mut self.trial, room(segment.len()))?;
        let mut try_out = |deflate| blocks(deflate, segment, &mut self.trial).unwrap_or(2 * segment.len());
        let (runs, matches) = (try_out(&mut self.runs), try_out(&mut self.matches));
        if runs <= matches + matches / WORTH {
            Ok((Method::Runs { most: runs + runs / 4 + PLANE_BYTES / WORTH }, runs))
        } else {
            Ok((Method::Matches, matches))
        }
    }

    /// Writes the blocks of one segment.
    fn compress(&mut self, segment: &[u8], method: Method, output: &mut [u8]) -> Result<Option<usize>, Error> {
        if let Method::Runs { most } = method {
            let len = blocks(&mut self.runs, segment, output);
            if len.is_some_and(|len| len <= most) || matches!(self.choose(segment)?, (Method::Runs { .. }, _)) {
                return Ok(len);
            }
        }
        Ok(blocks(&mut self.matches, segment, output))
    }
}

/// Room for the blocks of a segment that cannot be made shorter.
fn room(segment: usize) -> usize {
    segment + segment / 256 + 256
}

/// Writes the blocks that a compressor makes of a segment, the last one ending with a byte; how many bytes they are,
/// or `None` when there is not enough room. Which there always is: the compressor may panic where it lacks some.
fn blocks(deflate: &mut Deflate, segment: &[u8], output: &mut [u8]) -> Option<usize> {
    debug_assert!(output.len() >= room(segment.len()));
    deflate.reset();
    deflate.compress(segment, output, DeflateFlush::SyncFlush).ok()?;
    let len = usize::try_from(deflate.total_out()).ok()?;
    // What fills the room may lack its end.
    (deflate.total_in() == segment.len() as u64 && len < output.len()).then_some(len)
}

/// Splits the planes of a chunk into what gets blocks of its own: a plane, or several short ones. What is behind the
/// planes, because the chunk does not consist of whole elements, is part of the last.
fn segments(planes: &[u8], size: usize) -> impl Iterator<Item = &[u8]> {
    let plane = planes.len() / size;
    let each = PLANE_BYTES.div_ceil(plane.max(1)).min(size);
    let count = size / each;
    (0..count).map(move |i| {
        let end = if i + 1 == count { planes.len() } else { (i + 1) * each * plane };
        &planes[i * each * plane..end]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};

    /// What a plane may look like.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Constant,
        Runs,
        LongRuns,
        Noise,
        Skewed,
        Periodic,
        Words,
    }
    use Kind::{Constant, LongRuns, Noise, Periodic, Runs, Skewed, Words};

    fn plane(kind: Kind, len: usize, seed: u32) -> Vec<u8> {
        // SplitMix64.
        let noise = |i: usize| {
            let state = (u64::from(seed) << 32 | i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            ((mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 56) as u8
        };
        let byte = |i: usize| match kind {
            Constant => 7,
            Runs => noise(i / 40),
            LongRuns => noise(i / 200),
            Noise => noise(i),
            Skewed => noise(i).leading_zeros() as u8,
            Periodic => noise(i % 8000),
            Words => noise(usize::from(noise(i / 8) % 32) * 8 + i % 8) % 16,
        };
        (0..len).map(byte).collect()
    }

    fn planes(kinds: &[Kind], len: usize, seed: u32) -> Vec<u8> {
        kinds.iter().zip(seed..).flat_map(|(kind, seed)| plane(*kind, len, seed)).collect()
    }

    fn compressed(zlib: &mut Zlib, plan: &Plan, planes: &[u8], size: usize) -> Vec<u8> {
        let mut output = Vec::new();
        let len = zlib.compress(planes, size, plan, &mut output).unwrap();
        let Some(len) = len else { return Vec::new() };
        output.truncate(len);
        output
    }

    fn inflated(stream: &[u8]) -> Vec<u8> {
        let mut back = Vec::new();
        flate2::read::ZlibDecoder::new(stream).read_to_end(&mut back).unwrap();
        back
    }

    fn len_of_zlib(planes: &[u8], level: u8) -> usize {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level.into()));
        encoder.write_all(planes).unwrap();
        encoder.finish().unwrap().len()
    }

    fn any_kinds() -> impl Strategy<Value = Vec<Kind>> {
        let kind = prop_oneof![Just(Constant), Just(Runs), Just(Noise), Just(Skewed), Just(Periodic), Just(Words)];
        proptest::collection::vec(kind, 2..10)
    }

    use proptest::strategy::Strategy;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn zlib_reads_every_plan(
            (like, kinds) in any_kinds().prop_flat_map(|kinds| {
                let other = any_kinds().prop_map({ let n = kinds.len(); move |mut other| { other.resize(n, Noise); other } });
                (Just(kinds), other)
            }),
            len in 1usize..9000, rest in proptest::collection::vec(any::<u8>(), 0..2), level in 0u8..=9,
        ) {
            let mut zlib = Zlib::new(level);
            let size = kinds.len();
            let plan = zlib.plan(&[planes(&like, len, 1), rest.clone()].concat(), size).unwrap();
            let input = [planes(&kinds, len, 77), rest].concat();
            let stream = compressed(&mut zlib, &plan, &input, size);
            if stream.is_empty() {
                prop_assert!(len_of_zlib(&input, level) + 300 > input.len());
            } else {
                prop_assert_eq!(inflated(&stream), input);
            }
        }

        #[test]
        fn no_plan_makes_chunks_longer(kinds in any_kinds(), len in 4096usize..30_000, level in 1u8..=9) {
            let mut zlib = Zlib::new(level);
            let input = planes(&kinds, len, 1);
            let plan = zlib.plan(&input, kinds.len()).unwrap();
            let ours = compressed(&mut zlib, &plan, &input, kinds.len()).len();
            let whole = compressed(&mut zlib, &Plan::Whole, &input, kinds.len()).len();
            let theirs = len_of_zlib(&input, level).max(whole);
            prop_assert!(ours <= theirs + theirs / 20 + 200, "{ours} > {theirs}: {plan:?}");
        }
    }

    #[test]
    fn what_does_not_shrink_is_not_written() {
        let mut zlib = Zlib::new(4);
        for len in [1, 100, 4096, 40_000, 300_000] {
            let noise = planes(&[Noise, Noise], len, 1);
            for method in [Method::Runs { most: 2 * len }, Method::Matches] {
                assert_eq!(zlib.compress(&noise, 2, &Plan::Planes(vec![method; 2]), &mut Vec::new()), Ok(None));
                let mut output = vec![0; room(len)];
                let planar = zlib.planar.as_mut().unwrap();
                assert!(
                    planar.compress(&noise[..len], method, &mut output).unwrap().unwrap() < room(len) - 100,
                    "{len}"
                );
            }
        }
    }

    fn is_runs(method: &Method) -> bool {
        matches!(method, Method::Runs { .. })
    }

    #[test]
    fn each_plane_has_its_own_way() {
        let mut zlib = Zlib::new(4);
        let kinds = [Noise, Periodic, Skewed, Runs, Noise, Words, Noise];
        let Plan::Planes(methods) = zlib.plan(&planes(&kinds, 20_000, 1), kinds.len()).unwrap() else {
            panic!("in one piece")
        };
        let runs: Vec<_> = methods.iter().map(is_runs).collect();
        assert_eq!(runs, [true, false, true, true, true, false, true]);
    }

    #[test]
    fn one_piece_is_preferred_where_most_is_searched() {
        // Between both ways, these differ by less than what speed is worth.
        let plan = |kinds: &[Kind]| Zlib::new(4).plan(&planes(kinds, 40_000, 1), kinds.len()).unwrap();
        assert_eq!(plan(&[Periodic, Periodic, Noise]), Plan::Whole);
        assert!(matches!(plan(&[Periodic, Noise, Noise]), Plan::Planes(_)));
    }

    #[test]
    fn the_lowest_level_has_codes_of_its_own() {
        let mut zlib = Zlib::new(1);
        let input = planes(&[Words; 3], 40_000, 1);
        let ours = compressed(&mut zlib, &Plan::Planes(vec![Method::Matches; 3]), &input, 3).len();
        assert!(ours < len_of_zlib(&input, 1));
    }

    #[test]
    fn planes_make_shorter_chunks() {
        let mut zlib = Zlib::new(4);
        let kinds = [Noise, Skewed, Runs, Constant, Skewed, Runs];
        let input = planes(&kinds, 20_000, 1);
        let plan = zlib.plan(&input, kinds.len()).unwrap();
        let ours = compressed(&mut zlib, &plan, &input, kinds.len()).len();
        let whole = compressed(&mut zlib, &Plan::Whole, &input, kinds.len()).len();
        assert!(ours + ours / 50 < whole, "{ours} against {whole}");
    }

    #[test]
    fn what_says_little_is_written_in_one_piece() {
        for (kinds, level) in [
            (vec![Constant; 8], 4), // tiny
            (vec![LongRuns; 8], 4),
            (vec![Periodic; 8], 4), // searched throughout
            (vec![Noise; 8], 7),    // the smallest is asked for
            (vec![Noise; 8], 0),    // nothing is
            (vec![Noise], 4),       // not shuffled
        ] {
            let input = planes(&kinds, 20_000, 1);
            assert_eq!(Zlib::new(level).plan(&input, kinds.len()).unwrap(), Plan::Whole, "{kinds:?} {level}");
        }
        assert_eq!(Zlib::new(4).plan(&planes(&[Noise; 8], 2000, 1), 8).unwrap(), Plan::Whole);
    }

    #[test]
    fn a_plane_that_is_not_as_expected_is_tried_anew() {
        let mut zlib = Zlib::new(4);
        let kinds = [Noise, Runs, Skewed];
        let plan = zlib.plan(&planes(&kinds, 20_000, 1), kinds.len()).unwrap();
        assert!(matches!(&plan, Plan::Planes(methods) if methods.iter().all(is_runs)));
        let other = planes(&[Noise, Periodic, Skewed], 20_000, 1);
        let ours = compressed(&mut zlib, &plan, &other, 3).len();
        let theirs = len_of_zlib(&other, 4);
        assert!(ours < theirs + theirs / 20, "{ours} against {theirs}");
    }
}
