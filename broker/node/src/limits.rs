//! The bounds of this process's own queues. What both ends of a wire must agree on stands in `raftline_proto::limits`.

use std::time::Duration;

/// Slots of a shard's inbox ring. A power of two, at least 64.
pub const INBOX_SLOTS: usize = 4096;

/// How many of them may be taken at once by anybody. Less than the ring, so that a publish never finds it full.
pub const INBOX_QUEUED_MAX: usize = INBOX_SLOTS - 64;

/// How many of them clients may take: peers' messages still get in when clients have filled their share.
pub const INBOX_QUEUED_BY_CLIENTS_MAX: usize = INBOX_QUEUED_MAX * 3 / 4;

/// Payload bytes waiting in a shard's inbox. One larger payload is let in alone.
pub const INBOX_BYTES_MAX: usize = 64 << 20;

/// Events handled in one turn of a shard: bounds how long effects wait for company.
pub const TURN_EVENTS_MAX: usize = 512;

/// A parked shard looks again after this even if nobody wakes it. Not needed by the protocol; bounds the harm of a
/// bug in it.
pub const PARK_MAX: Duration = Duration::from_secs(1);

/// Entries in one `Replay` event while a group opens.
pub const REPLAY_ENTRIES_MAX: usize = 4096;

/// Payload bytes read for one `Replay` event.
pub const REPLAY_BYTES_MAX: u64 = 8 << 20;

/// Durable floors and commit hints are written at least this often while they change.
pub const LAZY_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Threads that sync files, unless configured.
pub const SYNC_LANES: usize = 4;

/// How often free space is looked at.
pub const DISK_SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// What is kept free on the data directory's disk, unless configured: this much or a twentieth of the disk,
/// whichever is smaller.
pub const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// How long a graceful stop waits for leaderships to be handed over.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(INBOX_SLOTS.is_power_of_two() && INBOX_SLOTS >= 64);
const _: () = assert!(INBOX_QUEUED_BY_CLIENTS_MAX < INBOX_QUEUED_MAX && INBOX_QUEUED_MAX < INBOX_SLOTS);
const _: () = assert!(INBOX_BYTES_MAX >= raftline_proto::limits::MESSAGE_BYTES_MAX);
