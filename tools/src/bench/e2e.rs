//! `raftline bench e2e`: each record carries when it was due; a consumer in the same process reads it and looks at
//! the same clock.

use super::load::{self, Schedule, Settled, Values};
use super::produce::{schedule, settings, show};
use super::report::{Latencies, Measured, print_result};
use super::{LoadArgs, ensure_topic};
use crate::cli::Common;
use crate::clock;
use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{Consumer, ConsumerConfig, StartAt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Records a second where none are set: latency is of interest, not queueing.
const RATE_DEFAULT: f64 = 1000.0;

/// A record's mark: which run, and when it was due in nanoseconds since the run's start.
const MARK_BYTES: usize = 16;

/// Runs the command.
///
/// # Errors
/// The cluster cannot be reached, or nothing arrived.
pub async fn run(common: &Common, args: LoadArgs) -> anyhow::Result<()> {
    if args.size < MARK_BYTES {
        bail!("--size has to be at least {MARK_BYTES} for e2e: every record carries a mark of that size");
    }
    let rate = Some(args.rate.unwrap_or(RATE_DEFAULT));
    let disk = args.measure_disk()?;
    let client = common.client().await?;
    let partitions = ensure_topic(&client, &args).await?;
    let mut consumer = client.consumer(ConsumerConfig::default());
    for partition in (0..partitions).map(PartitionIndex) {
        // Where the end is now, so that nothing of this run is missed while the subscription is on its way.
        let end = client.admin().offset(&args.topic, partition, StartAt::End).await?;
        consumer.assign(args.topic.as_str(), partition, StartAt::Offset(end));
    }
    let run: u64 = rand::random();
    let (schedule, time) = schedule(&args, rate);
    let arrived = Arc::new(AtomicU64::new(0));
    let bar = tokio::spawn(show(time, arrived.clone()));
    let (total, expected) = watch::channel(None);
    let reader = tokio::spawn(read(consumer, run, schedule, arrived, expected));
    let values = Values::new(args.size - MARK_BYTES);
    let mut tasks = Vec::new();
    for _ in 0..args.producers {
        let producer = common.client().await?.producer(args.producer_config(common));
        let mut values = values.clone();
        let value = move |due: Instant| marked(run, due - schedule.start, &values.take());
        let acknowledged = Arc::new(AtomicU64::new(0));
        let load = load::run(producer, Arc::from(args.topic.as_str()), schedule, value, acknowledged.clone());
        tasks.push(tokio::spawn(async move {
            load.await.map(|settled| (settled, acknowledged.load(Ordering::Relaxed)))
        }));
    }
    let mut settled = Settled::default();
    let mut acknowledged = 0;
    for task in tasks {
        let (of_one, acknowledged_one) = task.await??;
        settled.add(of_one);
        acknowledged += acknowledged_one;
    }
    // The reader ends by itself once this many have arrived.
    let _ = total.send(Some(acknowledged));
    let read = tokio::time::timeout(common.timeout(), reader).await;
    let latencies = read.with_context(|| {
        format!("not everything that was acknowledged arrived within --timeout {} s", common.timeout)
    })???;
    bar.abort();
    let records = latencies.count();
    let measured = Measured {
        records,
        bytes: records * args.size as u64,
        time: Duration::from_secs_f64(args.duration),
        failed: settled.failed,
        failure: settled.failure.map(|failure| failure.to_string()),
        latencies: Some(latencies),
        disk,
    };
    print_result(common, "e2e", settings(&args, partitions, rate), &measured)
}

fn marked(run: u64, due: Duration, filling: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(MARK_BYTES + filling.len());
    value.extend_from_slice(&run.to_le_bytes());
    value.extend_from_slice(&u64::try_from(due.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
    value.extend_from_slice(filling);
    value.freeze()
}

/// When a record of this run was due.
fn due(run: u64, value: &[u8]) -> Option<Duration> {
    let (found, rest) = value.split_first_chunk::<8>()?;
    let (due, _) = rest.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*found) == run).then(|| Duration::from_nanos(u64::from_le_bytes(*due)))
}

async fn read(
    mut consumer: Consumer,
    run: u64,
    schedule: Schedule,
    arrived: Arc<AtomicU64>,
    mut expected: watch::Receiver<Option<u64>>,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    loop {
        let all = *expected.borrow();
        if all.is_some_and(|all| arrived.load(Ordering::Relaxed) >= all) {
            return Ok(latencies);
        }
        let record = tokio::select! {
            record = consumer.next() => record?,
            changed = expected.changed(), if all.is_none() => {
                changed.context("the producers' side gave up")?;
                continue;
            }
        };
        let Some(due) = record.value.as_deref().and_then(|value| due(run, value)) else { continue };
        let due = schedule.start + due;
        arrived.fetch_add(1, Ordering::Relaxed);
        if due >= schedule.measure_from {
            latencies.note(clock::monotonic().duration_since(due));
        }
    }
}
