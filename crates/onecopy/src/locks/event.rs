//! The event.

use onecopy_arena::Arena;
use onecopy_sync::{Event as Part, Patience};

use crate::{Error, Kind, LockError, Shareable, Shared, SharedObject};

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

    /// Waits until it is set, if only for a moment.
    pub fn wait(&self, patience: &Patience<'_>) -> Result<(), LockError> {
        Ok(self.shared.wait(patience)?)
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
