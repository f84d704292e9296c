//! `raftline consume --group`: as a member of a consumer group, which notes how far it got.

use super::{ConsumeArgs, End, Printer, partitions};
use crate::cli::Common;
use crate::output::Output;
use anyhow::anyhow;
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::{
    Admin, Client, ConsumeError, ConsumedRecord, GroupConsumeError, GroupConsumer, GroupConsumerConfig,
    StartAt,
};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Prints records until told to stop; then commits and leaves, so that the next member goes on exactly here.
///
/// # Errors
/// What cannot be read, and a last commit that failed.
pub(super) async fn run(
    common: &Common,
    client: &Client,
    group: &str,
    args: ConsumeArgs,
) -> anyhow::Result<()> {
    let all = partitions(client, &args).await?;
    // Wherever the group stands: all that is there counts.
    let end = End::find(&client.admin(), &args, &all, StartAt::Start).await?;
    let mut until =
        end.map(|End { missing }| Until { admin: client.admin(), group: group.to_owned(), missing });
    if args.number == Some(0) {
        return Ok(());
    }
    let config = GroupConsumerConfig { start: args.from, ..GroupConsumerConfig::default() };
    let mut consumer = client.group_consumer(group, [args.topic.as_str()], config);
    let mut printer = Printer { format: args.format, json: common.output == Output::Json, out: Vec::new() };
    let mut stops = Stops::new()?;
    let mut printed = 0;
    let ended = loop {
        let next = tokio::select! {
            next = next(&mut consumer, &args.topic, until.as_mut()) => next,
            () = stops.asked() => break Ok(()),
        };
        let record = match next {
            Ok(Some(record)) => record,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        // At once: a record whose text is still in here when this process is killed may have been committed.
        if let Err(error) = printer.print(&record).and_then(|()| printer.flush()) {
            // Nobody saw this one. Why it was not printed is said; whether the rest was committed comes second.
            let _ = consumer.close_without_last().await;
            return Err(error.into());
        }
        printed += 1;
        if args.number == Some(printed) {
            break Ok(());
        }
    };
    let closed = consumer.close().await;
    ended.map_err(|error| explained(error, group, &args.topic))?;
    Ok(closed?)
}

/// The next record; `None` once the group has read all that was there.
async fn next(
    consumer: &mut GroupConsumer,
    topic: &str,
    until: Option<&mut Until>,
) -> Result<Option<ConsumedRecord>, GroupConsumeError> {
    let Some(until) = until else { return consumer.next().await.map(Some) };
    loop {
        if until.reached(consumer, topic).await {
            return Ok(None);
        }
        if let Ok(record) = tokio::time::timeout(LOOK_AGAIN, consumer.next()).await {
            return record.map(Some);
        }
    }
}

/// The end of the topic as it was, for the group as a whole.
struct Until {
    admin: Admin,
    group: String,
    /// The offset after the last record to read.
    missing: BTreeMap<PartitionIndex, Offset>,
}

impl Until {
    /// Whether this member has read its partitions to the end and the others have committed that they have. Partitions
    /// move: one that another member did not finish may come to this one.
    async fn reached(&mut self, consumer: &GroupConsumer, topic: &str) -> bool {
        let Some(assignment) = consumer.assignment() else { return false };
        let own = |partition: PartitionIndex| {
            assignment.iter().any(|of| &*of.topic == topic && of.partition == partition)
        };
        let read_on = |partition: PartitionIndex, end: Offset| {
            own(partition) && consumer.position(topic, partition).is_none_or(|position| position < end)
        };
        if self.missing.iter().any(|(partition, end)| read_on(*partition, *end)) {
            return false;
        }
        if self.missing.keys().all(|partition| own(*partition)) {
            return true;
        }
        let committed = self.admin.committed_offsets(&self.group, &[]).await.unwrap_or_default();
        let committed: BTreeMap<u32, u64> = committed
            .into_iter()
            .filter(|found| found.topic == topic)
            .filter_map(|found| Some((found.partition, found.offset?)))
            .collect();
        let by_others = |partition: &PartitionIndex, end: &Offset| {
            committed.get(&partition.0).is_some_and(|offset| *offset >= end.get())
        };
        self.missing.iter().all(|(partition, end)| own(*partition) || by_others(partition, end))
    }
}

/// What a person does about it.
fn explained(error: GroupConsumeError, group: &str, topic: &str) -> anyhow::Error {
    match error {
        GroupConsumeError::Consume(error @ ConsumeError::OffsetOutOfRange { .. }) => anyhow!(
            "{error}: `raftline group reset {group} --topic {topic} --to-earliest` has the group go on with what is \
             there"
        ),
        other => other.into(),
    }
}

/// Ctrl-C and SIGTERM.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// How often a member that waits looks whether the others have got to the end.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
