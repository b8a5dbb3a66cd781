//! Work around every `fork` of this process, whoever calls it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::{OsError, page_size};

/// What is done around a fork. The functions run on the forking thread.
#[derive(Debug, Clone, Copy)]
pub struct ForkHooks {
    /// In the parent, before the child exists.
    pub before: fn(),
    /// In the parent, after the child exists or could not be made.
    pub parent: fn(),
    /// In the child.
    pub child: fn(),
}

static HOOKS: OnceLock<ForkHooks> = OnceLock::new();

/// Not zero in a process that knows of its fork: the kernel empties its page in every child. None where the kernel
/// cannot do that.
static MARK: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();

fn make_mark() -> Option<&'static AtomicU32> {
    let len = page_size();
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses the place of a new page, which is this function's to give away and never unmapped; a
    // page of zeros is a valid atomic.
    unsafe {
        let page = rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE).ok()?;
        rustix::mm::madvise(page, len, Advice::LinuxWipeOnFork).ok()?;
        let mark = &*page.cast::<AtomicU32>();
        mark.store(1, Relaxed);
        Some(mark)
    }
}

/// Begins to tell forks around which the hooks did not run; for use where the hooks keep forks out.
pub fn watch_forks() {
    MARK.get_or_init(make_mark);
}

/// Whether this process is the child of a fork around which the hooks did not run, as one by a raw system call.
pub fn forked_unnoticed() -> bool {
    MARK.get().copied().flatten().is_some_and(|mark| mark.load(Relaxed) == 0)
}

/// Says in a child that all has been done that a fork asks for.
pub fn notice_fork() {
    if let Some(mark) = MARK.get().copied().flatten() {
        mark.store(1, Relaxed);
    }
}

/// Registers the hooks for the life of the process; they cannot be taken back, so only the first call registers.
///
/// They run for `fork`, not for `vfork` and `posix_spawn`, whose children only call `exec`.
pub fn on_fork(hooks: ForkHooks) -> Result<(), OsError> {
    if HOOKS.set(hooks).is_err() {
        return Ok(());
    }
    // SAFETY: the three functions live as long as the process and take no arguments, as pthread_atfork asks.
    match unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) } {
        0 => Ok(()),
        code => Err(OsError::new("register work around fork", std::io::Error::from_raw_os_error(code))),
    }
}

extern "C" fn before() {
    if let Some(hooks) = HOOKS.get() {
        (hooks.before)();
    }
}

extern "C" fn parent() {
    if let Some(hooks) = HOOKS.get() {
        (hooks.parent)();
    }
}

extern "C" fn child() {
    if let Some(hooks) = HOOKS.get() {
        (hooks.child)();
    }
}
