//! Requests that wait for an entry: by entry, and by deadline.

use crate::types::RequestId;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use raftline_proto::ids::{EntryId, Index};
use raftline_proto::time::Monotonic;

/// Requests of one kind that wait for entries of one group.
///
/// Invariant: `deadlines` holds exactly one item for each of `waiting`.
#[derive(Debug)]
pub(crate) struct Parking<T> {
    waiting: BTreeMap<(Index, RequestId), Parked<T>>,
    deadlines: BTreeSet<(Monotonic, Index, RequestId)>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Parked<T> {
    pub request: RequestId,
    pub entry: EntryId,
    deadline: Monotonic,
    pub what: T,
}

impl<T> Default for Parking<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<T> Parking<T> {
    /// Lets `request` wait for `entry`.
    pub fn park(&mut self, request: RequestId, entry: EntryId, deadline: Monotonic, what: T) {
        self.deadlines.insert((deadline, entry.index, request));
        self.waiting.insert((entry.index, request), Parked { request, entry, deadline, what });
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn first_deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(deadline, _, _)| *deadline)
    }

    /// Takes one that waits for an entry at or below `through`, the lowest first.
    pub fn take_through(&mut self, through: Index) -> Option<Parked<T>> {
        let (key, _) = self.waiting.first_key_value().filter(|((index, _), _)| *index <= through)?;
        let key = *key;
        self.take(key)
    }

    /// Takes all that wait for an entry at `from` or later.
    pub fn take_from(&mut self, from: Index) -> Vec<Parked<T>> {
        let keys: Vec<_> = self.waiting.range((from, RequestId(0))..).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.take(key)).collect()
    }

    /// Takes one whose deadline has passed.
    pub fn take_overdue(&mut self, now: Monotonic) -> Option<Parked<T>> {
        let (deadline, index, request) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.take((index, request))
    }

    fn take(&mut self, key: (Index, RequestId)) -> Option<Parked<T>> {
        let parked = self.waiting.remove(&key)?;
        self.deadlines.remove(&(parked.deadline, key.0, key.1));
        Some(parked)
    }
}
