//! A replica: the engine, its disk, and the driver between them, which checks what must hold at that boundary.

use super::disk::{Disk, Stored};
use raftline_proto::ids::{EntryId, Index, Membership, NodeId};
use raftline_proto::time::Monotonic;
use raftline_raft::types::{
    AppendResult, Entry, Input, LogStart, Message, Output, ProposeError, ReplicateOutcome,
};
use raftline_raft::{Config, Raft};
use std::collections::VecDeque;

/// A message on its way, with the entries beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
    pub entries: Vec<Stored>,
}

/// What a batch of inputs led to.
#[derive(Clone, Debug, Default)]
pub struct Done {
    pub outputs: Vec<Output>,
    pub wires: Vec<Wire>,
}

/// What a replica is told, owning its parts.
#[derive(Clone, Debug)]
pub enum Event {
    Tick,
    Wire(Wire),
    /// A sync of the first so many writes finished.
    Synced(usize),
    Saved,
    PeerUp(NodeId),
    PeerDown(NodeId),
    PeerReset(NodeId),
    Transfer(Option<NodeId>),
    /// Retention drops through here.
    Trim(Index),
}

/// One replica.
pub struct Replica {
    pub config: Config,
    pub raft: Raft,
    pub disk: Disk,
    /// What becomes of the next orders to replicate; `Sent` when it is empty.
    pub outcomes: VecDeque<ReplicateOutcome>,
    /// How many entries leave with one message at most.
    pub batch_max: usize,
}

impl Replica {
    pub fn new(config: Config, disk: Disk, now: Monotonic) -> Self {
        let raft = Raft::new(config.clone(), disk.recover(), now);
        Self { config, raft, disk, outcomes: VecDeque::new(), batch_max: usize::MAX }
    }

    /// Starts again from what a crash left.
    pub fn restart(&mut self, now: Monotonic) {
        self.outcomes.clear();
        self.raft = Raft::new(self.config.clone(), self.disk.recover(), now);
    }

    pub fn propose(
        &mut self,
        now: Monotonic,
        value: u64,
        entry_bytes: u64,
        membership: Option<Membership>,
    ) -> (Result<EntryId, ProposeError>, Done) {
        let mut outputs = Vec::new();
        let result = self.raft.propose(now, entry_bytes, membership, &mut outputs);
        let mut done = Done::default();
        self.finish(now, outputs, &[], value, &mut done);
        (result, done)
    }

    /// One event, one batch.
    pub fn handle(&mut self, now: Monotonic, event: &Event) -> Done {
        let mut outputs = Vec::new();
        let mut beside: &[Stored] = &[];
        match event {
            Event::Tick => self.raft.step(now, Input::Tick, &mut outputs),
            Event::Wire(wire) => {
                beside = &wire.entries;
                let entries: Vec<Entry> = wire.entries.iter().map(|stored| stored.entry.clone()).collect();
                let message = wire.message.clone();
                let input = Input::Message { from: wire.from, message, entries: &entries };
                self.raft.step(now, input, &mut outputs);
            }
            Event::Synced(count) => {
                let last = self.disk.synced(*count);
                self.raft.step(now, Input::LogDurable { last }, &mut outputs);
            }
            Event::Saved => {
                if let Some(hard_state) = self.disk.saved() {
                    self.raft.step(now, Input::HardStateDurable { hard_state }, &mut outputs);
                }
            }
            Event::PeerUp(node) => self.raft.step(now, Input::PeerUp { node: *node }, &mut outputs),
            Event::PeerDown(node) => self.raft.step(now, Input::PeerDown { node: *node }, &mut outputs),
            Event::PeerReset(node) => self.raft.step(now, Input::PeerReset { node: *node }, &mut outputs),
            Event::Transfer(to) => self.raft.step(now, Input::Transfer { to: *to }, &mut outputs),
            Event::Trim(through) => {
                if let Some(start) = self.disk.trim(*through) {
                    self.raft.step(now, Input::Trimmed { start }, &mut outputs);
                }
            }
        }
        let mut done = Done::default();
        self.finish(now, outputs, beside, 0, &mut done);
        done
    }

    /// Carries out what a step ordered, ends the batch, and answers at once what is answered at once.
    fn finish(
        &mut self,
        now: Monotonic,
        outputs: Vec<Output>,
        beside: &[Stored],
        value: u64,
        done: &mut Done,
    ) {
        let mut outputs = outputs;
        let mut beside = beside;
        loop {
            let mut answers = Vec::new();
            self.carry_out(&outputs, beside, value, &mut answers, done);
            done.outputs.append(&mut outputs);
            beside = &[];
            let mut flushed = Vec::new();
            self.raft.flush(now, &mut flushed);
            self.carry_out(&flushed, &[], value, &mut answers, done);
            done.outputs.append(&mut flushed);
            if answers.is_empty() {
                break;
            }
            for answer in answers {
                self.raft.step(now, answer, &mut outputs);
            }
        }
        let durable = self.raft.durable();
        assert!(durable <= self.disk.last_durable().index, "PERSIST: durable {durable} is not");
        assert_eq!(self.raft.last(), self.disk.live.last(), "engine and log disagree on the last entry");
        assert_eq!(self.raft.start(), self.disk.live.start, "engine and log disagree on the start");
    }

