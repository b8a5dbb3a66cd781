//! How long waits look for a message before they sleep.

use std::sync::OnceLock;
use std::time::Duration;

use onecopy_sync::Spin;

/// The environment variable that bounds, in microseconds, how long a wait looks for a message before it sleeps.
const SPIN_VARIABLE: &str = "ONECOPY_SPIN";

/// How long waits look at most, and how long those for an answer do: the same if the variable says how long. With one
/// processor, whoever looks keeps the other from what is waited for.
pub(super) fn bounds() -> (Duration, Duration) {
    static BOUNDS: OnceLock<(Duration, Duration)> = OnceLock::new();
    *BOUNDS.get_or_init(|| {
        let setting = std::env::var(SPIN_VARIABLE).ok().and_then(|text| text.trim().parse().ok());
        let alone = || std::thread::available_parallelism().is_ok_and(|n| n.get() == 1);
        match setting.map(Duration::from_micros) {
            Some(longest) => (longest, longest),
            None if alone() => (Duration::ZERO, Duration::ZERO),
            None => (Spin::LONGEST, Spin::FARTHEST),
        }
    })
}
