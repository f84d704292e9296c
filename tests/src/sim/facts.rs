//! What the checkers judge: facts, as the world sees them happen. A checker knows nothing of shards, disks or
//! networks, so that a bad history can be written by hand.

use std::collections::BTreeMap;
use std::fmt;

use raftline_proto::command::TrimReason;
use raftline_proto::entry::{EntryHeader, EntryKind, ProducerBatch};
use raftline_proto::ids::{EntryId, GroupId, HardState, Index, NodeId, Offset, ProducerId, Term};
use raftline_proto::producers::SEQUENCE_MAX;
use raftline_raft::types::Message;
use raftline_shard::types::Durability;

/// One life of a node: a restart makes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Which node.
    pub node: NodeId,
    /// Its how-many-eth start.
    pub start: u32,
}

impl fmt::Display for Life {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "node {} (start {})", self.node, self.start)
    }
}

/// An entry, boiled down from the bytes that a replica really holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The header as it stands in the log.
    pub header: EntryHeader,
    /// Stands for every byte of the entry.
    pub bytes: u64,
    /// Stands for what the producer sent: a batch without what the leader stamps. Zero where there is no batch.
    pub content: u64,
    /// The idempotent producer's stamp.
    pub producer: Option<ProducerBatch>,
    /// Records that are there: fewer than `header.record_count` if compaction dropped some.
    pub records: u32,
    /// What it has all replicas keep, if it commands a compaction.
    pub rule: Option<Rule>,
    /// What else it says, if it is a command.
    pub told: Option<Told>,
}

/// What a command tells all replicas of a log's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// All below is deleted.
    DeleteBelow(Offset),
    /// What is known of idempotent producers: entries before it are not needed for that any more.
    Producers,
}

impl Digest {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.header.id
    }

    /// Whether it is as its leader made it: compaction took nothing away.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self.header.kind {
            EntryKind::Gap => false,
            EntryKind::Data => self.records == self.header.record_count,
            EntryKind::NoOp | EntryKind::Membership | EntryKind::Metadata | EntryKind::Command => true,
        }
    }

    /// Whether it carries records.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.header.kind == EntryKind::Data
    }
}

/// Where an idempotent producer begins: every other one shortly before sequences wrap.
#[must_use]
pub fn first_sequence(id: ProducerId) -> u32 {
    if id.0.is_multiple_of(2) { SEQUENCE_MAX - 20 } else { 0 }
}

/// What a node's stable storage holds of one group, read from the simulated disk as a power cut would leave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnDisk {
    /// The hard state.
    pub hard_state: HardState,
    /// The last entry of the log.
    pub last: EntryId,
}

/// A batch as a consumer got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedBatch {
    /// The first record's offset.
    pub base_offset: Offset,
    /// How many offsets it takes.
    pub offset_count: u32,
    /// Records in it: fewer if compaction dropped some.
    pub record_count: u32,
    /// As [`Digest::content`].
    pub content: u64,
}

/// What is asked about a partition's offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queried {
    /// Where it begins.
    Start,
    /// Where it ends.
    End,
    /// Where a leader's part of it ends.
    EndOfTerm(Term),
}

/// What is told about a partition's offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The first offset.
    Start(Offset),
    /// The high watermark.
    End(Offset),
    /// The end of a term, or of the last one before it that wrote anything.
    EndOfTerm(Term, Offset),
}

/// A record, boiled down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Stands for its key.
    pub key: Option<u64>,
    /// Stands for its value; `None` deletes the key.
    pub value: Option<u64>,
}

