//! Deaths in models: after each step at which real processes are killed.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

loom::thread_local! {
    /// Steps that the process of this thread has left; none where it is not killed.
    static LEFT: Cell<Option<u32>> = Cell::new(None);
}

/// What unwinds a process that is killed.
struct Killed;

/// A step is done; after its last a process is killed.
pub(crate) fn pass(_point: &str) {
    if let Some(left) = LEFT.with(Cell::get) {
        LEFT.with(|cell| cell.set(Some(left.wrapping_sub(1))));
        if left == 0 {
            // No panic: there is nothing to report.
            std::panic::resume_unwind(Box::new(Killed));
        }
    }
}

/// Kills what `work` does after so many steps; answers whether it came to that.
pub(super) fn killed_after(steps: u32, work: impl FnOnce()) -> bool {
    LEFT.with(|left| left.set(Some(steps)));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    LEFT.with(|left| left.set(None));
    match ended {
        Ok(()) => false,
        Err(why) if why.is::<Killed>() => true,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Explores a death after each number of steps, until there is no order any more in which it comes to it; checks that
/// there were as many.
pub(super) fn after_each_step(least: u32, explore: impl Fn(u32, Arc<AtomicBool>)) {
    for steps in 0..100 {
        let died = Arc::new(AtomicBool::new(false));
        explore(steps, died.clone());
        if !died.load(SeqCst) {
            assert!(steps >= least, "there are only {steps} steps");
            return;
        }
    }
    panic!("a process does not come to its end");
}
