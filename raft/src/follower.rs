//! Following a leader: taking its entries, and telling it what is held here, once it is (Raft §5.3).

use crate::raft::{Raft, State};
use crate::types::{AckWanted, Alarm, AppendResult, Entry, LogStart, Message, Output, Round};
use alloc::vec::Vec;
use raftline_proto::ids::{EntryId, Index, NodeId, Term};
use raftline_proto::time::Monotonic;

/// What a follower knows of its leader's log, in one term.
///
/// Invariants: `verified <= log.last().index`; everything through `verified` is the same in the leader's log.
#[derive(Debug)]
pub(crate) struct Following {
    /// Our log agrees with the leader's through here.
    verified: Index,
    /// The leader's commit index, as far as it told.
    leader_commit: Index,
    /// The durable index last told.
    told: Index,
    /// The leader's latest question whether it still leads.
    round: Round,
    /// The round last told.
    round_told: Round,
    /// Whether an answer is due at the end of the batch.
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Due,
    None,
}

impl Following {
    /// At the beginning of a term, or of belief in its leader. What is committed is in every later leader's log
    /// (Leader Completeness, Raft §5.4.3); what comes after it is not known to be.
    pub(crate) const fn new(commit: Index) -> Self {
        Self {
            verified: commit,
            leader_commit: Index::ZERO,
            told: Index::ZERO,
            round: Round(0),
            round_told: Round(0),
            answer: Answer::None,
        }
    }

    /// The log could not keep what comes after `last`.
    pub(crate) fn log_ends_at(&mut self, last: Index) {
        self.verified = self.verified.min(last);
    }
}

/// An append as it came in.
pub(crate) struct Append<'a> {
    /// Who leads, if it is true.
    pub(crate) from: NodeId,
    /// The leader's term.
    pub(crate) term: Term,
    /// The entry before the first of `entries`.
    pub(crate) previous: EntryId,
    /// The leader's commit index.
    pub(crate) commit: Index,
    /// Which acknowledgements are wanted.
    pub(crate) ack: AckWanted,
    /// The leader's latest question whether it still leads.
    pub(crate) round: Round,
    /// What to append.
    pub(crate) entries: &'a [Entry],
}

impl Raft {
    /// The leader sends entries, or asks where we are, or tells its commit index (AppendEntries, Raft figure 2).
    pub(crate) fn on_append(&mut self, now: Monotonic, append: &Append<'_>, outputs: &mut Vec<Output>) {
        if !self.hear_leader(now, append.from, append.term, append.previous.index, outputs) {
            return;
        }
        if let Some(entry) = malformed(append) {
            outputs.push(Output::Alarm(Alarm::MalformedAppend { from: append.from, entry }));
            return;
        }
        if let State::Follower(following) = &mut self.state {
            following.round = following.round.max(append.round);
        }
        match self.compare(append.previous) {
            Agreement::Holds => self.accept(now, append, outputs),
            Agreement::Fails { hint } => {
                let result = AppendResult::Rejected { previous: append.previous.index, hint };
                self.answer(append.from, result, outputs);
            }
            Agreement::Impossible => {
                let (from, commit) = (append.previous.index, self.commit);
                outputs.push(Output::Alarm(Alarm::TruncateCommitted { from, commit }));
            }
        }
    }

    /// Whether `from` may be followed in `term`; if so, it is.
    fn hear_leader(
        &mut self,
        now: Monotonic,
        from: NodeId,
        term: Term,
        previous: Index,
        outputs: &mut Vec<Output>,
    ) -> bool {
        if term < self.hard_state.term {
            // It was deposed and does not know yet.
            let result = AppendResult::Rejected { previous, hint: self.log.last() };
            self.answer(from, result, outputs);
            return false;
        }
        let known = self.term_leader.filter(|known| term == self.hard_state.term && *known != from);
        if let Some(known) = known {
            outputs.push(Output::Alarm(Alarm::TwoLeaders { term, known, other: from }));
            return false;
        }
        let follows = matches!(self.state, State::Follower(_));
        if term > self.hard_state.term || !follows {
            self.become_follower(now, term, Some(from), outputs);
        } else if self.leader != Some(from) {
            self.leader = Some(from);
            self.term_leader = Some(from);
            self.announce(outputs);
        }
        if self.is_up(from) {
            // As long as its node answers, silence means that there is nothing to say.
            self.election = None;
        } else {
            self.arm_election(now);
        }
        true
    }

