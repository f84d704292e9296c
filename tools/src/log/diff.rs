//! `raftline log diff`: whether replicas hold the same entries, byte for byte.
//!
//! Replicas compact when they find the time. So where one is compacted the entries have to be the same but for records
//! that one of them has dropped.

use super::disk::ReadOnlyDisk;
use super::place::{LogPlace, find};
use super::verify::WHERE;
use crate::cli::Common;
use crate::output::{self, Output, print, print_json, table};
use anyhow::Context as _;
use bytes::Bytes;
use raftline_client::proto::batch::{BatchView, Record};
use raftline_client::proto::entry::{EntryHeader, EntryKind};
use raftline_client::proto::ids::{GroupId, Index, Offset};
use raftline_storage::Log;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

/// How the logs of one group compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Entries that were compared: those that all copies hold.
    pub compared: u64,
    /// The first difference, named.
    pub difference: Option<String>,
    /// Why they could not be compared: one of them is damaged.
    pub damage: Option<String>,
    /// Whether it is known of each how much was durable: else one that lost its end looks like one that lags.
    pub judged: bool,
    /// How far each copy reaches: its last index, or `None` if it has no log of the group.
    pub last: Vec<Option<Index>>,
}

impl Comparison {
    /// Whether all copies are the same and equally long.
    pub fn identical(&self) -> bool {
        self.difference.is_none()
            && self.damage.is_none()
            && self.last.iter().all(|last| last.is_some() && *last == self.last[0])
    }
}

/// Compares the copies of one group's log over the entries that all of them hold.
///
/// # Errors
/// One of them is damaged or cannot be read.
pub fn compare(places: &[Option<LogPlace>]) -> anyhow::Result<Comparison> {
    let mut logs: Vec<Option<Log<ReadOnlyDisk>>> = Vec::new();
    for place in places {
        let open = |place: &LogPlace| place.open().with_context(|| place.dir.display().to_string());
        logs.push(place.as_ref().map(open).transpose()?);
    }
    let last = logs.iter().map(|log| log.as_ref().map(|log| log.last().index)).collect();
    let held: Vec<&Log<ReadOnlyDisk>> = logs.iter().flatten().collect();
    let from = held.iter().map(|log| log.start().0.index.next()).max().unwrap_or_default();
    let clean_through = held.iter().map(|log| log.compaction_facts().clean_through).max().unwrap_or_default();
    let mut copies: Vec<_> = held.iter().map(|log| log.replay(from)).collect();
    let judged = places.iter().flatten().all(|place| place.floor.is_some());
    let mut comparison = Comparison { last, judged, ..Comparison::default() };
    let Some((first, others)) = copies.split_first_mut() else { return Ok(comparison) };
    for entry in first {
        let entry = entry?;
        for (position, other) in others.iter_mut().enumerate() {
            let Some(other) = other.next() else { return Ok(comparison) };
            let other = other?;
            if other != entry && !is_compacted(&entry, &other, clean_through) {
                let what = if other.0 == entry.0 { "payload" } else { "header" };
                comparison.difference = Some(format!(
                    "entry {} of the first copy and {} of copy {} have another {what}",
                    entry.0.id,
                    other.0.id,
                    position + 2
                ));
                return Ok(comparison);
            }
        }
        comparison.compared += 1;
    }
    Ok(comparison)
}

/// Whether two copies of an entry differ by no more than what compaction drops.
fn is_compacted(one: &Entry, other: &Entry, clean_through: Index) -> bool {
    let place = |(header, _): &Entry| (header.group, header.id, header.base_offset, header.record_count);
    if place(one) != place(other) || one.0.id.index > clean_through {
        return false;
    }
    let drops =
        |(header, _): &Entry| matches!(header.kind, EntryKind::NoOp | EntryKind::Data | EntryKind::Command);
    match (one.0.kind, other.0.kind) {
        (EntryKind::Data, EntryKind::Data) => have_records_in_common(&one.1, &other.1),
        (EntryKind::Gap, _) => drops(other),
        (_, EntryKind::Gap) => drops(one),
        (_, _) => false,
    }
}

/// Whether the records that both batches hold are the same.
fn have_records_in_common(one: &Bytes, other: &Bytes) -> bool {
    let (Ok(one), Ok(other)) = (BatchView::open(one), BatchView::open(other)) else { return false };
    let records: BTreeMap<Offset, Record<'_>> =
        one.records().map_while(Result::ok).map(|record| (record.offset, record)).collect();
    one.header().producer == other.header().producer
        && other.records().all(|record| {
            record.is_ok_and(|record| records.get(&record.offset).is_none_or(|same| *same == record))
        })
}

type Entry = (EntryHeader, Bytes);

/// Compares every group that any of the directories holds. One that is damaged does not keep the others from it.
///
/// # Errors
/// A directory holds no logs.
pub fn compare_all(dirs: &[PathBuf]) -> anyhow::Result<BTreeMap<GroupId, Comparison>> {
    let mut by_dir: Vec<BTreeMap<GroupId, LogPlace>> = Vec::new();
    for dir in dirs {
        by_dir.push(find(dir, None)?.into_iter().map(|place| (place.group, place)).collect());
    }
    let groups: BTreeSet<GroupId> = by_dir.iter().flat_map(|places| places.keys().copied()).collect();
    let mut comparisons = BTreeMap::new();
    for group in groups {
        let places: Vec<Option<LogPlace>> = by_dir.iter().map(|places| places.get(&group).cloned()).collect();
        let comparison = compare(&places).unwrap_or_else(|error| Comparison {
            last: vec![None; places.len()],
            damage: Some(format!("{error:#}")),
            judged: true,
            ..Comparison::default()
        });
        comparisons.insert(group, comparison);
    }
    Ok(comparisons)
}

/// What came of it, for people.
fn result(comparison: &Comparison) -> String {
    match (&comparison.damage, &comparison.difference) {
        (Some(damage), _) => format!("DAMAGED: {damage}"),
        (None, Some(difference)) => format!("DIFFERENT: {difference}"),
        (None, None) if comparison.identical() => "identical".into(),
        (None, None) if comparison.judged => "identical as far as all reach".into(),
        (None, None) => {
            format!("identical as far as all reach; whether the end of one is missing is unknown: {WHERE}")
        }
    }
}

/// Runs the command. Copies that are shorter or absent are shown, but only differing or damaged entries are a failure: a
/// replica may lag, and not every broker holds every group.
///
/// # Errors
/// As [`compare_all`].
pub fn run(common: &Common, dirs: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let comparisons = compare_all(dirs)?;
    let wrong = |comparison: &Comparison| comparison.difference.is_some() || comparison.damage.is_some();
    let different = comparisons.values().any(wrong);
    let mut rows = Vec::new();
    for (group, comparison) in &comparisons {
        let last: Vec<Option<u64>> = comparison.last.iter().map(|last| last.map(Index::get)).collect();
        if common.output == Output::Json {
            print_json(&json!({
                "group": group.get(),
                "compared": comparison.compared,
                "last": last,
                "identical": comparison.identical(),
                "difference": comparison.difference,
                "damage": comparison.damage,
                "judged": comparison.judged,
            }))?;
            continue;
        }
        let last: Vec<String> =
            last.iter().map(|last| last.map_or("-".into(), |last| last.to_string())).collect();
        rows.push(vec![
            group.to_string(),
            output::count(comparison.compared),
            last.join(" "),
            result(comparison),
        ]);
    }
    if common.output == Output::Text {
        print(&table(&[">GROUP", ">COMPARED", "LAST INDEX OF EACH", "RESULT"], &rows))?;
    }
    Ok(if different { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
