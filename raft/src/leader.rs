//! Leading: proposals, replication, commit, and giving it up (Raft §5.3, §5.4.2; thesis §6.2 "check-quorum").

use crate::follower::Following;
use crate::leading::{Leading, Quorum};
use crate::progress::{Carry, Phase, Sent};
use crate::quorum;
use crate::raft::{Raft, State};
use crate::types::{
    AckWanted, Alarm, AppendResult, Entry, Message, Output, ProposeError, ReplicateOutcome, Round,
};
use alloc::vec::Vec;
use raftline_proto::entry::HEADER_BYTES;
use raftline_proto::ids::{EntryId, Index, Membership, NodeId, Term};
use raftline_proto::time::Monotonic;

impl Raft {
    /// Appends an entry as the leader; [`Output::Append`] names it. It leaves with the next [`Self::flush`].
    ///
    /// A proposed membership must have the voters in force: changing them needs joint consensus.
    ///
    /// # Errors
    /// If this replica does not lead, is handing over, or has too much waiting.
    pub fn propose(
        &mut self,
        now: Monotonic,
        entry_bytes: u64,
        membership: Option<Membership>,
        outputs: &mut Vec<Output>,
    ) -> Result<EntryId, ProposeError> {
        let State::Leader(leading) = &self.state else {
            return Err(ProposeError::NotLeader { leader: self.leader });
        };
        if let Some(hand_over) = leading.hand_over {
            return Err(ProposeError::Transferring { to: hand_over.to });
        }
        if membership.as_ref().is_some_and(|membership| membership.voters != self.membership().voters) {
            return Err(ProposeError::VotersDiffer);
        }
        if !leading.has_room(entry_bytes, &self.config) {
            return Err(ProposeError::Busy);
        }
        Ok(self.append_own(now, entry_bytes, membership, outputs))
    }

    /// Asks the other replicas whether this one still leads, without an entry (the heart of ReadIndex, thesis §6.4).
    /// [`Output::Confirmed`] names the round that is returned here, or a later one, once a majority has answered; if
    /// leadership goes before, it never comes. What is asked between two flushes is asked together.
    ///
    /// # Errors
    /// If this replica does not lead.
    pub fn confirm(&mut self, outputs: &mut Vec<Output>) -> Result<Round, ProposeError> {
        let State::Leader(leading) = &mut self.state else {
            return Err(ProposeError::NotLeader { leader: self.leader });
        };
        let round = leading.ask_all();
        // It may be the only voter.
        self.advance_confirmed(outputs);
        Ok(round)
    }

    /// Whether this replica leads and an entry of its own term is committed: before that a leader does not know how much
    /// of what its predecessors acknowledged is committed (Raft §8).
    #[must_use]
    pub fn knows_commit(&self) -> bool {
        matches!(self.state, State::Leader(_))
            && self.log.id_at(self.commit).is_some_and(|id| id.term == self.hard_state.term)
    }

    fn advance_confirmed(&mut self, outputs: &mut Vec<Output>) {
        let State::Leader(leading) = &mut self.state else { return };
        if let Some(through) = leading.newly_confirmed(self.log.membership(), self.config.node) {
            outputs.push(Output::Confirmed { through });
        }
    }

    fn append_own(
        &mut self,
        now: Monotonic,
        entry_bytes: u64,
        membership: Option<Membership>,
        outputs: &mut Vec<Output>,
    ) -> EntryId {
        let id = EntryId::new(self.hard_state.term, self.log.last().index.next());
        let entry = Entry { id, entry_bytes, membership };
        let membership_changed = self.log.push(&entry);
        outputs.push(Output::Append(entry));
        if let State::Leader(leading) = &mut self.state {
            leading.note_proposed(entry_bytes);
        }
        if membership_changed {
            self.membership_changed(now, outputs);
        }
        id
    }

    /// Won: leads the current term.
    pub(crate) fn lead(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        assert!(matches!(self.state, State::Candidate(_)), "only a candidate wins");
        assert!(self.is_saved(), "a candidate wins after its own vote is durable");
        let own = self.config.node;
        let mut leading = Leading::new(self.log.last().index.next(), self.commit);
        let up = self.others().into_iter().filter(|node| self.is_up(*node)).collect::<Vec<_>>();
        leading.adopt(self.log.membership(), own, &self.log, &up);
        leading.check_quorum(now, self.log.membership(), &self.config);
        self.state = State::Leader(leading);
        self.leader = Some(own);
        self.term_leader = Some(own);
        self.election = None;
        self.announce(outputs);
        // An entry of the own term has to be committed before anything older counts as committed (§5.4.2). The very
        // first one records the membership that the group began with.
        let from_the_start = self.log.start().previous == EntryId::ZERO;
        let membership =
            (from_the_start && !self.log.has_membership_entry()).then(|| self.membership().clone());
        let entry_bytes = HEADER_BYTES as u64;
        self.append_own(now, entry_bytes, membership, outputs);
    }

