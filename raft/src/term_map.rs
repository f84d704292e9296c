//! Which term every index of the log belongs to, as run lengths: a log of millions of entries is a few runs.

use alloc::vec::Vec;
use raftline_proto::ids::{EntryId, Index, Term};

/// The names of all entries in the log.
///
/// Invariants: `starts` ascends strictly in term and index; its first index is `previous.index + 1` unless it is
/// empty; every start's index is at most `last`; `previous.index <= last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TermMap {
    /// The entry before the first.
    previous: EntryId,
    /// The first entry of each run of one term.
    starts: Vec<EntryId>,
    /// The last entry's index; `previous.index` if the log is empty.
    last: Index,
}

impl TermMap {
    /// From what storage found. Panics on what no log can hold: it was checked by storage.
    pub(crate) fn recovered(previous: EntryId, starts: Vec<EntryId>, last: EntryId) -> Self {
        let mut map = Self { previous, starts: Vec::with_capacity(starts.len()), last: previous.index };
        for start in starts {
            if !map.starts.is_empty() && start.index > map.last {
                // A run lasts to the next run's start.
                map.last = Index(start.index.get() - 1);
            }
            map.push(start);
        }
        assert!(last.index >= map.last, "the log ends at {last}, before its last term begins");
        map.last = last.index;
        assert!(map.last() == last, "the log's last entry is {last}, its term map says {}", map.last());
        map
    }

    /// The entry before the first.
    #[cfg(test)]
    pub(crate) const fn previous(&self) -> EntryId {
        self.previous
    }

    /// The last entry; `previous` if the log is empty.
    pub(crate) fn last(&self) -> EntryId {
        let term = self.starts.last().map_or(self.previous.term, |start| start.term);
        EntryId::new(term, self.last)
    }

