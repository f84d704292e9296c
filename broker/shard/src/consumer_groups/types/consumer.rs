//! Messages of the new protocol (KIP-848): the coordinator assigns.

use crate::consumer_groups::record::Assignment;
use alloc::string::String;
use alloc::vec::Vec;

/// What the coordinator has to know of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// How many partitions it has.
    pub partitions: i32,
    /// Its id: a topic made again under an old name has another.
    pub id: u128,
}

/// A member joins, lives, reports or leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// Which group.
    pub group: String,
    /// Made by the client from v1 on; empty in v0 for a new member.
    pub member_id: String,
    /// 0 joins, -1 leaves, -2 leaves for a while (static members); else the epoch last told.
    pub member_epoch: i32,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// Where it is; kept and shown.
    pub rack_id: Option<String>,
    /// How long it may take to give partitions up; -1: as before.
    pub rebalance_timeout_ms: i32,
    /// Topics by name; `None`: as before.
    pub subscribed_topics: Option<Vec<String>>,
    /// Topics by a regular expression over their whole names, besides those named; `None`: as before, empty: none.
    pub subscribed_regex: Option<String>,
    /// `uniform` or `range`; `None`: as before.
    pub server_assignor: Option<String>,
    /// What it owns; `None`: as before.
    pub owned: Option<Assignment>,
    /// As the client's request header says.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Drawn at the edge, never twice: the id of a v0 client's new member.
    pub fresh_id: u128,
}

/// What a member is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHeartbeatAnswer {
    /// Its id.
    pub member_id: String,
    /// Its epoch from now on.
    pub member_epoch: i32,
    /// When it is to heartbeat again.
    pub heartbeat_interval_ms: i32,
    /// What it is to own from now on; `None`: as before.
    pub assignment: Option<Assignment>,
}

/// A group of the new protocol as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// Kafka's word: `Empty`, `Assigning`, `Reconciling`, `Stable`.
    pub state: &'static str,
    /// Moves with every change of members or subscriptions.
    pub group_epoch: i32,
    /// The group epoch that the target assignment was made for.
    pub assignment_epoch: i32,
    /// Who assigns.
    pub assignor: &'static str,
    /// By member id.
    pub members: Vec<ConsumerMemberDescription>,
}

/// A member of a group of the new protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// Where it is.
    pub rack_id: Option<String>,
    /// Its epoch.
    pub member_epoch: i32,
    /// As its client says.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Topics by name.
    pub subscribed_topics: Vec<String>,
    /// Topics by a regular expression over their whole names.
    pub subscribed_regex: Option<String>,
    /// What it may own now.
    pub assignment: Assignment,
    /// What it is to own in the end.
    pub target: Assignment,
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
}
