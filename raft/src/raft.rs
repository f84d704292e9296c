//! The engine itself: its state, the way in ([`Raft::step`]), the clock, and what can be seen from outside.
//!
//! The protocol is in `election`, `follower`, `leader` and `transfer`; each adds methods to [`Raft`].

use crate::chance::Chance;
use crate::config::{Config, FirstCampaign};
use crate::election::Ballot;
use crate::follower::Following;
use crate::leading::{Leading, Quorum};
use crate::log::LogView;
use crate::types::{AckWanted, Input, LogStart, Message, Output, Recovered, Role};
use alloc::vec::Vec;
use raftline_proto::ids::{EntryId, HardState, Index, NodeId, Term};
use raftline_proto::time::Monotonic;

/// One replica of one group.
///
/// Invariants: `saved <= hard_state`, in the order (term, whether it voted); `commit <= log.last().index` and it
/// never falls; a leader's hard state is saved and names itself; `leader` is `Some(self)` exactly in that role.
#[derive(Debug)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) chance: Chance,
    pub(crate) log: LogView,
    pub(crate) commit: Index,
    /// The current term and vote.
    pub(crate) hard_state: HardState,
    /// The latest one known to be on stable storage. Whatever promises something waits for it.
    pub(crate) saved: HardState,
    /// The latest one handed out to be saved.
    ordered: HardState,
    pub(crate) state: State,
    /// Who leads, as far as is believed.
    pub(crate) leader: Option<NodeId>,
    /// Who led this term, even if it is not believed in any more: nobody else can.
    pub(crate) term_leader: Option<NodeId>,
    /// When to campaign; none while the leader's node is up, and for those who do not vote.
    pub(crate) election: Option<ElectionTimer>,
    /// A vote given in this term is told once it is durable.
    pub(crate) grant: Grant,
    /// After a restart no vote is given before this: see `grants_from` in [`Raft::new`].
    pub(crate) grants_from: Monotonic,
    /// Nodes that answer, sorted.
    pub(crate) up: Vec<NodeId>,
    pub(crate) ack_wanted: AckWanted,
    /// The last `RoleChanged`.
    announced: (Role, Term, Option<NodeId>),
}

/// What the role needs to know.
#[derive(Debug)]
pub(crate) enum State {
    /// Follows, or waits for a leader.
    Follower(Following),
    /// Asks whether it could win the next term.
    PreCandidate(Ballot),
    /// Asks for votes in this term.
    Candidate(Ballot),
    /// Leads this term.
    Leader(Leading),
}

/// When to campaign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElectionTimer {
    /// Since when there has been no sign of the leader. Until the shortest timeout after it, it is believed in.
    pub(crate) since: Monotonic,
    /// When the wait is over.
    pub(crate) deadline: Monotonic,
}

/// Whether a candidate waits for our vote to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// It does.
    Due,
    /// None does.
    None,
}

