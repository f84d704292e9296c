//! `raftline bench produce`.

use super::load::{self, Schedule, Settled, Values};
use super::report::{Measured, print_result, progress};
use super::{LoadArgs, ensure_topic};
use crate::cli::Common;
use crate::clock;
use crate::output::count;
use anyhow::bail;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Runs the command.
///
/// # Errors
/// The cluster cannot be reached, or nothing was acknowledged.
pub async fn run(common: &Common, args: &LoadArgs) -> anyhow::Result<()> {
    let disk = args.measure_disk()?;
    let partitions = ensure_topic(&common.client().await?, args).await?;
    let mut producers = Vec::new();
    for _ in 0..args.producers {
        producers.push(common.client().await?.producer(args.producer_config(common)));
    }
    let topic: Arc<str> = Arc::from(args.topic.as_str());
    let values = Values::new(args.size);
    let (schedule, time) = schedule(args, args.rate);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let bar = tokio::spawn(show(time, acknowledged.clone()));
    let mut tasks = Vec::new();
    for producer in producers {
        let mut values = values.clone();
        let value = move |_| values.take();
        tasks.push(tokio::spawn(load::run(producer, topic.clone(), schedule, value, acknowledged.clone())));
    }
    let mut settled = Settled::default();
    for task in tasks {
        settled.add(task.await??);
    }
    bar.abort();
    if settled.records == 0 {
        match settled.failure {
            Some(failure) => bail!("no record was acknowledged in the measured time: {failure}"),
            None => bail!(
                "no record was acknowledged in the measured time: give a longer --duration or a higher --rate"
            ),
        }
    }
    let measured = Measured {
        records: settled.records,
        bytes: settled.records * args.size as u64,
        time: Duration::from_secs_f64(args.duration),
        failed: settled.failed,
        failure: settled.failure.map(|failure| failure.to_string()),
        latencies: Some(settled.latencies),
        disk,
    };
    print_result(common, "produce", settings(args, partitions, args.rate), &measured)
}

/// For each producer, and how long it takes in all.
pub fn schedule(args: &LoadArgs, rate: Option<f64>) -> (Schedule, Duration) {
    let start = clock::monotonic();
    let warmup = Duration::from_secs_f64(args.warmup);
    let time = warmup + Duration::from_secs_f64(args.duration);
    let rate = rate.map(|rate| rate / f64::from(args.producers));
    (Schedule { start, measure_from: start + warmup, end: start + time, rate }, time)
}

/// What was set, for a report.
pub fn settings(args: &LoadArgs, partitions: u32, rate: Option<f64>) -> Value {
    json!({
        "topic": args.topic,
        "partitions": partitions,
        "size": args.size,
        "rate": rate,
        "duration": args.duration,
        "warmup": args.warmup,
        "producers": args.producers,
        "acks": format!("{:?}", args.acks).to_lowercase(),
        "compression": format!("{:?}", args.compression).to_lowercase(),
        "batch_bytes": args.batch_bytes,
        "linger_ms": args.linger_ms,
        "in_flight_bytes": args.in_flight_bytes,
        "latency_counts_from": if rate.is_some() { "when the record was due" } else { "when it was handed over" },
    })
}

/// A bar that moves every second and says the last second's rate.
pub async fn show(time: Duration, counted: Arc<AtomicU64>) {
    let Some(bar) = progress(time) else { return };
    let mut before = 0;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    loop {
        second.tick().await;
        let now = counted.load(Ordering::Relaxed);
        bar.set_message(format!("{} records/s", count(now - before)));
        bar.inc(1);
        before = now;
    }
}
