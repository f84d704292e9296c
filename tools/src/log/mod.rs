//! `raftline log`: reads segment files, of a broker that is stopped or (without harm) of one that runs.
//!
//! In reading order: this file (the commands), [`place`] (finding logs), [`verify`], [`diff`], [`disk`].

pub mod diff;
pub mod disk;
pub mod place;
pub mod verify;

use crate::cli::Common;
use crate::output::{self, Output, print, print_json, table};
use clap::{Args, Subcommand};
use place::LogPlace;
use raftline_client::proto::batch::BatchView;
use raftline_client::proto::command::Command;
use raftline_client::proto::entry::{EntryBody, EntryHeader, EntryInfo};
use raftline_client::proto::ids::{GroupId, Index};
use raftline_client::proto::producers::ProducerState;
use raftline_storage::SegmentFacts;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// What to do with logs.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print the entries of logs.
    Dump(DumpArgs),
    /// Check every checksum, index, term and offset. Exit code 1 if anything is damaged, or may be.
    Verify {
        /// A broker's data directory, or one group's directory in it: the state file beside `groups` says how much has to
        /// be there. May be repeated.
        #[arg(required = true)]
        dirs: Vec<PathBuf>,
    },
    /// Compare the logs of replicas, entry by entry. Exit code 1 if they differ, or one is damaged.
    Diff {
        /// The data directories (or group directories) of two or more brokers.
        #[arg(required = true, num_args = 2..)]
        dirs: Vec<PathBuf>,
    },
}

/// Which entries, and how much of them.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// A broker's data directory, or one group's directory.
    dir: PathBuf,
    /// Only this group; 0 is the coordinator.
    #[arg(long, short)]
    group: Option<u64>,
    /// Only entries from this index on.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// At most this many entries of each group.
    #[arg(long, short = 'n', value_name = "COUNT")]
    number: Option<usize>,
    /// Print the records of each batch, too.
    #[arg(long)]
    records: bool,
    /// Print segment files instead of entries.
    #[arg(long, conflicts_with_all = ["from", "number", "records"])]
    segments: bool,
}

/// Runs the command.
///
/// # Errors
/// There is no log, or it cannot be read.
pub fn run(common: &Common, command: LogCommand) -> anyhow::Result<ExitCode> {
    match command {
        LogCommand::Dump(args) => dump(common, &args),
        LogCommand::Verify { dirs } => verify::run(common, &dirs),
        LogCommand::Diff { dirs } => diff::run(common, &dirs),
    }
}

