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

/// Words that [`wait_any`] sleeps at.
pub const MOST_WORDS: usize = 128;

/// Sleeps while each of some words is what is expected of it, at most for `limit`. Words are named by their addresses,
/// which the kernel checks; of more than [`MOST_WORDS`] the first are slept at. An error, as from a kernel before 5.16, is
/// none of [`Waited`], and comes at once.
pub fn wait_any(words: &[(usize, u32)], limit: Duration) -> Option<Waited> {
    let words: Vec<futex::Wait> =
        words.iter().take(MOST_WORDS).map(|&(address, expected)| word(address, expected)).collect();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = now.tv_nsec + i64::from(limit.subsec_nanos());
    let seconds = limit.as_secs().min(u32::MAX.into()).cast_signed();
    let end = futex::Timespec {
        tv_sec: now.tv_sec + seconds + nanoseconds / 1_000_000_000,
        tv_nsec: nanoseconds % 1_000_000_000,
    };
    match futex::waitv(&words, futex::WaitvFlags::empty(), Some(&end), futex::ClockId::Monotonic) {
        Ok(_) | Err(Errno::AGAIN) => Some(Waited::Again),
        Err(Errno::TIMEDOUT) => Some(Waited::TimedOut),
        Err(Errno::INTR) => Some(Waited::Interrupted),
        Err(_) => None,
    }
}

fn word(address: usize, expected: u32) -> futex::Wait {
    let mut word = futex::Wait::new();
    word.val = expected.into();
    word.uaddr = futex::WaitPtr::new(std::ptr::without_provenance_mut(address));
    word.flags = futex::WaitFlags::SIZE_U32;
    word
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
    fn any_of_many_words_wakes() {
        let words: Vec<AtomicU32> = (0..200).map(AtomicU32::new).collect();
        let seen = |i: usize| (std::ptr::from_ref(&words[i]).addr(), words[i].load(Ordering::Relaxed));
        let all: Vec<_> = (0..words.len()).map(seen).collect();
        assert_eq!(wait_any(&all, Duration::from_millis(1)), Some(Waited::TimedOut));
        std::thread::scope(|scope| {
            scope.spawn(|| while wait_any(&all, Duration::from_secs(60)) != Some(Waited::Again) {});
            words[77].store(0, Ordering::Release);
            wake(&words[77], 1);
        });
        assert_eq!(wait_any(&all, Duration::from_secs(60)), Some(Waited::Again));
        assert_eq!(wait_any(&[(0, 0)], Duration::from_secs(60)), None);
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
