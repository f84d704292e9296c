//! Elections (Raft §5.2, §5.4.1), asked about beforehand (pre-vote, thesis §9.6).
//!
//! What keeps two leaders out of one term: a vote is given once a term, counted once, and is durable before it is
//! told, one's own as well. What keeps a group from staying without a leader: whoever has no reason to believe in one
//! has a timer; a believer who is asked by a doubter begins to doubt ([`Raft::doubt`]), and a leader that hears of
//! doubt shows itself to all.

use crate::config::{FirstCampaign, PreVote};
use crate::follower::Following;
use crate::quorum;
use crate::raft::{Grant, Raft, State};
use crate::types::{Alarm, Message, Output};
use alloc::vec::Vec;
use raftline_proto::ids::{EntryId, HardState, NodeId, Term};
use raftline_proto::limits::TERM_MAX;
use raftline_proto::time::Monotonic;

/// Who has said yes, and how the question is asked.
#[derive(Debug)]
pub(crate) struct Ballot {
    /// Each once.
    granted: Vec<NodeId>,
    /// Whether the old leader asked for this election.
    transfer: Transfer,
}

/// Whether the old leader asked for an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// It did: believers in it need not protect it.
    Asked,
    /// A timeout did.
    None,
}

impl Ballot {
    const fn new(transfer: Transfer) -> Self {
        Self { granted: Vec::new(), transfer }
    }

    fn add(&mut self, node: NodeId) {
        if !self.granted.contains(&node) {
            self.granted.push(node);
        }
    }
}

impl Raft {
    /// The wait for a leader, or for answers, is over.
    pub(crate) fn on_election_timeout(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        assert!(self.is_voter(), "only voters wait for elections");
        if !self.has_term_left() {
            self.leader = None;
            self.refuse_to_campaign(now, outputs);
            return;
        }
        match self.config.pre_vote {
            // A candidate whose round timed out asks first again, too: it may have been cut off meanwhile.
            PreVote::On => self.ask_beforehand(now, outputs),
            PreVote::Off => self.campaign(now, Transfer::None, outputs),
        }
    }

    /// Whether there is a term to ask for. Peers take none above the bound, and refuse the connection that brings it.
    const fn has_term_left(&self) -> bool {
        self.hard_state.term.get() < TERM_MAX
    }

    /// Stays what it is. A peer that lies must not stop the process, but somebody should know.
    fn refuse_to_campaign(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        self.arm_election(now);
        self.announce(outputs);
        outputs.push(Output::Alarm(Alarm::NoTermLeft { term: self.hard_state.term }));
    }

    fn ask_beforehand(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        let mut ballot = Ballot::new(Transfer::None);
        ballot.add(self.config.node);
        self.leader = None;
        self.state = State::PreCandidate(ballot);
        self.arm_election(now);
        let eager = self.hard_state == HardState::default();
        if let (true, FirstCampaign::AtOnce, Some(timer)) =
            (eager, self.config.first_campaign, &mut self.election)
        {
            // The other replicas of a group made just now may not be there yet.
            timer.deadline = now + self.config.resend;
        }
        self.announce(outputs);
        let message = Message::PreVote { term: self.hard_state.term.next(), last: self.log.last() };
        self.send_to_voters(&message, outputs);
        self.count_pre_votes(now, outputs);
    }

    fn count_pre_votes(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        let State::PreCandidate(ballot) = &self.state else { return };
        if quorum::is_majority(self.log.membership(), |voter| ballot.granted.contains(&voter)) {
            self.campaign(now, Transfer::None, outputs);
        }
    }

    /// Raises the term and votes for itself. Nobody hears of it before that is durable ([`Self::on_saved`]).
    pub(crate) fn campaign(&mut self, now: Monotonic, transfer: Transfer, outputs: &mut Vec<Output>) {
        assert!(self.is_voter(), "only voters campaign");
        if !self.has_term_left() {
            self.refuse_to_campaign(now, outputs);
            return;
        }
        self.hard_state = HardState { term: self.hard_state.term.next(), voted_for: Some(self.config.node) };
        self.grant = Grant::None;
        self.leader = None;
        self.term_leader = None;
        self.state = State::Candidate(Ballot::new(transfer));
        // The round's time runs from when its requests leave: a disk slower than the timeout would otherwise keep
        // it from ever asking. Until then others elect without it.
        self.election = None;
        self.announce(outputs);
    }