fn dump(common: &Common, args: &DumpArgs) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for place in place::find(&args.dir, args.group.map(GroupId))? {
        if args.segments {
            dump_segments(common, &place)?;
        } else {
            dump_entries(common, args, &place, &mut out)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn dump_entries(
    common: &Common,
    args: &DumpArgs,
    place: &LogPlace,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let log = place.open()?;
    let entries = log.replay(Index(args.from));
    for entry in entries.take(args.number.unwrap_or(usize::MAX)) {
        let (header, payload) = entry?;
        let info =
            EntryInfo::decode(header, &payload).map_err(|error| anyhow::anyhow!("{}: {error}", header.id))?;
        let view = matches!(info.body, EntryBody::Data(_)).then(|| BatchView::open(&payload)).transpose();
        let view = view.map_err(|error| anyhow::anyhow!("{}: {error}", header.id))?;
        match common.output {
            Output::Json => {
                let mut document = entry_json(&header, &info.body);
                if let Some(view) = &view {
                    document["batch_record_count"] = view.header().record_count.into();
                }
                if let Some(view) = view.as_ref().filter(|_| args.records) {
                    document["records"] = records_json(view)?;
                }
                writeln!(out, "{document}")?;
            }
            Output::Text => {
                writeln!(out, "{}", entry_text(&header, &info.body, view.as_ref()))?;
                if let Some(view) = view.as_ref().filter(|_| args.records) {
                    for record in view.records() {
                        let record = record.map_err(|error| anyhow::anyhow!("{}: {error}", header.id))?;
                        let lossy = |bytes: Option<&[u8]>| {
                            bytes.map_or("null".into(), |bytes| {
                                format!("{:?}", String::from_utf8_lossy(bytes))
                            })
                        };
                        let (key, value) = (lossy(record.key), lossy(record.value));
                        writeln!(
                            out,
                            "    offset {} time {} {key}: {value}",
                            record.offset,
                            record.timestamp.get()
                        )?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// A line for people; of a compacted batch it says how many records are left.
fn entry_text(header: &EntryHeader, body: &EntryBody, view: Option<&BatchView>) -> String {
    let place = format!("group {} entry {}", header.group, header.id);
    match body {
        EntryBody::NoOp => format!("{place} no-op"),
        EntryBody::Data(batch) => {
            let producer = batch.producer.map_or(String::new(), |producer| {
                format!(" producer {} sequence {}", producer.id, producer.base_sequence)
            });
            let last = header.base_offset + u64::from(header.record_count - 1);
            let left = view.map(|view| view.header().record_count).filter(|left| *left < header.record_count);
            let left = left.map_or(String::new(), |left| format!(" with {left} records left"));
            format!(
                "{place} offsets {} to {last}{left}, {} bytes{producer}",
                header.base_offset, header.payload_bytes
            )
        }
        EntryBody::Membership(membership) => {
            let voters: Vec<u32> = membership.voters.iter().map(|node| node.get()).collect();
            let learners: Vec<u32> = membership.learners.iter().map(|node| node.get()).collect();
            format!("{place} voters {} learners {}", output::nodes(&voters), output::nodes(&learners))
        }
        EntryBody::Metadata(records) => {
            let records: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
            format!("{place} {}", records.join("; "))
        }
        EntryBody::Command(command) => format!("{place} {}", command_text(command)),
        EntryBody::Gap { offsets: 0 } => format!("{place} dropped by compaction"),
        EntryBody::Gap { offsets } => {
            let last = header.base_offset + u64::from(offsets - 1);
            format!("{place} offsets {} to {last} dropped by compaction", header.base_offset)
        }
    }
}

fn command_text(command: &Command) -> String {
    let Command::Producers { producers } = command else { return format!("{command:?}") };
    let last = |producer: &ProducerState| {
        let sequence = producer.batches.last().map_or(0, |batch| batch.last_sequence);
        format!("{} epoch {} through sequence {sequence}", producer.id, producer.epoch)
    };
    let producers: Vec<String> = producers.iter().map(last).collect();
    format!("Producers {{ {} }}", producers.join(", "))
}

fn entry_json(header: &EntryHeader, body: &EntryBody) -> Value {
    let mut document = json!({
        "group": header.group.get(),
        "term": header.id.term.get(),
        "index": header.id.index.get(),
        "base_offset": header.base_offset.get(),
        "record_count": header.record_count,
        "payload_bytes": header.payload_bytes,
    });
    match body {
        EntryBody::NoOp => document["kind"] = "no-op".into(),
        EntryBody::Data(batch) => {
            document["kind"] = "data".into();
            document["max_timestamp"] = batch.max_timestamp.get().into();
            document["producer_id"] = batch.producer.map(|producer| producer.id.get()).into();
            document["base_sequence"] = batch.producer.map(|producer| producer.base_sequence).into();
        }
        EntryBody::Membership(membership) => {
            document["kind"] = "membership".into();
            document["voters"] = membership.voters.iter().map(|node| node.get()).collect();
            document["learners"] = membership.learners.iter().map(|node| node.get()).collect();
        }
        EntryBody::Metadata(records) => {
            document["kind"] = "metadata".into();
            document["records"] = records.iter().map(|record| format!("{record:?}")).collect();
        }
        EntryBody::Command(command) => {
            document["kind"] = "command".into();
            document["command"] = command_text(command).into();
        }
        EntryBody::Gap { .. } => document["kind"] = "gap".into(),
    }
    document
}

fn records_json(view: &BatchView) -> anyhow::Result<Value> {
    let mut documents = Vec::new();
    for record in view.records() {
        let record = record.map_err(|error| anyhow::anyhow!("{error}"))?;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        documents.push(json!({
            "offset": record.offset.get(),
            "timestamp": record.timestamp.get(),
            "key": record.key.map(lossy),
            "value": record.value.map(lossy),
        }));
    }
    Ok(documents.into())
}

/// The entry through which the log was compacted when this segment came into its place; `None` for a raw one.
fn clean_through(segment: &SegmentFacts) -> Option<u64> {
    segment.header?.compacted.map(|range| range.clean_through.get())
}

fn dump_segments(common: &Common, place: &LogPlace) -> anyhow::Result<()> {
    let log = place.open()?;
    let segments = &log.recovery().segments;
    if common.output == Output::Json {
        for segment in segments {
            print_json(&json!({
                "group": place.group.get(),
                "file": segment.file,
                "bytes": segment.bytes,
                "live": segment.live,
                "base_index": segment.header.map(|header| header.base_index().get()),
                "base_offset": segment.header.map(|header| header.base_offset.get()),
                "end_index": segment.end.map(|end| end.0.get()),
                "used_bytes": segment.end.map(|end| end.1),
                "compacted_through": clean_through(segment),
                "stopped_by": segment.stop.to_string(),
            }))?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = segments
        .iter()
        .map(|segment| {
            let dash = || "-".to_owned();
            vec![
                segment.file.display().to_string(),
                output::bytes(segment.bytes),
                segment.header.map_or_else(dash, |header| header.base_index().to_string()),
                segment.end.map_or_else(dash, |end| end.0.to_string()),
                segment.header.map_or_else(dash, |header| header.base_offset.to_string()),
                segment.end.map_or_else(dash, |end| output::bytes(end.1)),
                match (segment.live, clean_through(segment)) {
                    (false, _) => "dead".into(),
                    (true, None) => "live".into(),
                    (true, Some(through)) => format!("live, compacted through {through}"),
                },
            ]
        })
        .collect();
    let headings = ["FILE", ">SIZE", ">FROM INDEX", ">UP TO", ">FROM OFFSET", ">USED", "STATE"];
    Ok(print(&format!("group {}\n{}\n", place.group, table(&headings, &rows)))?)
}
