//! Small words for writing histories by hand.

use raftline_proto::entry::{EntryHeader, EntryKind, ProducerBatch};
use raftline_proto::ids::{EntryId, GroupId, Index, NodeId, Offset, ProducerId, Term};

use super::{Check, Fact, Ledger};
use crate::sim::facts::{Digest, Life};

pub(super) const GROUP: GroupId = GroupId(7);

/// Who votes in all histories.
pub(super) const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

pub(super) fn life(node: u32) -> Life {
    Life { node: NodeId(node), start: 0 }
}

pub(super) fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

/// A no-op: takes no offset.
pub(super) fn no_op(term: u64, index: u64, offset: u64) -> Digest {
    digest(term, index, offset, EntryKind::NoOp, 0)
}

/// A batch of so many records.
pub(super) fn data(term: u64, index: u64, offset: u64, records: u32) -> Digest {
    digest(term, index, offset, EntryKind::Data, records)
}

/// The same with an idempotent producer's stamp.
pub(super) fn stamped(term: u64, index: u64, offset: u64, records: u32, base_sequence: u32) -> Digest {
    let producer = ProducerBatch { id: ProducerId(1), epoch: 0, base_sequence };
    Digest { producer: Some(producer), ..data(term, index, offset, records) }
}

fn digest(term: u64, index: u64, offset: u64, kind: EntryKind, record_count: u32) -> Digest {
    let header = EntryHeader {
        group: GROUP,
        id: id(term, index),
        kind,
        base_offset: Offset(offset),
        record_count,
        payload_bytes: 0,
    };
    let content = if record_count == 0 { 0 } else { term * 1_000_000 + index };
    let bytes = term * 1_000_000 + index;
    Digest { header, bytes, content, producer: None, records: record_count, rule: None, told: None }
}

/// Entries that become committed for the first time, held by a majority of three.
pub(super) fn first_committed(term: u64, entries: &[Digest]) -> Fact<'_> {
    let (term, is_commit_index) = (Term(term), true);
    Fact::FirstCommitted { group: GROUP, term, is_commit_index, entries, voters: &VOTERS, holders: &[] }
}

pub(super) fn committed(node: u32, term: u64, entries: &[Digest]) -> Fact<'_> {
    Fact::Committed { life: life(node), group: GROUP, term: Term(term), entries }
}

pub(super) fn appended(node: u32, previous: EntryId, entry: &Digest) -> Fact<'_> {
    Fact::Appended { life: life(node), group: GROUP, previous, entry }
}

pub(super) fn elected(node: u32, term: u64, log: &[Digest]) -> Fact<'_> {
    Fact::Elected {
        life: life(node),
        group: GROUP,
        term: Term(term),
        log,
        log_start: EntryId::ZERO,
        voters: &VOTERS,
    }
}

/// The checker must accept all but the last fact, and refuse that one with these words.
#[track_caller]
pub(super) fn must_trip(mut check: impl Check, history: &[Fact<'_>], words: &str) {
    let mut ledger = Ledger::default();
    let (last, before) = history.split_last().expect("a history has facts");
    for fact in before {
        check.observe(fact, &ledger).unwrap_or_else(|text| panic!("tripped early at {fact:?}: {text}"));
        ledger.observe(fact);
    }
    let text = check.observe(last, &ledger).expect_err("the bad history passed");
    assert!(text.contains(words), "tripped with other words: {text}");
}

/// The checker must accept all of it.
#[track_caller]
pub(super) fn must_pass(mut check: impl Check, history: &[Fact<'_>]) {
    let mut ledger = Ledger::default();
    for fact in history {
        check
            .observe(fact, &ledger)
            .unwrap_or_else(|text| panic!("a good history tripped at {fact:?}: {text}"));
        ledger.observe(fact);
    }
}