    /// The name of the entry at `index`; `None` outside `[previous, last]`.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        if index < self.previous.index || index > self.last {
            return None;
        }
        // Nearly every question is about the newest run.
        let term = match self.starts.last() {
            Some(newest) if newest.index <= index => newest.term,
            Some(_) | None => match self.run_of(index) {
                Some(run) => self.starts[run].term,
                None => self.previous.term,
            },
        };
        Some(EntryId::new(term, index))
    }

    /// Whether the log holds this very entry, or begins right after it.
    pub(crate) fn contains(&self, id: EntryId) -> bool {
        self.id_at(id.index) == Some(id)
    }

    /// The greatest entry at or below `index` whose term is at most `term`; `None` if that would be before
    /// `previous`. Entries above it cannot be in a log whose entry at `index` has `term`, or less.
    pub(crate) fn floor(&self, index: Index, term: Term) -> Option<EntryId> {
        let mut candidate = self.id_at(index.min(self.last))?;
        while candidate.term > term {
            let run = self.run_of(candidate.index)?;
            candidate = self.id_at(self.starts[run].index.previous()?)?;
        }
        Some(candidate)
    }

    /// Adds the next entry.
    pub(crate) fn push(&mut self, id: EntryId) {
        let last = self.last();
        assert!(id.index == last.index.next(), "entry {id} does not follow {last}");
        assert!(id.term >= last.term, "entry {id} is of an older term than {last}");
        if self.starts.is_empty() || id.term > last.term {
            self.starts.push(id);
        }
        self.last = id.index;
    }

    /// Drops `from` and all after it.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.previous.index, "truncation from {from} would pass the log's start");
        let keep = self.starts.partition_point(|start| start.index < from);
        self.starts.truncate(keep);
        if from <= self.last {
            self.last = Index(from.get() - 1);
        }
    }

    /// Drops everything through `previous`, which the log holds.
    pub(crate) fn trim(&mut self, previous: EntryId) {
        assert!(self.contains(previous), "the log is trimmed through {previous}, which it does not hold");
        let gone = self.starts.partition_point(|start| start.index <= previous.index);
        let first = previous.index.next();
        // The run that the cut goes through begins right after the cut now.
        let begins_later = self.starts.get(gone).is_some_and(|start| start.index == first);
        let cut = gone > 0 && !begins_later && first <= self.last;
        self.starts.drain(..gone - usize::from(cut));
        if cut {
            self.starts[0].index = first;
        }
        self.previous = previous;
    }

    /// Begins anew after `previous`.
    pub(crate) fn reset(&mut self, previous: EntryId) {
        self.starts.clear();
        self.previous = previous;
        self.last = previous.index;
    }

    /// How many terms have entries.
    pub(crate) fn runs(&self) -> usize {
        self.starts.len()
    }

    fn run_of(&self, index: Index) -> Option<usize> {
        self.starts.partition_point(|start| start.index <= index).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dumb twin: every entry by name.
    #[derive(Clone, Debug)]
    struct Plain(Vec<EntryId>);

    impl Plain {
        fn floor(&self, index: Index, term: Term) -> Option<EntryId> {
            self.0.iter().rev().find(|id| id.index <= index && id.term <= term).copied()
        }
    }

    fn check(map: &TermMap, plain: &Plain, note: &str) {
        assert_eq!(map.previous(), plain.0[0], "{note}");
        assert_eq!(map.last(), plain.0[plain.0.len() - 1], "{note}");
        let top = map.last().index.get() + 2;
        for index in (0..top).map(Index) {
            let expected = plain.0.iter().find(|id| id.index == index).copied();
            assert_eq!(map.id_at(index), expected, "{note}: index {index}");
            for term in (0..9).map(Term) {
                if index >= map.previous().index {
                    assert_eq!(map.floor(index, term), plain.floor(index, term), "{note}: {term}.{index}");
                }
                let id = EntryId::new(term, index);
                assert_eq!(map.contains(id), plain.0.contains(&id), "{note}: {id}");
            }
        }
        let mut starts = Vec::new();
        for pair in plain.0.windows(2) {
            if starts.is_empty() || pair[1].term > pair[0].term {
                starts.push(pair[1]);
            }
        }
        assert_eq!(map.starts, starts, "{note}");
        assert_eq!(map.runs(), starts.len());
        assert_eq!(&TermMap::recovered(plain.0[0], starts, map.last()), map, "{note}");
    }

    #[test]
    fn agrees_with_a_plain_list() {
        for seed in 1..60_u64 {
            let mut state = seed;
            let mut draw = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let mut map = TermMap::recovered(EntryId::ZERO, Vec::new(), EntryId::ZERO);
            let mut plain = Plain(alloc::vec![EntryId::ZERO]);
            for step in 0..60 {
                let first = plain.0[0].index.get();
                let last = plain.0[plain.0.len() - 1];
                match draw(8) {
                    0..=4 => {
                        let term = (last.term.get() + draw(4) / 3).clamp(1, 8);
                        let id = EntryId::new(Term(term), last.index.next());
                        map.push(id);
                        plain.0.push(id);
                    }
                    5 => {
                        let from = Index(first + 1 + draw(last.index.get() - first + 2));
                        map.truncate(from);
                        plain.0.retain(|id| id.index < from);
                    }
                    6 => {
                        let cut = usize::try_from(draw(plain.0.len() as u64)).unwrap() / 2;
                        plain.0.drain(..cut);
                        map.trim(plain.0[0]);
                    }
                    _ if draw(10) == 0 => {
                        let previous = EntryId::new(last.term, last.index + draw(5));
                        map.reset(previous);
                        plain.0 = alloc::vec![previous];
                    }
                    _ => {}
                }
                check(&map, &plain, &alloc::format!("seed {seed} step {step}"));
            }
        }
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn refuses_a_gap() {
        let mut map = TermMap::recovered(EntryId::ZERO, Vec::new(), EntryId::ZERO);
        map.push(EntryId::new(Term(1), Index(2)));
    }

    #[test]
    #[should_panic(expected = "older term")]
    fn refuses_a_falling_term() {
        let mut map = TermMap::recovered(EntryId::ZERO, Vec::new(), EntryId::ZERO);
        map.push(EntryId::new(Term(2), Index(1)));
        map.push(EntryId::new(Term(1), Index(2)));
    }
}