    /// Leads no more, in the same term.
    pub(crate) fn step_down(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        assert!(matches!(self.state, State::Leader(_)), "only a leader steps down");
        self.state = State::Follower(Following::new(self.commit));
        self.leader = None;
        self.arm_election(now);
        self.announce(outputs);
        self.tell_stepped_down(self.hard_state.term, outputs);
    }

    /// The followers of an idle leader have no timer: they must hear that it leads no more.
    pub(crate) fn tell_stepped_down(&self, term: Term, outputs: &mut Vec<Output>) {
        for to in self.others() {
            outputs.push(Output::Send { to, message: Message::SteppedDown { term } });
        }
    }

    /// Gives leadership up at once, to nobody in particular: something else than the log failed here.
    /// Without effect on a replica that does not lead.
    pub fn resign(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        if matches!(self.state, State::Leader(_)) {
            self.step_down(now, outputs);
        }
    }

    /// Time has passed.
    pub(crate) fn tick_leader(&mut self, now: Monotonic, outputs: &mut Vec<Output>) {
        let start = self.log.start().previous.index;
        let State::Leader(leading) = &mut self.state else { return };
        let quorum = leading.tick(now, start, self.log.membership(), &self.config);
        if quorum == Quorum::Lost {
            self.step_down(now, outputs);
        }
    }

    /// A follower's answer.
    pub(crate) fn on_append_reply(
        &mut self,
        now: Monotonic,
        from: NodeId,
        term: Term,
        result: AppendResult,
        round: Round,
        outputs: &mut Vec<Output>,
    ) {
        if term > self.hard_state.term {
            // A member passed our term. Ignoring it would lock it out: it takes no append of ours.
            if self.membership().contains(from) {
                self.become_follower(now, term, None, outputs);
            }
            return;
        }
        if term < self.hard_state.term {
            // What it held then it may have replaced since.
            return;
        }
        let State::Leader(leading) = &mut self.state else {
            // An acknowledgement goes to the leader of its term, which was this replica and is not any more: it said
            // so, and was not heard. (A rejection may answer an append of an older term, and says nothing.)
            if matches!(result, AppendResult::Matched { .. }) {
                outputs.push(Output::Send { to: from, message: Message::SteppedDown { term } });
            }
            return;
        };
        let Some(progress) = leading.progress_mut(from) else { return };
        progress.heard();
        progress.confirmed = progress.confirmed.max(round);
        self.advance_confirmed(outputs);
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress_mut(from) else { return };
        match result {
            AppendResult::Matched { durable, received, commit } => {
                let last = self.log.last().index;
                let claimed = received.max(durable);
                if claimed > last {
                    outputs.push(Output::Alarm(Alarm::MatchPastEnd { node: from, claimed, last }));
                    return;
                }
                let start = self.log.start().previous.index;
                let moved = progress.acknowledged(durable, claimed, commit, start);
                progress.rearm(moved, last, self.commit, now, &self.config);
                self.advance_leader_commit(outputs);
                self.advance_transfer(outputs);
            }
            AppendResult::Rejected { previous, hint } => self.on_rejected(now, from, previous, hint, outputs),
        }
    }

    /// A follower's log does not hold `previous`: goes back to where the logs may agree.
    fn on_rejected(
        &mut self,
        now: Monotonic,
        from: NodeId,
        previous: Index,
        hint: EntryId,
        outputs: &mut Vec<Output>,
    ) {
        let start = self.log.start();
        let term = self.hard_state.term;
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress_mut(from) else { return };
        if previous <= progress.matched {
            // It has said in this term that it holds this, durable. Either this is an answer of before that, or its disk has
            // lost what it vouched for: it can tell.
            if let Some(entry) = self.log.id_at(progress.matched) {
                outputs.push(Output::Send { to: from, message: Message::Vouched { term, entry } });
            }
            return;
        }
        if !progress.rejects_fresh(previous) {
            return;
        }
        // Above the hint nothing agrees; nor does an entry of ours whose term is later than the hint's, as the
        // follower's log up to the hint has no such term. So each round trip passes at least one whole term.
        let below = Index(previous.get() - 1);
        match self.log.floor(hint.index.min(below), hint.term) {
            Some(floor) => {
                let next = floor.index.max(progress.matched).next();
                progress.probe(next, Phase::Probe { carry: Carry::Entries, sent: Sent::No });
            }
            None => {
                // Where the logs agree, ours was trimmed. Everything before our start is committed, so the follower
                // can begin there.
                let next = start.previous.index.max(progress.matched).next();
                progress.probe(next, Phase::Probe { carry: Carry::Nothing, sent: Sent::Yes });
                let message = Message::Reset { term, start, commit: self.commit };
                outputs.push(Output::Send { to: from, message });
            }
        }
        progress.rearm(true, self.log.last().index, self.commit, now, &self.config);
    }

