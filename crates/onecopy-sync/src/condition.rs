//! The condition: those that wait, in the order in which they came.
//!
//! Each waiter has a record of its own and sleeps on the record's state, so a notification wakes exactly whom it is for.
//!
//! | owner | state | meaning |
//! |---|---|---|
//! | 0 | IDLE | nobody's |
//! | tag | IDLE | being taken or given back |
//! | tag | WAITING | somebody sleeps |
//! | tag | NOTIFIED | somebody was chosen and has not gone on yet |
//!
//! A record of a dead owner is taken over by whoever meets it. If it was NOTIFIED, the notification passes on to the
//! next that waits: it was for something that the dead one did not do.

use onecopy_os::Waited;

use crate::door::{AtomicU32, Ordering, crash_point, wake};
use crate::{Bell, Owners, Patience, Stopped, Tag};

/// Threads that can wait for a condition at a time.
const RECORDS: usize = if cfg!(loom) { 2 } else { 1024 };

const IDLE: u32 = 0;
const WAITING: u32 = 1;
const NOTIFIED: u32 = 2;

/// Waiters that somebody else wakes. It does not know the lock that goes with it: callers hold that lock when they
/// enroll and when they notify.
#[derive(Debug)]
#[repr(C)]
pub struct Condition {
    /// Waiters so far.
    tickets: AtomicU32,
    /// Records from here on have never been used.
    touched: AtomicU32,
    records: [Record; RECORDS],
}

#[derive(Debug)]
#[repr(C)]
struct Record {
    owner: AtomicU32,
    state: AtomicU32,
    ticket: AtomicU32,
}

/// Too many threads wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{RECORDS} threads wait for it already")]
pub struct TooManyWaiters;

/// The place of a thread that waits. It is given back when it is dropped, by which the waiter says that it goes on.
#[derive(Debug)]
#[must_use]
pub struct Place<'a, O: Owners> {
    condition: &'a Condition,
    record: &'a Record,
    owners: &'a O,
}

impl Condition {
    /// A condition for which nobody waits.
    pub fn new() -> Self {
        let record = |_| Record { owner: AtomicU32::new(0), state: AtomicU32::new(IDLE), ticket: AtomicU32::new(0) };
        Self { tickets: AtomicU32::new(0), touched: AtomicU32::new(0), records: std::array::from_fn(record) }
    }

    fn used(&self) -> &[Record] {
        &self.records[..(self.touched.load(Ordering::Acquire) as usize).min(RECORDS)]
    }

    /// Takes a place among those that wait. From now on notifications count for the caller.
    pub fn enroll<'a, O: Owners>(&'a self, owners: &'a O) -> Result<Place<'a, O>, TooManyWaiters> {
        let free = self.free_record(owners.me());
        let index = free.or_else(|| {
            self.bury_dead(owners, |_| true);
            self.free_record(owners.me())
        });
        let index = index.ok_or(TooManyWaiters)?;
        crash_point!("condition.claimed");
        let record = &self.records[index];
        self.touched.fetch_max(index as u32 + 1, Ordering::AcqRel);
        crash_point!("condition.touched");
        record.ticket.store(self.tickets.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        // SYNC POINT: release pairs with the acquire in `oldest`, so that the ticket is seen with the state.
        record.state.store(WAITING, Ordering::Release);
        crash_point!("condition.waiting");
        Ok(Place { condition: self, record, owners })
    }

    /// A place that [`Place::keep`] gave the number of; none where this process has no such place.
    pub fn place<'a, O: Owners>(&'a self, number: usize, owners: &'a O) -> Option<Place<'a, O>> {
        let record = self.records.get(number)?;
        let own = record.owner.load(Ordering::Relaxed) == owners.me().bits();
        // Not made otherwise: a place that is dropped is given back.
        own.then(|| Place { condition: self, record, owners })
    }

    /// Where the one in a place sleeps.
    pub fn bell(&self, number: usize) -> Bell<'_> {
        Bell::new(&self.records[number % RECORDS].state, WAITING)
    }

    /// Whether the wait in a place is over. If it is to `look`, notifications of those that died are passed on before.
    pub fn is_called(&self, number: usize, owners: &impl Owners, look: bool) -> bool {
        if look {
            self.bury_dead(owners, |state| state == NOTIFIED);
        }
        self.records[number % RECORDS].state.load(Ordering::Acquire) != WAITING
    }

