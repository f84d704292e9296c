//! Writing: every line is sent at a set pace, and what comes of it is kept for the comparison.

use super::story::Progress;
use crate::clock;
use bytes::Bytes;
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::{Outcome, Producer, Record, Ticket, partition_of_key};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What became of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged at this offset.
    Stored(Offset),
    /// Failed for good; it may be there or not.
    Unknown(String),
    /// Failed for good; it must not be there.
    NotStored(String),
}

/// The lines of one partition in the order of sending, and when they were acknowledged.
#[derive(Debug, Default)]
pub struct PartitionHistory {
    /// Line numbers with their fates.
    pub sent: Vec<(usize, Fate)>,
    /// The longest time between two acknowledgements, and when it began.
    pub pause: Duration,
    /// When it began.
    pub pause_from: Option<Instant>,
}

/// Counts that the conductor looks at while lines are written.
#[derive(Debug)]
pub struct Counts {
    /// Lines handed to the producer.
    pub sent: AtomicU64,
    /// Lines acknowledged, by partition.
    pub acknowledged: Vec<AtomicU64>,
}

impl Counts {
    /// Of all partitions.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The partition with the most acknowledgements.
    pub fn busiest(&self) -> PartitionIndex {
        let counts = self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed));
        let busiest = (0..).zip(counts).max_by_key(|(_, count)| *count);
        PartitionIndex(busiest.map_or(0, |(partition, _)| partition))
    }
}

/// A load on its way.
pub struct Load {
    /// Shared with the tasks.
    pub counts: Arc<Counts>,
    task: JoinHandle<anyhow::Result<Vec<PartitionHistory>>>,
}

impl Load {
    /// Sends all `lines` to `topic`, spread over about `spread`. A line's key is its number.
    pub fn start(
        producer: Producer,
        topic: &str,
        partitions: u32,
        lines: Arc<Vec<Bytes>>,
        spread: Duration,
    ) -> Self {
        let acknowledged = (0..partitions).map(|_| AtomicU64::new(0)).collect();
        let counts = Arc::new(Counts { sent: AtomicU64::new(0), acknowledged });
        let task = tokio::spawn(write(producer, Arc::from(topic), lines, spread, counts.clone()));
        Self { counts, task }
    }

    /// Whether every line is settled.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// The histories, partition 0's first.
    ///
    /// # Errors
    /// A line was not even taken.
    pub async fn finish(self) -> anyhow::Result<Vec<PartitionHistory>> {
        self.task.await?
    }

    /// Tells how far it has come.
    pub fn show(&self, progress: &Progress) {
        progress.at(self.counts.sent.load(Ordering::Relaxed), self.counts.acknowledged());
    }
}

async fn write(
    producer: Producer,
    topic: Arc<str>,
    lines: Arc<Vec<Bytes>>,
    spread: Duration,
    counts: Arc<Counts>,
) -> anyhow::Result<Vec<PartitionHistory>> {
    let partitions = u32::try_from(counts.acknowledged.len())?;
    let mut collectors = Vec::new();
    let mut tasks = Vec::new();
    for partition in 0..counts.acknowledged.len() {
        // No bound of its own: the producer's bytes in flight bound what waits here.
        let (sender, receiver) = mpsc::unbounded_channel();
        collectors.push(sender);
        tasks.push(tokio::spawn(collect(receiver, counts.clone(), partition)));
    }
    let began = clock::monotonic();
    for (number, line) in lines.iter().enumerate() {
        // Ahead of the pace: wait. Late: go on without catching up breath.
        let due = spread.mul_f64(fraction(number, lines.len()));
        let early = due.saturating_sub(began.elapsed());
        if early >= PACE_STEP {
            tokio::time::sleep(early).await;
        }
        let key = number.to_string();
        let partition = partition_of_key(key.as_bytes(), partitions);
        let ticket = producer.send(Record::to(topic.clone()).key(key).value(line.clone())).await?;
        // The collector reads until its sender is dropped.
        let _ = collectors[partition.get() as usize].send((number, ticket));
        counts.sent.store(number as u64 + 1, Ordering::Relaxed);
    }
    drop(collectors);
    // Failures are in the tickets.
    let _ = producer.close().await;
    let mut histories = Vec::new();
    for task in tasks {
        histories.push(task.await?);
    }
    Ok(histories)
}

/// Lines are sent in spurts about this far apart.
const PACE_STEP: Duration = Duration::from_millis(5);

#[allow(clippy::cast_precision_loss, reason = "a pace need not be exact")]
fn fraction(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

async fn collect(
    mut tickets: mpsc::UnboundedReceiver<(usize, Ticket)>,
    counts: Arc<Counts>,
    partition: usize,
) -> PartitionHistory {
    let mut history = PartitionHistory::default();
    let mut last: Option<Instant> = None;
    while let Some((number, ticket)) = tickets.recv().await {
        let fate = match ticket.await {
            Ok(delivery) => {
                let now = clock::monotonic();
                let pause = last.map_or(Duration::ZERO, |last| now - last);
                if pause > history.pause {
                    (history.pause, history.pause_from) = (pause, last);
                }
                last = Some(now);
                counts.acknowledged[partition].fetch_add(1, Ordering::Relaxed);
                Fate::Stored(delivery.offset)
            }
            Err(error) if error.outcome() == Outcome::Unknown => Fate::Unknown(error.to_string()),
            Err(error) => Fate::NotStored(error.to_string()),
        };
        history.sent.push((number, fate));
    }
    history
}
