//! `raftline bench`: what a cluster does under a load that is made here.
//!
//! With `--rate`, records are due at set times and their latency counts from when they were due, not from when the
//! bench came round to sending them: a pause of the cluster is felt by every record that was due during it (no
//! coordinated omission). Without a rate, as much is sent as the cluster takes, and latency is mostly queueing.
//!
//! In reading order: this file (the options), [`load`] (sending at a pace), [`produce`], [`consume`], [`e2e`],
//! [`disk`] (the disk by itself), [`report`].

pub mod consume;
pub mod disk;
pub mod e2e;
pub mod load;
pub mod produce;
pub mod report;

use self::disk::DiskRate;
use crate::cli::Common;
use crate::produce::{Acks, Packing};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use raftline_client::{Client, ErrorCode, NewTopic, ProducerConfig};
use std::path::PathBuf;
use std::time::Duration;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// How fast records are acknowledged, and after how long.
    Produce(LoadArgs),
    /// How fast a topic's records are read.
    Consume(consume::ConsumeBenchArgs),
    /// How long a record takes from the producer to a consumer.
    E2e(LoadArgs),
}

/// The load.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Made with --partitions if it does not exist, and kept for `bench consume`.
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Partitions of the topic if it is made.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    pub partitions: u32,
    /// Replicas of each partition if the topic is made [default: the cluster's].
    #[arg(long, value_name = "R")]
    pub replication: Option<u32>,
    /// Bytes of a record's value.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = parse_size)]
    pub size: usize,
    /// Records a second, over all producers [default: as many as the cluster takes; 1000 for e2e].
    #[arg(long, value_name = "R", value_parser = parse_rate, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// Seconds that are measured.
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = parse_seconds)]
    pub duration: f64,
    /// Seconds before them that are not.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = parse_seconds)]
    pub warmup: f64,
    /// Clients, each with connections of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub producers: u32,
    /// When a record counts as stored.
    #[arg(long, value_enum, default_value_t)]
    pub acks: Acks,
    /// How batches are packed. The values are random bytes, which pack badly.
    #[arg(long, short = 'z', value_enum, default_value_t)]
    pub compression: Packing,
    /// A batch is closed at this size.
    #[arg(long, value_name = "BYTES", default_value_t = ProducerConfig::default().batch_bytes)]
    pub batch_bytes: usize,
    /// How long a batch waits for company, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub linger_ms: u64,
    /// Bytes that a producer has under way at most.
    #[arg(long, value_name = "BYTES", default_value_t = ProducerConfig::default().in_flight_bytes)]
    pub in_flight_bytes: usize,
    /// Measure, before the load begins, how fast the disk that holds this folder syncs, and print it beside the result.
    #[arg(long, value_name = "DIR")]
    pub disk_dir: Option<PathBuf>,
}

impl LoadArgs {
    /// What the disk does by itself, if that was asked for.
    fn measure_disk(&self) -> anyhow::Result<Option<DiskRate>> {
        self.disk_dir.as_deref().map(disk::measure).transpose()
    }

    fn producer_config(&self, common: &Common) -> ProducerConfig {
        ProducerConfig {
            durability: self.acks.into(),
            compression: self.compression.into(),
            batch_bytes: self.batch_bytes,
            linger: Duration::from_millis(self.linger_ms),
            in_flight_bytes: self.in_flight_bytes,
            delivery_timeout: common.timeout(),
            ..ProducerConfig::default()
        }
    }
}

fn parse_size(text: &str) -> Result<usize, String> {
    const SIZE_MAX: usize = 16 << 20;
    text.parse()
        .ok()
        .filter(|size| (1..=SIZE_MAX).contains(size))
        .ok_or_else(|| format!("expected 1 to {SIZE_MAX} bytes"))
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && rate.is_finite());
    rate.ok_or_else(|| "expected more than 0 records a second".into())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "expected 0 to 86400 seconds".into())
}

/// Runs the command.
///
/// # Errors
/// The cluster cannot be reached, or nothing could be measured.
pub async fn run(common: &Common, command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Produce(args) => produce::run(common, &args).await,
        BenchCommand::Consume(args) => consume::run(common, &args).await,
        BenchCommand::E2e(args) => e2e::run(common, args).await,
    }
}

/// Makes the topic if need be, and tells how many partitions it has.
async fn ensure_topic(client: &Client, args: &LoadArgs) -> anyhow::Result<u32> {
    let topic = NewTopic {
        name: args.topic.clone(),
        partitions: args.partitions,
        replication: args.replication.unwrap_or(0),
        ..NewTopic::default()
    };
    match client.admin().create_topic(&topic).await {
        Ok(partitions) => Ok(partitions),
        Err(error) if error.code() == Some(ErrorCode::TopicExists) => {
            partitions_of(client, &args.topic).await
        }
        Err(error) => Err(error).context("the topic for the bench cannot be made"),
    }
}

async fn partitions_of(client: &Client, topic: &str) -> anyhow::Result<u32> {
    let metadata = client.admin().cluster(vec![topic.to_owned()]).await?;
    match metadata.topics.into_iter().next() {
        Some(found) if found.error.is_none() => Ok(u32::try_from(found.partitions.len())?),
        Some(found) => bail!("{}", found.error.map(|error| error.message).unwrap_or_default()),
        None => bail!("the broker says nothing about topic `{topic}`"),
    }
}
