//! `raftline log verify`: whether logs are what was written.

use super::place::{LogPlace, find};
use crate::cli::Common;
use crate::output::{self, Output, print, print_json, table};
use raftline_client::proto::batch::BatchView;
use raftline_client::proto::entry::EntryKind;
use raftline_client::proto::ids::Index;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// What checking one log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Valid entries.
    pub entries: u64,
    /// Records in them.
    pub records: u64,
    /// The last entry.
    pub last: String,
    /// Bytes behind the end that a start of the broker would cut: a torn tail, above the durable floor.
    pub tail_bytes: u64,
    /// The first thing found wrong.
    pub damage: Option<String>,
}

/// Checks one log: the chain of its entries through storage, and every batch's checksum, counts and records.
pub fn check(place: &LogPlace) -> Checked {
    let mut checked = Checked::default();
    let log = match place.open() {
        Ok(log) => log,
        Err(error) => return Checked { damage: Some(error.to_string()), ..checked },
    };
    checked.last = log.last().to_string();
    checked.tail_bytes = log.recovery().bytes_cut;
    for entry in log.replay(Index::ZERO) {
        let (header, payload) = match entry {
            Ok(entry) => entry,
            Err(error) => {
                checked.damage = Some(error.to_string());
                return checked;
            }
        };
        checked.entries += 1;
        if header.kind != EntryKind::Data {
            continue;
        }
        match check_batch(&header, &payload) {
            Ok(records) => checked.records += records,
            Err(reason) => {
                checked.damage = Some(format!("entry {}: {reason}", header.id));
                return checked;
            }
        }
    }
    checked
}

/// How many records a batch holds. In a compacted log they may be fewer than the offsets that it takes.
fn check_batch(
    header: &raftline_client::proto::entry::EntryHeader,
    payload: &bytes::Bytes,
) -> Result<u64, String> {
    let view = BatchView::open(payload).map_err(|error| error.to_string())?;
    let batch = view.header();
    if batch.base_offset != header.base_offset {
        return Err(format!(
            "the batch begins at offset {}, the entry at {}",
            batch.base_offset, header.base_offset
        ));
    }
    if batch.offset_count != header.record_count {
        return Err(format!(
            "the batch takes {} offsets, the entry {}",
            batch.offset_count, header.record_count
        ));
    }
    if batch.leader_epoch != header.id.term.leader_epoch() {
        return Err(format!("the batch is of term {}, the entry of {}", batch.leader_epoch, header.id.term));
    }
    for record in view.records() {
        record.map_err(|error| error.to_string())?;
    }
    Ok(batch.record_count.into())
}

/// Runs the command.
///
/// # Errors
/// There is no log in one of the directories.
pub fn run(common: &Common, dirs: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    let mut damaged = 0;
    for dir in dirs {
        for place in find(dir, None)? {
            let checked = check(&place);
            damaged += usize::from(checked.damage.is_some());
            if common.output == Output::Json {
                print_json(&json!({
                    "dir": place.dir,
                    "group": place.group.get(),
                    "entries": checked.entries,
                    "records": checked.records,
                    "last": checked.last,
                    "tail_bytes": checked.tail_bytes,
                    "damage": checked.damage,
                }))?;
                continue;
            }
            rows.push(vec![
                place.dir.display().to_string(),
                output::count(checked.entries),
                output::count(checked.records),
                checked.last.clone(),
                match (&checked.damage, checked.tail_bytes) {
                    (Some(damage), _) => format!("DAMAGED: {damage}"),
                    (None, 0) => "ok".into(),
                    (None, bytes) => format!("ok, {bytes} bytes of a torn tail would be cut"),
                },
            ]);
        }
    }
    if common.output == Output::Text {
        print(&table(&["LOG", ">ENTRIES", ">RECORDS", ">LAST", "STATE"], &rows))?;
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
