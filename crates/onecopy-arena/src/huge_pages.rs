//! Which parts of the data area this process has put huge pages behind.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A bit for each huge page of the data area: set where this process has made one and not taken it away again. What others
/// do is not seen, so it serves speed and nothing else.
#[derive(Debug)]
pub(crate) struct HugePages {
    size: u64,
    made: Box<[AtomicU64]>,
}

impl HugePages {
    /// For an area of `capacity` bytes and huge pages of `size`.
    pub(crate) fn new(capacity: u64, size: u64) -> Self {
        let words = (capacity / size).div_ceil(u64::from(u64::BITS));
        Self { size, made: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The runs of huge pages that lie in a range as a whole and have not been made, as ranges of bytes.
    pub(crate) fn missing(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let (mut next, end) = (range.start.div_ceil(self.size), range.end / self.size);
        std::iter::from_fn(move || {
            let start = (next..end).find(|&number| !self.is_made(number))?;
            next = (start..end).find(|&number| self.is_made(number)).unwrap_or(end);
            Some(start * self.size..next * self.size)
        })
    }

    /// Notes that the huge pages in a range have been made.
    pub(crate) fn note(&self, range: Range<u64>) {
        for number in range.start / self.size..range.end / self.size {
            self.change(number, |word, bit| word.fetch_or(bit, Relaxed));
        }
    }

    /// Notes that the memory behind a range has gone, and with it all huge pages of which it was a part.
    pub(crate) fn forget(&self, range: Range<u64>) {
        for number in range.start / self.size..range.end.div_ceil(self.size) {
            self.change(number, |word, bit| word.fetch_and(!bit, Relaxed));
        }
    }

    /// How many bytes of a range lie in huge pages.
    pub(crate) fn bytes_in(&self, range: Range<u64>) -> u64 {
        let pages = range.start / self.size..range.end.div_ceil(self.size);
        let part = |number: u64| {
            let (start, end) = (number * self.size, (number + 1) * self.size);
            end.min(range.end) - start.max(range.start)
        };
        pages.filter(|&number| self.is_made(number)).map(part).sum()
    }

    fn is_made(&self, number: u64) -> bool {
        let mut found = 0;
        self.change(number, |word, bit| {
            found = word.load(Relaxed) & bit;
            found
        });
        found != 0
    }

    fn change(&self, number: u64, act: impl FnOnce(&AtomicU64, u64) -> u64) {
        let bits = u64::from(u64::BITS);
        if let Some(word) = self.made.get((number / bits) as usize) {
            act(word, 1 << (number % bits));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 8;
    const PAGES: u64 = 150;

    proptest! {
        #[test]
        fn it_knows_what_a_set_of_numbers_knows(
            steps in prop::collection::vec((0..2, 0..PAGES * SIZE, 0..PAGES * SIZE), 0..20),
            (from, to) in (0..PAGES * SIZE, 0..PAGES * SIZE),
        ) {
            let pages = HugePages::new(PAGES * SIZE, SIZE);
            let mut set = BTreeSet::new();
            for (kind, a, b) in steps {
                let range = a.min(b)..a.max(b);
                if kind == 0 {
                    for missing in pages.missing(range.clone()).collect::<Vec<_>>() {
                        pages.note(missing);
                    }
                    set.extend(range.start.div_ceil(SIZE)..range.end / SIZE);
                } else {
                    pages.forget(range.clone());
                    set.retain(|&number| range.end <= number * SIZE || (number + 1) * SIZE <= range.start);
                }
            }
            let range = from.min(to)..from.max(to);
            let inside = range.clone().filter(|byte| set.contains(&(byte / SIZE))).count() as u64;
            prop_assert_eq!(pages.bytes_in(range.clone()), inside);
            let missing: Vec<u64> = pages.missing(range.clone()).flatten().step_by(SIZE as usize).map(|at| at / SIZE).collect();
            let expected: Vec<u64> =
                (range.start.div_ceil(SIZE)..range.end / SIZE).filter(|number| !set.contains(number)).collect();
            prop_assert_eq!(missing, expected);
        }
    }

    #[test]
    fn what_lies_behind_the_area_is_nothing() {
        let pages = HugePages::new(3 * SIZE, SIZE);
        pages.note(0..1000 * SIZE);
        assert_eq!(pages.bytes_in(500 * SIZE..600 * SIZE), 0);
    }
}
