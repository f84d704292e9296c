//! A disk for one replica: what was written, what of it is durable, and what a crash leaves.

use raftline_proto::ids::{EntryId, HardState, Index};
use raftline_raft::types::{Entry, LogStart, Recovered};
use std::collections::VecDeque;

/// An entry with its payload, which the engine never sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub entry: Entry,
    pub value: u64,
}

/// The log as one reading of it sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub start: LogStart,
    pub entries: VecDeque<Stored>,
}

impl Log {
    pub fn last(&self) -> EntryId {
        self.entries.back().map_or(self.start.previous, |stored| stored.entry.id)
    }

    pub fn get(&self, index: Index) -> Option<&Stored> {
        let place = index.get().checked_sub(self.start.previous.index.get() + 1)?;
        self.entries.get(usize::try_from(place).unwrap())
    }

    /// Whether it holds this entry, or begins right after it.
    pub fn holds(&self, id: EntryId) -> bool {
        id == self.start.previous || self.get(id.index).is_some_and(|stored| stored.entry.id == id)
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Append(stored) => {
                assert_eq!(stored.entry.id.index, self.last().index.next(), "a gap in the log");
                self.entries.push_back(stored);
            }
            Write::Truncate(from) => self.entries.retain(|stored| stored.entry.id.index < from),
            Write::Reset(start) => *self = Self { start, entries: VecDeque::new() },
        }
    }

    fn trim(&mut self, start: LogStart) {
        if self.holds(start.previous) {
            self.entries.retain(|stored| stored.entry.id.index > start.previous.index);
            self.start = start;
        }
    }
}

#[derive(Clone, Debug)]
enum Write {
    Append(Stored),
    Truncate(Index),
    Reset(LogStart),
}

/// The disk of one replica.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// As reads see it.
    pub live: Log,
    /// As a crash leaves it at worst.
    pub durable: Log,
    /// What lies between the two, in order.
    pending: VecDeque<Write>,
    /// The durable term and vote.
    pub hard_state: HardState,
    /// Those on their way, in order.
    pub saving: VecDeque<HardState>,
    /// The durable hint.
    pub commit_hint: Index,
    /// Appends are refused.
    pub full: bool,
}

impl Disk {
    fn write(&mut self, write: Write) {
        self.live.apply(write.clone());
        self.pending.push_back(write);
    }

    pub fn append(&mut self, stored: Stored) {
        self.write(Write::Append(stored));
    }

    pub fn truncate(&mut self, from: Index) {
        self.write(Write::Truncate(from));
    }

    pub fn reset(&mut self, start: LogStart) {
        self.write(Write::Reset(start));
    }

    /// Drops the prefix through `through`, at most what is durable.
    pub fn trim(&mut self, through: Index) -> Option<LogStart> {
        let stored = self.live.get(through)?;
        if !self.durable.holds(stored.entry.id) {
            return None;
        }
        let start = LogStart { previous: stored.entry.id, ..LogStart::default() };
        self.live.trim(start);
        self.durable.trim(start);
        Some(start)
    }

    /// How many writes wait for a sync.
    pub fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// A sync of the first `count` waiting writes finished. Returns the last durable entry in the present view.
    pub fn synced(&mut self, count: usize) -> EntryId {
        for write in self.pending.drain(..count.min(self.pending.len())) {
            self.durable.apply(write);
        }
        self.last_durable()
    }

    /// The last entry that both readings share.
    pub fn last_durable(&self) -> EntryId {
        let live = self.live.entries.iter().rev().map(|stored| stored.entry.id);
        live.chain([self.live.start.previous]).find(|id| self.durable.holds(*id)).unwrap_or(EntryId::ZERO)
    }

    /// The oldest hard state on its way is durable.
    pub fn saved(&mut self) -> Option<HardState> {
        let hard_state = self.saving.pop_front()?;
        self.hard_state = hard_state;
        Some(hard_state)
    }

    /// The power is gone; the first `writes` unsynced writes and `saves` unsaved hard states made it nevertheless.
    pub fn crash(&mut self, writes: usize, saves: usize) {
        self.synced(writes);
        self.pending.clear();
        self.live = self.durable.clone();
        for _ in 0..saves {
            self.saved();
        }
        self.saving.clear();
    }

    /// What a start finds.
    pub fn recover(&self) -> Recovered {
        assert!(self.pending.is_empty() && self.saving.is_empty(), "recovered without a crash");
        let mut term_starts: Vec<EntryId> = Vec::new();
        let mut memberships = Vec::new();
        for Stored { entry, .. } in &self.live.entries {
            if term_starts.last().is_none_or(|start| start.term < entry.id.term) {
                term_starts.push(entry.id);
            }
            if let Some(membership) = &entry.membership {
                memberships.push((entry.id.index, membership.clone()));
            }
        }
        Recovered {
            hard_state: self.hard_state,
            start: self.live.start,
            term_starts,
            last: self.live.last(),
            commit_hint: self.commit_hint,
            memberships,
        }
    }
}
