//! Every bound of the engine, by name.

use core::time::Duration;
use raftline_proto::limits::{REPLICAS_MAX, VOTERS_MAX};

/// Sent to one follower and not yet acknowledged, by default: the byte window.
pub const IN_FLIGHT_BYTES_MAX: u64 = 8 << 20;

/// Messages with entries sent to one follower and not yet acknowledged, by default: the count window.
pub const IN_FLIGHT_MESSAGES_MAX: usize = 64;

/// Proposed and not yet committed, by default. One proposal may pass it where nothing else waits.
pub const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;

/// Entries proposed and not yet committed, by default.
pub const UNCOMMITTED_ENTRIES_MAX: usize = 1 << 16;

/// What a probe carries at most. It is sent before the follower's log is known, so it may be in vain.
pub const PROBE_BYTES_MAX: u64 = 64 << 10;

/// The shortest wait for a leader, by default.
pub const ELECTION_TIMEOUT_MIN: Duration = Duration::from_millis(300);

/// The longest wait for a leader, by default.
pub const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(900);

/// How long a leader waits for progress before it asks a follower again, by default.
pub const RESEND: Duration = Duration::from_millis(200);

/// A full transport queue is tried again after this fraction of the resend time, then after twice as long, and so on.
pub const BUSY_RETRY_FRACTION: u32 = 8;

/// The longest wait before a full transport queue is tried again.
pub const BUSY_RETRY_MAX: Duration = Duration::from_secs(1);

/// A follower whose node answers but which itself leaves this many of the longest election timeouts of asking
/// unanswered counts as dead (check-quorum).
pub const SILENCE_TIMEOUTS: u32 = 2;

const _: () = assert!(ELECTION_TIMEOUT_MIN.as_micros() < ELECTION_TIMEOUT_MAX.as_micros());
const _: () = assert!(RESEND.as_micros() < ELECTION_TIMEOUT_MIN.as_micros(), "one loss costs no election");
const _: () = assert!(RESEND.as_micros() / (BUSY_RETRY_FRACTION as u128) < BUSY_RETRY_MAX.as_micros());
const _: () = assert!(PROBE_BYTES_MAX <= IN_FLIGHT_BYTES_MAX);
const _: () = assert!(VOTERS_MAX <= REPLICAS_MAX);
