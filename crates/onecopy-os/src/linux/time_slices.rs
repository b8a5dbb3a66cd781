//! How long a thread computes before it makes room for another.

use std::mem::MaybeUninit;
use std::time::Duration;

/// Some times what threads have by default, and a tenth of what the system allows.
const LONG: Duration = Duration::from_millis(10);

/// Long time slices for this thread, and for those that it starts, until this is dropped.
///
/// For threads that compute for long on all cores. One that wakes up between them for a moment, to hand over what they have
/// made, runs at once: where all have slices of the same length it waits for the end of one or for the next tick, which is
/// 4 ms on many machines. The share of the processor is the same with slices of any length. Linux has them since 6.12;
/// before that, nothing changes.
#[derive(Debug)]
pub struct LongTimeSlices {
    before: Option<libc::sched_attr>,
}

impl LongTimeSlices {
    /// From now on. Where a sandbox forbids it, nothing changes.
    pub fn begin() -> Self {
        let long = LONG.as_nanos() as u64;
        // Where they are long already, nothing has to be asked for, now or at the end.
        let before = attributes().filter(|now| is_fair(now) && now.sched_runtime != long);
        if let Some(now) = before {
            set(libc::sched_attr { sched_runtime: long, ..now });
        }
        Self { before }
    }
}

impl Drop for LongTimeSlices {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            set(before);
        }
    }
}

/// Whether the thread is one of those that share the processor fairly: for the others, a runtime is something else.
fn is_fair(attributes: &libc::sched_attr) -> bool {
    matches!(i32::try_from(attributes.sched_policy), Ok(libc::SCHED_OTHER | libc::SCHED_BATCH))
}

/// How this thread is scheduled, if the system tells.
fn attributes() -> Option<libc::sched_attr> {
    let mut found = MaybeUninit::<libc::sched_attr>::zeroed();
    let size = size_of::<libc::sched_attr>();
    // SAFETY: 0 is this thread, and the system writes at most `size` bytes, all of which are integers.
    let answer = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, found.as_mut_ptr(), size, 0) };
    // SAFETY: zeros are valid for each of its fields, and so is whatever was written there.
    (answer == 0).then(|| unsafe { found.assume_init() })
}

/// Asks for a schedule. Whoever is refused has the one from before.
fn set(attributes: libc::sched_attr) {
    // SAFETY: 0 is this thread; the system reads as many bytes as the first field says, which is what it wrote there itself:
    // at most the size of the structure.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice() -> u64 {
        attributes().unwrap().sched_runtime
    }

    /// Runs on a thread of its own, where the system tells how threads are scheduled.
    fn on_a_thread(test: impl FnOnce() + Send + 'static) {
        if attributes().is_some() {
            std::thread::spawn(test).join().unwrap();
        }
    }

    #[test]
    fn slices_are_long_for_a_while_and_for_threads_that_begin_then() {
        on_a_thread(|| {
            let before = slice();
            let long = LongTimeSlices::begin();
            // Linux answered 0 until it had slices of different lengths.
            let expected = if before == 0 { 0 } else { LONG.as_nanos() as u64 };
            assert_eq!(slice(), expected);
            assert_eq!(std::thread::spawn(slice).join().unwrap(), expected);
            // Whoever asks for them where they are long already ends nothing.
            drop(LongTimeSlices::begin());
            assert_eq!(slice(), expected);
            drop(long);
            assert_eq!(slice(), before);
        });
    }

    #[test]
    fn the_schedule_is_otherwise_as_it_was() {
        on_a_thread(|| {
            let nicer =
                libc::sched_attr { sched_nice: 3, sched_policy: libc::SCHED_BATCH as u32, ..attributes().unwrap() };
            set(nicer);
            let long = LongTimeSlices::begin();
            for _ in 0..2 {
                let now = attributes().unwrap();
                assert_eq!((now.sched_nice, now.sched_policy), (3, libc::SCHED_BATCH as u32));
            }
            drop(long);
            let now = attributes().unwrap();
            assert_eq!((now.sched_nice, now.sched_policy), (3, libc::SCHED_BATCH as u32));
        });
    }

    #[test]
    fn idle_threads_stay_as_they_are() {
        on_a_thread(|| {
            set(libc::sched_attr { sched_policy: libc::SCHED_IDLE as u32, ..attributes().unwrap() });
            let before = slice();
            let _long = LongTimeSlices::begin();
            assert_eq!((slice(), attributes().unwrap().sched_policy), (before, libc::SCHED_IDLE as u32));
        });
    }
}
