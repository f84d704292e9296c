//! Records as Raftline wrote them before it wrote Kafka's: read, and moved over by a leader that finds some.
//!
//! A key is its kind (`u8`, never 0, with which each key of Kafka's begins) and the names in it. A value begins with its
//! version (`u8`), 1 unless said otherwise. Integers are little-endian, a text has a `u16` size, bytes and lists a `u32`
//! count, an optional text is a `u8` 0 or 1 and the text.
//!
//! | kind | key after the kind | value, version 1, after the version |
//! | --- | --- | --- |
//! | 1 offset | group, topic, partition `i32` | offset `i64`, leader epoch `i32`, metadata, commit time `i64` ms |
//! | 2 classic group | group | generation `i32`, protocol type, protocol?, leader?, state time `i64` ms, members: id, instance id?, client id, client host, session and rebalance timeout `u32` ms, subscription bytes, assignment bytes |
//! | 3 consumer group | group | epoch `i32`, target epoch `i32`, topics' digest `u64`, epoch time `i64` ms |
//! | 4 its member | group, member id | instance id?, rack id?, client id, client host, rebalance timeout `u32` ms, list of topics, assignor?; then in version 2, which only members with a regular expression have, its text; or in version 3, which only members have that speak the classic protocol, session timeout `u32` ms and protocols: name, bytes |
//! | 5 a member's target | group, member id | list of topics, each with a list of partitions `i32` |
//! | 6 where a member is | group, member id | member epoch `i32`, previous epoch `i32`, state `u8` (0 stable, 1 unrevoked, 2 unreleased), assigned and revoking, each as in 5; then in version 2, which only members have that have had partitions since an earlier epoch, these: list of topics, each with a list of partition `i32` and epoch `i32` |
//!
//! A key in this layout is another one to compaction than the same thing's key in Kafka's. So a record may not just be
//! written anew:
//!
//! 1. An offset is in the log in this layout, then in Kafka's.
//! 2. Its group is deleted: a tombstone in Kafka's layout. Compaction drops that in time.
//! 3. The next leader finds the offset in this layout, and the group is back.
//!
//! [`moved`] writes, in one batch, a tombstone of the old key and then the record anew.

mod read;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod write;

use super::{KeyValue, RecordError, TopicIds};
use crate::consumer_groups::limits::APPEND_BYTES;
use crate::consumer_groups::record::GroupRecord;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use raftline_proto::cursor::{Reader, Writer};

/// Whether a key is one of this layout.
#[must_use]
pub fn is_earlier(key: &[u8]) -> bool {
    key.first().is_some_and(|kind| *kind != 0)
}

/// Reads a record of this layout: one or two of today's, for a group of the new protocol was one record with the epoch of
/// its targets. No value is a tombstone.
///
/// # Errors
/// Why it is not a record of this layout.
pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Vec<GroupRecord>, RecordError> {
    let mut key = Reader::new(key);
    let records = match key.u8()? {
        kind::OFFSET => vec![read::offset(&mut key, value)?],
        kind::CLASSIC => vec![read::classic(&mut key, value)?],
        kind::CONSUMER => read::consumer(&mut key, value)?.into(),
        kind::CONSUMER_MEMBER => vec![read::consumer_member(&mut key, value)?],
        kind::CONSUMER_TARGET => vec![read::consumer_target(&mut key, value)?],
        kind::CONSUMER_CURRENT => vec![read::consumer_current(&mut key, value)?],
        found => return Err(RecordError::Kind { found: i16::from(found) }),
    };
    key.finish()?;
    Ok(records)
}

/// What moves records over whose keys in this layout are `earlier`, out of all that is committed: batches of a size that
/// every log takes, each of which leaves the state as it is.
#[must_use]
pub fn moved(
    records: impl Iterator<Item = GroupRecord>,
    earlier: &BTreeSet<Vec<u8>>,
    topic_id: TopicIds<'_>,
) -> Vec<Vec<KeyValue>> {
    let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for record in records {
        let old_key = key(&record);
        if !earlier.contains(&old_key) {
            continue;
        }
        // The target's epoch comes right after its group's: what their common old key stood for is one batch.
        if !matches!(record, GroupRecord::ConsumerTargetEpoch { .. }) {
            if bytes >= APPEND_BYTES {
                batches.push(core::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += old_key.len();
            batch.push((old_key, None));
        }
        let (key, value) = record.encode(topic_id);
        bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        batch.push((key, value));
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// The key that a record had in this layout.
fn key(record: &GroupRecord) -> Vec<u8> {
    let mut writer = Writer::new();
    let (kind, of) = match record {
        GroupRecord::Offset { group, topic, .. } => (kind::OFFSET, [group, topic].to_vec()),
        GroupRecord::Classic { group, .. } => (kind::CLASSIC, vec![group]),
        GroupRecord::Consumer { group, .. } | GroupRecord::ConsumerTargetEpoch { group, .. } => {
            (kind::CONSUMER, vec![group])
        }
        GroupRecord::ConsumerMember { group, member_id, .. } => {
            (kind::CONSUMER_MEMBER, vec![group, member_id])
        }
        GroupRecord::ConsumerTarget { group, member_id, .. } => {
            (kind::CONSUMER_TARGET, vec![group, member_id])
        }
        GroupRecord::ConsumerCurrent { group, member_id, .. } => {
            (kind::CONSUMER_CURRENT, vec![group, member_id])
        }
    };
    writer.u8(kind);
    for name in of {
        text(&mut writer, name);
    }
    if let GroupRecord::Offset { partition, .. } = record {
        writer.u32(partition.cast_unsigned());
    }
    writer.into_bytes()
}

fn text(writer: &mut Writer, text: &String) {
    writer.u16(u16::try_from(text.len()).expect("texts are bounded where they come in"));
    writer.bytes(text.as_bytes());
}

/// The first byte of a key.
mod kind {
    pub const OFFSET: u8 = 1;
    pub const CLASSIC: u8 = 2;
    pub const CONSUMER: u8 = 3;
    pub const CONSUMER_MEMBER: u8 = 4;
    pub const CONSUMER_TARGET: u8 = 5;
    pub const CONSUMER_CURRENT: u8 = 6;
}

/// The first byte of every value but those that say otherwise.
const VALUE_VERSION: u8 = 1;

/// The first byte of a member's value that has a regular expression.
const MEMBER_VERSION_WITH_EXPRESSION: u8 = 2;

/// The first byte of a member's value that speaks the classic protocol; it has no regular expression.
const MEMBER_VERSION_WITH_CLASSIC: u8 = 3;

/// The first byte of where a member is, if it has had partitions since an earlier epoch.
const CURRENT_VERSION_WITH_EPOCHS: u8 = 2;