    fn free_record(&self, me: Tag) -> Option<usize> {
        self.records.iter().position(|record| record.claim(0, me))
    }

    /// Wakes up to `count` of those that have waited longest; answers how many there were.
    pub fn notify(&self, owners: &impl Owners, count: u32) -> u32 {
        (0..count).take_while(|_| self.notify_one(owners)).count() as u32
    }

    /// Wakes all that wait; answers how many there were.
    pub fn notify_all(&self, owners: &impl Owners) -> u32 {
        self.notify(owners, u32::MAX)
    }

    fn notify_one(&self, owners: &impl Owners) -> bool {
        while let Some(record) = self.oldest() {
            let owner = record.owner.load(Ordering::Relaxed);
            if Tag::from_bits(owner).is_none_or(|tag| !owners.lives(tag)) {
                self.bury(record, owner, owners);
            } else if record.change(WAITING, NOTIFIED) {
                crash_point!("condition.notified");
                wake(&record.state, 1);
                return true;
            }
        }
        false
    }

    fn oldest(&self) -> Option<&Record> {
        let now = self.tickets.load(Ordering::Relaxed);
        let waits = |record: &&Record| record.state.load(Ordering::Acquire) == WAITING;
        // Tickets wrap around: the oldest is the one farthest behind the next.
        self.used().iter().filter(waits).max_by_key(|record| now.wrapping_sub(record.ticket.load(Ordering::Relaxed)))
    }

    /// Frees the records of dead owners, among those in the states that matter.
    fn bury_dead(&self, owners: &impl Owners, matters: impl Fn(u32) -> bool) {
        for record in self.used() {
            let (state, owner) = (record.state.load(Ordering::Relaxed), record.owner.load(Ordering::Relaxed));
            if owner != 0 && matters(state) && Tag::from_bits(owner).is_none_or(|tag| !owners.lives(tag)) {
                self.bury(record, owner, owners);
            }
        }
    }

    /// Frees a record of a dead owner; its notification passes on.
    fn bury(&self, record: &Record, dead: u32, owners: &impl Owners) {
        if !record.claim(dead, owners.me()) {
            return;
        }
        crash_point!("condition.burying");
        if !record.change(WAITING, IDLE) && record.state.load(Ordering::Relaxed) == NOTIFIED {
            // Before the record is free: a death in between makes a needless wake and loses none.
            self.notify_one(owners);
        }
        record.give_back();
    }

