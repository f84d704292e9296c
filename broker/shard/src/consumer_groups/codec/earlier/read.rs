//! Reads the layout of [`super`].

use super::{
    CURRENT_VERSION_WITH_EPOCHS, MEMBER_VERSION_WITH_CLASSIC, MEMBER_VERSION_WITH_EXPRESSION, RecordError,
    VALUE_VERSION,
};
use crate::consumer_groups::limits::{
    ASSIGNED_PARTITIONS_MAX, ASSIGNED_TOPICS_MAX, GROUP_BYTES_MAX, MEMBERS_MAX, PROTOCOLS_MAX,
    SUBSCRIBED_TOPICS_MAX,
};
use crate::consumer_groups::record::{
    Assignment, ClassicMemberValue, ClassicSupport, ClassicValue, ConsumerMemberValue, ConsumerValue,
    CurrentValue, GroupRecord, MemberState, OffsetValue, PartitionEpochs,
};
use crate::consumer_groups::types::GroupProtocol;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::cursor::Reader;
use raftline_proto::time::Timestamp;

type Read<T> = Result<T, RecordError>;

pub(super) fn offset(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let (group, topic, partition) = (text(key)?, text(key)?, i32(key)?);
    let value = value(bytes, |reader| {
        Ok(OffsetValue {
            offset: i64(reader)?,
            leader_epoch: i32(reader)?,
            metadata: text(reader)?,
            commit_timestamp: Timestamp(i64(reader)?),
        })
    })?;
    Ok(GroupRecord::Offset { group, topic, partition, value })
}

pub(super) fn classic(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let group = text(key)?;
    let value = value(bytes, |reader| {
        Ok(ClassicValue {
            generation: i32(reader)?,
            protocol_type: text(reader)?,
            protocol: optional_text(reader)?,
            leader: optional_text(reader)?,
            state_timestamp: Timestamp(i64(reader)?),
            members: list(reader, MEMBERS_MAX, CLASSIC_MEMBER_BYTES_MIN, classic_member)?,
        })
    })?;
    Ok(GroupRecord::Classic { group, value })
}

