//! `raftline bench consume`.

use super::partitions_of;
use super::produce::show;
use super::report::{Measured, print_result};
use crate::cli::Common;
use crate::clock;
use anyhow::bail;
use clap::Args;
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::{ConsumerConfig, StartAt};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What to read.
#[derive(Clone, Debug, Args)]
pub struct ConsumeBenchArgs {
    /// The topic; `raftline bench produce` fills one.
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Stop after this many records [default: all that are there].
    #[arg(long, short = 'n', value_name = "COUNT")]
    number: Option<u64>,
    /// Stop after this many seconds at the latest.
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    duration: f64,
    /// Bytes read ahead.
    #[arg(long, value_name = "BYTES", default_value_t = ConsumerConfig::default().prefetch_bytes)]
    prefetch_bytes: usize,
}

/// Runs the command.
///
/// # Errors
/// The topic cannot be read, or is empty.
pub async fn run(common: &Common, args: &ConsumeBenchArgs) -> anyhow::Result<()> {
    let client = common.client().await?;
    let admin = client.admin();
    let partitions = partitions_of(&client, &args.topic).await?;
    let mut there = 0;
    let mut ranges = Vec::new();
    for partition in (0..partitions).map(PartitionIndex) {
        let start = admin.offset(&args.topic, partition, StartAt::Start).await?;
        let end = admin.offset(&args.topic, partition, StartAt::End).await?;
        there += end.since(start);
        ranges.push((partition, start, end));
    }
    let wanted = args.number.unwrap_or(there).min(there);
    if wanted == 0 {
        bail!(
            "topic `{}` has no records: fill it first (`raftline bench produce --topic {}`)",
            args.topic,
            args.topic
        );
    }
    let mut consumer =
        client.consumer(ConsumerConfig { prefetch_bytes: args.prefetch_bytes, ..ConsumerConfig::default() });
    let time = Duration::from_secs_f64(args.duration);
    let counted = Arc::new(AtomicU64::new(0));
    let bar = tokio::spawn(show(time, counted.clone()));
    let began = clock::monotonic();
    for (partition, start, end) in &ranges {
        if start < end {
            consumer.assign(args.topic.as_str(), *partition, StartAt::Offset(*start));
        }
    }
    let (mut records, mut bytes) = (0, 0);
    let reading = async {
        while records < wanted {
            let record = consumer.next().await?;
            // What was added since is not counted.
            let end = ranges.get(record.partition.get() as usize).map_or(Offset::ZERO, |range| range.2);
            if record.offset < end {
                records += 1;
                bytes += (record.value.as_ref().map_or(0, |value| value.len())
                    + record.key.as_ref().map_or(0, |key| key.len())) as u64;
                counted.store(records, Ordering::Relaxed);
            }
        }
        anyhow::Ok(())
    };
    if let Ok(result) = tokio::time::timeout(time, reading).await {
        result?;
    }
    let time = began.elapsed();
    bar.abort();
    let settings =
        json!({ "topic": args.topic, "partitions": partitions, "prefetch_bytes": args.prefetch_bytes });
    let measured = Measured { records, bytes, time, failed: 0, failure: None, latencies: None, disk: None };
    print_result(common, "consume", settings, &measured)
}
