//! Which bytes of a draft are being written.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Ranges that are taken, by as many threads as write: none overlaps another one.
#[derive(Debug, Default)]
pub(super) struct Leases {
    taken: Mutex<Vec<Range<u64>>>,
}

/// A range that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    leases: &'a Leases,
    range: Range<u64>,
}

impl Leases {
    /// Takes a range.
    ///
    /// # Panics
    /// Some of it is taken.
    pub(super) fn take(&self, range: Range<u64>) -> Lease<'_> {
        let mut taken = self.lock();
        let overlap = |other: &&Range<u64>| other.start.max(range.start) < other.end.min(range.end);
        let other = taken.iter().find(overlap).cloned();
        if let Some(other) = other {
            drop(taken);
            panic!("bytes {range:?} of a draft are to be written while {other:?} are");
        }
        taken.push(range.clone());
        Lease { leases: self, range }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut taken = self.leases.lock();
        if let Some(place) = taken.iter().position(|other| *other == self.range) {
            taken.swap_remove(place);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_is_taken_if_none_of_its_bytes_is(ranges in prop::collection::vec((0..40_u64, 0..12_u64), 0..12)) {
            let leases = Leases::default();
            let mut held = Vec::new();
            for (start, len) in ranges {
                let bytes = || start..start + len;
                let is_free = !held.iter().any(|lease: &Lease<'_>| bytes().any(|byte| lease.range.contains(&byte)));
                let taken = catch_unwind(AssertUnwindSafe(|| leases.take(bytes())));
                prop_assert_eq!(taken.is_ok(), is_free);
                held.extend(taken);
                // The one that was taken first goes now and then.
                if start % 3 == 0 && !held.is_empty() {
                    held.remove(0);
                }
            }
            held.clear();
            prop_assert!(leases.lock().is_empty());
        }
    }
}
