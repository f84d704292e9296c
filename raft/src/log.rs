//! What the engine knows of its log: the names of its entries, how far it is durable, and the memberships in it.

use crate::term_map::TermMap;
use crate::types::{Entry, LogStart, Recovered};
use alloc::vec::Vec;
use raftline_proto::ids::{EntryId, Index, Membership, Term};
use raftline_proto::limits::{REPLICAS_MAX, VOTERS_MAX};

/// The log as the engine sees it.
///
/// Invariants: `durable <= last().index`; `memberships` ascends and lies within the log, but for the first one,
/// which is in force where the log begins.
#[derive(Clone, Debug)]
pub(crate) struct LogView {
    terms: TermMap,
    start: LogStart,
    durable: Index,
    memberships: Vec<(Index, Membership)>,
}

impl LogView {
    /// From what was found at start; all of it is durable.
    pub(crate) fn recovered(recovered: Recovered, bootstrap: &Membership) -> Self {
        let Recovered { start, term_starts, last, memberships, .. } = recovered;
        let mut log = Self {
            terms: TermMap::recovered(start.previous, term_starts, last),
            start,
            durable: last.index,
            memberships: alloc::vec![(Index::ZERO, bootstrap.clone())],
        };
        check_membership(bootstrap);
        for (index, membership) in memberships {
            assert!(index <= last.index, "a membership entry at {index}, past the log's end at {last}");
            log.note_membership(index, membership);
        }
        log
    }

    /// Where it starts.
    pub(crate) const fn start(&self) -> LogStart {
        self.start
    }

    /// Its last entry, or what comes before its first if it is empty.
    pub(crate) fn last(&self) -> EntryId {
        self.terms.last()
    }

    /// On stable storage here through this entry.
    pub(crate) const fn durable(&self) -> Index {
        self.durable
    }

    /// The membership in force: the last one in the log, committed or not (thesis §4.1).
    pub(crate) fn membership(&self) -> &Membership {
        &self.memberships[self.memberships.len() - 1].1
    }

    /// Whether any entry recorded a membership, as far back as is known.
    pub(crate) fn has_membership_entry(&self) -> bool {
        self.memberships.len() > 1
    }

    /// See [`TermMap::id_at`].
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        self.terms.id_at(index)
    }

    /// See [`TermMap::contains`].
    pub(crate) fn contains(&self, id: EntryId) -> bool {
        self.terms.contains(id)
    }

    /// See [`TermMap::floor`].
    pub(crate) fn floor(&self, index: Index, term: Term) -> Option<EntryId> {
        self.terms.floor(index, term)
    }

    /// How many terms have entries in the log.
    pub(crate) fn term_count(&self) -> usize {
        self.terms.runs()
    }

    /// Adds an entry, not durable yet. Returns whether the membership in force changed.
    pub(crate) fn push(&mut self, entry: &Entry) -> bool {
        self.terms.push(entry.id);
        match &entry.membership {
            Some(membership) => {
                let changed = self.membership() != membership;
                self.note_membership(entry.id.index, membership.clone());
                changed
            }
            None => false,
        }
    }

    /// Drops `from` and all after it. Returns whether the membership in force changed.
    pub(crate) fn truncate(&mut self, from: Index) -> bool {
        let before = self.memberships.len();
        self.terms.truncate(from);
        self.durable = self.durable.min(self.last().index);
        while self.memberships.len() > 1 && self.memberships[self.memberships.len() - 1].0 >= from {
            self.memberships.pop();
        }
        self.memberships.len() < before
    }

    /// Begins anew at `start`; nothing of it is durable. Returns whether the membership in force changed.
    pub(crate) fn reset(&mut self, start: LogStart) -> bool {
        let before = self.membership().clone();
        self.terms.reset(start.previous);
        self.start = start;
        self.durable = Index::ZERO;
        // The leader's log past `start` carries whatever membership changes were made there; those before it are
        // superseded by them, or were the bootstrap's.
        self.memberships.truncate(1);
        *self.membership() != before
    }

    /// Forgets the entries before `start`; the membership that they left in force stays.
    pub(crate) fn trim(&mut self, start: LogStart) {
        self.terms.trim(start.previous);
        self.start = start;
        let gone = self.memberships.iter().filter(|(index, _)| *index <= start.previous.index).count();
        // The newest of those that go is in force at the new start. The bootstrap's own place is kept, so that
        // "has one" stays true of a log that had one.
        if gone > 2 {
            self.memberships.drain(1..gone - 1);
        }
    }

    /// A sync finished: durable through `last`, in the log's present view.
    ///
    /// An id that is not in the log is ignored:
    /// 1. a follower appends (term 1, index 10) and its sync begins;
    /// 2. the leader of term 2 has it replaced by (2, 10);
    /// 3. the completion for (1, 10) arrives: taken by its index alone it would vouch for (2, 10), which is in no
    ///    sync yet; a crash would lose an entry that was acknowledged.
    ///
    /// Returns whether it moved.
    pub(crate) fn durable_through(&mut self, last: EntryId) -> bool {
        if !self.terms.contains(last) || last.index <= self.durable {
            return false;
        }
        self.durable = last.index;
        true
    }

    fn note_membership(&mut self, index: Index, membership: Membership) {
        check_membership(&membership);
        let newest = self.memberships[self.memberships.len() - 1].0;
        assert!(index > newest, "membership entries at {newest} and then {index}");
        self.memberships.push((index, membership));
    }
}

