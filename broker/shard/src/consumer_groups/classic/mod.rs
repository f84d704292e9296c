//! The classic protocol: one group as its coordinator sees it while it leads.
//!
//! Members, sessions and the generation under way live here only. What is durable is the group with its *assignment*:
//! the leader's SyncGroup makes a record, and the answers to SyncGroup wait for its commit. A generation without an
//! assignment is lost with the coordinator; its members are told to join again, as in Kafka.
//!
//! In reading order: this file (what a group is), `join` (who may join), `rebalance` (from joining to the next
//! generation), `sync` (assignments, heartbeats, leaving), `view` (what is shown and checked),
//! `convert` (to the new protocol and back).

mod convert;
mod join;
mod rebalance;
mod sync;
mod view;

pub(super) use convert::Migrating;

use super::record::{ClassicMemberValue, ClassicValue, GroupRecord};
use super::types::GroupProtocol;
use crate::types::RequestId;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use raftline_proto::time::{Monotonic, Timestamp};

/// One classic group.
///
/// Invariant: `Empty` exactly if there are no members, but while a call runs.
#[derive(Debug)]
pub(super) struct ClassicGroup {
    id: String,
    state: State,
    generation: i32,
    /// `None` until the first member.
    protocol_type: Option<String>,
    /// `None` without a generation that has members.
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member ids by instance id. Invariant: exactly the static ones of `members`.
    instances: BTreeMap<String, String>,
    /// Ids given out with error 79, until they join or this time passes.
    pending: BTreeMap<String, Monotonic>,
    /// Members that have not synced by then are removed.
    sync_deadline: Option<Monotonic>,
    /// Whether the log has, or will have, a record of the group.
    recorded: bool,
    state_timestamp: Timestamp,
}

/// Kafka's group states; `Dead` is not to be in the map any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    /// Members are joining.
    PreparingRebalance(Joining),
    /// All have joined; the leader is to assign.
    CompletingRebalance(Assigning),
    /// All may have their assignment.
    Stable,
}

/// How long others wait for members to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Joining {
    deadline: Monotonic,
    /// Of a group that was empty: it waits for company (`group.initial.rebalance.delay.ms`).
    initial: Option<InitialDelay>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InitialDelay {
    /// What may be waited beyond the deadline.
    remaining: Duration,
    /// Somebody came since the deadline was set.
    member_added: bool,
}

/// Whether the leader's assignment is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Assigning {
    Awaited,
    /// It is appended and not yet committed.
    Storing,
}

/// One member.
#[derive(Debug)]
struct Member {
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<GroupProtocol>,
    assignment: Vec<u8>,
    /// When its session ends; `None` while a request of it waits.
    session: Option<Monotonic>,
    joining: Option<RequestId>,
    syncing: Option<RequestId>,
    /// It has not been in a generation yet, and so cannot heartbeat.
    is_new: bool,
    /// It has joined the generation and not asked for its assignment.
    owes_sync: bool,
}

impl ClassicGroup {
    /// A group that nobody is in.
    pub fn new(id: String, now: Timestamp) -> Self {
        Self {
            id,
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            sync_deadline: None,
            recorded: false,
            state_timestamp: now,
        }
    }

    /// A group as its record says; sessions begin now.
    pub fn load(id: &str, value: &ClassicValue, now: Monotonic) -> Self {
        let mut group = Self::new(id.to_owned(), value.state_timestamp);
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type.clone());
        group.protocol.clone_from(&value.protocol);
        group.leader.clone_from(&value.leader);
        group.recorded = true;
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in &value.members {
            let session_timeout = Duration::from_millis(u64::from(member.session_timeout_ms));
            let subscription =
                GroupProtocol { name: protocol.clone(), metadata: member.subscription.clone() };
            if let Some(instance_id) = &member.instance_id {
                group.instances.insert(instance_id.clone(), member.member_id.clone());
            }
            let loaded = Member {
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                session_timeout,
                rebalance_timeout: Duration::from_millis(u64::from(member.rebalance_timeout_ms)),
                protocols: vec![subscription],
                assignment: member.assignment.clone(),
                session: Some(now + session_timeout),
                joining: None,
                syncing: None,
                is_new: false,
                owes_sync: false,
            };
            group.members.insert(member.member_id.clone(), loaded);
        }
        if !group.members.is_empty() {
            group.state = State::Stable;
        }
        group
    }

    /// Whether forgetting it loses nothing.
    pub fn is_forgettable(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty() && !self.recorded
    }

    /// Whether it has no members and nobody is about to join.
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// Whether it may become a group of the new protocol: nobody is in it.
    pub fn is_deletable(&self) -> bool {
        self.state == State::Empty
    }

    /// The tombstone, if the log has a record.
    pub fn tombstone(&self) -> Option<GroupRecord> {
        self.recorded.then(|| GroupRecord::Classic { group: self.id.clone(), value: None })
    }

    /// When the group came to its state, for retention; `None` if it never had members.
    pub fn state_timestamp(&self) -> Option<Timestamp> {
        self.protocol_type.as_ref().map(|_| self.state_timestamp)
    }

    /// When the group has to be looked at next.
    pub fn deadline(&self) -> Option<Monotonic> {
        let joining = match self.state {
            State::PreparingRebalance(joining) => Some(joining.deadline),
            State::Empty | State::CompletingRebalance(_) | State::Stable => None,
        };
        let sessions = self.members.values().filter_map(|member| member.session);
        sessions.chain(self.pending.values().copied()).chain(joining).chain(self.sync_deadline).min()
    }

    /// Requests that wait inside the group: it will answer none of them any more.
    pub fn take_waiting(&mut self) -> Vec<RequestId> {
        let waiting = |member: &mut Member| [member.joining.take(), member.syncing.take()];
        self.members.values_mut().flat_map(waiting).flatten().collect()
    }

    /// The group as a record, with the assignments as they are.
    fn record(&self) -> GroupRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let member = |(member_id, member): (&String, &Member)| ClassicMemberValue {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout_ms: millis(member.session_timeout),
            rebalance_timeout_ms: millis(member.rebalance_timeout),
            subscription: member.subscription(protocol).to_owned(),
            assignment: member.assignment.clone(),
        };
        let value = ClassicValue {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_timestamp,
            members: self.members.iter().map(member).collect(),
        };
        GroupRecord::Classic { group: self.id.clone(), value: Some(value) }
    }
}

impl Member {
    /// What it says in `protocol`.
    fn subscription(&self, protocol: &str) -> &[u8] {
        let found = self.protocols.iter().find(|offered| offered.name == protocol);
        found.map_or(&[], |offered| offered.metadata.as_slice())
    }

    /// What it takes in the group's record, at most.
    fn bytes(&self) -> usize {
        let names = [Some(&self.client_id), Some(&self.client_host), self.instance_id.as_ref()];
        member_bytes(names, &self.protocols)
    }

    /// Its session begins anew, unless a request of it waits.
    fn alive(&mut self, now: Monotonic) {
        if self.joining.is_none() && self.syncing.is_none() {
            self.session = Some(now + self.session_timeout);
        }
    }
}

/// What a member with these names (client id, host, instance id) takes in the group's record, at most. Its own id is
/// made of the client's or the instance's.
fn member_bytes(names: [Option<&String>; 3], protocols: &[GroupProtocol]) -> usize {
    let names: usize = names.into_iter().flatten().map(String::len).sum();
    let said: usize = protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum();
    2 * names + said + MEMBER_BYTES_MIN
}

/// Sizes, timeouts, and the UUID in the member's id.
const MEMBER_BYTES_MIN: usize = 64;

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}
