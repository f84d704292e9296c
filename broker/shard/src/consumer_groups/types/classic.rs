//! Messages of the classic protocol: members choose a leader's assignment among themselves.

use alloc::string::String;
use alloc::vec::Vec;

/// One way of assigning that a member can do, and what it says in it (opaque here).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupProtocol {
    /// Its name, such as `range`.
    pub name: String,
    /// The member's subscription in this protocol.
    pub metadata: Vec<u8>,
}

/// Whether a new dynamic member has to ask for its id first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberIdRule {
    /// JoinGroup v4 and later (KIP-394): it gets an id with error 79 and joins again.
    Required,
    /// Earlier versions: it is a member at once.
    NotRequired,
}

/// A member wants to be in the next generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroup {
    /// Which group.
    pub group: String,
    /// Empty for a new member.
    pub member_id: String,
    /// Of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// As the client's request header says.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// A member that is silent this long is removed.
    pub session_timeout_ms: i32,
    /// How long others wait for it in a rebalance; v0 has none: the session timeout.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, …: all members have the same.
    pub protocol_type: String,
    /// What it can do, the best first.
    pub protocols: Vec<GroupProtocol>,
    /// By the request's version.
    pub member_id_rule: MemberIdRule,
    /// v9 and later: a static leader that comes back may be told to skip the assignment (KIP-814).
    pub can_skip_assignment: bool,
    /// Drawn at the edge, never twice: a new member's id is made of it.
    pub fresh_id: u128,
}

/// A generation has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its number.
    pub generation: i32,
    /// The group's type.
    pub protocol_type: String,
    /// What all can do.
    pub protocol: String,
    /// Who assigns.
    pub leader: String,
    /// The member's own id.
    pub member_id: String,
    /// The leader is to keep the assignment there is.
    pub skip_assignment: bool,
    /// All members, for the leader; else empty.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// What it says in the protocol chosen.
    pub metadata: Vec<u8>,
}

/// A member asks for its assignment; the leader brings all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    /// Which group.
    pub group: String,
    /// Who asks.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// The generation it joined.
    pub generation: i32,
    /// v5 and later: must be the group's.
    pub protocol_type: Option<String>,
    /// v5 and later: must be the one chosen.
    pub protocol: Option<String>,
    /// By member id; empty but from the leader.
    pub assignments: Vec<(String, Vec<u8>)>,
}

/// A member's part, committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The group's type.
    pub protocol_type: String,
    /// The protocol chosen.
    pub protocol: String,
    /// What the leader assigned; opaque here.
    pub assignment: Vec<u8>,
}

/// A member lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which group.
    pub group: String,
    /// Who.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// The generation it is in.
    pub generation: i32,
}

/// Members go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroup {
    /// Which group.
    pub group: String,
    /// Who; v0 to v2 name one.
    pub members: Vec<LeavingMember>,
}

/// One that goes: named by member id, by instance id, or by both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingMember {
    /// Empty if only the instance id is known.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
}

/// What became of one that wanted to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    /// As asked.
    pub member_id: String,
    /// As asked.
    pub instance_id: Option<String>,
    /// Why it did not go.
    pub error: Option<super::GroupError>,
}

/// A classic group as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicDescription {
    /// Kafka's word: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    pub state: &'static str,
    /// Empty if it never had members.
    pub protocol_type: String,
    /// The protocol chosen; empty unless stable.
    pub protocol: String,
    /// By member id.
    pub members: Vec<ClassicMemberDescription>,
}

/// A member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMemberDescription {
    /// Its id.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// As its client says.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it says in the protocol chosen; empty unless stable.
    pub metadata: Vec<u8>,
    /// Its part; empty unless stable.
    pub assignment: Vec<u8>,
}