    /// Moves the commit index to what a majority of voters has on stable storage (Raft figure 2, leaders, last rule).
    pub(crate) fn advance_leader_commit(&mut self, outputs: &mut Vec<Output>) {
        let own = self.config.node;
        let membership = self.log.membership();
        let State::Leader(leading) = &mut self.state else { return };
        // The leader counts itself by what is durable, like any other:
        // 1. it counts its entry 7, not synced, and B's; 2. it tells the client; 3. it crashes, and so does B;
        // 4. it comes back without 7, is elected with C: the acknowledged entry is gone.
        let durable = quorum::majority_reached(membership, |voter| {
            if voter == own { self.log.durable() } else { leading.matched(voter) }
        });
        let received = quorum::majority_reached(membership, |voter| {
            if voter == own { self.log.last().index } else { leading.received(voter) }
        });
        // What was proposed in this batch is not written yet, and the disk may refuse it. Followers have none of it.
        let received = received.min(leading.held);
        // Only entries of the own term count; older ones are committed with them (Raft figure 8):
        // 1. (2, 2) is on S1 and S2; S5 leads term 3 and has (3, 2) of its own; 2. S1 leads term 4 and brings (2, 2) to
        // S3: a majority has it; 3. S1 crashes; S5 wins with its later last term, and replaces (2, 2) everywhere.
        let in_term = |index: Index| self.log.id_at(index).is_some_and(|id| id.term == self.hard_state.term);
        let commit = if durable > self.commit && in_term(durable) { durable } else { self.commit };
        let received = if in_term(received) { received.max(commit) } else { commit };
        let news = received > leading.received.max(commit);
        leading.received = leading.received.max(received);
        leading.note_committed(commit);
        self.advance_commit(commit, outputs);
        if news {
            outputs.push(Output::Received { through: received });
        }
    }

    /// An order was carried out.
    pub(crate) fn on_replicated(
        &mut self,
        now: Monotonic,
        to: NodeId,
        term: Term,
        (from, up_to): (Index, Index),
        bytes: u64,
        outcome: ReplicateOutcome,
    ) {
        if term != self.hard_state.term {
            return;
        }
        let State::Leader(leading) = &mut self.state else { return };
        assert!(from <= up_to && up_to <= self.log.last().index.next(), "more left than there is: {up_to}");
        let Some(progress) = leading.progress_mut(to) else { return };
        match outcome {
            ReplicateOutcome::Sent => progress.ordered_sent(from, up_to, bytes, now, &self.config),
            ReplicateOutcome::Busy => progress.ordered_busy(now, &self.config),
            ReplicateOutcome::Trimmed => progress.ordered_trimmed(now, &self.config),
        }
    }

    /// Orders what is to be sent to each peer.
    pub(crate) fn flush_leader(&mut self, outputs: &mut Vec<Output>) {
        let (term, ack_wanted) = (self.hard_state.term, self.ack_wanted);
        let last = self.log.last().index;
        let State::Leader(leading) = &mut self.state else { return };
        leading.held = last;
        let round = leading.round_leaves();
        for progress in &mut leading.peers {
            let Some(order) = progress.order(last, (self.commit, round), &self.config) else { continue };
            let before = Index(order.from.get() - 1);
            let previous =
                self.log.id_at(before).expect("the next entry to send is in the log or follows it");
            let ack = match progress.phase {
                // The pipeline opens with the answer: it should not wait for a sync.
                Phase::Probe { .. } => AckWanted::Memory,
                Phase::Stream => ack_wanted,
            };
            outputs.push(Output::Replicate {
                to: progress.node,
                term,
                previous,
                from: order.from,
                up_to: order.up_to,
                bytes_max: order.bytes_max,
                commit: order.commit,
                ack,
                round: order.round,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::types::{Input, Recovered};
    use alloc::vec;
    use raftline_proto::ids::HardState;

    #[test]
    fn what_is_proposed_in_a_batch_is_not_held_in_it() {
        let config = Config::new(NodeId(1), Membership::of_voters(vec![NodeId(1)]), 1);
        let now = Monotonic::ZERO;
        let mut raft = Raft::new(config, Recovered::default(), now);
        let mut outputs = Vec::new();
        raft.step(now, Input::Tick, &mut outputs);
        let hard_state = HardState { term: Term(1), voted_for: Some(NodeId(1)) };
        raft.step(now, Input::HardStateDurable { hard_state }, &mut outputs);
        let second = raft.propose(now, 100, None, &mut outputs).expect("leads");
        raft.flush(now, &mut outputs);
        outputs.clear();
        // A batch with a proposal, before which the news of an earlier sync should have come, and did not.
        raft.propose(now, 100, None, &mut outputs).expect("leads");
        raft.step(now, Input::LogDurable { last: second }, &mut outputs);
        assert_eq!((raft.commit(), raft.received()), (Index(2), Index(2)));
        assert!(!outputs.iter().any(|output| matches!(output, Output::Received { .. })), "{outputs:?}");
    }
}