    /// Whether our log holds `previous` (the consistency check of Raft §5.3).
    fn compare(&self, previous: EntryId) -> Agreement {
        let start = self.log.start().previous;
        if previous.index < start.index {
            // Trimmed away, so committed, so the same there.
            return Agreement::Holds;
        }
        match self.log.id_at(previous.index) {
            Some(ours) if ours == previous => Agreement::Holds,
            Some(_) if previous.index <= self.commit => Agreement::Impossible,
            Some(_) | None => {
                // Nothing at or after `previous` agrees; nor does anything before it of a later term than its.
                let below = Index(previous.index.get() - 1);
                let floor = self.log.floor(below, previous.term).unwrap_or(start);
                let committed = self.log.id_at(self.commit).unwrap_or(start);
                Agreement::Fails { hint: if floor.index < committed.index { committed } else { floor } }
            }
        }
    }

    /// Our log holds what comes before the entries: takes those that it does not hold.
    fn accept(&mut self, now: Monotonic, append: &Append<'_>, outputs: &mut Vec<Output>) {
        let start = self.log.start().previous.index;
        // Only a true conflict cuts. An append that comes late or twice carries entries that are held already, and
        // cutting after them would throw away what was acknowledged since.
        let held = |entry: &Entry| entry.id.index <= start || self.log.contains(entry.id);
        let skip = append.entries.iter().take_while(|entry| held(entry)).count();
        let fresh = &append.entries[skip..];
        if let Some(first) = fresh.first() {
            if first.id.index <= self.log.last().index && !self.cut(now, append.from, first.id, outputs) {
                return;
            }
            outputs.push(Output::Accept { skip });
            let mut membership_changed = false;
            for entry in fresh {
                membership_changed |= self.log.push(entry);
            }
            if membership_changed {
                self.membership_changed(now, outputs);
            }
        }
        let through = append.entries.last().map_or(append.previous.index, |entry| entry.id.index);
        let State::Follower(following) = &mut self.state else { unreachable!("it was heard as the leader") };
        // Appends of one term may overtake each other: an older one verifies less.
        following.verified = following.verified.max(through);
        following.leader_commit = following.leader_commit.max(append.commit);
        let at_once =
            fresh.is_empty() || append.ack == AckWanted::Memory || following.round > following.round_told;
        if at_once {
            following.answer = Answer::Due;
        }
        self.advance_follower_commit(outputs);
    }

    /// Cuts the log before `first`, which differs from ours. Returns whether it could be.
    fn cut(&mut self, now: Monotonic, from: NodeId, first: EntryId, outputs: &mut Vec<Output>) -> bool {
        if first.index <= self.commit {
            let alarm = Alarm::TruncateCommitted { from: first.index, commit: self.commit };
            outputs.push(Output::Alarm(alarm));
            return false;
        }
        let State::Follower(following) = &self.state else { unreachable!("it was heard as the leader") };
        if first.index <= following.verified {
            // A leader never changes its own log (Leader Append-Only): it sent another entry under this index.
            outputs.push(Output::Alarm(Alarm::MalformedAppend { from, entry: first }));
            return false;
        }
        outputs.push(Output::Truncate { from: first.index });
        if self.log.truncate(first.index) {
            self.membership_changed(now, outputs);
        }
        true
    }

    /// The commit index follows the leader's, as far as our log is known to agree with its, and is durable here.
    ///
    /// Why not past `verified`: 1. our log has an old leader's entry 8; 2. the new leader's empty append confirms
    /// entry 5 and says that 9 is committed; 3. our 8 is not the 8 that was committed.
    /// Why not past what is durable: a full disk may refuse what was accepted, and what is committed must not vanish.
    pub(crate) fn advance_follower_commit(&mut self, outputs: &mut Vec<Output>) {
        let durable = self.log.durable();
        let State::Follower(following) = &mut self.state else { return };
        if following.verified.min(durable) > following.told {
            following.answer = Answer::Due;
        }
        let through = following.leader_commit.min(following.verified).min(durable);
        self.advance_commit(through, outputs);
    }