pub(super) fn consumer(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<[GroupRecord; 2]> {
    let group = text(key)?;
    let value = value(bytes, |reader| {
        let (epoch, target_epoch) = (i32(reader)?, i32(reader)?);
        let (topics_digest, epoch_timestamp) = (reader.u64()?, Timestamp(i64(reader)?));
        Ok((ConsumerValue { epoch, topics_digest, epoch_timestamp }, target_epoch))
    })?;
    let (value, target_epoch) = value.unzip();
    Ok([
        GroupRecord::Consumer { group: group.clone(), value },
        GroupRecord::ConsumerTargetEpoch { group, value: target_epoch },
    ])
}

pub(super) fn consumer_member(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let (group, member_id) = (text(key)?, text(key)?);
    let value = versioned(bytes, MEMBER_VERSION_WITH_CLASSIC, |version, reader| {
        let value = ConsumerMemberValue {
            instance_id: optional_text(reader)?,
            rack_id: optional_text(reader)?,
            client_id: text(reader)?,
            client_host: text(reader)?,
            rebalance_timeout_ms: reader.u32()?,
            subscribed_topics: list(reader, SUBSCRIBED_TOPICS_MAX, 2, text)?.into_iter().collect(),
            subscribed_regex: None,
            server_assignor: optional_text(reader)?,
            classic: None,
        };
        let with_expression = version == MEMBER_VERSION_WITH_EXPRESSION;
        let subscribed_regex = if with_expression { Some(text(reader)?) } else { None };
        let classic = if version == MEMBER_VERSION_WITH_CLASSIC {
            let session_timeout_ms = reader.u32()?;
            let protocols = list(reader, PROTOCOLS_MAX, 6, |reader| {
                Ok(GroupProtocol { name: text(reader)?, metadata: byte_string(reader)? })
            })?;
            Some(ClassicSupport { session_timeout_ms, protocols })
        } else {
            None
        };
        Ok(ConsumerMemberValue { subscribed_regex, classic, ..value })
    })?;
    Ok(GroupRecord::ConsumerMember { group, member_id, value })
}

pub(super) fn consumer_target(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let (group, member_id) = (text(key)?, text(key)?);
    let value = value(bytes, assignment)?;
    Ok(GroupRecord::ConsumerTarget { group, member_id, value })
}

pub(super) fn consumer_current(key: &mut Reader<'_>, bytes: Option<&[u8]>) -> Read<GroupRecord> {
    let (group, member_id) = (text(key)?, text(key)?);
    let value = versioned(bytes, CURRENT_VERSION_WITH_EPOCHS, |version, reader| {
        let value = CurrentValue {
            member_epoch: i32(reader)?,
            previous_epoch: i32(reader)?,
            state: match reader.u8()? {
                0 => MemberState::Stable,
                1 => MemberState::UnrevokedPartitions,
                2 => MemberState::UnreleasedPartitions,
                found => return Err(RecordError::Tag { found }),
            },
            assigned: assignment(reader)?,
            revoking: assignment(reader)?,
            earlier_epochs: PartitionEpochs::new(),
        };
        let with_epochs = version == CURRENT_VERSION_WITH_EPOCHS;
        let earlier_epochs = if with_epochs { partition_epochs(reader)? } else { PartitionEpochs::new() };
        Ok(CurrentValue { earlier_epochs, ..value })
    })?;
    Ok(GroupRecord::ConsumerCurrent { group, member_id, value })
}

/// Reads a value of the only version as a whole, unless it is a tombstone.
fn value<T>(bytes: Option<&[u8]>, read: impl FnOnce(&mut Reader<'_>) -> Read<T>) -> Read<Option<T>> {
    versioned(bytes, VALUE_VERSION, |_, reader| read(reader))
}

/// Reads a value of any version up to `newest` as a whole, unless it is a tombstone.
fn versioned<T>(
    bytes: Option<&[u8]>,
    newest: u8,
    read: impl FnOnce(u8, &mut Reader<'_>) -> Read<T>,
) -> Read<Option<T>> {
    let Some(bytes) = bytes else { return Ok(None) };
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if !(VALUE_VERSION..=newest).contains(&version) {
        return Err(RecordError::Version { found: i16::from(version) });
    }
    let value = read(version, &mut reader)?;
    reader.finish()?;
    Ok(Some(value))
}

fn classic_member(reader: &mut Reader<'_>) -> Read<ClassicMemberValue> {
    Ok(ClassicMemberValue {
        member_id: text(reader)?,
        instance_id: optional_text(reader)?,
        client_id: text(reader)?,
        client_host: text(reader)?,
        session_timeout_ms: reader.u32()?,
        rebalance_timeout_ms: reader.u32()?,
        subscription: byte_string(reader)?,
        assignment: byte_string(reader)?,
    })
}

fn assignment(reader: &mut Reader<'_>) -> Read<Assignment> {
    let topics = list(reader, ASSIGNED_TOPICS_MAX, 6, |reader| {
        let topic = text(reader)?;
        let partitions = list(reader, ASSIGNED_PARTITIONS_MAX, 4, i32)?;
        Ok((topic, partitions.into_iter().collect::<BTreeSet<i32>>()))
    })?;
    Ok(topics.into_iter().collect())
}

fn partition_epochs(reader: &mut Reader<'_>) -> Read<PartitionEpochs> {
    let topics = list(reader, ASSIGNED_TOPICS_MAX, 6, |reader| {
        let topic = text(reader)?;
        let epochs = list(reader, ASSIGNED_PARTITIONS_MAX, 8, |reader| Ok((i32(reader)?, i32(reader)?)))?;
        Ok((topic, epochs.into_iter().collect()))
    })?;
    Ok(topics.into_iter().collect())
}

fn list<T>(
    reader: &mut Reader<'_>,
    max: usize,
    item_bytes_min: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    let count = reader.count(max, item_bytes_min)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(read(reader)?);
    }
    Ok(items)
}

fn byte_string(reader: &mut Reader<'_>) -> Read<Vec<u8>> {
    let count = reader.count(GROUP_BYTES_MAX, 1)?;
    Ok(reader.bytes(count)?.to_owned())
}

fn text(reader: &mut Reader<'_>) -> Read<String> {
    Ok(reader.text(usize::from(u16::MAX))?)
}

fn optional_text(reader: &mut Reader<'_>) -> Read<Option<String>> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(text(reader)?)),
        found => Err(RecordError::Tag { found }),
    }
}

fn i32(reader: &mut Reader<'_>) -> Read<i32> {
    Ok(reader.u32()?.cast_signed())
}

fn i64(reader: &mut Reader<'_>) -> Read<i64> {
    Ok(reader.u64()?.cast_signed())
}

/// Four texts or tags, two integers, two counts.
const CLASSIC_MEMBER_BYTES_MIN: usize = 2 + 1 + 2 + 2 + 4 + 4 + 4 + 4;
