//! The reading half: see [`super`] for the layout.

use super::fields::{
    Read, byte_string, compact_bytes, compact_list, compact_text, int16, int32, int64, list, millis,
    no_tagged_fields, optional_compact_text, optional_text, tagged_fields, text, uuid,
};
use super::{FLEXIBLE_VERSION, OWN_TAG, PLAIN_VERSION, RecordError};
use crate::consumer_groups::limits::{
    ASSIGNED_PARTITIONS_MAX, ASSIGNED_TOPICS_MAX, GROUP_BYTES_MAX, MEMBERS_MAX, PROTOCOLS_MAX,
    SUBSCRIBED_TOPICS_MAX,
};
use crate::consumer_groups::record::{
    Assignment, ClassicMemberValue, ClassicSupport, ClassicValue, ConsumerMemberValue, ConsumerValue,
    CurrentValue, GroupRecord, MemberState, OffsetValue, PartitionEpochs,
};
use crate::consumer_groups::types::GroupProtocol;
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::cursor::Reader;
use raftline_proto::time::Timestamp;

pub(super) fn offset(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let (group, topic, partition) = (text(key)?, text(key)?, int32(key)?);
    let value = value(bytes, PLAIN_VERSION, |reader| {
        Ok(OffsetValue {
            offset: int64(reader)?,
            leader_epoch: int32(reader)?,
            metadata: text(reader)?,
            commit_timestamp: Timestamp(int64(reader)?),
        })
    })?;
    Ok(GroupRecord::Offset { group, topic, partition, value })
}

pub(super) fn classic(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let group = text(key)?;
    let value = value(bytes, PLAIN_VERSION, |reader| {
        Ok(ClassicValue {
            protocol_type: text(reader)?,
            generation: int32(reader)?,
            protocol: optional_text(reader)?,
            leader: optional_text(reader)?,
            state_timestamp: Timestamp(int64(reader)?),
            members: list(reader, MEMBERS_MAX, CLASSIC_MEMBER_BYTES_MIN, classic_member)?,
        })
    })?;
    Ok(GroupRecord::Classic { group, value })
}

