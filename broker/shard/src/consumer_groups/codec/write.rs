//! The writing half: see [`super`] for the layout.

use super::fields::{
    put_bytes, put_compact_bytes, put_compact_count, put_compact_text, put_count, put_int16, put_int32,
    put_int64, put_millis, put_optional_compact_text, put_optional_text, put_tagged_fields, put_text,
    put_uuid,
};
use super::{FLEXIBLE_VERSION, OWN_TAG, PLAIN_VERSION, TopicIds, kind};
use crate::consumer_groups::record::{
    Assignment, ClassicSupport, ClassicValue, ConsumerMemberValue, ConsumerValue, CurrentValue, GroupRecord,
    MemberState, OffsetValue,
};
use alloc::vec::Vec;
use raftline_proto::cursor::Writer;

pub(super) fn key(record: &GroupRecord) -> Vec<u8> {
    let mut writer = Writer::new();
    put_int16(&mut writer, kind_of(record));
    put_text(&mut writer, record.group());
    match record {
        GroupRecord::Offset { topic, partition, .. } => {
            put_text(&mut writer, topic);
            put_int32(&mut writer, *partition);
        }
        GroupRecord::Classic { .. }
        | GroupRecord::Consumer { .. }
        | GroupRecord::ConsumerTargetEpoch { .. } => {}
        GroupRecord::ConsumerMember { member_id, .. }
        | GroupRecord::ConsumerTarget { member_id, .. }
        | GroupRecord::ConsumerCurrent { member_id, .. } => put_text(&mut writer, member_id),
    }
    writer.into_bytes()
}

fn kind_of(record: &GroupRecord) -> i16 {
    match record {
        GroupRecord::Offset { .. } => kind::OFFSET,
        GroupRecord::Classic { .. } => kind::CLASSIC,
        GroupRecord::Consumer { .. } => kind::CONSUMER,
        GroupRecord::ConsumerTargetEpoch { .. } => kind::CONSUMER_TARGET_EPOCH,
        GroupRecord::ConsumerMember { .. } => kind::CONSUMER_MEMBER,
        GroupRecord::ConsumerTarget { .. } => kind::CONSUMER_TARGET,
        GroupRecord::ConsumerCurrent { .. } => kind::CONSUMER_CURRENT,
    }
}

pub(super) fn value(record: &GroupRecord, topic_id: TopicIds<'_>) -> Option<Vec<u8>> {
    let mut writer = Writer::new();
    match record {
        GroupRecord::Offset { value, .. } => offset(&mut writer, value.as_ref()?),
        GroupRecord::Classic { value, .. } => classic(&mut writer, value.as_ref()?),
        GroupRecord::Consumer { value, .. } => consumer(&mut writer, value.as_ref()?),
        GroupRecord::ConsumerTargetEpoch { value, .. } => {
            consumer_target_epoch(&mut writer, value.as_ref().copied()?)
        }
        GroupRecord::ConsumerMember { value, .. } => consumer_member(&mut writer, value.as_ref()?),
        GroupRecord::ConsumerTarget { value, .. } => consumer_target(&mut writer, value.as_ref()?, topic_id),
        GroupRecord::ConsumerCurrent { value, .. } => {
            consumer_current(&mut writer, value.as_ref()?, topic_id)
        }
    }
    Some(writer.into_bytes())
}

fn offset(writer: &mut Writer, value: &OffsetValue) {
    put_int16(writer, PLAIN_VERSION);
    put_int64(writer, value.offset);
    put_int32(writer, value.leader_epoch);
    put_text(writer, &value.metadata);
    put_int64(writer, value.commit_timestamp.get());
}

fn classic(writer: &mut Writer, value: &ClassicValue) {
    put_int16(writer, PLAIN_VERSION);
    put_text(writer, &value.protocol_type);
    put_int32(writer, value.generation);
    put_optional_text(writer, value.protocol.as_ref());
    put_optional_text(writer, value.leader.as_ref());
    put_int64(writer, value.state_timestamp.get());
    put_count(writer, value.members.len());
    for member in &value.members {
        put_text(writer, &member.member_id);
        put_optional_text(writer, member.instance_id.as_ref());
        put_text(writer, &member.client_id);
        put_text(writer, &member.client_host);
        put_millis(writer, member.rebalance_timeout_ms);
        put_millis(writer, member.session_timeout_ms);
        put_bytes(writer, &member.subscription);
        put_bytes(writer, &member.assignment);
    }
}

