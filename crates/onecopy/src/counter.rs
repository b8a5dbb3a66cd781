//! A number that processes count with together.

use std::sync::atomic::{AtomicI64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use onecopy_arena::Arena;
use onecopy_os::crash_point;

use crate::{Error, Kind, Shareable, Shared, SharedObject};

/// The shared part of a counter.
#[derive(Debug)]
#[repr(transparent)]
pub struct Part(AtomicI64);

// SAFETY: a transparent atomic whose value nothing relies on; zero is a counter at zero.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::Counter;
}

/// An addition whose sum would not fit into 64 bits. The counter stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the counter is at {value}: {value} + {added} is beyond 64 bits (-2**63 to 2**63 - 1), so nothing was added; set() it \
     back, or count in several counters"
)]
pub struct CounterOverflow {
    /// What the counter was at.
    pub value: i64,
    /// What was to be added.
    pub added: i128,
}

/// Up to this distance from zero a counter is so far from its limits that additions need not look ahead.
const NEAR: u64 = 1 << 62;
/// The largest step that is added without looking ahead: it would take 2³¹ of them at the same moment, by as many
/// threads, to get from [`NEAR`] to the limit.
const STEP: u64 = 1 << 31;

/// An integer of 64 bits in shared memory, each of whose operations is atomic: no other process comes in between, and
/// a process that is killed has done all of it or nothing.
///
/// The operations that are named as in [`AtomicI64`] do and answer the same; their order is that of
/// [`AcqRel`](std::sync::atomic::Ordering::AcqRel), so what a process wrote before it counted is seen by those that see
/// the count.
///
/// Additions never wrap around: one that does not fit is an error and changes nothing. There is one race in which
/// another process can see a value that has wrapped, for the few nanoseconds until it is taken back: when
/// [`set`](Self::set) or another operation that stores what it is given puts the counter within 2³¹ of a limit while
/// an [`add`](Self::add) is under way that saw the value before. The addition is an error then as well; if the process is
/// killed in these nanoseconds, the value stays wrapped.
///
/// ```
/// use onecopy::{Counter, SharedObject, session};
///
/// let counter = Counter::new(session()?, 0)?;
/// let there = Counter::receive(&counter.send()?)?; // in another process
/// assert_eq!(there.add(5)?, 5);
/// assert_eq!(counter.fetch_max(7), 5);
/// assert!(there.compare_exchange(7, 0).is_ok());
/// assert_eq!(counter.get(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Counter {
    shared: Shared<Part>,
}

