//! The one place of this crate that reads clocks.

use raftline_proto::time::Timestamp;
use tokio::time::Instant;

/// For deadlines and back-off. Tokio's clock, so that tests may stop it.
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}

/// For the timestamp of a record that was given none.
#[allow(clippy::disallowed_methods, reason = "a client is an edge: nobody hands it the time")]
pub(crate) fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
