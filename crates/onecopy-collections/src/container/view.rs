//! A body of a container as words: its head, its tables, and its log of records.
//!
//! | words | what | who writes |
//! |---|---|---|
//! | 0 | magic and kind | its maker, before it is anybody's |
//! | 1 | its parcel | the same |
//! | 2, 3 | slots and entries of its tables | the same |
//! | 8 | end of what is used of the log | who has the lock |
//! | 9, 10, 11 | of a map: entries given out, live ones, all live ones are before | the same |
//! | 12 | of a list: version, array, length | the same |
//! | 16 … | tables: slots and entries, or two arrays of entries | the same |
//! | rest | log of records | the same |
//!
//! Each word is an atomic, so that whatever another process stores there is a value; and each is checked before it is
//! used as a place.

use onecopy_arena::ParcelId;

use super::record::Record;
use super::{Damaged, damaged};
use crate::door::{AtomicU64, Ordering::Relaxed, crash_point};

const MAGIC: u64 = u64::from_le_bytes(*b"ocbody\x01\0");
/// Words of the head.
const HEAD: usize = 16;
/// Words that records are aligned to.
pub(crate) const UNIT: usize = 2;

/// What a body is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Map = 1,
    List = 2,
}

/// Sizes of a body, fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Slots of the index, a power of two; none for a list.
    pub(crate) slots: usize,
    /// Entries of a map, cells of each of the two arrays of a list.
    pub(crate) entries: usize,
    /// Words of the log.
    pub(crate) log: usize,
}

impl Geometry {
    /// The most entries, and slots: their numbers have 32 bits.
    const MOST: usize = 1 << 31;

    fn tables(self, kind: Kind) -> Option<usize> {
        if self.slots > Self::MOST || self.entries > Self::MOST {
            return None;
        }
        match kind {
            Kind::Map => self.slots.is_power_of_two().then_some(self.slots + self.entries),
            Kind::List => (self.slots == 0).then_some(2 * self.entries),
        }
    }

    /// Word at which the log begins.
    fn log_at(self, kind: Kind) -> Option<usize> {
        Some((HEAD + self.tables(kind)?).next_multiple_of(UNIT))
    }

    /// Words of the whole body; none where it is larger than any.
    pub(crate) fn words(self, kind: Kind) -> Option<usize> {
        self.log_at(kind)?.checked_add(self.log)
    }

    /// Words that have to be zero at first: all but the log.
    pub(crate) fn zeros(self, kind: Kind) -> usize {
        self.log_at(kind).unwrap_or(0)
    }
}

/// Sizes of a body that fit its words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    slots: usize,
    entries: usize,
    log: usize,
}

/// A body whose sizes have been checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    words: &'a [AtomicU64],
    sizes: Sizes,
}

impl<'a> View<'a> {
    /// The body in words of which the sizes are known.
    #[inline]
    pub(crate) fn new(words: &'a [AtomicU64], sizes: Sizes) -> Self {
        Self { words, sizes }
    }

    /// All words, for tests that damage them.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn raw(&self) -> &'a [AtomicU64] {
        self.words
    }

    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// A body that is in these words; none where it cannot be.
    pub(crate) fn over(words: &'a [AtomicU64], kind: Kind) -> Option<Self> {
        if words.len() < HEAD || words[0].load(Relaxed) != MAGIC | (kind as u64) << 56 {
            return None;
        }
        let [slots, entries] = [2, 3].map(|at: usize| usize::try_from(words[at].load(Relaxed)).unwrap_or(usize::MAX));
        let geometry = Geometry { slots, entries, log: 0 };
        let log = geometry.log_at(kind).filter(|&log| log <= words.len())?;
        Some(Self { words, sizes: Sizes { slots, entries, log } })
    }

    /// Makes a body of words whose tables are zeros and that nobody else knows.
    pub(crate) fn make(words: &'a [AtomicU64], kind: Kind, geometry: Geometry) -> Option<Self> {
        let log = geometry.log_at(kind).filter(|&log| log <= words.len())?;
        words[2].store(geometry.slots as u64, Relaxed);
        words[3].store(geometry.entries as u64, Relaxed);
        words[8].store(log as u64, Relaxed);
        words[0].store(MAGIC | (kind as u64) << 56, Relaxed);
        Self::over(words, kind)
    }

    pub(crate) fn parcel(&self) -> ParcelId {
        let word = self.words[1].load(Relaxed);
        ParcelId { index: word as u32, sequence: (word >> 32) as u32 }
    }

    pub(crate) fn set_parcel(&self, parcel: ParcelId) {
        self.words[1].store(u64::from(parcel.sequence) << 32 | u64::from(parcel.index), Relaxed);
    }

    /// The index of a map.
    pub(crate) fn slots(&self) -> &'a [AtomicU64] {
        &self.words[HEAD..HEAD + self.sizes.slots]
    }

    /// The entries of a map.
    pub(crate) fn entries(&self) -> &'a [AtomicU64] {
        &self.words[HEAD + self.sizes.slots..HEAD + self.sizes.slots + self.sizes.entries]
    }

    /// One of the two arrays of cells of a list.
    pub(crate) fn cells(&self, which: usize) -> &'a [AtomicU64] {
        let start = HEAD + (which & 1) * self.sizes.entries;
        &self.words[start..start + self.sizes.entries]
    }

    /// Entries given out.
    pub(crate) fn next(&self) -> &'a AtomicU64 {
        &self.words[9]
    }

    /// Live entries.
    pub(crate) fn count(&self) -> &'a AtomicU64 {
        &self.words[10]
    }

    /// Entries from here on are dead, or not given out.
    pub(crate) fn last(&self) -> &'a AtomicU64 {
        &self.words[11]
    }

    /// Version, array and length of a list.
    pub(crate) fn state(&self) -> &'a AtomicU64 {
        &self.words[12]
    }

    // --- the log ---

    /// Whether the log has room for as many words.
    pub(crate) fn has_room(&self, words: usize) -> bool {
        self.free().is_some_and(|free| words <= free)
    }

    fn free(&self) -> Option<usize> {
        let used = usize::try_from(self.words[8].load(Relaxed)).ok().filter(|&used| used >= self.sizes.log)?;
        self.words.len().checked_sub(used)
    }

    /// Writes a record into free room of the log, which nobody reads before its place is published; answers where, or
    /// none where there is no room.
    pub(crate) fn append(&self, record: &[u64]) -> Option<u64> {
        let len = record.len().next_multiple_of(UNIT);
        let at = self.words.len() - self.free().filter(|&free| len <= free)?;
        if !at.is_multiple_of(UNIT) {
            return None;
        }
        // Before the place is published: should this process die, it is not given out again under its readers.
        self.words[8].store((at + len) as u64, Relaxed);
        crash_point!("log.reserved");
        for (place, &word) in self.words[at..].iter().zip(record) {
            place.store(word, Relaxed);
        }
        crash_point!("log.written");
        Some(at as u64)
    }

    /// The record at a place that was published.
    #[inline]
    pub(crate) fn record(&self, at: u64) -> Result<Record<'a>, Damaged> {
        let place = usize::try_from(at).ok().filter(|&at| at >= self.sizes.log && at % UNIT == 0);
        let words = place.and_then(|at| self.words.get(at..));
        words.and_then(Record::at_start_of).ok_or_else(|| damaged("a container refers to a record that is none"))
    }
}
