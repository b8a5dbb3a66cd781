//! Records: a value, of a map also its key, as they lie in the log of a body. A record never changes.
//!
//! | words | what |
//! |---|---|
//! | 1 | length of the value in bytes (32), its tag (8), tags of the key (8), number n of blocks that it refers to (16) |
//! | 1 | length of the key in bytes (32), and of the key as it was given (32) |
//! | 2 n | block (index, generation), parcel (index, sequence) |
//! | … | key, in whole words |
//! | … | the key as it was given, where that is another form (`1.0` for `1`), in whole words |
//! | … | value, in whole words |

use onecopy_arena::{BlockId, ParcelId};

use crate::door::{AtomicU64, Ordering::Relaxed};
use crate::queue::{Enclosed, MOST_ENCLOSED};

const HEADER: usize = 2;
const ENCLOSED: usize = 2;

/// A key in the form in which equal keys are the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// What the bytes are, below 16: keys with different tags differ.
    pub tag: u8,
    /// The key.
    pub bytes: &'a [u8],
    /// Tag (below 15) and bytes of the key as it was given, where that is another form.
    pub given: Option<(u8, &'a [u8])>,
}

impl<'a> Key<'a> {
    /// A key whose form is the one that it was given in.
    pub const fn plain(tag: u8, bytes: &'a [u8]) -> Self {
        Self { tag, bytes, given: None }
    }

    /// The hash of the key, the same in all processes.
    #[inline]
    pub(crate) fn hash(&self, seed: u64) -> u64 {
        hash(self.bytes, seed ^ u64::from(self.tag) << 56)
    }

    fn tags(&self) -> u8 {
        self.tag & 15 | self.given.map_or(0, |(tag, _)| (tag + 1) << 4)
    }
}

/// A hash of bytes: products of 128 bits, folded.
#[inline]
fn hash(bytes: &[u8], seed: u64) -> u64 {
    const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let mut state = seed ^ ODD[0].wrapping_mul(bytes.len() as u64 + 1);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        state = fold(state ^ word_of(word), ODD[0]);
    }
    if !words.remainder().is_empty() {
        state = fold(state ^ word_of(words.remainder()), ODD[0]);
    }
    fold(state ^ ODD[1], ODD[1])
}

/// At most eight bytes as a word, filled up with zeros.
#[inline]
fn word_of(bytes: &[u8]) -> u64 {
    if let Ok(whole) = bytes.try_into() {
        return u64::from_ne_bytes(whole);
    }
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

fn words_of(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// A record on its way into a log.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    words: Vec<u64>,
    enclosed: usize,
}

/// A part of a record that is longer than a record can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Draft {
    /// A record with room for the names of `enclosed` blocks.
    pub(crate) fn new(key: Option<&Key<'_>>, tag: u8, value: &[u8], enclosed: usize) -> Result<Self, TooLong> {
        let (tags, bytes, given) =
            key.map_or((0, &[][..], &[][..]), |key| (key.tags(), key.bytes, key.given.map_or(&[][..], |(_, b)| b)));
        let [value_len, key_len, given_len] =
            [value, bytes, given].map(|part| u32::try_from(part.len()).ok().filter(|&len| len < u32::MAX / 8));
        let (Some(value_len), Some(key_len), Some(given_len)) = (value_len, key_len, given_len) else {
            return Err(TooLong);
        };
        if enclosed > MOST_ENCLOSED {
            return Err(TooLong);
        }
        let len = HEADER + ENCLOSED * enclosed + words_of(bytes.len()) + words_of(given.len()) + words_of(value.len());
        let mut words = Vec::with_capacity(len);
        words.push(u64::from(value_len) | u64::from(tag) << 32 | u64::from(tags) << 40 | (enclosed as u64) << 48);
        words.push(u64::from(key_len) | u64::from(given_len) << 32);
        words.resize(HEADER + ENCLOSED * enclosed, 0);
        for part in [bytes, given, value] {
            words.extend(part.chunks(8).map(word_of));
        }
        Ok(Self { words, enclosed })
    }

    /// Names a block that the record refers to.
    pub(crate) fn name(&mut self, number: usize, enclosed: Enclosed) {
        let at = HEADER + ENCLOSED * number;
        let pair = |a: u32, b: u32| u64::from(b) << 32 | u64::from(a);
        self.words[at] = pair(enclosed.block.index, enclosed.block.generation);
        self.words[at + 1] = pair(enclosed.parcel.index, enclosed.parcel.sequence);
    }

    /// The first `count` of the blocks that were named.
    pub(crate) fn named(&self, count: usize) -> impl Iterator<Item = Enclosed> {
        self.words[HEADER..HEADER + ENCLOSED * count].chunks_exact(ENCLOSED).map(|pair| unpack(pair[0], pair[1]))
    }

    /// The same value with the key of a record, so that a key keeps the form in which it first came.
    pub(crate) fn under_key_of(&mut self, record: &Record<'_>) {
        let given = (self.words[0] >> 44) as u8 & 15;
        if record.given_tag().is_none() && given == 0 {
            return;
        }
        let before = HEADER + ENCLOSED * self.enclosed;
        let own = words_of(self.words[1] as u32 as usize) + words_of((self.words[1] >> 32) as usize);
        let keys = record.part(record.key_at()..record.value_at()).iter().map(|word| word.load(Relaxed));
        self.words.splice(before..before + own, keys);
        self.words[0] = self.words[0] & !(0xff << 40) | u64::from(record.tags) << 40;
        self.words[1] = u64::from(record.key_len) | u64::from(record.given_len) << 32;
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }
}