/// The operations that cannot fail, under the names that [`AtomicI64`] gives them.
macro_rules! fetch_operations {
    ($($(#[$documentation:meta])* $name:ident),*) => {
        $(
            $(#[$documentation])*
            ///
            /// Answers the value before.
            #[inline]
            pub fn $name(&self, value: i64) -> i64 {
                folded(self.shared.0.$name(value, AcqRel))
            }
        )*
    };
}

#[inline]
fn folded(before: i64) -> i64 {
    crash_point!("counter.folded");
    before
}

impl Counter {
    /// A counter that begins at `initial`.
    pub fn new(arena: &'static Arena, initial: i64) -> Result<Self, Error> {
        let shared = Shared::<Part>::new(arena)?;
        shared.0.store(initial, Release);
        Ok(Self { shared })
    }

    /// The value at this moment.
    #[inline]
    pub fn get(&self) -> i64 {
        self.shared.0.load(Acquire)
    }

    /// Stores a value.
    #[inline]
    pub fn set(&self, value: i64) {
        self.shared.0.store(value, Release);
        crash_point!("counter.set");
    }

    /// Adds `n`, and answers the sum.
    #[inline]
    pub fn add(&self, n: i64) -> Result<i64, CounterOverflow> {
        self.add_wide(n.into())
    }

    /// Subtracts `n`, and answers the difference.
    #[inline]
    pub fn sub(&self, n: i64) -> Result<i64, CounterOverflow> {
        self.add_wide(-i128::from(n))
    }

    /// Adds what may be one more than fits: the opposite of the least value.
    #[inline]
    fn add_wide(&self, n: i128) -> Result<i64, CounterOverflow> {
        let is_near = self.shared.0.load(Relaxed).unsigned_abs() < NEAR;
        if is_near && n.unsigned_abs() <= STEP.into() { self.add_near(n as i64) } else { self.add_far(n) }
    }

    /// Adds in one step, which is twice as fast as looking ahead where processes count at the same time.
    #[inline]
    fn add_near(&self, n: i64) -> Result<i64, CounterOverflow> {
        let before = self.shared.0.fetch_add(n, AcqRel);
        crash_point!("counter.added");
        before.checked_add(n).ok_or_else(|| {
            // Somebody stored another value since it was near. Sums wrap, so whatever was added meanwhile stays added.
            self.shared.0.fetch_sub(n, AcqRel);
            CounterOverflow { value: before, added: n.into() }
        })
    }

    /// Adds only if the sum fits.
    #[cold]
    fn add_far(&self, n: i128) -> Result<i64, CounterOverflow> {
        let sum = |value: i64| i64::try_from(i128::from(value) + n).ok();
        let added = self.shared.0.fetch_update(AcqRel, Acquire, sum);
        crash_point!("counter.added-far");
        let overflow = |value| CounterOverflow { value, added: n };
        added.map_err(overflow).and_then(|before| sum(before).ok_or_else(|| overflow(before)))
    }

    /// Stores `new` if the value is `expected`; either way the answer is the value before.
    #[inline]
    pub fn compare_exchange(&self, expected: i64, new: i64) -> Result<i64, i64> {
        let before = self.shared.0.compare_exchange(expected, new, AcqRel, Acquire);
        crash_point!("counter.compared");
        before
    }

    /// Stores a value. Answers the value before.
    #[inline]
    pub fn exchange(&self, value: i64) -> i64 {
        let before = self.shared.0.swap(value, AcqRel);
        crash_point!("counter.exchanged");
        before
    }

    fetch_operations! {
        /// Stores the larger of the value and another.
        fetch_max,
        /// Stores the smaller of the value and another.
        fetch_min,
        /// Stores the bits that are set in the value and in another.
        fetch_and,
        /// Stores the bits that are set in the value or in another.
        fetch_or,
        /// Stores the bits that are set in one of the value and another.
        fetch_xor
    }
}

impl From<Shared<Part>> for Counter {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared }
    }
}

impl SharedObject for Counter {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}

#[cfg(test)]
mod tests {
    use onecopy_arena::Options;
    use proptest::prelude::*;

    use super::*;

    fn counter(initial: i64) -> Counter {
        let arena = Arena::create(Options { limit: Some(8 << 20), warm: None }).unwrap();
        Counter::new(arena, initial).unwrap()
    }

    fn numbers() -> impl Strategy<Value = i64> {
        let special = [0, 1, -1, i64::MAX, i64::MIN, 1 << 62, -1 << 62, (1 << 62) - 1, 1 << 31, -1 << 31];
        prop_oneof![any::<i64>(), prop::sample::select(special.to_vec()), -9_i64..9]
    }

    #[test]
    fn no_addition_of_several_threads_is_lost() {
        for start in [0, i64::MAX - 400_000] {
            let counter = counter(start);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..100_000).for_each(|_| _ = counter.add(1).unwrap()));
                }
            });
            assert_eq!(counter.get(), start + 400_000);
        }
    }

    #[test]
    fn a_sum_that_wraps_because_of_a_race_is_taken_back() {
        // As if the value had been near when the addition began.
        let counter = counter(i64::MAX);
        assert_eq!(counter.add_near(3), Err(CounterOverflow { value: i64::MAX, added: 3 }));
        assert_eq!(counter.get(), i64::MAX);
    }

    proptest! {
        #[test]
        fn sums_are_exact_or_refused(start in numbers(), steps in prop::collection::vec((numbers(), any::<bool>()), 0..20)) {
            let counter = counter(start);
            let mut expected = start;
            for (n, add) in steps {
                let exact = if add { expected.checked_add(n) } else { expected.checked_sub(n) };
                let done = if add { counter.add(n) } else { counter.sub(n) };
                prop_assert_eq!(done.ok(), exact);
                prop_assert_eq!(done.err().map(|error| error.value), exact.is_none().then_some(expected));
                expected = exact.unwrap_or(expected);
                prop_assert_eq!(counter.get(), expected);
            }
        }
    }
}
