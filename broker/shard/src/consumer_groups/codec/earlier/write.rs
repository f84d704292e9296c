//! Writes the layout of [`super`] as it was written: for tests of what reads it. The epoch of a group's targets is given
//! beside its record.

use super::{
    CURRENT_VERSION_WITH_EPOCHS, MEMBER_VERSION_WITH_CLASSIC, MEMBER_VERSION_WITH_EXPRESSION, VALUE_VERSION,
    text,
};
use crate::consumer_groups::record::{
    Assignment, ClassicValue, ConsumerMemberValue, ConsumerValue, CurrentValue, GroupRecord, MemberState,
    OffsetValue, PartitionEpochs,
};
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::cursor::Writer;

pub(super) fn value(record: &GroupRecord, target_epoch: i32) -> Option<Vec<u8>> {
    let mut writer = Writer::new();
    writer.u8(version(record));
    match record {
        GroupRecord::Offset { value, .. } => offset(&mut writer, value.as_ref()?),
        GroupRecord::Classic { value, .. } => classic(&mut writer, value.as_ref()?),
        GroupRecord::Consumer { value, .. } => consumer(&mut writer, value.as_ref()?, target_epoch),
        GroupRecord::ConsumerTargetEpoch { .. } => panic!("it is a part of its group's"),
        GroupRecord::ConsumerMember { value, .. } => consumer_member(&mut writer, value.as_ref()?),
        GroupRecord::ConsumerTarget { value, .. } => assignment(&mut writer, value.as_ref()?),
        GroupRecord::ConsumerCurrent { value, .. } => current(&mut writer, value.as_ref()?),
    }
    Some(writer.into_bytes())
}

fn version(record: &GroupRecord) -> u8 {
    match record {
        GroupRecord::ConsumerMember { value: Some(value), .. } if value.classic.is_some() => {
            MEMBER_VERSION_WITH_CLASSIC
        }
        GroupRecord::ConsumerMember { value: Some(value), .. } if value.subscribed_regex.is_some() => {
            MEMBER_VERSION_WITH_EXPRESSION
        }
        GroupRecord::ConsumerCurrent { value: Some(value), .. } if !value.earlier_epochs.is_empty() => {
            CURRENT_VERSION_WITH_EPOCHS
        }
        GroupRecord::Offset { .. }
        | GroupRecord::Classic { .. }
        | GroupRecord::Consumer { .. }
        | GroupRecord::ConsumerTargetEpoch { .. }
        | GroupRecord::ConsumerMember { .. }
        | GroupRecord::ConsumerTarget { .. }
        | GroupRecord::ConsumerCurrent { .. } => VALUE_VERSION,
    }
}

fn offset(writer: &mut Writer, value: &OffsetValue) {
    writer.u64(value.offset.cast_unsigned());
    writer.u32(value.leader_epoch.cast_unsigned());
    text(writer, &value.metadata);
    writer.u64(value.commit_timestamp.get().cast_unsigned());
}

fn classic(writer: &mut Writer, value: &ClassicValue) {
    writer.u32(value.generation.cast_unsigned());
    text(writer, &value.protocol_type);
    optional_text(writer, value.protocol.as_ref());
    optional_text(writer, value.leader.as_ref());
    writer.u64(value.state_timestamp.get().cast_unsigned());
    count(writer, value.members.len());
    for member in &value.members {
        text(writer, &member.member_id);
        optional_text(writer, member.instance_id.as_ref());
        text(writer, &member.client_id);
        text(writer, &member.client_host);
        writer.u32(member.session_timeout_ms);
        writer.u32(member.rebalance_timeout_ms);
        bytes(writer, &member.subscription);
        bytes(writer, &member.assignment);
    }
}

fn consumer(writer: &mut Writer, value: &ConsumerValue, target_epoch: i32) {
    writer.u32(value.epoch.cast_unsigned());
    writer.u32(target_epoch.cast_unsigned());
    writer.u64(value.topics_digest);
    writer.u64(value.epoch_timestamp.get().cast_unsigned());
}

fn consumer_member(writer: &mut Writer, value: &ConsumerMemberValue) {
    optional_text(writer, value.instance_id.as_ref());
    optional_text(writer, value.rack_id.as_ref());
    text(writer, &value.client_id);
    text(writer, &value.client_host);
    writer.u32(value.rebalance_timeout_ms);
    count(writer, value.subscribed_topics.len());
    for topic in &value.subscribed_topics {
        text(writer, topic);
    }
    optional_text(writer, value.server_assignor.as_ref());
    if let Some(classic) = &value.classic {
        writer.u32(classic.session_timeout_ms);
        count(writer, classic.protocols.len());
        for protocol in &classic.protocols {
            text(writer, &protocol.name);
            bytes(writer, &protocol.metadata);
        }
    } else if let Some(regex) = &value.subscribed_regex {
        text(writer, regex);
    }
}

fn current(writer: &mut Writer, value: &CurrentValue) {
    writer.u32(value.member_epoch.cast_unsigned());
    writer.u32(value.previous_epoch.cast_unsigned());
    writer.u8(match value.state {
        MemberState::Stable => 0,
        MemberState::UnrevokedPartitions => 1,
        MemberState::UnreleasedPartitions => 2,
    });
    assignment(writer, &value.assigned);
    assignment(writer, &value.revoking);
    if !value.earlier_epochs.is_empty() {
        partition_epochs(writer, &value.earlier_epochs);
    }
}

fn assignment(writer: &mut Writer, assignment: &Assignment) {
    count(writer, assignment.len());
    for (topic, partitions) in assignment {
        text(writer, topic);
        count(writer, partitions.len());
        for partition in partitions {
            writer.u32(partition.cast_unsigned());
        }
    }
}

fn partition_epochs(writer: &mut Writer, epochs: &PartitionEpochs) {
    count(writer, epochs.len());
    for (topic, epochs) in epochs {
        text(writer, topic);
        count(writer, epochs.len());
        for (partition, epoch) in epochs {
            writer.u32(partition.cast_unsigned());
            writer.u32(epoch.cast_unsigned());
        }
    }
}

fn optional_text(writer: &mut Writer, optional: Option<&String>) {
    match optional {
        Some(present) => {
            writer.u8(1);
            text(writer, present);
        }
        None => writer.u8(0),
    }
}

fn bytes(writer: &mut Writer, bytes: &[u8]) {
    count(writer, bytes.len());
    writer.bytes(bytes);
}

fn count(writer: &mut Writer, count: usize) {
    writer.u32(u32::try_from(count).expect("lists are bounded where they come in"));
}