/// A record in the log whose lengths have been checked.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    words: &'a [AtomicU64],
    value_len: u32,
    tag: u8,
    tags: u8,
    enclosed: u16,
    key_len: u32,
    given_len: u32,
}

impl<'a> Record<'a> {
    #[inline]
    pub(crate) fn at_start_of(words: &'a [AtomicU64]) -> Option<Self> {
        let [first, second] = [words.first()?.load(Relaxed), words.get(1)?.load(Relaxed)];
        let record = Self {
            words,
            value_len: first as u32,
            tag: (first >> 32) as u8,
            tags: (first >> 40) as u8,
            enclosed: (first >> 48) as u16,
            key_len: second as u32,
            given_len: (second >> 32) as u32,
        };
        let len = record.value_at() + words_of(record.value_len as usize);
        Some(Self { words: words.get(..len)?, ..record })
    }

    fn key_at(&self) -> usize {
        HEADER + ENCLOSED * usize::from(self.enclosed)
    }

    fn given_at(&self) -> usize {
        self.key_at() + words_of(self.key_len as usize)
    }

    fn value_at(&self) -> usize {
        self.given_at() + words_of(self.given_len as usize)
    }

    fn part(&self, range: std::ops::Range<usize>) -> &'a [AtomicU64] {
        self.words.get(range).unwrap_or(&[])
    }

    /// Whether the record has this key.
    #[inline]
    pub(crate) fn has_key(&self, key: &Key<'_>) -> bool {
        if self.tags & 15 != key.tag || self.key_len as usize != key.bytes.len() {
            return false;
        }
        let words = self.part(self.key_at()..self.given_at());
        words.len() == words_of(key.bytes.len())
            && words.iter().zip(key.bytes.chunks(8)).all(|(word, bytes)| word.load(Relaxed) == word_of(bytes))
    }

    /// All words of the record, to be written elsewhere.
    pub(crate) fn to_words(self) -> Vec<u64> {
        self.words.iter().map(|word| word.load(Relaxed)).collect()
    }

    /// Words of the record.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// What its maker said that the value is.
    pub fn tag(&self) -> u8 {
        self.tag
    }

    /// Bytes of the value.
    pub fn value_len(&self) -> usize {
        self.value_len as usize
    }

    /// Copies the value out.
    ///
    /// # Panics
    ///
    /// If `to` is not as long as the value.
    #[inline]
    pub fn copy_value(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.value_len());
        copy_out(self.part(self.value_at()..self.words.len()), to);
    }

    /// The first eight bytes of the value.
    #[inline]
    pub fn value_word(&self) -> Option<[u8; 8]> {
        let word = self.words.get(self.value_at()).filter(|_| self.value_len == 8)?;
        Some(word.load(Relaxed).to_ne_bytes())
    }

    /// Tag and bytes of the key, in the form in which equal keys are the same.
    pub fn key(&self) -> (u8, Vec<u8>) {
        let mut bytes = vec![0; self.key_len as usize];
        copy_out(self.part(self.key_at()..self.given_at()), &mut bytes);
        (self.tags & 15, bytes)
    }

    fn given_tag(&self) -> Option<u8> {
        (self.tags >> 4).checked_sub(1)
    }

    /// Whether the key was given in another form.
    pub fn is_key_given(&self) -> bool {
        self.given_tag().is_some()
    }

    /// Tag and bytes of the key as it was given.
    pub fn given_key(&self) -> (u8, Vec<u8>) {
        let Some(tag) = self.given_tag() else { return self.key() };
        let mut bytes = vec![0; self.given_len as usize];
        copy_out(self.part(self.given_at()..self.value_at()), &mut bytes);
        (tag, bytes)
    }

    /// Whether the value refers to blocks.
    #[inline]
    pub fn is_enclosing(&self) -> bool {
        self.enclosed > 0
    }

    /// The blocks that the value refers to.
    pub(crate) fn enclosed(&self) -> impl Iterator<Item = Enclosed> + use<'a> {
        let pairs = self.part(HEADER..self.key_at()).chunks_exact(ENCLOSED);
        pairs.map(|pair| unpack(pair[0].load(Relaxed), pair[1].load(Relaxed)))
    }
}

