//! What the engine is told once.

use crate::limits;
use core::time::Duration;
use raftline_proto::ids::{Membership, NodeId};

/// The settings of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// The membership while the log holds no membership entry. The same on every replica.
    pub bootstrap: Membership,
    /// Where the random election timeouts come from. Must differ between the replicas of a group.
    pub seed: u64,
    /// The shortest wait for a leader; for this long after its last sign of life a leader is believed in.
    pub election_timeout_min: Duration,
    /// The longest wait for a leader.
    pub election_timeout_max: Duration,
    /// How long a leader waits for progress before it asks a follower again.
    pub resend: Duration,
    /// Sent to one follower and not yet acknowledged.
    pub in_flight_bytes_max: u64,
    /// Messages with entries sent to one follower and not yet acknowledged.
    pub in_flight_messages_max: usize,
    /// Proposed and not yet committed; beyond it proposals are refused as busy. One proposal alone may pass it.
    pub uncommitted_bytes_max: u64,
    /// Entries proposed and not yet committed.
    pub uncommitted_entries_max: usize,
    /// Whether elections are asked about before a term is raised.
    pub pre_vote: PreVote,
    /// Whether this replica is the one to lead a group that never had a leader.
    pub first_campaign: FirstCampaign,
}

/// Whether elections are asked about before a term is raised (thesis §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreVote {
    /// The default: a replica cut off from the others never raises its term.
    On,
    /// As in the paper's figure 2.
    Off,
}

/// When a replica of a brand-new group (no term, no entry) asks for its first election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstCampaign {
    /// After a random election timeout, as always.
    AfterTimeout,
    /// At once, and again after each resend time: the placement's preferred leader.
    AtOnce,
}

impl Config {
    /// The default settings.
    #[must_use]
    pub const fn new(node: NodeId, bootstrap: Membership, seed: u64) -> Self {
        Self {
            node,
            bootstrap,
            seed,
            election_timeout_min: limits::ELECTION_TIMEOUT_MIN,
            election_timeout_max: limits::ELECTION_TIMEOUT_MAX,
            resend: limits::RESEND,
            in_flight_bytes_max: limits::IN_FLIGHT_BYTES_MAX,
            in_flight_messages_max: limits::IN_FLIGHT_MESSAGES_MAX,
            uncommitted_bytes_max: limits::UNCOMMITTED_BYTES_MAX,
            uncommitted_entries_max: limits::UNCOMMITTED_ENTRIES_MAX,
            pre_vote: PreVote::On,
            first_campaign: FirstCampaign::AfterTimeout,
        }
    }

    /// Checks the settings against each other, once, at the start.
    pub(crate) fn check(&self) {
        assert!(self.election_timeout_min < self.election_timeout_max, "the election timeout needs a range");
        assert!(self.resend < self.election_timeout_min, "one lost message must not cost an election");
        assert!(!self.resend.is_zero(), "a resend time of zero would spin");
        assert!(self.in_flight_bytes_max > 0, "a window of zero bytes sends nothing");
        assert!(self.in_flight_messages_max > 0, "a window of zero messages sends nothing");
        assert!(self.uncommitted_entries_max > 0, "a bound of zero entries takes no proposal");
    }
}
