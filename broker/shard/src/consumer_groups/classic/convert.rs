//! The classic side of a group that changes its protocol while its members live: see the new protocol's `convert`.

use super::{ClassicGroup, Member};
use crate::consumer_groups::limits::{GROUP_BYTES_MAX, SUBSCRIBED_TOPICS_MAX};
use crate::consumer_groups::record::{
    Assignment, ClassicSupport, ClassicValue, ConsumerMemberValue, GroupRecord,
};
use crate::consumer_groups::subscription::{Subscription, assignment_of};
use crate::consumer_groups::types::GroupProtocol;
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::time::Monotonic;

/// A member on its way to a group of the new protocol, and what it has.
pub(in crate::consumer_groups) struct Migrating {
    pub member_id: String,
    pub value: ConsumerMemberValue,
    pub assigned: Assignment,
}

impl ClassicGroup {
    /// The members as the new protocol has them; `None` if they are no consumers that can be understood,
    /// or too many for one batch of records.
    pub fn migrating(&self) -> Option<Vec<Migrating>> {
        if self.protocol_type() != super::view::CONSUMER {
            return None;
        }
        let bytes: usize =
            self.members.values().map(|member| member.bytes() + 2 * member.assignment.len()).sum();
        // All of it is one batch.
        if bytes > GROUP_BYTES_MAX {
            return None;
        }
        self.members.iter().map(|(id, member)| member.migrating(id)).collect()
    }

    /// The number of the generation.
    pub const fn generation(&self) -> i32 {
        self.generation
    }

    /// How many members there are.
    pub fn members_len(&self) -> usize {
        self.members.len()
    }

    /// A group that was of the new protocol: `value` says what it is, `offers` all that each member can do. Its members have
    /// to join again.
    pub fn from_consumer(
        id: &str,
        value: &ClassicValue,
        offers: Vec<(String, Vec<GroupProtocol>)>,
        now: Monotonic,
    ) -> Self {
        let mut group = Self::load(id, value, now);
        for (member_id, protocols) in offers {
            if let Some(member) = group.members.get_mut(&member_id) {
                member.protocols = protocols;
            }
        }
        group
    }

    /// The record of the group as it is.
    pub fn to_record(&self) -> GroupRecord {
        self.record()
    }
}

impl Member {
    fn migrating(&self, id: &str) -> Option<Migrating> {
        let subscription = Subscription::read(&self.protocols.first()?.metadata)?;
        if subscription.topics.len() > SUBSCRIBED_TOPICS_MAX {
            return None;
        }
        // While the group rebalances nothing is assigned; a cooperative member still has what it said it owns.
        let assigned = match assignment_of(&self.assignment) {
            Some(assigned) => assigned,
            None => subscription.owned,
        };
        let ms = |span: core::time::Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let value = ConsumerMemberValue {
            instance_id: self.instance_id.clone(),
            rack_id: None,
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: ms(self.rebalance_timeout),
            subscribed_topics: subscription.topics,
            subscribed_regex: None,
            server_assignor: None,
            classic: Some(ClassicSupport {
                session_timeout_ms: ms(self.session_timeout),
                protocols: self.protocols.clone(),
            }),
        };
        Some(Migrating { member_id: String::from(id), value, assigned })
    }
}