/// What all replicas of a group keep: as [`raftline_proto::command::Command::Compact`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The compaction point.
    pub through: Index,
    /// Tombstones below go.
    pub tombstones_before: Offset,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Fact<'a> {
    /// A replica became leader; `log` is its whole log at that moment.
    Elected {
        /// Who.
        life: Life,
        /// Of what.
        group: GroupId,
        /// For which term.
        term: Term,
        /// Its log, from `log_start` on.
        log: &'a [Digest],
        /// The entry before the first of `log`.
        log_start: EntryId,
        /// Who votes, as it sees it.
        voters: &'a [NodeId],
    },
    /// A replica appended an entry after `previous` (not yet durable).
    Appended {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// The entry before.
        previous: EntryId,
        /// The entry.
        entry: &'a Digest,
    },
    /// A replica cut its log.
    Truncated {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// The first entry gone.
        from: Index,
        /// Its commit index at that moment.
        commit: Index,
    },
    /// A replica threw its log away and begins anew where its leader's log begins.
    Reset {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// The entry before the first.
        start: EntryId,
    },
    /// A replica learnt that more entries are committed. The first such fact of a life begins at its log's start.
    Committed {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// The replica's current term.
        term: Term,
        /// The newly committed entries, in order, as this replica holds them.
        entries: &'a [Digest],
    },
    /// Entries that nobody had committed before now are: always seen at a leader first.
    FirstCommitted {
        /// Where.
        group: GroupId,
        /// The leader's term.
        term: Term,
        /// Whether the last of them is where that leader's commit index is: it may have heard of another term since, or its
        /// log may not be read that far.
        is_commit_index: bool,
        /// Which entries, in order.
        entries: &'a [Digest],
        /// Who votes.
        voters: &'a [NodeId],
        /// For each entry, the voters whose disk holds just this entry now.
        holders: &'a [Vec<NodeId>],
    },
    /// A replica sent a message, and this is what its disk held at that moment.
    Spoke {
        /// Who.
        life: Life,
        /// For which group.
        group: GroupId,
        /// To whom.
        to: NodeId,
        /// What.
        message: &'a Message,
        /// What a power cut would leave of its hard state and log.
        disk: &'a OnDisk,
    },
    /// A replica's high watermark, whenever it is seen.
    Watermark {
        /// Whose.
        life: Life,
        /// Of which group.
        group: GroupId,
        /// One past the last committed record.
        high_watermark: Offset,
    },
    /// A consumer was answered.
    Served {
        /// By whom.
        life: Life,
        /// From which group.
        group: GroupId,
        /// What was asked for.
        from: Offset,
        /// What came with the answer.
        high_watermark: Offset,
        /// What was given.
        batches: &'a [ServedBatch],
    },
    /// Somebody asks a node about a partition's offsets.
    Asked {
        /// Tells questions apart.
        question: u64,
        /// Which partition.
        group: GroupId,
        /// What.
        query: Queried,
    },
    /// He is told.
    Told {
        /// As asked.
        question: u64,
        /// By whom.
        life: Life,
        /// Which partition.
        group: GroupId,
        /// What.
        answer: Answered,
    },
    /// A producer was answered that its batch is safe.
    Acked {
        /// Into which group.
        group: GroupId,
        /// At which offset.
        base_offset: Offset,
        /// As [`Digest::content`].
        content: u64,
        /// Records in it.
        record_count: u32,
        /// What was promised.
        durability: Durability,
    },
    /// A leader refused an idempotent producer's batch for its sequence number.
    SequenceRefused {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// The term that it leads in, or led in when it last took a turn.
        term: Term,
        /// Whose batch.
        producer: ProducerBatch,
        /// What the leader expects next.
        expected: u32,
    },
    /// What a replica knows of idempotent producers: when it is elected, and at the end of a run.
    Producers {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// Its term.
        term: Term,
        /// Of each that it knows, the stamp that it expects next.
        next: &'a [ProducerBatch],
    },
    /// A node started again and opened a group; `last` is where its recovered log ends.
    Reopened {
        /// Who.
        life: Life,
        /// Which.
        group: GroupId,
        /// The last entry found.
        last: EntryId,
        /// The hard state found.
        hard_state: HardState,
    },
    /// A node could not open a group, or its log failed while running, without a fault that allows it.
    Failed {
        /// Who.
        life: Life,
        /// Which.
        group: GroupId,
        /// The node's own words.
        reason: &'a str,
    },
    /// The node under test says that something impossible happened.
    Alarmed {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// What it says.
        alarm: &'a str,
    },
    /// How full something bounded is.
    Filled {
        /// Where.
        life: Life,
        /// What.
        what: &'static str,
        /// How much is in it.
        level: u64,
        /// How much may be.
        bound: u64,
    },
    /// The end of a run, faults long gone: one replica's log and state.
    Final {
        /// Who.
        life: Life,
        /// Which group.
        group: GroupId,
        /// The leader it knows.
        leader: Option<NodeId>,
        /// Its term.
        term: Term,
        /// Its commit index.
        commit: Index,
        /// Its whole log.
        log: &'a [Digest],
        /// The entry before the first of `log`.
        log_start: EntryId,
    },
    /// What a batch says that a producer is about to send.
    Batch {
        /// As [`Digest::content`].
        content: u64,
        /// Its records, in order.
        records: &'a [Record],
    },
    /// What a replica's log holds, after a compaction, a restart, or at the end.
    Held {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// Where the log begins.
        start: Offset,
        /// What it says that it is compacted by.
        clean: Rule,
        /// Entries through here are known to be committed.
        committed: Index,
        /// Every record of it.
        records: &'a BTreeMap<Offset, Record>,
    },
    /// A client was given a producer id.
    IdGiven {
        /// By whom.
        life: Life,
        /// Which.
        id: ProducerId,
    },
    /// A client was answered that everything below is deleted.
    Deleted {
        /// Where.
        group: GroupId,
        /// The first offset left.
        start_offset: Offset,
    },
    /// A topic says how much of its partitions' logs stays, if not all does: for each partition, once.
    Keeps {
        /// Which partition.
        group: GroupId,
        /// Segments go while at least so much is left.
        bytes: Option<u64>,
        /// Records go that are older, in milliseconds.
        age_ms: Option<i64>,
    },
    /// A leader has its group let go of records.
    Decided {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// Records below.
        below: Offset,
        /// Why.
        reason: TrimReason,
        /// What would be left of its log then.
        left_bytes: u64,
        /// How old the newest of these records is by a right clock, in milliseconds; `None` if there are none.
        newest_age_ms: Option<i64>,
    },
    /// A replica let go of its log's beginning.
    LetGo {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// The last entry gone.
        start: EntryId,
        /// The first offset left.
        start_offset: Offset,
    },
    /// A node started again: where a log begins.
    Begins {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// The entry before the first.
        start: EntryId,
        /// The first offset left.
        start_offset: Offset,
    },
    /// A consumer was answered that what it asked for is gone.
    SentOn {
        /// By whom.
        life: Life,
        /// Where.
        group: GroupId,
        /// The first offset left, as it was told.
        start_offset: Offset,
    },
    /// The end of a run: how large a replica's log is.
    FinalBytes {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// The whole log.
        bytes: u64,
        /// It is less than this above what the topic keeps, once retention has looked.
        unsettled_bytes_max: u64,
    },
    /// The end of a run, and nothing was written for long: whether a topic that keeps its records for a while only still
    /// has any.
    FinalAge {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// How many offsets are left.
        left: u64,
    },
    /// The end of a run: the first offset that a replica shows.
    FinalStart {
        /// Who.
        life: Life,
        /// Where.
        group: GroupId,
        /// The offset.
        start_offset: Offset,
    },
    /// The end of a run: something that had to happen by now did not, or something goes on that should rest.
    NotLive {
        /// What, in words.
        what: &'a str,
    },
}

