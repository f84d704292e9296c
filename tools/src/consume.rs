//! `raftline consume`: prints records; in `group`, as a member of a consumer group.

mod group;

use crate::cli::Common;
use crate::clock;
use crate::format::{self, Format, record_json};
use crate::output::Output;
use crate::patience::{self, Source};
use crate::time;
use anyhow::bail;
use clap::Args;
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::proto::time::Timestamp;
use raftline_client::{
    Admin, Client, ConsumeError, ConsumedRecord, Consumer, ConsumerConfig, OutOfRange, StartAt,
};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Records to stdout.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    /// The topic.
    topic: String,
    /// Only this partition. May be repeated [default: all].
    #[arg(long, short, value_name = "P")]
    partition: Vec<u32>,
    /// As a member of this consumer group: shares the partitions with its other members, goes on where the group
    /// stopped, and notes how far it got. Every record is printed at least once.
    #[arg(long, short, value_name = "GROUP", conflicts_with = "partition")]
    group: Option<String>,
    /// Where to start: `start`, `end`, an offset, or `@TIME` (@2026-11-22T08:30:00Z, @-15m, @ seconds or ms since 1970).
    /// With --group: in partitions of which the group has read nothing yet.
    #[arg(long, value_name = "WHERE", default_value = "start", value_parser = parse_start, allow_hyphen_values = true)]
    from: StartAt,
    /// Stop after this many records.
    #[arg(long, short = 'n', value_name = "COUNT")]
    number: Option<u64>,
    /// Stop at what was the end when this started. With --group: once the group has read that far.
    #[arg(long)]
    until_end: bool,
    #[arg(long, short, value_name = "FORMAT", value_parser = Format::parse, default_value = "%s\\n", help = format::HELP)]
    format: Format,
}

/// Reads `--from`.
fn parse_start(text: &str) -> Result<StartAt, String> {
    match text {
        "start" => Ok(StartAt::Start),
        "end" => Ok(StartAt::End),
        _ => match text.strip_prefix('@') {
            Some(time) => time::parse(time, clock::wall_ms()).map(|ms| StartAt::Timestamp(Timestamp(ms))),
            None => text.parse().map(|offset| StartAt::Offset(Offset(offset))).map_err(|_| {
                format!(
                    "`{text}` is no place to start: write start, end, an offset, or @TIME (for example @-15m)"
                )
            }),
        },
    }
}

/// Runs the command.
///
/// # Errors
/// What cannot be read.
pub async fn run(common: &Common, args: ConsumeArgs) -> anyhow::Result<()> {
    let client = common.client().await?;
    if let Some(group) = args.group.clone() {
        return group::run(common, &client, &group, args).await;
    }
    let partitions = partitions(&client, &args).await?;
    let mut ends = End::find(&client.admin(), &args, &partitions, args.from).await?;
    if args.number == Some(0) || ends.as_ref().is_some_and(End::reached) {
        return Ok(());
    }
    let config = ConsumerConfig { out_of_range: OutOfRange::Fail, ..ConsumerConfig::default() };
    let mut consumer = client.consumer(config);
    for partition in &partitions {
        let unread = ends.as_ref().is_none_or(|ends| ends.missing.contains_key(partition));
        if unread {
            consumer.assign(args.topic.as_str(), *partition, args.from);
        }
    }
    let mut printer = Printer { format: args.format, json: common.output == Output::Json, out: Vec::new() };
    let mut printed = 0;
    let admin = client.admin();
    loop {
        let source = || match &ends {
            Some(ends) => Source::Rest(args.topic.clone(), ends.missing.keys().copied().collect()),
            None => Source::Partitions(args.topic.clone(), partitions.clone()),
        };
        let record = tokio::select! {
            record = next(&mut consumer, &mut printer) => record?,
            error = patience::out_of_reach(common, &admin, source) => {
                return Err(error);
            }
        };
        let wanted = ends.as_mut().is_none_or(|ends| ends.note(&record));
        if wanted {
            printer.print(&record)?;
            printed += 1;
        }
        if args.number == Some(printed) || ends.as_ref().is_some_and(End::reached) {
            printer.flush()?;
            return Ok(());
        }
    }
}