fn unpack(block: u64, parcel: u64) -> Enclosed {
    Enclosed {
        block: BlockId { index: block as u32, generation: (block >> 32) as u32 },
        parcel: ParcelId { index: parcel as u32, sequence: (parcel >> 32) as u32 },
    }
}

/// Copies bytes out of words; what has no words stays as it is.
#[inline]
fn copy_out(words: &[AtomicU64], to: &mut [u8]) {
    for (bytes, word) in to.chunks_mut(8).zip(words) {
        let word = word.load(Relaxed).to_ne_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shared(words: &[u64]) -> Vec<AtomicU64> {
        words.iter().map(|&word| AtomicU64::new(word)).collect()
    }

    fn value(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = vec![0; record.value_len()];
        record.copy_value(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn records_come_out_as_they_went_in(
            key: Vec<u8>, given in prop::option::of((0_u8..15, any::<Vec<u8>>())), tag: u8, contents: Vec<u8>, n in 0_u32..4,
        ) {
            let key = Key { tag: 3, bytes: &key, given: given.as_ref().map(|(tag, bytes)| (*tag, &bytes[..])) };
            let mut draft = Draft::new(Some(&key), tag, &contents, n as usize).unwrap();
            let name = |i: u32| Enclosed {
                block: BlockId { index: i, generation: n },
                parcel: ParcelId { index: 7 * i, sequence: i + 1 },
            };
            (0..n).for_each(|i| draft.name(i as usize, name(i)));
            let words = shared(draft.words());
            let record = Record::at_start_of(&words).unwrap();
            prop_assert!(record.has_key(&key) && !record.has_key(&Key::plain(4, key.bytes)));
            prop_assert_eq!((record.tag(), value(&record)), (tag, contents));
            prop_assert_eq!(record.key(), (3, key.bytes.to_vec()));
            prop_assert_eq!(record.given_key(), key.given.map_or((3, key.bytes.to_vec()), |(t, b)| (t, b.to_vec())));
            prop_assert_eq!(record.enclosed().collect::<Vec<_>>(), (0..n).map(name).collect::<Vec<_>>());
            prop_assert!(Record::at_start_of(&words[..words.len() - 1]).is_none());
        }

        #[test]
        fn a_key_keeps_the_form_that_it_first_had(first: Vec<u8>, second in prop::option::of(any::<Vec<u8>>())) {
            let old = Key { tag: 3, bytes: b"same", given: Some((5, &first)) };
            let old = shared(Draft::new(Some(&old), 0, b"old", 0).unwrap().words());
            let new = Key { tag: 3, bytes: b"same", given: second.as_ref().map(|bytes| (6, &bytes[..])) };
            let mut draft = Draft::new(Some(&new), 1, b"a new value", 2).unwrap();
            draft.under_key_of(&Record::at_start_of(&old).unwrap());
            let words = shared(draft.words());
            let record = Record::at_start_of(&words).unwrap();
            prop_assert_eq!((record.given_key(), record.tag(), value(&record)), ((5, first), 1, b"a new value".to_vec()));
        }

        #[test]
        fn any_words_are_read_or_refused(words in prop::collection::vec(any::<u64>(), 0..40), small: bool) {
            let words = if small { words.iter().map(|word| word & 0x0003_ffff_0000_001f).collect() } else { words };
            let words = shared(&words);
            if let Some(record) = Record::at_start_of(&words) {
                let _ = (value(&record), record.key(), record.given_key(), record.enclosed().count());
                record.has_key(&Key::plain(record.tags & 15, &vec![0; record.key_len as usize]));
            }
        }

        #[test]
        fn different_bytes_seldom_have_the_same_hash(a: Vec<u8>, b: Vec<u8>, seed: u64) {
            prop_assert_eq!(hash(&a, seed) == hash(&b, seed), a == b);
        }
    }
}
