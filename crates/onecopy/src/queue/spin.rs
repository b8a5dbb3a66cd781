//! How long waits look for a message before they sleep.

use std::sync::OnceLock;
use std::time::Duration;

use onecopy_sync::Spin;

/// The environment variable that bounds, in microseconds, how long a wait looks for a message before it sleeps.
const SPIN_VARIABLE: &str = "ONECOPY_SPIN";

/// How long waits look at most. With one processor, whoever looks keeps the other from what is waited for.
pub(super) fn longest_spin() -> Duration {
    static SPIN: OnceLock<Duration> = OnceLock::new();
    *SPIN.get_or_init(|| {
        let setting = std::env::var(SPIN_VARIABLE).ok().and_then(|text| text.trim().parse().ok());
        let alone = || std::thread::available_parallelism().is_ok_and(|n| n.get() == 1);
        setting.map_or_else(|| if alone() { Duration::ZERO } else { Spin::LONGEST }, Duration::from_micros)
    })
}
