//! A dumb log and a dumb disk: what is written, and what a crash leaves.

use raftline_proto::command::TrimReason;
use raftline_proto::entry::{EntryBody, EntryInfo};
use raftline_proto::ids::{EntryId, GroupId, HardState, Index, Offset};
use raftline_proto::time::Timestamp;
use raftline_raft::types::LogStart;
use raftline_shard::types::{CompactionFacts, CompactionRule, Outlived};
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
    pub clean_through: Index,
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

    /// What is too old or too much, of a log whose segments hold one entry each.
    pub fn outlived(
        &self,
        older_than: Option<Timestamp>,
        bytes_max: Option<u64>,
        up_to: Index,
    ) -> Option<Outlived> {
        let mut outlived = None;
        let mut bytes: u64 = self.entries.iter().map(|stored| stored.info.header.entry_bytes()).sum();
        for stored in self.entries.iter().take_while(|stored| stored.info.header.id.index < up_to) {
            let newest = match &stored.info.body {
                EntryBody::Data(batch) => Some(batch.max_timestamp),
                EntryBody::NoOp
                | EntryBody::Membership(_)
                | EntryBody::Metadata(_)
                | EntryBody::Command(_)
                | EntryBody::Gap { .. } => None,
            };
            // The last one is still being written to; it goes by age alone.
            let last = stored.info.header.id == self.last();
            let too_much = bytes_max.is_some_and(|max| bytes > max) && !last;
            let too_old = older_than.is_some_and(|limit| newest < Some(limit));
            if !(too_old || too_much) {
                break;
            }
            bytes -= stored.info.header.entry_bytes();
            let reason = if too_old { TrimReason::Age } else { TrimReason::Size };
            outlived = Some(Outlived { below: stored.info.header.next_offset(), reason });
        }
        outlived.filter(|outlived| outlived.below > self.start.offset)
    }

    /// Lets entries go that are deleted.
    pub fn trim(&mut self, below: Offset, up_to: Index) -> Option<LogStart> {
        let mut gone = None;
        while let [first, _, ..] = &self.entries[..] {
            let header = first.info.header;
            if header.next_offset() > below || header.id.index >= up_to {
                break;
            }
            self.entries.remove(0);
            gone = Some(LogStart { previous: header.id, offset: header.next_offset() });
        }
        if let Some(start) = gone {
            self.start = start;
        }
        gone
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

    /// Keeps each key's last record of what is at or below the rule's point. A batch that says `k=v` is one record, one
    /// that says `k=` deletes its key.
    pub fn compact(&mut self, rule: CompactionRule) {
        let key = |text: &Text| text.split_once('=').map(|(key, _)| key.to_owned());
        let covered = |stored: &Stored| stored.info.header.id.index <= rule.through;
        let mut last: BTreeMap<String, Index> = BTreeMap::new();
        for stored in self.entries.iter().filter(|stored| covered(stored)) {
            if let Some(key) = stored.text.as_ref().and_then(key) {
                last.insert(key, stored.info.header.id.index);
            }
        }
        for stored in self.entries.iter_mut().filter(|stored| covered(stored)) {
            let header = stored.info.header;
            let stays = match (&stored.info.body, &stored.text) {
                (EntryBody::Membership(_), _) => true,
                (_, Some(text)) => {
                    let buried = text.ends_with('=') && header.base_offset < rule.tombstones_before;
                    !buried && key(text).is_some_and(|key| last[&key] == header.id.index)
                }
                (_, None) => false,
            };
            if !stays {
                let body = EntryBody::Gap { offsets: header.record_count };
                let info = EntryInfo::new(header.group, header.id, header.base_offset, body);
                *stored = Stored { info, text: None };
            }
        }
        self.clean_through = self.clean_through.max(rule.through);
    }

    pub fn compaction_facts(&self) -> CompactionFacts {
        let bytes = |clean: bool| {
            let part = self.entries.iter().map(|stored| stored.info.header);
            let part = part.filter(|header| (header.id.index <= self.clean_through) == clean);
            part.map(|header| header.entry_bytes()).sum()
        };
        let time = |stored: &Stored| match &stored.info.body {
            EntryBody::Data(batch) => Some(batch.max_timestamp),
            _ => None,
        };
        let dirty = self.entries_from(self.clean_through.next());
        CompactionFacts {
            clean_bytes: bytes(true),
            dirty_bytes: bytes(false),
            dirty_since: dirty.filter_map(time).next(),
        }
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
