//! The event.

use onecopy_arena::Arena;
use onecopy_sync::{Bell, Event as Part, Patience};

use crate::{Error, Kind, LockError, Shareable, Shared, SharedObject, Waitable};

// SAFETY: an atomic; zero is an event that is not set.
unsafe impl Shareable for Part {
    const KIND: Kind = Kind::Event;
}

/// A flag to wait for.
///
/// ```
/// use onecopy::{Event, Patience, session};
///
/// let event = Event::new(session()?)?;
/// assert!(event.wait(&Patience::none()).is_err());
/// event.set();
/// event.wait(&Patience::FOREVER)?;
/// # Ok::<(), onecopy::LockError>(())
/// ```
#[derive(Debug)]
pub struct Event {
    shared: Shared<Part>,
}

impl Event {
    /// An event that is not set.
    pub fn new(arena: &'static Arena) -> Result<Self, Error> {
        Shared::new(arena).map(Self::from)
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.shared.is_set()
    }

    /// Sets it and wakes all that wait.
    pub fn set(&self) {
        self.shared.set();
    }

    /// Unsets it.
    pub fn clear(&self) {
        self.shared.clear();
    }

    /// To be told when it is set, if only for a moment from now on.
    pub fn awaited(&self) -> impl Waitable + use<> {
        let seen = self.shared.bell().seen();
        Awaited(self.shared.clone(), seen)
    }

    /// Waits until it is set, if only for a moment.
    pub fn wait(&self, patience: &Patience<'_>) -> Result<(), LockError> {
        Ok(self.shared.wait(patience)?)
    }
}

/// An event to be told of, and its word when that was asked for.
struct Awaited(Shared<Part>, u32);

impl Waitable for Awaited {
    fn bell(&self) -> Bell<'_> {
        self.0.bell()
    }

    fn is_ready(&self, _look: bool) -> bool {
        self.0.has_been_set(self.1)
    }
}

impl From<Shared<Part>> for Event {
    fn from(shared: Shared<Part>) -> Self {
        Self { shared }
    }
}

impl SharedObject for Event {
    type Part = Part;

    fn part(&self) -> &Shared<Part> {
        &self.shared
    }
}
