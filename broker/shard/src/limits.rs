//! The bounds of a shard's own queues and tables. Whatever would pass one is refused as busy, or makes room by a
//! rule that every replica follows alike.

use core::time::Duration;

pub use raftline_proto::limits::{BATCHES_REMEMBERED, PRODUCERS_MAX};
pub use raftline_raft::limits::IN_FLIGHT_BYTES_MAX;

/// Produces that wait for their acknowledgement, per partition.
pub const PARKED_PRODUCES_MAX: usize = 16_384;

/// Entries that are appended and not yet committed, per group led here.
pub const PENDING_ENTRIES_MAX: usize = 16_384;

/// Fetches that wait for records, per partition.
pub const PARKED_FETCHES_MAX: usize = 4_096;

/// Questions that wait until a leader is sure of itself, per partition.
pub const PARKED_QUESTIONS_MAX: usize = 4_096;

/// Deletions of records that wait for their commit, per partition.
pub const PARKED_DELETIONS_MAX: usize = 1_024;

/// Coordinator commands that wait for their commit.
pub const PARKED_COMMANDS_MAX: usize = 1_024;

/// Producer ids that the coordinator's leader takes at once. A change of the metadata costs what there is of it; what is left
/// of a block when another one leads is lost.
pub const PRODUCER_IDS_BLOCK: u64 = 1_000;

/// What one fetch is given at most, whatever it asks for. One whole batch is always given.
pub const FETCH_BYTES_MAX: u64 = 16 << 20;

/// Partitions of the whole cluster, over all topics.
pub const CLUSTER_PARTITIONS_MAX: usize = 200_000;

/// A replica that has not held all of its leader's log at any moment of this long is not in sync.
pub const IN_SYNC_LAG_MAX: Duration = Duration::from_secs(10);

/// Between two looks of a leader at followers that lack something.
pub const IN_SYNC_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What may be written by this version (DESIGN D12).
pub const FEATURE_LEVEL_MAX: u32 = 1;

const _: () =
    assert!(PENDING_ENTRIES_MAX <= PARKED_PRODUCES_MAX, "every pending entry may have a produce waiting");
const _: () = assert!(FETCH_BYTES_MAX >= raftline_proto::limits::BATCH_BYTES_MAX as u64);