    /// Term and vote, as they are now, are durable.
    pub(crate) fn on_saved(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        assert!(self.is_saved(), "the hard state is on its way still");
        match &mut self.state {
            State::Candidate(ballot) => {
                // Before this point the request must not leave, nor may its own vote count:
                // 1. it asks for term 5 and wins with B's vote; 2. it crashes, its term 5 was never durable;
                // 3. restarted in term 4 it votes for C in term 5: B's and its own votes made two leaders.
                let transfer = ballot.transfer == Transfer::Asked;
                ballot.add(self.config.node);
                let message = Message::Vote { term: self.hard_state.term, last: self.log.last(), transfer };
                self.arm_election(now);
                self.send_to_voters(&message, outputs);
                self.count_votes(now, outputs);
            }
            State::Follower(_) | State::PreCandidate(_) | State::Leader(_) => self.tell_grant(outputs),
        }
    }

    fn count_votes(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        let State::Candidate(ballot) = &self.state else { return };
        if quorum::is_majority(self.log.membership(), |voter| ballot.granted.contains(&voter)) {
            self.lead(now, outputs);
        }
    }

    fn tell_grant(&mut self, outputs: &mut Vec<Output>) {
        if let (Grant::Due, Some(to)) = (self.grant, self.hard_state.voted_for) {
            self.grant = Grant::None;
            let message = Message::VoteReply { term: self.hard_state.term, granted: true };
            outputs.push(Output::Send { to, message });
        }
    }

    /// Somebody asks whether it could win `term`.
    pub(crate) fn on_pre_vote(
        &mut self,
        now: Monotonic,
        from: NodeId,
        term: Term,
        last: EntryId,
        outputs: &mut Vec<Output>,
    ) {
        self.hear_of_ambition(now, from, term, outputs);
        let believed = self.believed_leader(now);
        let granted = believed.is_none()
            && term > self.hard_state.term
            && last >= self.log.last()
            && now >= self.grants_from;
        let told = if granted { term } else { self.hard_state.term };
        let message = Message::PreVoteReply { term: told, granted, leader: believed };
        outputs.push(Output::Send { to: from, message });
        if believed.is_some() {
            self.doubt(now, from);
        }
    }

    /// The answer to such a question. A refusal may teach a newer term; grants for another term are old.
    pub(crate) fn on_pre_vote_reply(
        &mut self,
        now: Monotonic,
        from: NodeId,
        term: Term,
        granted: bool,
        outputs: &mut Vec<Output>,
    ) {
        if !granted {
            if term > self.hard_state.term && self.membership().contains(from) {
                self.become_follower(now, term, None, outputs);
            }
            return;
        }
        let asked = self.hard_state.term.next();
        if let (State::PreCandidate(ballot), true) = (&mut self.state, term == asked) {
            ballot.add(from);
            self.count_pre_votes(now, outputs);
        }
    }

