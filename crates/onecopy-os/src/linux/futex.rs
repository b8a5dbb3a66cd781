//! Waiting for a word in shared memory to change.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Woken, or the word had another value already: look again.
    Again,
    /// A signal arrived.
    Interrupted,
    /// The time was up.
    TimedOut,
}

/// Sleeps while `word` is `expected`, at most for `limit`. The word may be shared between processes.
pub fn wait(word: &AtomicU32, expected: u32, limit: Duration) -> Waited {
    let limit = futex::Timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    match futex::wait(word, futex::Flags::empty(), expected, Some(&limit)) {
        Err(Errno::TIMEDOUT) => Waited::TimedOut,
        Err(Errno::INTR) => Waited::Interrupted,
        _ => Waited::Again,
    }
}

/// Wakes at most `count` sleepers of `word`; answers how many there were.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    futex::wake(word, futex::Flags::empty(), count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_changed_word_is_not_waited_for() {
        let word = AtomicU32::new(1);
        assert_eq!(wait(&word, 0, Duration::from_secs(60)), Waited::Again);
    }

    #[test]
    fn the_time_is_kept() {
        let word = AtomicU32::new(0);
        assert_eq!(wait(&word, 0, Duration::from_millis(1)), Waited::TimedOut);
    }

    #[test]
    fn a_sleeper_is_woken() {
        let word = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while word.load(Ordering::Acquire) == 0 {
                    wait(&word, 0, Duration::from_secs(60));
                }
            });
            word.store(1, Ordering::Release);
            wake(&word, 1);
        });
    }
}
