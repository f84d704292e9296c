//! What can be seen of the engine from outside.

use crate::progress::Phase;
use crate::raft::{Raft, State};
use crate::types::{LogStart, Role};
use raftline_proto::ids::{EntryId, HardState, Index, Membership, NodeId, Term};

/// What a leader knows of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Which peer.
    pub node: NodeId,
    /// Whether its node answers.
    pub alive: bool,
    /// Known durable there through this entry.
    pub matched: Index,
    /// Known to be held there at least in memory.
    pub received: Index,
    /// The next entry to send.
    pub next: Index,
    /// The commit index that it last told.
    pub commit: Index,
    /// Bytes sent and not acknowledged.
    pub in_flight_bytes: u64,
    /// Whether entries are sent ahead of acknowledgements; if not, where its log agrees is being found out.
    pub streaming: bool,
}

impl Raft {
    /// This replica's role.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self.state {
            State::Follower(_) => Role::Follower,
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// The current term.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.hard_state.term
    }

    /// The current term and vote, saved or on the way there.
    #[must_use]
    pub const fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Who leads, as far as is known here.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Committed through here.
    #[must_use]
    pub const fn commit(&self) -> Index {
        self.commit
    }

    /// The last entry here.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// On stable storage here through this entry.
    #[must_use]
    pub const fn durable(&self) -> Index {
        self.log.durable()
    }

    /// Where the log starts.
    #[must_use]
    pub const fn start(&self) -> LogStart {
        self.log.start()
    }

    /// The name of the entry at `index`, if the log has it (or begins right after it).
    #[must_use]
    pub fn id_at(&self, index: Index) -> Option<EntryId> {
        self.log.id_at(index)
    }

    /// How many terms have entries in the log: what its names cost in memory.
    #[must_use]
    pub fn term_count(&self) -> usize {
        self.log.term_count()
    }

    /// The membership in force.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.log.membership()
    }

    /// Whether nothing is under way: no timer, nothing withheld, nothing unsynced.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.deadline().is_none()
            && self.saved == self.hard_state
            && self.log.durable() == self.log.last().index
    }

    /// Whether the node answers, as last heard through `Input::PeerUp` and its like.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.up.binary_search(&node).is_ok()
    }

    /// A majority holds entries through here at least in memory, as a leader knows; elsewhere the commit index.
    #[must_use]
    pub fn received(&self) -> Index {
        match &self.state {
            State::Leader(leading) => leading.received.max(self.commit),
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) => self.commit,
        }
    }

    /// What a leader knows of its peers, sorted by node; empty elsewhere.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        let peers = match &self.state {
            State::Leader(leading) => leading.peers(),
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) => &[],
        };
        peers.iter().map(|progress| PeerView {
            node: progress.node,
            alive: progress.alive,
            matched: progress.matched,
            received: progress.received,
            next: progress.next,
            commit: progress.commit,
            in_flight_bytes: progress.in_flight_bytes(),
            streaming: progress.phase == Phase::Stream,
        })
    }
}