    /// Somebody asks for this replica's vote (RequestVote, Raft figure 2).
    pub(crate) fn on_vote(
        &mut self,
        now: Monotonic,
        from: NodeId,
        term: Term,
        last: EntryId,
        transfer: bool,
        outputs: &mut Vec<Output>,
    ) {
        if term < self.hard_state.term {
            self.refuse_vote(from, outputs);
            return;
        }
        self.hear_of_ambition(now, from, term, outputs);
        if !transfer {
            // Neither the vote nor the term is taken while a leader is alive: a node that cannot hear it would depose
            // it again and again. If it is a member, the leader finds out by its own appends that the term was
            // passed, and gives way once, so that the node is not locked out.
            if term > self.hard_state.term && self.believed_leader(now).is_some() {
                self.doubt(now, from);
                return;
            }
            if now < self.grants_from {
                return;
            }
        }
        if term > self.hard_state.term {
            self.become_follower(now, term, None, outputs);
        }
        let free = self.hard_state.voted_for.is_none_or(|candidate| candidate == from);
        // Its log must hold all that ours may have helped commit (Raft §5.4.1): last term first, then length.
        if !free || self.term_leader.is_some() || last < self.log.last() {
            self.refuse_vote(from, outputs);
            return;
        }
        self.hard_state.voted_for = Some(from);
        self.grant = Grant::Due;
        if self.is_saved() {
            // The same candidate asked again: the first answer was lost.
            self.tell_grant(outputs);
        } else {
            // Told once it is durable:
            // 1. we tell A that we voted for it in term 5; 2. we crash, and the vote was not durable;
            // 3. restarted we vote for B in term 5: A and B both lead it.
            self.arm_election(now);
        }
    }

    /// A refusal promises nothing, so it waits for nothing.
    fn refuse_vote(&self, to: NodeId, outputs: &mut Vec<Output>) {
        let message = Message::VoteReply { term: self.hard_state.term, granted: false };
        outputs.push(Output::Send { to, message });
    }

    /// The answer to a vote request. Votes for another term are old.
    pub(crate) fn on_vote_reply(
        &mut self,
        now: Monotonic,
        from: NodeId,
        term: Term,
        granted: bool,
        outputs: &mut Vec<Output>,
    ) {
        if term > self.hard_state.term {
            if self.membership().contains(from) {
                self.become_follower(now, term, None, outputs);
            }
            return;
        }
        // Before the term is durable nobody was asked: whoever answers nevertheless is not believed.
        let counts = granted && term == self.hard_state.term && self.is_saved();
        if let (State::Candidate(ballot), true) = (&mut self.state, counts) {
            ballot.add(from);
            self.count_votes(now, outputs);
        }
    }

    /// The old leader says that it leads no more.
    pub(crate) fn on_stepped_down(
        &mut self,
        now: Monotonic,
        from: NodeId,
        term: Term,
        outputs: &mut Vec<Output>,
    ) {
        if term > self.hard_state.term && self.membership().contains(from) {
            self.become_follower(now, term, None, outputs);
        } else if term == self.hard_state.term && self.leader == Some(from) && from != self.config.node {
            self.forget_leader(now, outputs);
        }
    }

    /// A node that asks about a newer term does not lead ours any more, whatever we believed: it may have lost
    /// leadership without our hearing of it.
    ///
    /// Only newer terms say so: the request by which the leader won *this* term may arrive late or twice.
    fn hear_of_ambition(&mut self, now: Monotonic, from: NodeId, term: Term, outputs: &mut Vec<Output>) {
        if self.leader == Some(from) && term > self.hard_state.term && from != self.config.node {
            self.forget_leader(now, outputs);
        }
    }

    /// The leader, if there is reason to believe that it is alive: it is ourselves, or its node answers, or it was
    /// heard of within the shortest election timeout.
    pub(crate) fn believed_leader(&self, now: Monotonic) -> Option<NodeId> {
        let fresh = self.election.is_none_or(|timer| now < timer.since + self.config.election_timeout_min);
        self.leader.filter(|_| fresh)
    }