pub(super) fn consumer(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let group = text(key)?;
    let value = value(bytes, FLEXIBLE_VERSION, |reader| {
        let epoch = int32(reader)?;
        let mut value = ConsumerValue { epoch, topics_digest: 0, epoch_timestamp: Timestamp::default() };
        tagged_fields(reader, |tag, field| {
            match tag {
                0 => value.topics_digest = int64(field)?.cast_unsigned(),
                OWN_TAG => value.epoch_timestamp = Timestamp(int64(field)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(value)
    })?;
    Ok(GroupRecord::Consumer { group, value })
}

pub(super) fn consumer_target_epoch(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let group = text(key)?;
    let value = value(bytes, FLEXIBLE_VERSION, |reader| {
        let epoch = int32(reader)?;
        no_tagged_fields(reader)?;
        Ok(epoch)
    })?;
    Ok(GroupRecord::ConsumerTargetEpoch { group, value })
}

pub(super) fn consumer_member(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let (group, member_id) = (text(key)?, text(key)?);
    let value = value(bytes, FLEXIBLE_VERSION, |reader| {
        let mut value = ConsumerMemberValue {
            instance_id: optional_compact_text(reader)?,
            rack_id: optional_compact_text(reader)?,
            client_id: compact_text(reader)?,
            client_host: compact_text(reader)?,
            subscribed_topics: compact_list(reader, SUBSCRIBED_TOPICS_MAX, 1, compact_text)?
                .into_iter()
                .collect(),
            subscribed_regex: optional_compact_text(reader)?,
            rebalance_timeout_ms: millis(reader)?,
            server_assignor: optional_compact_text(reader)?,
            classic: None,
        };
        tagged_fields(reader, |tag, field| {
            if tag == 0 {
                value.classic = classic_support(field)?;
            }
            Ok(tag == 0)
        })?;
        Ok(value)
    })?;
    Ok(GroupRecord::ConsumerMember { group, member_id, value })
}

pub(super) fn consumer_target(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let (group, member_id) = (text(key)?, text(key)?);
    let value = value(bytes, FLEXIBLE_VERSION, |reader| {
        let topics = topics(reader)?;
        no_tagged_fields(reader)?;
        Ok(topics.into_iter().map(|topic| (topic.name, topic.partitions.into_iter().collect())).collect())
    })?;
    Ok(GroupRecord::ConsumerTarget { group, member_id, value })
}

pub(super) fn consumer_current(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let (group, member_id) = (text(key)?, text(key)?);
    let value = value(bytes, FLEXIBLE_VERSION, |reader| {
        let (member_epoch, previous_epoch) = (int32(reader)?, int32(reader)?);
        let state = match reader.u8()? {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            found => return Err(RecordError::Tag { found }),
        };
        let mut earlier_epochs = PartitionEpochs::new();
        let assigned = owned(topics(reader)?, member_epoch, &mut earlier_epochs);
        let revoking = owned(topics(reader)?, member_epoch, &mut earlier_epochs);
        no_tagged_fields(reader)?;
        Ok(CurrentValue { member_epoch, previous_epoch, state, assigned, revoking, earlier_epochs })
    })?;
    Ok(GroupRecord::ConsumerCurrent { group, member_id, value })
}

/// Reads a value of the only version as a whole, unless it is a tombstone.
fn value<T>(
    bytes: Option<&[u8]>,
    version: i16,
    read: impl FnOnce(&mut Reader<'_>) -> Read<T>,
) -> Read<Option<T>> {
    let Some(bytes) = bytes else { return Ok(None) };
    let mut reader = Reader::new(bytes);
    let found = int16(&mut reader)?;
    if found != version {
        return Err(RecordError::Version { found });
    }
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(Some(value))
}

fn classic_member(reader: &mut Reader<'_>) -> Read<ClassicMemberValue> {
    Ok(ClassicMemberValue {
        member_id: text(reader)?,
        instance_id: optional_text(reader)?,
        client_id: text(reader)?,
        client_host: text(reader)?,
        rebalance_timeout_ms: millis(reader)?,
        session_timeout_ms: millis(reader)?,
        subscription: byte_string(reader, GROUP_BYTES_MAX)?,
        assignment: byte_string(reader, GROUP_BYTES_MAX)?,
    })
}

fn classic_support(reader: &mut Reader<'_>) -> Read<Option<ClassicSupport>> {
    match reader.u8()? {
        1 => {}
        found => return Err(RecordError::Tag { found }),
    }
    let session_timeout_ms = millis(reader)?;
    let protocols = compact_list(reader, PROTOCOLS_MAX, 3, |reader| {
        let protocol =
            GroupProtocol { name: compact_text(reader)?, metadata: compact_bytes(reader, GROUP_BYTES_MAX)? };
        no_tagged_fields(reader)?;
        Ok(protocol)
    })?;
    no_tagged_fields(reader)?;
    Ok(Some(ClassicSupport { session_timeout_ms, protocols }))
}

/// Partitions of one topic.
struct TopicPartitions {
    name: String,
    partitions: Vec<i32>,
    /// Since which epoch a member has each, in the same order; empty: since its present one.
    epochs: Vec<i32>,
}

fn topics(reader: &mut Reader<'_>) -> Read<Vec<TopicPartitions>> {
    compact_list(reader, ASSIGNED_TOPICS_MAX, TOPIC_BYTES_MIN, |reader| {
        let id = uuid(reader)?;
        let partitions = compact_list(reader, ASSIGNED_PARTITIONS_MAX, 4, int32)?;
        let (mut name, mut epochs) = (None, None);
        tagged_fields(reader, |tag, field| {
            match tag {
                0 => epochs = Some(compact_list(field, ASSIGNED_PARTITIONS_MAX, 4, int32)?),
                OWN_TAG => name = Some(compact_text(field)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let name = name.ok_or(RecordError::NoTopicName { id })?;
        let epochs = epochs.unwrap_or_default();
        if !epochs.is_empty() && epochs.len() != partitions.len() {
            return Err(RecordError::Number { found: i32::try_from(epochs.len()).unwrap_or(i32::MAX) });
        }
        Ok(TopicPartitions { name, partitions, epochs })
    })
}

/// What a member has, and into `earlier` what of it it has had since before `member_epoch`.
fn owned(topics: Vec<TopicPartitions>, member_epoch: i32, earlier: &mut PartitionEpochs) -> Assignment {
    let mut assignment = Assignment::new();
    for topic in topics {
        for (partition, epoch) in topic.partitions.iter().zip(topic.epochs) {
            if epoch != member_epoch {
                earlier.entry(topic.name.clone()).or_default().insert(*partition, epoch);
            }
        }
        assignment.insert(topic.name, topic.partitions.into_iter().collect());
    }
    assignment
}

/// Four texts, two integers, two byte strings.
const CLASSIC_MEMBER_BYTES_MIN: usize = 4 * 2 + 2 * 4 + 2 * 4;

/// An id, a list of partitions, the tagged field with its name.
const TOPIC_BYTES_MIN: usize = 16 + 1 + 1 + 4;
