//! The time of append, for topics that take it: stamped where a batch comes in, the same for every kind of client.

use crate::clock::Clock;
use bytes::Bytes;
use raftline_proto::batch::append_time_stamped;
use raftline_proto::entry::BatchInfo;
use raftline_shard::coordinator::configs::{TimestampType, timestamp_type};
use std::collections::BTreeMap;

/// A validated batch for a topic with these configs, as it goes to the shard, and the facts of it.
///
/// The time is that of the way in, not of the place in the log: batches that two connections bring at once may stand
/// there the other way round, by as much as the shard's inbox takes to empty.
pub(crate) fn stamp(
    configs: &BTreeMap<String, String>,
    clock: &Clock,
    batch: Bytes,
    info: BatchInfo,
) -> (Bytes, BatchInfo) {
    match timestamp_type(configs) {
        TimestampType::CreateTime => (batch, info),
        TimestampType::LogAppendTime => {
            let max_timestamp = clock.now().wall;
            (append_time_stamped(batch, max_timestamp), BatchInfo { max_timestamp, ..info })
        }
    }
}
