//! What each process has of something that is counted: permits, places in a queue.
//!
//! A count is changed by one store to the entry of its process; sums are caches. So whoever finds that a process died,
//! in whatever step, makes all sums anew by counting the living. Every operation is done under the lock of the structure
//! that the ledger belongs to.

use crate::door::{AtomicU32, Ordering, crash_point, zeros};
use crate::{Owners, Tag};

/// Slots that a tag can name.
const SLOTS: usize = if cfg!(loom) { 3 } else { Tag::SLOT_LIMIT as usize };

/// Counts of `N` kinds, per process.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ledger<const N: usize> {
    sums: [AtomicU32; N],
    /// Entries from here on have never been used.
    touched: AtomicU32,
    entries: [Entry<N>; SLOTS],
}

#[derive(Debug)]
#[repr(C)]
struct Entry<const N: usize> {
    tag: AtomicU32,
    counts: [AtomicU32; N],
}

impl<const N: usize> Ledger<N> {
    pub(crate) fn new() -> Self {
        let entry = |_| Entry { tag: AtomicU32::new(0), counts: zeros() };
        Self { sums: zeros(), touched: AtomicU32::new(0), entries: std::array::from_fn(entry) }
    }

    /// How many there are of a kind, as far as deaths have been noticed.
    pub(crate) fn sum(&self, kind: usize) -> u32 {
        self.sums[kind].load(Ordering::Relaxed)
    }

    /// How many of a kind this process has.
    pub(crate) fn of(&self, me: Tag, kind: usize) -> u32 {
        let entry = self.entry(me);
        if entry.tag.load(Ordering::Relaxed) == me.bits() { entry.counts[kind].load(Ordering::Relaxed) } else { 0 }
    }

    fn entry(&self, tag: Tag) -> &Entry<N> {
        &self.entries[tag.slot() as usize % SLOTS]
    }

    /// One more of a kind for this process.
    pub(crate) fn add(&self, me: Tag, kind: usize) {
        let entry = self.entry(me);
        if entry.tag.load(Ordering::Relaxed) != me.bits() {
            self.claim(me);
        }
        let count = &entry.counts[kind];
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        crash_point!("ledger.counted");
        change(&self.sums[kind], |sum| sum.wrapping_add(1));
    }

    /// One less of a kind for this process; false where it has none.
    pub(crate) fn subtract(&self, me: Tag, kind: usize) -> bool {
        let has = self.of(me, kind);
        if has > 0 {
            self.entry(me).counts[kind].store(has - 1, Ordering::Relaxed);
            crash_point!("ledger.discounted");
            change(&self.sums[kind], |sum| sum.saturating_sub(1));
        }
        has > 0
    }

    /// Makes the entry of its slot this process's. Who had the slot before is dead, and what it had is nobody's.
    #[cold]
    fn claim(&self, me: Tag) {
        self.forget(self.entry(me));
        self.entry(me).tag.store(me.bits(), Ordering::Relaxed);
        crash_point!("ledger.claimed");
        let end = me.slot() + 1;
        change(&self.touched, |touched| touched.max(end));
    }

    fn forget(&self, entry: &Entry<N>) {
        for (count, sum) in entry.counts.iter().zip(&self.sums) {
            let had = count.load(Ordering::Relaxed);
            count.store(0, Ordering::Relaxed);
            crash_point!("ledger.forgetting");
            change(sum, |sum| sum.saturating_sub(had));
        }
        entry.tag.store(0, Ordering::Relaxed);
    }

    /// Forgets the dead and makes the sums anew; answers whether somebody who had something was dead.
    pub(crate) fn recount(&self, owners: &impl Owners) -> bool {
        let mut sums = [0_u32; N];
        let mut deaths = false;
        let touched = (self.touched.load(Ordering::Relaxed) as usize).min(SLOTS);
        for entry in &self.entries[..touched] {
            let counts = entry.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            if counts == [0; N] {
                continue;
            }
            // Counts of nobody are what a death inside `forget` left.
            if Tag::from_bits(entry.tag.load(Ordering::Relaxed)).is_some_and(|tag| owners.lives(tag)) {
                for (sum, count) in sums.iter_mut().zip(counts) {
                    *sum = sum.wrapping_add(count);
                }
            } else {
                self.forget(entry);
                deaths = true;
            }
        }
        for (cache, sum) in self.sums.iter().zip(sums) {
            cache.store(sum, Ordering::Relaxed);
        }
        deaths
    }
}

/// Under the structure's lock nobody else stores, so a load and a store do.
fn change(word: &AtomicU32, to: impl FnOnce(u32) -> u32) {
    word.store(to(word.load(Ordering::Relaxed)), Ordering::Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::{Dead, process};

    #[derive(Debug, Clone)]
    enum Step {
        Add(u32, usize),
        Subtract(u32, usize),
        Die(u32),
        Recount,
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u32..5, 0_usize..2).prop_map(|(slot, kind)| Step::Add(slot, kind)),
            3 => (0_u32..5, 0_usize..2).prop_map(|(slot, kind)| Step::Subtract(slot, kind)),
            1 => (0_u32..5).prop_map(Step::Die),
            1 => Just(Step::Recount),
        ]
    }

    proptest! {
        #[test]
        fn it_counts_what_the_living_have(steps in prop::collection::vec(steps(), 0..60)) {
            let (ledger, dead) = (Ledger::<2>::new(), Dead::new(0));
            let mut has = [[0_u32; 2]; 5];
            // Each death gives the slot to a process of the next generation.
            let mut generations = [1_u32; 5];
            let mut died = false;
            for step in steps {
                match step {
                    Step::Add(slot, kind) => {
                        let me = Tag::new(slot, generations[slot as usize]);
                        ledger.add(me, kind);
                        has[slot as usize][kind] += 1;
                        prop_assert_eq!(ledger.of(me, kind), has[slot as usize][kind]);
                    }
                    Step::Subtract(slot, kind) => {
                        let had = has[slot as usize][kind] > 0;
                        prop_assert_eq!(ledger.subtract(Tag::new(slot, generations[slot as usize]), kind), had);
                        has[slot as usize][kind] -= u32::from(had);
                    }
                    Step::Die(slot) => {
                        died |= has[slot as usize] != [0; 2];
                        has[slot as usize] = [0; 2];
                        generations[slot as usize] += 1;
                    }
                    Step::Recount => {
                        let found = ledger.recount(&Generations { generations, dead: &dead });
                        prop_assert!(died || !found);
                        died = false;
                        for kind in 0..2 {
                            prop_assert_eq!(ledger.sum(kind), has.iter().map(|counts| counts[kind]).sum::<u32>());
                        }
                    }
                }
            }
        }
    }

    struct Generations<'a> {
        generations: [u32; 5],
        dead: &'a Dead,
    }

    impl Owners for Generations<'_> {
        fn me(&self) -> Tag {
            process(31, self.dead).me()
        }

        fn is_alive(&self, tag: Tag) -> bool {
            self.generations[tag.slot() as usize] == tag.generation()
        }
    }
}
