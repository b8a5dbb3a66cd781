//! Named points at which a test kills the process, as `kill -9` would at that very instruction.
//!
//! A step that changes shared state is followed by `crash_point!("part.step")`. Without the feature `crash-points` the
//! macro is empty. With it every point is listed in [`points`], so that a test can prove that it died at all of them.

#[cfg(feature = "crash-points")]
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A place in the code at which the process can be made to die.
#[cfg(feature = "crash-points")]
#[derive(Debug)]
pub struct Point {
    name: &'static str,
    module: &'static str,
    passes: AtomicU64,
    fatal: AtomicU64,
}

/// All points of this program; filled by the linker.
#[cfg(feature = "crash-points")]
#[linkme::distributed_slice]
pub static POINTS: [Point];

#[cfg(feature = "crash-points")]
impl Point {
    /// For [`crash_point`](crate::crash_point) only.
    #[must_use]
    pub const fn new(name: &'static str, module: &'static str) -> Self {
        Self { name, module, passes: AtomicU64::new(0), fatal: AtomicU64::new(0) }
    }

    /// Its name, `part.step`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The path of the module that it stands in, which begins with the crate.
    pub fn module(&self) -> &'static str {
        self.module
    }

    /// How often this process has come by.
    pub fn passes(&self) -> u64 {
        self.passes.load(SeqCst)
    }

    /// Lets this process, or a child that it forks, die when it comes by for the `pass`th time from now, the first being
    /// 1; at 0 never.
    pub fn kill_at(&self, pass: u64) {
        self.passes.store(0, SeqCst);
        self.fatal.store(pass, SeqCst);
    }

    /// Comes by.
    pub fn pass(&self) {
        if self.passes.fetch_add(1, SeqCst) + 1 == self.fatal.load(SeqCst) {
            crate::backend::process::kill_self();
        }
    }
}

/// Names the place where it stands as one at which tests let the process die; nothing otherwise.
#[cfg(feature = "crash-points")]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {{
        #[$crate::crash::linkme::distributed_slice($crate::crash::POINTS)]
        #[linkme(crate = $crate::crash::linkme)]
        static POINT: $crate::crash::Point = $crate::crash::Point::new($name, module_path!());
        POINT.pass();
    }};
}

/// Names the place where it stands as one at which tests let the process die; nothing otherwise.
#[cfg(not(feature = "crash-points"))]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {};
}

#[cfg(feature = "crash-points")]
#[doc(hidden)]
pub use linkme;
