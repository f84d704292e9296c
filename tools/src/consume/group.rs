//! `raftline consume --group`: as a member of a consumer group, which notes how far it got.

use super::{ConsumeArgs, End, Printer, partitions};
use crate::cli::Common;
use crate::clock;
use crate::output::Output;
use crate::patience::{self, Source};
use anyhow::{Context as _, anyhow};
use raftline_client::proto::ids::Offset;
use raftline_client::{
    Admin, Client, ConsumeError, ConsumedRecord, GroupConsumeError, GroupConsumer, GroupConsumerConfig,
    StartAt, TopicPartition,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    let mut until = end.map(|end| Until::new(client.admin(), group, &args.topic, end));
    if args.number == Some(0) {
        return Ok(());
    }
    let config = GroupConsumerConfig { start: args.from, ..GroupConsumerConfig::default() };
    let mut consumer = client.group_consumer(group, [args.topic.as_str()], config);
    let mut printer = Printer { format: args.format, json: common.output == Output::Json, out: Vec::new() };
    let mut stops = Stops::new()?;
    let admin = client.admin();
    let mut printed = 0;
    let ended = loop {
        let next = tokio::select! {
            next = next(&mut consumer, until.as_mut()) => next,
            () = stops.asked() => break Ok(()),
            // There is nobody who would take the last commit.
            error = patience::out_of_reach(common, &admin, || Source::Group(group.to_owned())) => return Err(error),
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
    let closed = tokio::time::timeout(common.timeout(), consumer.close()).await;
    ended.map_err(|error| explained(error, group, &args.topic))?;
    Ok(closed.with_context(|| {
        format!(
            "the group's coordinator did not answer the last commit within --timeout {} s: what was read since the one \
             before will be read again",
            common.timeout
        )
    })??)
}

/// The next record; `None` once the group has read all that was there.
async fn next(
    consumer: &mut GroupConsumer,
    until: Option<&mut Until>,
) -> Result<Option<ConsumedRecord>, GroupConsumeError> {
    let Some(until) = until else { return consumer.next().await.map(Some) };
    loop {
        if until.reached(consumer).await {
            return Ok(None);
        }
        match tokio::time::timeout(LOOK_AGAIN, consumer.next()).await {
            Ok(record) => {
                let record = record?;
                until.note(&record);
                return Ok(Some(record));
            }
            Err(_) => until.news = true,
        }
    }
}

/// The end of the topic as it was, for the group as a whole.
struct Until {
    admin: Admin,
    group: String,
    /// The offset after the last record to read.
    missing: BTreeMap<TopicPartition, Offset>,
    /// Whether it may have been reached since the last look.
    news: bool,
    /// When the others' offsets were asked for.
    asked: Option<Instant>,
}

impl Until {
    fn new(admin: Admin, group: &str, topic: &str, end: End) -> Self {
        let topic: Arc<str> = topic.into();
        let of = |(partition, end)| (TopicPartition::new(topic.clone(), partition), end);
        let missing = end.missing.into_iter().map(of).collect();
        Self { admin, group: group.to_owned(), missing, news: true, asked: None }
    }

    /// Only the last record of a partition makes a difference.
    fn note(&mut self, record: &ConsumedRecord) {
        let partition = TopicPartition::new(record.topic.clone(), record.partition);
        self.news = self.missing.get(&partition).is_none_or(|end| record.offset.next() >= *end);
    }

    /// Whether this member has read its partitions to the end and the others have committed that they have. Partitions
    /// move: one that another member did not finish may come to this one.
    async fn reached(&mut self, consumer: &GroupConsumer) -> bool {
        if !std::mem::take(&mut self.news) {
            return false;
        }
        let Some(own) = consumer.assignment() else { return false };
        let position = |of: &TopicPartition| consumer.position(&of.topic, of.partition);
        let (own, others): (Vec<_>, Vec<_>) = self.missing.iter().partition(|(of, _)| own.contains(*of));
        if own.iter().any(|(of, end)| position(of).is_none_or(|position| position < **end)) {
            return false;
        }
        if others.is_empty() {
            return true;
        }
        if self.asked.is_some_and(|asked| asked.elapsed() < LOOK_AGAIN) {
            return false;
        }
        self.asked = Some(clock::monotonic());
        let others: Vec<(TopicPartition, Offset)> =
            others.into_iter().map(|(of, end)| (of.clone(), *end)).collect();
        let partitions: Vec<TopicPartition> = others.iter().map(|(of, _)| of.clone()).collect();
        // One that cannot be asked now is asked again.
        let Ok(found) = self.admin.committed_offsets(&self.group, &partitions).await else { return false };
        found
            .iter()
            .zip(others)
            .all(|(found, (_, end))| found.offset.is_some_and(|offset| offset >= end.get()))
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
