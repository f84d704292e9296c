//! What a leader keeps in mind, in its term.

use crate::config::Config;
use crate::limits;
use crate::log::LogView;
use crate::progress::{Carry, Notice, Phase, Progress, Sent};
use crate::quorum;
use crate::transfer::HandOver;
use crate::types::Round;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use raftline_proto::ids::{Index, Membership, NodeId};
use raftline_proto::time::Monotonic;

/// What a leader knows, in its term.
#[derive(Debug)]
pub(crate) struct Leading {
    /// The other replicas, sorted by node.
    pub(crate) peers: Vec<Progress>,
    /// Sizes of the entries `[uncommitted_from, last]`, proposed in this term.
    uncommitted: VecDeque<u64>,
    uncommitted_from: Index,
    uncommitted_bytes: u64,
    /// A majority holds entries through here at least in memory.
    pub(crate) received: Index,
    /// This replica itself holds entries through here at least in memory: what was appended before the last flush.
    /// What the disk refused of them is told before anything else ([`crate::types::Input::AppendFailed`]).
    pub(crate) held: Index,
    /// The latest round of asking whether this replica still leads, and whether it has left already.
    round: (Round, RoundStage),
    /// The latest round that a majority has answered.
    confirmed: Round,
    /// A hand-over under way.
    pub(crate) hand_over: Option<HandOver>,
    /// By when the live voters must be a majority, if they are not yet: it was elected by nodes that are not known to
    /// be up here.
    quorum_by: Option<Monotonic>,
}

/// Whether the live voters are a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quorum {
    /// They are, or there is still time.
    Held,
    /// They are not.
    Lost,
}

/// How far a round of asking is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoundStage {
    /// It leaves with the next flush: whoever asks until then may join it.
    Gathering,
    /// Whoever asks now needs another one.
    Left,
}

impl Leading {
    /// At the beginning of a term of leadership: `first` will be its first entry.
    pub(crate) const fn new(first: Index, commit: Index) -> Self {
        Self {
            peers: Vec::new(),
            uncommitted: VecDeque::new(),
            uncommitted_from: first,
            uncommitted_bytes: 0,
            received: commit,
            held: Index::ZERO,
            round: (Round(0), RoundStage::Left),
            confirmed: Round(0),
            hand_over: None,
            quorum_by: None,
        }
    }

    /// What is known of all peers.
    pub(crate) fn peers(&self) -> &[Progress] {
        &self.peers
    }

    /// What is known of one peer.
    pub(crate) fn progress(&self, node: NodeId) -> Option<&Progress> {
        self.peers.iter().find(|progress| progress.node == node)
    }