/// The next record. What was printed is shown before waiting for more.
async fn next(consumer: &mut Consumer, printer: &mut Printer) -> anyhow::Result<ConsumedRecord> {
    if let Some(record) = consumer.try_next()? {
        return Ok(record);
    }
    printer.flush()?;
    Ok(consumer.next().await?)
}

async fn partitions(client: &Client, args: &ConsumeArgs) -> anyhow::Result<Vec<PartitionIndex>> {
    let metadata = client.admin().cluster(vec![args.topic.clone()]).await?;
    let Some(topic) = metadata.topics.into_iter().find(|topic| topic.name == args.topic) else {
        bail!("the broker says nothing about topic `{}`", args.topic);
    };
    if let Some(error) = topic.error {
        bail!("{}", error.message);
    }
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    if args.partition.is_empty() {
        return Ok((0..count).map(PartitionIndex).collect());
    }
    if let Some(absent) = args.partition.iter().find(|partition| **partition >= count) {
        bail!("topic `{}` has no partition {absent}: it has {count}, numbered from 0", args.topic);
    }
    Ok(args.partition.iter().copied().map(PartitionIndex).collect())
}

/// What is still to be read until the end as it was.
#[derive(Debug)]
struct End {
    /// The offset after the last record to read.
    missing: BTreeMap<PartitionIndex, Offset>,
}

impl End {
    async fn find(
        admin: &Admin,
        args: &ConsumeArgs,
        partitions: &[PartitionIndex],
        from: StartAt,
    ) -> anyhow::Result<Option<Self>> {
        if !args.until_end {
            return Ok(None);
        }
        let mut missing = BTreeMap::new();
        for partition in partitions {
            let end = admin.offset(&args.topic, *partition, StartAt::End).await?;
            let from = match from {
                StartAt::Offset(asked) if asked > end => {
                    let start = admin.offset(&args.topic, *partition, StartAt::Start).await?;
                    let (topic, partition) = (args.topic.clone(), *partition);
                    return Err(ConsumeError::OffsetOutOfRange {
                        topic,
                        partition,
                        asked,
                        start,
                        high_watermark: end,
                    }
                    .into());
                }
                from => admin.offset(&args.topic, *partition, from).await?,
            };
            if from < end {
                missing.insert(*partition, end);
            }
        }
        Ok(Some(Self { missing }))
    }

    /// Whether the record lies before the end.
    fn note(&mut self, record: &ConsumedRecord) -> bool {
        let Some(end) = self.missing.get(&record.partition).copied() else { return false };
        if record.offset.next() >= end {
            self.missing.remove(&record.partition);
        }
        record.offset < end
    }

    fn reached(&self) -> bool {
        self.missing.is_empty()
    }
}

struct Printer {
    format: Format,
    json: bool,
    out: Vec<u8>,
}

impl Printer {
    fn print(&mut self, record: &ConsumedRecord) -> io::Result<()> {
        const FLUSH_AT: usize = 256 << 10;
        if self.json {
            serde_json::to_writer(&mut self.out, &record_json(record)).map_err(io::Error::other)?;
            self.out.push(b'\n');
        } else {
            self.format.print(record, &mut self.out);
        }
        if self.out.len() >= FLUSH_AT { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&self.out)?;
        stdout.flush()?;
        self.out.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_start_are_understood() {
        assert_eq!(parse_start("start"), Ok(StartAt::Start));
        assert_eq!(parse_start("end"), Ok(StartAt::End));
        assert_eq!(parse_start("17"), Ok(StartAt::Offset(Offset(17))));
        assert_eq!(parse_start("@1700000000"), Ok(StartAt::Timestamp(Timestamp(1_700_000_000_000))));
        for text in ["-1", "middle", "@", "@noon", "1.5"] {
            assert!(parse_start(text).is_err(), "{text}");
        }
    }
}