    /// `from` was refused on the ground that a leader lives. It may know better, or not be able to hear it:
    ///
    /// 1. the leader's replica of this group dies while its node lives;
    /// 2. all followers have no timer, as the node answers;
    /// 3. a restarted follower asks, and everyone refuses because of the leader, for ever.
    ///
    /// So a believer lets the leader prove itself within an election timeout, and the leader does so at once.
    fn doubt(&mut self, now: Monotonic, from: NodeId) {
        if !self.membership().contains(from) {
            // A removed node may ask as long as it likes.
            return;
        }
        match &mut self.state {
            State::Leader(leading) => leading.show_itself(from),
            State::Follower(_) if self.election.is_none() => self.arm_election(now),
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) => {}
        }
    }

    /// Follows `leader`, or nobody yet, in `term`.
    pub(crate) fn become_follower(
        &mut self,
        now: Monotonic,
        term: Term,
        leader: Option<NodeId>,
        outputs: &mut Vec<Output>,
    ) {
        assert!(term >= self.hard_state.term, "back to term {term}");
        assert!(leader != Some(self.config.node), "following itself");
        let led = matches!(self.state, State::Leader(_)).then_some(self.hard_state.term);
        if term > self.hard_state.term {
            self.hard_state = HardState { term, voted_for: None };
            self.grant = Grant::None;
            self.term_leader = None;
        }
        self.state = State::Follower(Following::new(self.commit));
        self.leader = leader;
        if leader.is_some() {
            self.term_leader = leader;
        }
        self.arm_election(now);
        // The step ends with an order to save the term, together with the vote if one is given in it.
        self.announce(outputs);
        if let Some(term) = led {
            self.tell_stepped_down(term, outputs);
        }
    }

    /// Believes in no leader any more and waits for one.
    pub(crate) fn forget_leader(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        assert!(matches!(self.state, State::Follower(_)), "only followers follow");
        self.leader = None;
        // A timer that runs already was started by an earlier doubt.
        if self.election.is_none() {
            self.arm_election(now);
        }
        self.announce(outputs);
    }

    fn send_to_voters(&self, message: &Message, outputs: &mut Vec<Output>) {
        for to in self.membership().voters.iter().copied().filter(|voter| *voter != self.config.node) {
            outputs.push(Output::Send { to, message: message.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::types::{Input, Recovered, Role};
    use alloc::vec;
    use raftline_proto::ids::Membership;

    fn at_the_last_term(pre_vote: PreVote) -> Raft {
        let membership = Membership::of_voters(vec![NodeId(1), NodeId(2), NodeId(3)]);
        let config = Config { pre_vote, ..Config::new(NodeId(1), membership, 1) };
        let hard_state = HardState { term: Term(TERM_MAX), voted_for: None };
        Raft::new(config, Recovered { hard_state, ..Recovered::default() }, Monotonic::ZERO)
    }

    #[test]
    fn nobody_asks_for_a_term_above_the_last() {
        let alarm = Output::Alarm(Alarm::NoTermLeft { term: Term(TERM_MAX) });
        for pre_vote in [PreVote::On, PreVote::Off] {
            let mut raft = at_the_last_term(pre_vote);
            for _ in 0..3 {
                let now = raft.deadline().expect("it goes on waiting");
                let mut outputs = Vec::new();
                raft.step(now, Input::Tick, &mut outputs);
                raft.flush(now, &mut outputs);
                assert_eq!(outputs, core::slice::from_ref(&alarm));
                assert_eq!((raft.role(), raft.term()), (Role::Follower, Term(TERM_MAX)));
                assert!(raft.deadline().is_some_and(|deadline| deadline > now));
            }
        }
    }

    #[test]
    fn a_hand_over_in_the_last_term_leaves_the_leader_in_place() {
        let mut raft = at_the_last_term(PreVote::On);
        let (now, term, leader) = (Monotonic::ZERO, Term(TERM_MAX), NodeId(2));
        let (previous, commit) = (EntryId::ZERO, raftline_proto::ids::Index::ZERO);
        let append = Message::Append {
            term,
            previous,
            commit,
            ack: crate::types::AckWanted::Durable,
            round: crate::types::Round(0),
        };
        let mut outputs = Vec::new();
        raft.step(now, Input::Message { from: leader, message: append, entries: &[] }, &mut outputs);
        outputs.clear();
        let message = Message::TimeoutNow { term };
        raft.step(now, Input::Message { from: leader, message, entries: &[] }, &mut outputs);
        assert_eq!(outputs, [Output::Alarm(Alarm::NoTermLeft { term })]);
        assert_eq!((raft.role(), raft.leader()), (Role::Follower, Some(leader)));
    }
}