/// Every entry that anybody ever committed, by group and index: the truth that all else is compared with.
#[derive(Debug, Default)]
pub struct Ledger {
    groups: BTreeMap<GroupId, Vec<LedgerEntry>>,
    batches: BTreeMap<u64, Vec<Record>>,
    rules: BTreeMap<GroupId, Rule>,
}

/// A committed entry and the term of the leader that committed it.
#[derive(Clone, Copy, Debug)]
pub struct LedgerEntry {
    /// The entry.
    pub digest: Digest,
    /// In which term it was committed: its own or a later one.
    pub committed_in: Term,
}

impl Ledger {
    /// The committed entries of a group: entry `n` at position `n - 1`.
    #[must_use]
    pub fn entries(&self, group: GroupId) -> &[LedgerEntry] {
        self.groups.get(&group).map_or(&[], Vec::as_slice)
    }

    /// The entry at an index.
    #[must_use]
    pub fn get(&self, group: GroupId, index: Index) -> Option<&LedgerEntry> {
        let position = usize::try_from(index.previous()?.0).ok()?;
        self.entries(group).get(position)
    }

    /// The last committed index.
    #[must_use]
    pub fn last(&self, group: GroupId) -> Index {
        Index(self.entries(group).len() as u64)
    }

    /// One past the last committed record.
    #[must_use]
    pub fn next_offset(&self, group: GroupId) -> Offset {
        self.entries(group).last().map_or(Offset::ZERO, |entry| entry.digest.header.next_offset())
    }

    /// The data entry whose first record has this offset.
    #[must_use]
    pub fn at_offset(&self, group: GroupId, base_offset: Offset) -> Option<&LedgerEntry> {
        let entries = self.entries(group);
        let first = entries.partition_point(|entry| entry.digest.header.base_offset < base_offset);
        entries
            .get(first..)?
            .iter()
            .take_while(|entry| entry.digest.header.base_offset == base_offset)
            .find(|entry| entry.digest.is_data())
    }

    /// The groups that have committed anything.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.keys().copied()
    }

    /// What a batch says.
    #[must_use]
    pub fn batch(&self, content: u64) -> &[Record] {
        self.batches.get(&content).map_or(&[], Vec::as_slice)
    }

    /// Whether every committed entry that ends at or before an offset is covered by the group's last rule.
    #[must_use]
    pub fn is_compacted_before(&self, group: GroupId, offset: Offset) -> bool {
        let through = self.rule(group).through;
        through > Index::ZERO
            && self.get(group, through).is_some_and(|entry| entry.digest.header.next_offset() >= offset)
    }

    /// The last rule that a group has committed.
    #[must_use]
    pub fn rule(&self, group: GroupId) -> Rule {
        self.rules.get(&group).copied().unwrap_or_default()
    }

    /// Takes in what was sent and what was first committed; any other fact changes nothing.
    pub fn observe(&mut self, fact: &Fact<'_>) {
        if let Fact::Batch { content, records } = fact {
            self.batches.insert(*content, records.to_vec());
        }
        if let Fact::FirstCommitted { group, term, entries, .. } = fact {
            for agreed in entries.iter().filter_map(|entry| entry.rule) {
                let rule = self.rules.entry(*group).or_default();
                rule.through = rule.through.max(agreed.through);
                rule.tombstones_before = rule.tombstones_before.max(agreed.tombstones_before);
            }
            let known = self.groups.entry(*group).or_default();
            known.extend(entries.iter().map(|digest| LedgerEntry { digest: *digest, committed_in: *term }));
        }
    }
}
