//! The one place of this crate that reads clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For measuring and for deadlines.
#[allow(clippy::disallowed_methods, reason = "a tool is an edge: nobody hands it the time")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Since the Unix epoch.
#[allow(clippy::disallowed_methods, reason = "a tool is an edge: nobody hands it the time")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since the Unix epoch.
pub fn wall_ms() -> i64 {
    i64::try_from(wall().as_millis()).unwrap_or(i64::MAX)
}