/// Memberships are decoded into this shape at the edge; a quorum over anything else means nothing.
fn check_membership(membership: &Membership) {
    assert!(membership.voters.len() <= VOTERS_MAX, "too many voters: {membership:?}");
    assert!(membership.voters.len() + membership.learners.len() <= REPLICAS_MAX, "too many: {membership:?}");
    assert!(membership.voters.is_sorted_by(|a, b| a < b), "voters out of order: {membership:?}");
    assert!(membership.learners.is_sorted_by(|a, b| a < b), "learners out of order: {membership:?}");
    assert!(!membership.learners.iter().any(|node| membership.is_voter(*node)), "both: {membership:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use raftline_proto::ids::NodeId;

    fn entry(term: u64, index: u64, voters: &[u32]) -> Entry {
        let membership = Membership::of_voters(voters.iter().copied().map(NodeId).collect());
        let membership = if voters.is_empty() { None } else { Some(membership) };
        Entry { id: EntryId::new(Term(term), Index(index)), entry_bytes: 48, membership }
    }

    fn log() -> LogView {
        let mut log = LogView::recovered(Recovered::default(), &Membership::of_voters(vec![NodeId(1)]));
        log.push(&entry(1, 1, &[1, 2, 3]));
        log.push(&entry(1, 2, &[]));
        log.push(&entry(2, 3, &[1, 2]));
        log
    }

    #[test]
    fn truncation_reverts_the_membership() {
        let mut log = log();
        assert_eq!(log.membership().voters.len(), 2);
        assert!(log.truncate(Index(3)));
        assert_eq!(log.membership().voters.len(), 3);
        assert!(!log.truncate(Index(2)));
        assert!(log.truncate(Index(1)));
        assert_eq!(log.membership().voters.len(), 1);
        assert!(!log.has_membership_entry());
    }

    #[test]
    fn trimming_keeps_the_membership() {
        let mut log = log();
        log.trim(LogStart { previous: EntryId::new(Term(2), Index(3)), ..LogStart::default() });
        assert_eq!(log.membership().voters.len(), 2);
        assert!(log.has_membership_entry());
    }

    #[test]
    fn a_late_completion_vouches_for_nothing_else() {
        let mut log = log();
        assert!(log.durable_through(EntryId::new(Term(1), Index(2))));
        log.truncate(Index(3));
        log.push(&entry(3, 3, &[]));
        assert!(!log.durable_through(EntryId::new(Term(2), Index(3))));
        assert_eq!(log.durable(), Index(2));
        assert!(log.durable_through(EntryId::new(Term(3), Index(3))));
        log.truncate(Index(2));
        assert_eq!(log.durable(), Index(1));
    }
}
