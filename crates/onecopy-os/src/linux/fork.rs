//! Work around every `fork` of this process, whoever calls it.

use std::sync::OnceLock;

use crate::OsError;

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