    fn carry_out(
        &mut self,
        outputs: &[Output],
        beside: &[Stored],
        value: u64,
        answers: &mut Vec<Input<'static>>,
        done: &mut Done,
    ) {
        let mut failed = None;
        for output in outputs {
            match output {
                Output::SaveHardState(hard_state) => self.disk.saving.push_back(*hard_state),
                Output::Append(entry) => {
                    self.append(Stored { entry: entry.clone(), value }, &mut failed);
                }
                Output::Accept { skip } => {
                    for stored in &beside[*skip..] {
                        self.append(stored.clone(), &mut failed);
                    }
                }
                Output::Truncate { from } => {
                    assert!(*from > self.raft.commit(), "COMMIT-TRUNC: cutting committed {from}");
                    self.disk.truncate(*from);
                }
                Output::Reset { start } => self.disk.reset(*start),
                Output::Replicate { .. } => answers.push(self.replicate(output, done)),
                Output::Send { to, message } => {
                    self.check_promise(*to, message);
                    done.wires.push(Wire {
                        from: self.config.node,
                        to: *to,
                        message: message.clone(),
                        entries: Vec::new(),
                    });
                }
                Output::Committed { .. }
                | Output::Received { .. }
                | Output::Confirmed { .. }
                | Output::RoleChanged { .. }
                | Output::MembershipChanged(_)
                | Output::Alarm(_) => {}
            }
        }
        if let Some(last) = failed {
            // Before anything else is told, as a turn writes before it hears of anything new.
            answers.insert(0, Input::AppendFailed { last });
        }
    }

    fn append(&mut self, stored: Stored, failed: &mut Option<EntryId>) {
        if self.disk.full {
            failed.get_or_insert(self.disk.live.last());
        } else {
            self.disk.append(stored);
        }
    }

    /// Fills an append from the log, as storage would.
    fn replicate(&mut self, order: &Output, done: &mut Done) -> Input<'static> {
        let &Output::Replicate { to, term, previous, from, up_to, bytes_max, commit, ack, round } = order
        else {
            unreachable!("only called for orders to replicate");
        };
        let mut outcome = self.outcomes.pop_front().unwrap_or(ReplicateOutcome::Sent);
        let start: LogStart = self.disk.live.start;
        if previous.index < start.previous.index {
            outcome = ReplicateOutcome::Trimmed;
        }
        let mut left = from;
        let mut bytes = 0;
        if outcome == ReplicateOutcome::Sent {
            let mut entries = Vec::new();
            // A full disk keeps less than the engine thinks, until it is told.
            while left < up_to {
                let Some(stored) = self.disk.live.get(left) else { break };
                let fits = bytes + stored.entry.entry_bytes <= bytes_max && entries.len() < self.batch_max;
                if !entries.is_empty() && !fits {
                    break;
                }
                bytes += stored.entry.entry_bytes;
                entries.push(stored.clone());
                left = left.next();
            }
            let message = Message::Append { term, previous, commit, ack, round };
            done.wires.push(Wire { from: self.config.node, to, message, entries });
        }
        Input::Replicated { to, term, from, up_to: left, bytes, outcome }
    }

    /// VOTE-DUR and ACK: whatever promises something may leave only once that survives a crash.
    fn check_promise(&self, to: NodeId, message: &Message) {
        let saved = self.disk.hard_state;
        match message {
            Message::Vote { term, .. } => {
                assert_eq!(
                    (saved.term, saved.voted_for),
                    (*term, Some(self.config.node)),
                    "VOTE-DUR: request"
                );
            }
            Message::VoteReply { term, granted: true } => {
                assert_eq!((saved.term, saved.voted_for), (*term, Some(to)), "VOTE-DUR: grant");
            }
            Message::AppendReply { term, result: AppendResult::Matched { durable, .. }, .. } => {
                assert_eq!(saved.term, *term, "ACK: in a term that is not durable");
                let held = self.disk.last_durable().index;
                assert!(*durable <= held, "ACK: of {durable}, durable is {held}");
            }
            Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::VoteReply { granted: false, .. }
            | Message::Append { .. }
            | Message::AppendReply { result: AppendResult::Rejected { .. }, .. }
            | Message::TimeoutNow { .. }
            | Message::SteppedDown { .. }
            | Message::Vouched { .. }
            | Message::Reset { .. } => {}
        }
    }
}
