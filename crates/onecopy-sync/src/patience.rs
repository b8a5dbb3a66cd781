//! How long a caller waits.

use std::time::{Duration, Instant};

use onecopy_os::Waited;

use crate::door::{AtomicU32, wait};

/// How long a sleeper trusts that nobody it waits for has died. Asking costs 0.4 µs.
const POLL: Duration = Duration::from_millis(2);

/// How long a caller waits, and who may call it off.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    end: End,
    longest: Duration,
    interrupted: &'a dyn Fn(Waited) -> bool,
}

/// When a caller stops waiting.
#[derive(Debug, Clone, Copy)]
enum End {
    Never,
    /// Before it begins, which is known without asking a clock.
    AtOnce,
    At(Instant),
}

/// Why a wait ended without what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The time was up.
    #[error("the time was up")]
    TimedOut,
    /// It was called off.
    #[error("the wait was called off")]
    Interrupted,
}

impl Patience<'static> {
    /// Waits as long as it takes.
    pub const FOREVER: Self = Self { end: End::Never, longest: Duration::MAX, interrupted: &|_| false };

    /// Looks once and does not wait.
    pub fn none() -> Self {
        Self { end: End::AtOnce, ..Self::FOREVER }
    }

    /// Waits for at most `limit`; a time beyond what a clock can tell is for ever.
    pub fn within(limit: Duration) -> Self {
        if limit.is_zero() {
            return Self::none();
        }
        let end = Instant::now().checked_add(limit).map_or(End::Never, End::At);
        Self { end, ..Self::FOREVER }
    }
}

impl<'a> Patience<'a> {
    /// The same, called off when `interrupted` says so. It is asked each time a sleep ends without a wake: at least
    /// every few milliseconds, and at once when a signal arrived.
    #[must_use]
    pub fn unless(self, interrupted: &'a dyn Fn(Waited) -> bool) -> Self {
        Self { interrupted, ..self }
    }

    /// The same, without sleeping longer than `longest` at a time: for a caller that has more to look at.
    #[must_use]
    pub fn looking_every(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// Whether it is called off, asked after a sleep that ended so.
    pub fn is_called_off(&self, waited: Waited) -> bool {
        (self.interrupted)(waited)
    }

    /// The same without an end.
    #[must_use]
    pub fn without_deadline(&self) -> Self {
        Self { end: End::Never, ..*self }
    }

    /// Whether there is nothing to wait for.
    pub(crate) fn is_none(&self) -> bool {
        match self.end {
            End::Never => false,
            End::AtOnce => true,
            End::At(end) => end <= Instant::now(),
        }
    }

    /// Sleeps while `word` is `expected`, but not so long that a death would go unnoticed.
    pub(crate) fn sleep(&self, word: &AtomicU32, expected: u32) -> Result<Waited, Stopped> {
        self.sleep_at_most(POLL, word, expected)
    }

    /// Sleeps while `word` is `expected`, at most for `longest`.
    pub(crate) fn sleep_at_most(&self, longest: Duration, word: &AtomicU32, expected: u32) -> Result<Waited, Stopped> {
        let longest = longest.min(self.longest);
        let limit = match self.end {
            End::Never => longest,
            End::AtOnce => return Err(Stopped::TimedOut),
            End::At(end) => match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Err(Stopped::TimedOut),
                left => left.min(longest),
            },
        };
        let waited = wait(word, expected, limit);
        if waited != Waited::Again && self.is_called_off(waited) { Err(Stopped::Interrupted) } else { Ok(waited) }
    }
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience").field("end", &self.end).finish_non_exhaustive()
    }
}
