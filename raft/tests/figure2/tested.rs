//! The replica under test, and what is said to it.

use crate::support::id;
use raftline_proto::ids::{EntryId, HardState, Index, Membership, NodeId, Term};
use raftline_proto::time::Monotonic;
use raftline_raft::config::PreVote;
use raftline_raft::types::{AckWanted, AppendResult, Entry, Input, Message, Output, Recovered, Role, Round};
use raftline_raft::{Config, Raft};
use std::time::Duration;

pub const NODE: NodeId = NodeId(1);
pub const A: NodeId = NodeId(2);
pub const B: NodeId = NodeId(3);

/// A replica of a group of three (or so), and its clock.
pub struct Tested {
    pub raft: Raft,
    pub now: Monotonic,
}

pub fn membership(voters: u32) -> Membership {
    Membership::of_voters((1..=voters).map(NodeId).collect())
}

pub fn config(voters: u32) -> Config {
    let mut config = Config::new(NODE, membership(voters), 7);
    config.pre_vote = PreVote::Off;
    config
}

/// Recovered with these entries (membership recorded by the first), in this term.
pub fn recovered(term: u64, voted_for: Option<NodeId>, ids: &[EntryId]) -> Recovered {
    let mut term_starts: Vec<EntryId> = Vec::new();
    for id in ids {
        if term_starts.last().is_none_or(|start| start.term < id.term) {
            term_starts.push(*id);
        }
    }
    Recovered {
        hard_state: HardState { term: Term(term), voted_for },
        term_starts,
        last: ids.last().copied().unwrap_or(EntryId::ZERO),
        memberships: if ids.is_empty() { Vec::new() } else { vec![(Index(1), membership(3))] },
        ..Recovered::default()
    }
}

pub fn entry(term: u64, index: u64) -> Entry {
    Entry { id: id(term, index), entry_bytes: 100, membership: None }
}

impl Tested {
    /// As recovered, with all nodes up and the wait after a restart over.
    pub fn new(config: Config, recovered: Recovered) -> Self {
        let raft = Raft::new(config, recovered, Monotonic::ZERO);
        let mut tested = Self { raft, now: Monotonic::ZERO + Duration::from_millis(301) };
        for node in 2..=5 {
            assert_eq!(tested.tell(Input::PeerUp { node: NodeId(node) }), []);
        }
        tested
    }

    pub fn fresh() -> Self {
        Self::new(config(3), Recovered::default())
    }

    /// One input, one batch.
    pub fn tell(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.raft.step(self.now, input, &mut outputs);
        self.raft.flush(self.now, &mut outputs);
        let mut answers = Vec::new();
        for output in &outputs {
            if let Output::Replicate { to, term, from, up_to, .. } = output {
                answers.push(Input::Replicated {
                    to: *to,
                    term: *term,
                    from: *from,
                    up_to: *up_to,
                    bytes: up_to.since(*from) * 100,
                    outcome: raftline_raft::types::ReplicateOutcome::Sent,
                });
            }
        }
        for answer in answers {
            self.raft.step(self.now, answer, &mut outputs);
        }
        outputs
    }

    pub fn hear(&mut self, from: NodeId, message: Message) -> Vec<Output> {
        self.tell(Input::Message { from, message, entries: &[] })
    }

    pub fn append(
        &mut self,
        from: NodeId,
        term: u64,
        previous: EntryId,
        entries: &[Entry],
        commit: u64,
    ) -> Vec<Output> {
        let message = Message::Append {
            term: Term(term),
            previous,
            commit: Index(commit),
            ack: AckWanted::Durable,
            round: Round(0),
        };
        self.tell(Input::Message { from, message, entries })
    }

    pub fn vote(&mut self, from: NodeId, term: u64, last: EntryId) -> Vec<Output> {
        self.hear(from, Message::Vote { term: Term(term), last, transfer: false })
    }

    pub fn matched(&mut self, from: NodeId, term: u64, durable: u64) -> Vec<Output> {
        let result =
            AppendResult::Matched { durable: Index(durable), received: Index(durable), commit: Index(0) };
        self.hear(from, Message::AppendReply { term: Term(term), result, round: Round(0) })
    }

    /// Whatever was ordered to be saved is.
    pub fn saved(&mut self) -> Vec<Output> {
        let hard_state = self.raft.hard_state();
        self.tell(Input::HardStateDurable { hard_state })
    }

    pub fn synced(&mut self) -> Vec<Output> {
        let last = self.raft.last();
        self.tell(Input::LogDurable { last })
    }

    /// Time passes until it campaigns.
    pub fn time_out(&mut self) -> Vec<Output> {
        self.now = self.now.max(self.raft.deadline().expect("it waits for a leader"));
        self.tell(Input::Tick)
    }

    /// Campaigns, and wins with A's vote.
    pub fn win(&mut self) -> Vec<Output> {
        self.time_out();
        self.saved();
        let term = self.raft.term();
        let outputs = self.hear(A, Message::VoteReply { term, granted: true });
        assert_eq!(self.raft.role(), Role::Leader);
        outputs
    }
}

pub fn sent(outputs: &[Output]) -> Vec<(NodeId, Message)> {
    let send = |output: &Output| match output {
        Output::Send { to, message } => Some((*to, message.clone())),
        _ => None,
    };
    outputs.iter().filter_map(send).collect()
}

pub fn committed(outputs: &[Output]) -> Option<u64> {
    outputs.iter().find_map(|output| match output {
        Output::Committed { through } => Some(through.get()),
        _ => None,
    })
}

pub fn vote_reply(term: u64, granted: bool) -> Message {
    Message::VoteReply { term: Term(term), granted }
}

pub fn rejected(term: u64, previous: u64, hint: EntryId) -> Message {
    let result = AppendResult::Rejected { previous: Index(previous), hint };
    Message::AppendReply { term: Term(term), result, round: Round(0) }
}