fn consumer(writer: &mut Writer, value: &ConsumerValue) {
    put_int16(writer, FLEXIBLE_VERSION);
    put_int32(writer, value.epoch);
    let (mut digest, mut timestamp) = (Writer::new(), Writer::new());
    put_int64(&mut digest, value.topics_digest.cast_signed());
    put_int64(&mut timestamp, value.epoch_timestamp.get());
    put_tagged_fields(writer, &[(0, digest), (OWN_TAG, timestamp)]);
}

fn consumer_target_epoch(writer: &mut Writer, epoch: i32) {
    put_int16(writer, FLEXIBLE_VERSION);
    put_int32(writer, epoch);
    put_tagged_fields(writer, &[]);
}

fn consumer_member(writer: &mut Writer, value: &ConsumerMemberValue) {
    put_int16(writer, FLEXIBLE_VERSION);
    put_optional_compact_text(writer, value.instance_id.as_ref());
    put_optional_compact_text(writer, value.rack_id.as_ref());
    put_compact_text(writer, &value.client_id);
    put_compact_text(writer, &value.client_host);
    put_compact_count(writer, value.subscribed_topics.len());
    for topic in &value.subscribed_topics {
        put_compact_text(writer, topic);
    }
    put_optional_compact_text(writer, value.subscribed_regex.as_ref());
    put_millis(writer, value.rebalance_timeout_ms);
    put_optional_compact_text(writer, value.server_assignor.as_ref());
    match &value.classic {
        Some(classic) => put_tagged_fields(writer, &[(0, classic_support(classic))]),
        None => put_tagged_fields(writer, &[]),
    }
}

fn classic_support(classic: &ClassicSupport) -> Writer {
    let mut writer = Writer::new();
    // A structure that may be null begins with whether it is there.
    writer.u8(1);
    put_millis(&mut writer, classic.session_timeout_ms);
    put_compact_count(&mut writer, classic.protocols.len());
    for protocol in &classic.protocols {
        put_compact_text(&mut writer, &protocol.name);
        put_compact_bytes(&mut writer, &protocol.metadata);
        put_tagged_fields(&mut writer, &[]);
    }
    put_tagged_fields(&mut writer, &[]);
    writer
}

fn consumer_target(writer: &mut Writer, target: &Assignment, topic_id: TopicIds<'_>) {
    put_int16(writer, FLEXIBLE_VERSION);
    topics(writer, target, topic_id, None);
    put_tagged_fields(writer, &[]);
}

fn consumer_current(writer: &mut Writer, value: &CurrentValue, topic_id: TopicIds<'_>) {
    put_int16(writer, FLEXIBLE_VERSION);
    put_int32(writer, value.member_epoch);
    put_int32(writer, value.previous_epoch);
    writer.u8(match value.state {
        MemberState::Stable => 0,
        MemberState::UnrevokedPartitions => 1,
        MemberState::UnreleasedPartitions => 2,
    });
    topics(writer, &value.assigned, topic_id, Some(value));
    topics(writer, &value.revoking, topic_id, Some(value));
    put_tagged_fields(writer, &[]);
}

/// Partitions by topic; of a topic of which the member has had some for longer than its epoch, with the epochs of all.
fn topics(
    writer: &mut Writer,
    assignment: &Assignment,
    topic_id: TopicIds<'_>,
    member: Option<&CurrentValue>,
) {
    put_compact_count(writer, assignment.len());
    for (topic, partitions) in assignment {
        put_uuid(writer, topic_id(topic).unwrap_or_default());
        put_compact_count(writer, partitions.len());
        for partition in partitions {
            put_int32(writer, *partition);
        }
        let mut name = Writer::new();
        put_compact_text(&mut name, topic);
        let earlier = member.and_then(|member| Some((member, member.earlier_epochs.get(topic)?)));
        let Some((member, earlier)) = earlier else {
            put_tagged_fields(writer, &[(OWN_TAG, name)]);
            continue;
        };
        let mut epochs = Writer::new();
        put_compact_count(&mut epochs, partitions.len());
        for partition in partitions {
            put_int32(&mut epochs, earlier.get(partition).copied().unwrap_or(member.member_epoch));
        }
        put_tagged_fields(writer, &[(0, epochs), (OWN_TAG, name)]);
    }
}
