//! The LZF format, which h5py registers as HDF5 filter 32000: little compression, and fast.
//!
//! A stream is a sequence of literals and copies. A control byte `c` below 32 is followed by `c + 1` literal bytes.
//! Any other holds a copy length in its upper 3 bits (7: a byte more follows, which is added) and the upper 5 bits of a
//! distance, whose lower 8 bits follow; `length + 2` bytes are copied from `distance + 1` bytes back.

const MAX_LITERALS: usize = 32;
const MAX_COPY: usize = 2 + 7 + 255;
const MAX_DISTANCE: usize = 1 << 13;
const HASH_BITS: u32 = 14;

/// The state of a compressor, reused from chunk to chunk.
#[derive(Debug)]
pub(crate) struct Lzf {
    /// Where three bytes with this hash were seen last, plus 1; 0 is nowhere.
    seen: Vec<u32>,
}

impl Lzf {
    pub(crate) fn new() -> Self {
        Self { seen: vec![0; 1 << HASH_BITS] }
    }

    /// Compresses `input` into `output`; the length of the result, or `None` when it does not fit.
    pub(crate) fn compress(&mut self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        u32::try_from(input.len()).ok()?;
        self.seen.fill(0);
        let mut output = Output { bytes: output, len: 0 };
        let (mut at, mut literals) = (0, 0);
        while at + 3 <= input.len() {
            let Some(distance) = self.find(input, at) else {
                at += 1;
                continue;
            };
            output.put_literals(&input[literals..at])?;
            let length = match_length(input, at, distance);
            output.put_copy(length, distance)?;
            at += length;
            literals = at;
            // The positions inside a copy matter little; the last ones join it to what follows.
            if at + 2 <= input.len() {
                self.find(input, at - 2);
                self.find(input, at - 1);
            }
        }
        output.put_literals(&input[literals..])?;
        Some(output.len)
    }

    /// Notes the three bytes at `at`; the distance to where the same three were before, when a copy can reach it.
    fn find(&mut self, input: &[u8], at: usize) -> Option<usize> {
        let here: [u8; 3] = input[at..at + 3].try_into().expect("three bytes");
        let key = u32::from_le_bytes([here[0], here[1], here[2], 0]);
        let slot = (key.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize;
        let before = std::mem::replace(&mut self.seen[slot], at as u32 + 1) as usize;
        let distance = (at + 1).checked_sub(before).filter(|&d| before > 0 && d <= MAX_DISTANCE)?;
        (input[before - 1..before + 2] == here).then_some(distance)
    }
}

fn match_length(input: &[u8], at: usize, distance: usize) -> usize {
    let end = input.len().min(at + MAX_COPY);
    let (ahead, behind) = (&input[at..end], &input[at - distance..end - distance]);
    let words = ahead.as_chunks::<8>().0.iter().zip(behind.as_chunks::<8>().0);
    let mut length = 0;
    for (a, b) in words {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return length + (difference.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    length + ahead[length..].iter().zip(&behind[length..]).take_while(|(a, b)| a == b).count()
}

struct Output<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Output<'_> {
    fn put_literals(&mut self, bytes: &[u8]) -> Option<()> {
        for run in bytes.chunks(MAX_LITERALS) {
            self.put(&[run.len() as u8 - 1])?;
            self.put(run)?;
        }
        Some(())
    }

    fn put_copy(&mut self, length: usize, distance: usize) -> Option<()> {
        let (length, distance) = (length - 2, distance - 1);
        let (high, low) = ((distance >> 8) as u8, distance as u8);
        if length < 7 {
            self.put(&[(length as u8) << 5 | high, low])
        } else {
            self.put(&[7 << 5 | high, (length - 7) as u8, low])
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.bytes.get_mut(self.len..self.len + bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }
}

/// Decompresses `input` into exactly `output`; the error says what is wrong.
pub(crate) fn decompress(mut input: &[u8], output: &mut [u8]) -> Result<(), &'static str> {
    let mut filled = 0;
    while let Some(&control) = input.split_off_first() {
        let length = if control < 32 {
            let run = input.split_off(..=usize::from(control)).ok_or("it ends inside a literal")?;
            output.get_mut(filled..filled + run.len()).ok_or("it is longer than a chunk")?.copy_from_slice(run);
            run.len()
        } else {
            let (length, distance) = take_copy(control, &mut input).ok_or("it ends inside a copy")?;
            copy_back(output, filled, length, distance)?;
            length
        };
        filled += length;
    }
    if filled == output.len() { Ok(()) } else { Err("it is shorter than a chunk") }
}

fn take_copy(control: u8, input: &mut &[u8]) -> Option<(usize, usize)> {
    let mut length = usize::from(control >> 5) + 2;
    if control >> 5 == 7 {
        length += usize::from(*input.split_off_first()?);
    }
    let low = *input.split_off_first()?;
    Some((length, (usize::from(control & 31) << 8 | usize::from(low)) + 1))
}

fn copy_back(output: &mut [u8], filled: usize, length: usize, distance: usize) -> Result<(), &'static str> {
    let from = filled.checked_sub(distance).ok_or("it copies from before its beginning")?;
    if length > output.len() - filled {
        return Err("it is longer than a chunk");
    }
    if distance >= length {
        output.copy_within(from..from + length, filled);
    } else {
        // The copy overlaps itself: it repeats the last `distance` bytes.
        for i in 0..length {
            output[filled + i] = output[from + i];
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stream_written_by_hand() {
        // Three literals, a copy of 4 bytes from 3 back, a long copy of 9 bytes from 1 back.
        let stream = [2, b'a', b'b', b'c', 2 << 5, 2, 7 << 5, 0, 0];
        let mut out = [0; 16];
        decompress(&stream, &mut out).unwrap();
        assert_eq!(&out, b"abcabcaaaaaaaaaa");
    }

    #[test]
    fn damage_is_named() {
        let cases: [(&[u8], &str); 6] = [
            (&[5, b'a'], "it ends inside a literal"),
            (&[0, b'a', 1 << 5], "it ends inside a copy"),
            (&[0, b'a', 1 << 5, 1], "it copies from before its beginning"),
            (&[0, b'a', 7 << 5, 9, 0], "it is longer than a chunk"),
            (&[4, b'a', b'a', b'a', b'a', b'a'], "it is longer than a chunk"),
            (&[0, b'a'], "it is shorter than a chunk"),
        ];
        for (stream, reason) in cases {
            assert_eq!(decompress(stream, &mut [0; 4]), Err(reason));
        }
    }

    proptest! {
        #[test]
        fn comes_back(alphabet in 1u8..=255, seeds in proptest::collection::vec(any::<u8>(), 0..30_000)) {
            let input: Vec<u8> = seeds.iter().map(|&b| b % alphabet).collect();
            let mut stored = vec![0; input.len()];
            if let Some(len) = Lzf::new().compress(&input, &mut stored) {
                let mut back = vec![0; input.len()];
                prop_assert_eq!(decompress(&stored[..len], &mut back), Ok(()));
                prop_assert_eq!(back, input);
            } else {
                prop_assert!(alphabet > 2 || input.len() < 16);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..300), size in 0usize..400) {
            let _ = decompress(&bytes, &mut vec![0; size]);
        }
    }
}