    /// The same, to be changed.
    pub(crate) fn progress_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|progress| progress.node == node)
    }

    /// Follows a change of the membership: new peers are probed from the log's end.
    pub(crate) fn adopt(&mut self, membership: &Membership, own: NodeId, log: &LogView, up: &[NodeId]) {
        self.peers.retain(|progress| membership.contains(progress.node));
        for node in membership.all().filter(|node| *node != own) {
            if self.progress(node).is_none() {
                let alive = up.binary_search(&node).is_ok();
                self.peers.push(Progress::new(node, alive, log.last().index.next()));
            }
        }
        self.peers.sort_unstable_by_key(|progress| progress.node);
    }

    /// The earliest time at which something is to be done.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        let peers = self.peers.iter().filter_map(Progress::deadline);
        let hand_over = self.hand_over.map(|hand_over| hand_over.deadline);
        peers.chain(hand_over).chain(self.quorum_by).min()
    }

    /// Asks all peers whether they still follow, with the next flush; returns the round.
    pub(crate) fn ask_all(&mut self) -> Round {
        if let (Round(last), RoundStage::Left) = self.round {
            self.round = (Round(last + 1), RoundStage::Gathering);
        }
        let (round, _) = self.round;
        for progress in &mut self.peers {
            progress.ask(round);
        }
        round
    }

    /// The latest round, which leaves now.
    pub(crate) fn round_leaves(&mut self) -> Round {
        self.round.1 = RoundStage::Left;
        self.round.0
    }

    /// The latest round that a majority has answered, if that is news.
    pub(crate) fn newly_confirmed(&mut self, membership: &Membership, own: NodeId) -> Option<Round> {
        let (latest, _) = self.round;
        let confirmed = quorum::majority_reached(membership, |voter| match voter == own {
            true => latest,
            false => self.progress(voter).map_or(Round(0), |progress| progress.confirmed.min(latest)),
        });
        let news = confirmed > self.confirmed;
        self.confirmed = self.confirmed.max(confirmed);
        news.then_some(confirmed)
    }

    /// Somebody doubts that we lead: everyone is to hear from us, and first of all the doubter, be its node up or not.
    pub(crate) fn show_itself(&mut self, doubter: NodeId) {
        for progress in &mut self.peers {
            if progress.alive || progress.node == doubter {
                progress.notice = Notice::Due;
            }
        }
    }

    /// A peer's node answers, or is another process now.
    pub(crate) fn peer_up(&mut self, now: Monotonic, node: NodeId, start: Index, config: &Config) {
        if let Some(progress) = self.progress_mut(node) {
            progress.alive = true;
            progress.reset(now, start, config);
        }
    }

    /// A peer's node is down.
    pub(crate) fn peer_down(
        &mut self,
        now: Monotonic,
        node: NodeId,
        membership: &Membership,
        config: &Config,
    ) -> Quorum {
        if let Some(progress) = self.progress_mut(node) {
            progress.pause();
        }
        if self.hand_over.is_some_and(|hand_over| hand_over.to == node) {
            self.hand_over = None;
        }
        match self.quorum_by {
            // It is being waited for anyway.
            Some(_) => Quorum::Held,
            None => self.count_alive(now, membership, config),
        }
    }

    /// Waits for a live majority, or stops waiting.
    pub(crate) fn check_quorum(&mut self, now: Monotonic, membership: &Membership, config: &Config) {
        match self.count_alive(now, membership, config) {
            Quorum::Held => self.quorum_by = None,
            Quorum::Lost => {
                self.quorum_by.get_or_insert(now + config.election_timeout_max);
            }
        }
    }

    /// Whether a majority of voters has a live node and answers what it is asked.
    fn count_alive(&self, now: Monotonic, membership: &Membership, config: &Config) -> Quorum {
        let silence = config.election_timeout_max * limits::SILENCE_TIMEOUTS;
        let answers = |progress: &Progress| progress.alive && !progress.is_silent(now, silence);
        let held = quorum::is_majority(membership, |voter| {
            voter == config.node || self.progress(voter).is_some_and(answers)
        });
        if held { Quorum::Held } else { Quorum::Lost }
    }

    /// Time has passed. Returns whether a majority still answers.
    pub(crate) fn tick(
        &mut self,
        now: Monotonic,
        start: Index,
        membership: &Membership,
        config: &Config,
    ) -> Quorum {
        for progress in &mut self.peers {
            progress.due(now, start, config);
        }
        if self.hand_over.is_some_and(|hand_over| hand_over.deadline <= now) {
            // It did not take over: this replica goes on leading.
            self.hand_over = None;
        }
        if self.quorum_by.is_some_and(|by| now < by) {
            return Quorum::Held;
        }
        // Over: kept, it would be a deadline that has passed, for ever.
        self.quorum_by = None;
        self.count_alive(now, membership, config)
    }

    /// The log begins later now: what comes before cannot be sent any more.
    pub(crate) fn trimmed(&mut self, start: Index, now: Monotonic, config: &Config) {
        for progress in &mut self.peers {
            if progress.next <= start {
                progress.probe(start.next(), Phase::Probe { carry: Carry::Nothing, sent: Sent::No });
                progress.rearm(true, Index::ZERO, Index::ZERO, now, config);
            }
        }
    }

    /// Known durable on `node` through here.
    pub(crate) fn matched(&self, node: NodeId) -> Index {
        self.progress(node).map_or(Index::ZERO, |progress| progress.matched)
    }

    /// Known to be held by `node` through here.
    pub(crate) fn received(&self, node: NodeId) -> Index {
        self.progress(node).map_or(Index::ZERO, |progress| progress.received)
    }

    /// An entry was appended.
    pub(crate) fn note_proposed(&mut self, entry_bytes: u64) {
        self.uncommitted.push_back(entry_bytes);
        self.uncommitted_bytes += entry_bytes;
    }

    /// Entries were committed.
    pub(crate) fn note_committed(&mut self, through: Index) {
        while self.uncommitted_from <= through {
            let Some(bytes) = self.uncommitted.pop_front() else { break };
            self.uncommitted_bytes -= bytes;
            self.uncommitted_from += 1;
        }
    }

    /// Whether another proposal may wait.
    pub(crate) fn has_room(&self, entry_bytes: u64, config: &Config) -> bool {
        let alone = self.uncommitted.is_empty();
        let bytes = self.uncommitted_bytes.saturating_add(entry_bytes);
        alone
            || (bytes <= config.uncommitted_bytes_max
                && self.uncommitted.len() < config.uncommitted_entries_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::time::Duration;

    #[test]
    fn a_wait_for_a_live_majority_ends_with_its_time() {
        let at = |ms| Monotonic::ZERO + Duration::from_millis(ms);
        let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
        let membership = Membership::of_voters(nodes.clone());
        let config = Config::new(NodeId(1), membership.clone(), 1);
        let log = LogView::recovered(crate::types::Recovered::default(), &membership);
        let mut leading = Leading::new(Index(1), Index::ZERO);
        leading.adopt(&membership, NodeId(1), &log, &[NodeId(2)]);
        // Node 2 was asked and does not answer; node 3 comes up, and these are too few.
        for progress in &mut leading.peers {
            let _asked = progress.order(Index::ZERO, (Index::ZERO, Round(0)), &config);
            progress.ordered_sent(Index(1), Index(1), 0, at(0), &config);
        }
        leading.peer_up(at(2000), NodeId(3), Index::ZERO, &config);
        leading.check_quorum(at(2000), &membership, &config);
        assert_eq!(leading.quorum_by, Some(at(2900)));
        // It answers in time, so the majority is held; then nothing is waited for any more.
        leading.progress_mut(NodeId(2)).unwrap().heard();
        assert_eq!(leading.tick(at(2900), Index::ZERO, &membership, &config), Quorum::Held);
        assert!(leading.deadline().is_none_or(|deadline| deadline > at(2900)), "{:?}", leading.deadline());
        assert_eq!(vec![leading.quorum_by], [None]);
    }
}
