//! The barrier.

use onecopy_arena::Arena;
use onecopy_sync::{Arrival, Barrier as Part, Bell, Patience};

use crate::{Kind, LockError, Shareable, Shared, SharedObject, Waitable};

// SAFETY: repr(C) of atomics of four bytes; zeros are a barrier for nobody, which lets everybody through.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::Barrier;
}

/// A meeting point for a fixed number of parties. It breaks when one of them dies while the others wait.
///
/// ```
/// use onecopy::{Barrier, Patience, session};
///
/// let barrier = Barrier::new(session()?, 2)?;
/// std::thread::scope(|scope| {
///     let other = scope.spawn(|| barrier.wait(&Patience::FOREVER, || ()).unwrap());
///     let mine = barrier.wait(&Patience::FOREVER, || ()).unwrap();
///     assert_eq!(mine + other.join().unwrap(), 1); // one is 0, the other 1
/// });
/// # Ok::<(), onecopy::LockError>(())
/// ```
#[derive(Debug)]
pub struct Barrier {
    shared: Shared<Part>,
}

impl Barrier {
    /// A barrier for `parties`.
    pub fn new(arena: &'static Arena, parties: u32) -> Result<Self, LockError> {
        if parties == 0 {
            return Err(LockError::NoParties);
        }
        let shared = Shared::<Part>::new(arena)?;
        shared.set_up(parties);
        Ok(shared.into())
    }

    /// Waits for the other parties; answers which of them this one was, from 0. The last to arrive does `action` before
    /// the others go on.
    pub fn wait(&self, patience: &Patience<'_>, action: impl FnOnce()) -> Result<u32, LockError> {
        match self.arrive(patience)? {
            Arrival::Through(index) => Ok(index),
            Arrival::Last(index) => {
                action();
                self.finish(true).map(|()| index)
            }
        }
    }

    /// The first half of [`wait`](Self::wait), for an action that can fail: after [`Arrival::Last`] the caller has to
    /// call [`finish`](Self::finish).
    pub fn arrive(&self, patience: &Patience<'_>) -> Result<Arrival, LockError> {
        Ok(self.shared.wait(&self.shared.owners()?, patience)?)
    }

    /// Lets all parties through, or breaks the barrier if the action was not `done`.
    pub fn finish(&self, done: bool) -> Result<(), LockError> {
        Ok(self.shared.finish(&self.shared.owners()?, done)?)
    }

    /// For one that waits for other things too: arrives, if those of the last time have left. After
    /// [`Arrival::Through`] it has to [`try_leave`](Self::try_leave) until that succeeds, or to [`give_up`](Self::give_up).
    pub fn try_arrive(&self) -> Result<Option<Arrival>, LockError> {
        Ok(self.shared.try_arrive(&self.shared.owners()?)?)
    }

    /// Leaves, if all have arrived; whether that was so. After an error it has left too.
    pub fn try_leave(&self) -> Result<bool, LockError> {
        Ok(self.shared.try_leave(&self.shared.owners()?)?)
    }

    /// Leaves before all have arrived, which breaks the barrier if it is because the party is `late`; whether it has. If
    /// not, all have arrived meanwhile.
    pub fn give_up(&self, late: bool) -> Result<bool, LockError> {
        Ok(self.shared.give_up(&self.shared.owners()?, late))
    }

    /// Changes whenever there may be reason to try again.
    pub fn moment(&self) -> u32 {
        self.shared.bell().seen()
    }

    /// To be told when something has changed since a [`moment`](Self::moment), which was asked for before the last try.
    pub fn awaited(&self, moment: u32) -> impl Waitable + use<> {
        Awaited(self.shared.clone(), moment)
    }

    /// Breaks the barrier.
    pub fn abort(&self) -> Result<(), LockError> {
        self.shared.abort(&self.shared.owners()?);
        Ok(())
    }

    /// Makes the barrier as new; those that wait are told that it broke.
    pub fn reset(&self) -> Result<(), LockError> {
        self.shared.reset(&self.shared.owners()?);
        Ok(())
    }

    /// The number of parties.
    pub fn parties(&self) -> u32 {
        self.shared.parties()
    }

    /// Parties that wait for others to arrive.
    pub fn waiting(&self) -> u32 {
        self.shared.waiting()
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.shared.is_broken()
    }
}

/// A barrier to be told of, and the moment of the last try.
struct Awaited(Shared<Part>, u32);

impl Waitable for Awaited {
    fn bell(&self) -> Bell<'_> {
        self.0.bell()
    }

    fn is_ready(&self, look: bool) -> bool {
        if look && let Ok(owners) = self.0.owners() {
            self.0.look(&owners);
        }
        self.0.bell().seen() != self.1
    }
}

impl From<Shared<Part>> for Barrier {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared }
    }
}

impl SharedObject for Barrier {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}
