//! Sending at a pace, or as fast as it goes, and settling what was sent.

use super::report::Latencies;
use crate::clock;
use bytes::Bytes;
use raftline_client::{DeliveryError, Producer, Record, Ticket};
use rand::RngCore;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// When to send.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When the first record is due.
    pub start: Instant,
    /// What is acknowledged from here on is measured.
    pub measure_from: Instant,
    /// The last record is due before this.
    pub end: Instant,
    /// Records a second of this one producer; `None`: as fast as it goes.
    pub rate: Option<f64>,
}

/// What one producer's load came to.
#[derive(Debug, Default)]
pub struct Settled {
    /// Latencies of the measured records.
    pub latencies: Latencies,
    /// Measured records.
    pub records: u64,
    /// Records that failed, measured or not.
    pub failed: u64,
    /// The first failure.
    pub failure: Option<DeliveryError>,
}

impl Settled {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.latencies.add(&other.latencies);
        self.records += other.records;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
    }
}

/// Values of one size. A few megabytes of random bytes, of which each value is a slice.
#[derive(Clone, Debug)]
pub struct Values {
    bytes: Bytes,
    size: usize,
    at: usize,
}

impl Values {
    /// Of `size` bytes each.
    pub fn new(size: usize) -> Self {
        const POOL: usize = 4 << 20;
        let mut bytes = vec![0; POOL + size];
        rand::rng().fill_bytes(&mut bytes);
        Self { bytes: bytes.into(), size, at: 0 }
    }

    /// The next one.
    pub fn take(&mut self) -> Bytes {
        // A prime step: neighbours in a batch do not overlap in a pattern that packs well.
        const STEP: usize = 65_537;
        self.at = (self.at + STEP) % (self.bytes.len() - self.size + 1);
        self.bytes.slice(self.at..self.at + self.size)
    }
}

/// Sends until the schedule's end, `value` making each record's value from when it is due. Returns once all is
/// settled. `acknowledged` counts for a progress bar.
///
/// # Errors
/// A record was not even taken.
pub async fn run(
    producer: Producer,
    topic: Arc<str>,
    schedule: Schedule,
    mut value: impl FnMut(Instant) -> Bytes,
    acknowledged: Arc<AtomicU64>,
) -> anyhow::Result<Settled> {
    let mut settlers: Vec<Settler> = Vec::new();
    let mut sent = 0_u64;
    loop {
        let now = clock::monotonic();
        let due = match schedule.rate {
            None => now,
            Some(rate) => schedule.start + Duration::from_secs_f64(whole(sent) / rate),
        };
        if due.max(now) >= schedule.end {
            break;
        }
        if let Some(early) = due.checked_duration_since(now).filter(|early| !early.is_zero()) {
            tokio::time::sleep(early).await;
        }
        let ticket = producer.send(Record::to(topic.clone()).value(value(due))).await?;
        let partition = ticket.partition().get() as usize;
        // One settler a partition: a slow partition must not hide when the others' records were acknowledged.
        while settlers.len() <= partition {
            // No bound of its own: the producer's bytes in flight bound what waits here.
            let (sender, receiver) = mpsc::unbounded_channel();
            let task = tokio::spawn(settle(receiver, schedule, acknowledged.clone()));
            settlers.push(Settler { tickets: sender, task });
        }
        // The settler reads until its sender is dropped.
        let _ = settlers[partition].tickets.send((due, ticket));
        sent += 1;
    }
    let mut settled = Settled::default();
    for Settler { tickets, task } in settlers {
        drop(tickets);
        settled.add(task.await?);
    }
    Ok(settled)
}

/// The task that awaits one partition's tickets.
struct Settler {
    tickets: mpsc::UnboundedSender<(Instant, Ticket)>,
    task: JoinHandle<Settled>,
}

async fn settle(
    mut tickets: mpsc::UnboundedReceiver<(Instant, Ticket)>,
    schedule: Schedule,
    acknowledged: Arc<AtomicU64>,
) -> Settled {
    let mut settled = Settled::default();
    let mut waiting = Vec::new();
    while tickets.recv_many(&mut waiting, 256).await > 0 {
        for (due, ticket) in waiting.drain(..) {
            let outcome = ticket.await;
            let now = clock::monotonic();
            match outcome {
                Ok(_) => {
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    if (schedule.measure_from..schedule.end).contains(&now) {
                        settled.records += 1;
                    }
                    // By when it was due: a record that was due in the measured time counts however late it is.
                    if due >= schedule.measure_from {
                        settled.latencies.note(now.duration_since(due));
                    }
                }
                Err(error) => {
                    settled.failed += 1;
                    settled.failure.get_or_insert(error);
                }
            }
        }
    }
    settled
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn whole(count: u64) -> f64 {
    count as f64
}