    /// The leader's log starts after the end of ours, or disagrees with ours where it starts.
    pub(crate) fn on_reset(
        &mut self,
        now: Monotonic,
        from: NodeId,
        term: Term,
        start: LogStart,
        commit: Index,
        outputs: &mut Vec<Output>,
    ) {
        if !self.hear_leader(now, from, term, start.previous.index, outputs) {
            return;
        }
        let first = start.previous;
        let held = first.index <= self.log.start().previous.index || self.log.contains(first);
        if !held {
            if first.index <= self.commit {
                let alarm = Alarm::TruncateCommitted { from: first.index, commit: self.commit };
                outputs.push(Output::Alarm(alarm));
                return;
            }
            outputs.push(Output::Reset { start });
            if self.log.reset(start) {
                self.membership_changed(now, outputs);
            }
            // A leader trims only what is committed.
            self.advance_commit(first.index, outputs);
        }
        let State::Follower(following) = &mut self.state else { unreachable!("it was heard as the leader") };
        following.verified = following.verified.max(first.index);
        following.leader_commit = following.leader_commit.max(commit);
        following.answer = Answer::Due;
        self.advance_follower_commit(outputs);
    }

    /// The leader heard this replica vouch for an entry, and was told since that it is not there.
    ///
    /// What is acknowledged in a term is never cut in that term: the leader's log only grows, and what it asks to replace is
    /// not what was matched. So if the entry is not here, the disk has lost it.
    pub(crate) fn on_vouched(&self, from: NodeId, term: Term, entry: EntryId, outputs: &mut Vec<Output>) {
        let is_of_leader = term == self.hard_state.term && self.term_leader == Some(from);
        let held = entry.index <= self.log.start().previous.index || self.log.contains(entry);
        if is_of_leader && !held {
            let alarm = Alarm::Lost { leader: from, vouched: entry, last: self.log.last() };
            outputs.push(Output::Alarm(alarm));
        }
    }

    /// Tells the leader what is held here, if that is due and may be told.
    pub(crate) fn flush_follower(&mut self, outputs: &mut Vec<Output>) {
        // The term must be durable before anything is acknowledged in it:
        // 1. in term 5 we acknowledge entry (5, 9), durable, but our term is not; 2. we crash and are in term 4 again;
        // 3. the deposed leader of term 4 has us replace entry 9: the acknowledged one is gone.
        if self.saved.term != self.hard_state.term {
            return;
        }
        let durable = self.log.durable();
        let State::Follower(following) = &mut self.state else { return };
        let (Answer::Due, Some(leader)) = (following.answer, self.leader) else { return };
        following.answer = Answer::None;
        let received = following.verified;
        // What is durable past `verified` may be an older leader's: the present one must not count it as its own.
        let durable = durable.min(received);
        following.told = durable;
        following.round_told = following.round;
        self.answer(leader, AppendResult::Matched { durable, received, commit: self.commit }, outputs);
    }

    fn answer(&self, to: NodeId, result: AppendResult, outputs: &mut Vec<Output>) {
        // A rejection leaves at once and may be of a term that is not durable yet: it confirms nobody.
        let round = match (&self.state, result) {
            (State::Follower(following), AppendResult::Matched { .. }) => following.round,
            (State::Follower(_), AppendResult::Rejected { .. })
            | (State::PreCandidate(_) | State::Candidate(_) | State::Leader(_), _) => Round(0),
        };
        let message = Message::AppendReply { term: self.hard_state.term, result, round };
        outputs.push(Output::Send { to, message });
    }
}

/// What the consistency check found.
enum Agreement {
    /// Our log holds the entry.
    Holds,
    /// It does not; it agrees with the leader's on nothing after `hint`.
    Fails {
        /// See [`AppendResult::Rejected`].
        hint: EntryId,
    },
    /// It holds another one, and that is committed.
    Impossible,
}

/// The first entry that does not follow the one before it, or whose term passes the leader's.
fn malformed(append: &Append<'_>) -> Option<EntryId> {
    let mut before = append.previous;
    if before.term > append.term {
        return Some(before);
    }
    for entry in append.entries {
        let follows = before.index.checked_add(1) == Some(entry.id.index);
        if !follows || entry.id.term < before.term || entry.id.term > append.term {
            return Some(entry.id);
        }
        before = entry.id;
    }
    None
}