    /// Threads that wait at this moment, as far as deaths have been noticed.
    pub fn waiting(&self) -> usize {
        self.used().iter().filter(|record| record.state.load(Ordering::Relaxed) == WAITING).count()
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl Record {
    fn claim(&self, from: u32, me: Tag) -> bool {
        self.owner.load(Ordering::Relaxed) == from
            && self.owner.compare_exchange(from, me.bits(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn give_back(&self) {
        self.state.store(IDLE, Ordering::Relaxed);
        crash_point!("condition.idle");
        // SYNC POINT: release pairs with the acquire in `claim`, so that the next owner's state comes after this one.
        self.owner.store(0, Ordering::Release);
    }
}

impl<O: Owners> Place<'_, O> {
    /// Keeps the place for later; answers its number.
    pub fn keep(self) -> usize {
        let place = std::mem::ManuallyDrop::new(self);
        let number = place.condition.records.iter().position(|record| std::ptr::eq(record, place.record));
        // Each place is one of the records.
        number.unwrap_or(RECORDS)
    }

    /// Waits no longer; answers whether there was a notification.
    pub fn withdraw(&self) -> bool {
        !self.record.change(WAITING, IDLE)
    }

    /// Gives the notification, which was not used, to the next that waits.
    pub fn pass_on(&self) {
        self.condition.notify_one(self.owners);
    }

    /// Waits for a notification.
    pub fn wait(&self, patience: &Patience<'_>) -> Result<(), Stopped> {
        loop {
            let slept = patience.sleep(&self.record.state, WAITING);
            if self.record.state.load(Ordering::Acquire) != WAITING {
                return Ok(());
            }
            match slept {
                // Whoever chose this waiter before it could leave has woken nobody else.
                Err(stopped) if self.record.change(WAITING, IDLE) => {
                    crash_point!("condition.gave-up");
                    return Err(stopped);
                }
                Err(_) => return Ok(()),
                Ok(Waited::TimedOut) => self.condition.bury_dead(self.owners, |state| state == NOTIFIED),
                Ok(_) => {}
            }
        }
    }
}

impl<O: Owners> Drop for Place<'_, O> {
    fn drop(&mut self) {
        self.record.give_back();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::table::{Dead, process};

    fn notified<O: Owners>(place: &Place<'_, O>) -> bool {
        place.wait(&Patience::none()).is_ok()
    }

    #[test]
    fn the_oldest_is_woken_first_and_nobody_twice() {
        let (condition, dead) = (Condition::new(), Dead::new(0));
        condition.tickets.store(u32::MAX, Ordering::Relaxed);
        let me = process(1, &dead);
        let [first, second, third] = [(); 3].map(|()| condition.enroll(&me).unwrap());
        assert_eq!((condition.waiting(), condition.notify(&me, 1)), (3, 1));
        assert!(notified(&first));
        assert!(!notified(&second), "a wait that ends without a notification gives up the place");
        assert_eq!(condition.notify(&me, 5), 1);
        assert!(notified(&third));
        drop((first, second, third));
        assert_eq!((condition.notify_all(&me), condition.waiting()), (0, 0));
    }

    #[test]
    fn dead_waiters_are_passed_over() {
        let (condition, dead) = (Condition::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        std::mem::forget(condition.enroll(&a).unwrap());
        let place = condition.enroll(&b).unwrap();
        a.die();
        assert_eq!(condition.notify(&b, 1), 1);
        assert!(notified(&place));
    }

    #[test]
    fn the_notification_of_a_dead_waiter_passes_on() {
        let (condition, dead) = (Condition::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        std::mem::forget(condition.enroll(&a).unwrap());
        let place = condition.enroll(&b).unwrap();
        assert_eq!(condition.notify(&b, 1), 1);
        a.die();
        assert_eq!(place.wait(&Patience::within(Duration::from_secs(60))), Ok(()));
        drop(place);
        assert!(condition.records.iter().all(|record| record.owner.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn places_of_the_dead_are_taken_when_there_are_no_others() {
        let (condition, dead) = (Condition::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        for _ in 0..RECORDS {
            std::mem::forget(condition.enroll(&a).unwrap());
        }
        assert_eq!(condition.enroll(&b).unwrap_err(), TooManyWaiters);
        a.die();
        let place = condition.enroll(&b).unwrap();
        assert_eq!((condition.waiting(), condition.notify_all(&b)), (1, 1));
        drop(place);
    }

    #[test]
    fn a_place_is_kept_by_its_number_and_passes_on_what_it_did_not_use() {
        let (condition, dead) = (Condition::new(), Dead::new(0));
        let [a, b] = [1, 2].map(|slot| process(slot, &dead));
        let number = condition.enroll(&a).unwrap().keep();
        let behind = condition.enroll(&b).unwrap();
        assert!(condition.place(number, &b).is_none() && condition.place(RECORDS, &a).is_none());
        assert!(!condition.is_called(number, &a, true));
        condition.notify(&a, 1);
        assert!(condition.is_called(number, &a, false));
        let place = condition.place(number, &a).unwrap();
        assert!(place.withdraw());
        place.pass_on();
        assert!(notified(&behind));
        drop(place);
        assert!(condition.place(number, &a).is_none());
        let place = condition.enroll(&a).unwrap();
        assert!(!place.withdraw(), "nobody chose it");
        assert_eq!(condition.notify(&a, 1), 0);
    }

    #[test]
    fn damage_stops_nobody() {
        let (condition, dead) = (Condition::new(), Dead::new(0));
        condition.touched.store(u32::MAX, Ordering::Relaxed);
        condition.records[3].state.store(WAITING, Ordering::Relaxed);
        condition.records[4].owner.store(u32::MAX, Ordering::Relaxed);
        condition.records[4].state.store(77, Ordering::Relaxed);
        assert_eq!(condition.notify_all(&process(1, &dead)), 0);
    }
}
