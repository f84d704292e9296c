//! A dumb log and a dumb disk: what is written, and what a crash leaves.

use raftline_proto::entry::EntryInfo;
use raftline_proto::ids::{EntryId, GroupId, HardState, Index, Offset};
use raftline_raft::types::LogStart;
use std::collections::BTreeMap;

/// What a batch says: stands for its bytes.
pub type Text = String;

/// An entry with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub info: EntryInfo,
    pub text: Option<Text>,
}

/// The bytes that pass through the shard.
#[derive(Clone, Debug)]
pub enum Payload {
    Batch(Text),
    Entries(Vec<Stored>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub start: LogStart,
    pub entries: Vec<Stored>,
}

impl Log {
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.start.previous, |stored| stored.info.header.id)
    }

    pub fn next_offset(&self) -> Offset {
        self.entries.last().map_or(self.start.offset, |stored| stored.info.header.next_offset())
    }

    pub fn push(&mut self, stored: Stored) {
        let header = &stored.info.header;
        assert_eq!(header.id.index, self.last().index.next(), "indexes follow each other");
        assert!(header.id.term >= self.last().term, "terms never fall");
        assert_eq!(header.base_offset, self.next_offset(), "offsets are dense");
        self.entries.push(stored);
    }

    pub fn truncate(&mut self, from: Index) {
        self.entries.retain(|stored| stored.info.header.id.index < from);
    }

    pub fn entries_from(&self, from: Index) -> impl Iterator<Item = &Stored> {
        self.entries.iter().skip_while(move |stored| stored.info.header.id.index < from)
    }

    pub fn term_starts(&self) -> Vec<EntryId> {
        let mut starts: Vec<EntryId> = Vec::new();
        for stored in &self.entries {
            let id = stored.info.header.id;
            if starts.last().is_none_or(|start| start.term != id.term) {
                starts.push(id);
            }
        }
        starts
    }

    /// The last entry that this log and `other` agree on.
    pub fn common_end(&self, other: &Self) -> EntryId {
        let theirs: BTreeMap<Index, EntryId> =
            other.entries.iter().map(|stored| (stored.info.header.id.index, stored.info.header.id)).collect();
        let same = |stored: &&Stored| {
            let id = stored.info.header.id;
            theirs.get(&id.index) == Some(&id)
        };
        self.entries.iter().rev().find(same).map_or(self.start.previous, |stored| stored.info.header.id)
    }

    /// What committed batches say, with their offsets.
    pub fn texts(&self) -> Vec<(Offset, Text)> {
        let text = |stored: &Stored| Some((stored.info.header.base_offset, stored.text.clone()?));
        self.entries.iter().filter_map(text).collect()
    }
}

/// One group's files.
#[derive(Clone, Debug, Default)]
pub struct GroupFiles {
    pub log: Log,
    pub hard_state: HardState,
    pub commit_hint: Index,
}

/// A node's disk: what is written, and what would survive a power cut.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub live: BTreeMap<GroupId, GroupFiles>,
    pub durable: BTreeMap<GroupId, GroupFiles>,
}

impl Disk {
    /// What was not synced is gone.
    pub fn power_cut(&mut self) {
        self.live = self.durable.clone();
    }
}