impl Raft {
    /// A replica as it was found on disk. Every peer's node counts as down until `Input::PeerUp`.
    ///
    /// Panics if what was found contradicts itself.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered, now: Monotonic) -> Self {
        config.check();
        let saved = recovered.hard_state;
        let commit_hint = recovered.commit_hint;
        let log = LogView::recovered(recovered, &config.bootstrap);
        // The log may be durable in a term that the hard state is not yet, after a crash between the two. A vote
        // in that term would be in the hard state, so there was none.
        let hard_state = if log.last().term > saved.term {
            HardState { term: log.last().term, voted_for: None }
        } else {
            saved
        };
        // A leader may commit before its own sync, so that a hint can pass the log's durable end.
        let commit = commit_hint.min(log.last().index).max(log.start().previous.index);
        let brand_new = hard_state == HardState::default() && log.last() == EntryId::ZERO;
        // A replica that restarts may have believed in a leader just before:
        // 1. it hears the leader and thereby protects it; 2. it restarts, and has forgotten;
        // 3. it elects another while the first still counts on its majority.
        let grants_from = if brand_new { now } else { now + config.election_timeout_min };
        let chance = Chance::new(config.seed);
        let mut raft = Self {
            state: State::Follower(Following::new(commit)),
            announced: (Role::Follower, hard_state.term, None),
            chance,
            log,
            commit,
            hard_state,
            saved,
            ordered: saved,
            leader: None,
            term_leader: None,
            election: None,
            grant: Grant::None,
            grants_from,
            up: Vec::new(),
            ack_wanted: AckWanted::Durable,
            config,
        };
        raft.arm_election(now);
        let alone = raft.membership().quorum() == 1;
        let preferred = brand_new && raft.config.first_campaign == FirstCampaign::AtOnce;
        if let (Some(timer), true) = (&mut raft.election, alone || preferred) {
            timer.deadline = now;
        }
        raft
    }

    /// Takes in what happened; what must be done about it is added to `outputs`.
    pub fn step(&mut self, now: Monotonic, input: Input<'_>, outputs: &mut Vec<Output>) {
        let (term, commit) = (self.hard_state.term, self.commit);
        match input {
            Input::Tick => self.tick(now, outputs),
            Input::Message { from, .. } if from == self.config.node => {}
            Input::Message { from, message, entries } => match message {
                Message::PreVote { term, last } => self.on_pre_vote(now, from, term, last, outputs),
                Message::PreVoteReply { term, granted, leader: _ } => {
                    self.on_pre_vote_reply(now, from, term, granted, outputs);
                }
                Message::Vote { term, last, transfer } => {
                    self.on_vote(now, from, term, last, transfer, outputs);
                }
                Message::VoteReply { term, granted } => {
                    self.on_vote_reply(now, from, term, granted, outputs);
                }
                Message::Append { term, previous, commit, ack, round } => {
                    let append =
                        crate::follower::Append { from, term, previous, commit, ack, round, entries };
                    self.on_append(now, &append, outputs);
                }
                Message::AppendReply { term, result, round } => {
                    self.on_append_reply(now, from, term, result, round, outputs);
                }
                Message::TimeoutNow { term } => self.on_timeout_now(now, from, term, outputs),
                Message::SteppedDown { term } => self.on_stepped_down(now, from, term, outputs),
                Message::Vouched { term, entry } => self.on_vouched(from, term, entry, outputs),
                Message::Reset { term, start, commit } => {
                    self.on_reset(now, from, term, start, commit, outputs);
                }
            },
            Input::LogDurable { last } => self.on_log_durable(last, outputs),
            Input::HardStateDurable { hard_state } => self.on_hard_state_durable(now, hard_state, outputs),
            Input::Replicated { to, term, from, up_to, bytes, outcome } => {
                self.on_replicated(now, to, term, (from, up_to), bytes, outcome);
            }
            Input::AppendFailed { last } => self.on_append_failed(now, last, outputs),
            Input::PeerUp { node } => self.on_peer_up(now, node, PeerChange::Up),
            Input::PeerReset { node } => self.on_peer_up(now, node, PeerChange::Reset),
            Input::PeerDown { node } => self.on_peer_down(now, node, outputs),
            Input::Transfer { to } => self.on_transfer(now, to, outputs),
            Input::Trimmed { start } => self.on_trimmed(now, start),
        }
        self.save_hard_state(outputs);
        assert!(self.hard_state.term >= term, "the term fell from {term} to {}", self.hard_state.term);
        assert!(self.commit >= commit, "the commit index fell from {commit} to {}", self.commit);
        self.check();
    }

    /// Ends a batch of inputs: replication, acknowledgements and commit news of the whole batch leave now, at most
    /// one [`Output::Replicate`] a peer. Whatever comes back (as [`Input::Replicated`]) belongs to the next batch.
    pub fn flush(&mut self, _now: Monotonic, outputs: &mut Vec<Output>) {
        self.save_hard_state(outputs);
        match self.state {
            State::Follower(_) => self.flush_follower(outputs),
            State::PreCandidate(_) | State::Candidate(_) => {}
            State::Leader(_) => self.flush_leader(outputs),
        }
    }

    /// When to call `step` with [`Input::Tick`], at the latest; `None` if only news can change anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        match &self.state {
            State::Leader(leading) => leading.deadline(),
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) => {
                self.election.map(|timer| timer.deadline)
            }
        }
    }

    fn tick(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        match self.state {
            State::Leader(_) => self.tick_leader(now, outputs),
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) => {
                if self.election.is_some_and(|timer| timer.deadline <= now) {
                    self.on_election_timeout(now, outputs);
                }
            }
        }
    }

    /// Which acknowledgements appends ask for from now on, while this replica leads.
    pub fn set_ack_wanted(&mut self, ack: AckWanted) {
        self.ack_wanted = ack;
    }

    /// Every replica but this one.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        self.membership().all().filter(|node| *node != self.config.node).collect()
    }

    /// Whether this replica votes, and so may lead.
    pub(crate) fn is_voter(&self) -> bool {
        self.membership().is_voter(self.config.node)
    }

    /// Starts waiting for a leader, for a random time.
    pub(crate) fn arm_election(&mut self, now: Monotonic) {
        self.election = if self.is_voter() {
            let span = self.chance.span(self.config.election_timeout_min, self.config.election_timeout_max);
            Some(ElectionTimer { since: now, deadline: now + span })
        } else {
            None
        };
    }

    /// Orders the hard state to be saved, if it changed since the last order.
    pub(crate) fn save_hard_state(&mut self, outputs: &mut Vec<Output>) {
        if self.ordered != self.hard_state {
            self.ordered = self.hard_state;
            outputs.push(Output::SaveHardState(self.hard_state));
        }
    }

    /// Whether term and vote, as they are now, survive a crash.
    pub(crate) fn is_saved(&self) -> bool {
        self.saved == self.hard_state
    }

    /// Tells role, term and leader, if they changed.
    pub(crate) fn announce(&mut self, outputs: &mut Vec<Output>) {
        let current = (self.role(), self.hard_state.term, self.leader);
        if self.announced != current {
            self.announced = current;
            let (role, term, leader) = current;
            outputs.push(Output::RoleChanged { role, term, leader });
        }
    }

    /// Tells the membership in force; the others' timers and views follow it.
    pub(crate) fn membership_changed(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        outputs.push(Output::MembershipChanged(self.membership().clone()));
        match &mut self.state {
            State::Leader(leading) => {
                leading.adopt(self.log.membership(), self.config.node, &self.log, &self.up)
            }
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) => {
                let waits = self.leader.is_none_or(|leader| !self.is_up(leader));
                if !self.is_voter() {
                    self.election = None;
                } else if waits && self.election.is_none() {
                    self.arm_election(now);
                }
            }
        }
    }

    /// Moves the commit index up.
    pub(crate) fn advance_commit(&mut self, through: Index, outputs: &mut Vec<Output>) {
        assert!(
            through <= self.log.last().index,
            "commit {through} passes the log's end {}",
            self.log.last()
        );
        if through > self.commit {
            self.commit = through;
            outputs.push(Output::Committed { through });
        }
    }

    fn on_hard_state_durable(&mut self, now: Monotonic, hard_state: HardState, outputs: &mut Vec<Output>) {
        let order = |state: &HardState| (state.term, state.voted_for.is_some());
        if order(&hard_state) <= order(&self.saved) {
            return;
        }
        assert!(order(&hard_state) <= order(&self.ordered), "{hard_state:?} was never ordered to be saved");
        self.saved = hard_state;
        if self.is_saved() {
            self.on_saved(now, outputs);
        }
    }

    fn on_log_durable(&mut self, last: EntryId, outputs: &mut Vec<Output>) {
        if !self.log.durable_through(last) {
            return;
        }
        match self.state {
            State::Follower(_) => self.advance_follower_commit(outputs),
            State::PreCandidate(_) | State::Candidate(_) => {}
            State::Leader(_) => self.advance_leader_commit(outputs),
        }
    }

    fn on_append_failed(&mut self, now: Monotonic, last: EntryId, outputs: &mut Vec<Output>) {
        assert!(self.log.contains(last), "the log ends at {last}, which it was never given");
        assert!(
            last.index >= self.log.durable(),
            "the log lost entries that were durable: it ends at {last}"
        );
        assert!(last.index >= self.commit, "the log lost committed entries: it ends at {last}");
        if last == self.log.last() {
            return;
        }
        if self.role() == Role::Leader {
            self.step_down(now, outputs);
            // Whoever has room should win.
            if let Some(timer) = &mut self.election {
                timer.deadline = timer.deadline + self.config.election_timeout_max;
            }
        }
        let membership_changed = self.log.truncate(last.index.next());
        if let State::Follower(following) = &mut self.state {
            following.log_ends_at(last.index);
        }
        if membership_changed {
            self.membership_changed(now, outputs);
        }
    }

    fn on_trimmed(&mut self, now: Monotonic, start: LogStart) {
        if start.previous.index <= self.log.start().previous.index {
            return;
        }
        assert!(start.previous.index <= self.commit, "{} is trimmed but not committed", start.previous);
        self.log.trim(start);
        if let State::Leader(leading) = &mut self.state {
            leading.trimmed(start.previous.index, now, &self.config);
        }
    }

    fn on_peer_up(&mut self, now: Monotonic, node: NodeId, change: PeerChange) {
        if node == self.config.node {
            return;
        }
        if let Err(place) = self.up.binary_search(&node) {
            self.up.insert(place, node);
        }
        match &mut self.state {
            State::Leader(leading) => {
                let start = self.log.start().previous.index;
                leading.peer_up(now, node, start, &self.config);
                leading.check_quorum(now, self.log.membership(), &self.config);
            }
            State::Follower(_) => {
                // Its process may be a new one, which leads nothing: it has to show itself. If it does lead, it
                // sees the same and probes us.
                let doubtful = match change {
                    PeerChange::Reset => self.leader == Some(node),
                    PeerChange::Up => false,
                };
                if doubtful && self.election.is_none() {
                    self.arm_election(now);
                }
            }
            State::PreCandidate(_) | State::Candidate(_) => {}
        }
    }

    fn on_peer_down(&mut self, now: Monotonic, node: NodeId, outputs: &mut Vec<Output>) {
        if let Ok(place) = self.up.binary_search(&node) {
            self.up.remove(place);
        }
        match &mut self.state {
            State::Leader(leading) => {
                let verdict = leading.peer_down(now, node, self.log.membership(), &self.config);
                if verdict == Quorum::Lost {
                    self.step_down(now, outputs);
                }
            }
            State::Follower(_) if self.leader == Some(node) => self.forget_leader(now, outputs),
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) => {}
        }
    }

    /// The invariants that cost nothing to check after every step.
    fn check(&self) {
        assert!(self.commit <= self.log.last().index, "commit {} > {}", self.commit, self.log.last());
        assert!(self.log.durable() <= self.log.last().index, "durable past the log's end");
        assert!(self.hard_state.term >= self.log.last().term, "{} is of a future term", self.log.last());
        let leads = self.role() == Role::Leader;
        assert!(
            leads == (self.leader == Some(self.config.node)),
            "{:?} under {:?}",
            self.role(),
            self.leader
        );
        if leads {
            assert!(self.is_saved(), "leading before the own vote is durable");
            assert!(self.hard_state.voted_for == Some(self.config.node), "leading without the own vote");
            assert!(self.election.is_none(), "a leader waits for no leader");
        }
        debug_assert_eq!(self.announced, (self.role(), self.hard_state.term, self.leader));
    }
}

/// What was heard of a node that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerChange {
    /// It answers again.
    Up,
    /// It is a new process or a new connection.
    Reset,
}
