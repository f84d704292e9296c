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
    /// Whether it is known how much was durable. If not, a log that lost its end cannot be told from a whole one.
    pub judged: bool,
    /// The first thing found wrong.
    pub damage: Option<String>,
}

impl Checked {
    /// Neither damaged nor with an end that may be damage or a torn tail.
    fn is_sound(&self) -> bool {
        self.damage.is_none() && (self.judged || self.tail_bytes == 0)
    }

    fn state(&self) -> String {
        match (&self.damage, self.judged, self.tail_bytes) {
            (Some(damage), _, _) => format!("DAMAGED: {damage}"),
            (None, true, 0) => "ok".into(),
            (None, true, bytes) => format!("ok, {bytes} bytes of a torn tail would be cut"),
            (None, false, 0) => {
                format!("ok as far as it goes; whether its end is missing is unknown: {WHERE}")
            }
            (None, false, bytes) => {
                format!("UNKNOWN: {bytes} bytes behind the end are a torn tail, or damage: {WHERE}")
            }
        }
    }
}

/// Why the end of a log cannot be judged.
pub(super) const WHERE: &str = "the shard's state file says how much was durable, and it is not here. Name the directory \
    as it lies in the broker's data directory, with `shard-N` beside `groups`";

/// Checks one log: the chain of its entries through storage, and every batch's checksum, counts and records.
pub fn check(place: &LogPlace) -> Checked {
    let mut checked = Checked { judged: place.floor.is_some(), ..Checked::default() };
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
    let mut sound = true;
    for dir in dirs {
        for place in find(dir, None)? {
            let checked = check(&place);
            sound &= checked.is_sound();
            if common.output == Output::Json {
                print_json(&json!({
                    "dir": place.dir,
                    "group": place.group.get(),
                    "entries": checked.entries,
                    "records": checked.records,
                    "last": checked.last,
                    "tail_bytes": checked.tail_bytes,
                    "judged": checked.judged,
                    "damage": checked.damage,
                }))?;
                continue;
            }
            rows.push(vec![
                place.dir.display().to_string(),
                output::count(checked.entries),
                output::count(checked.records),
                checked.last.clone(),
                checked.state(),
            ]);
        }
    }
    if common.output == Output::Text {
        print(&table(&["LOG", ">ENTRIES", ">RECORDS", ">LAST", "STATE"], &rows))?;
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
