//! `raftline produce`: every line of stdin (or of files) becomes a record.

use crate::cli::Common;
use crate::clock;
use crate::lines::Lines;
use crate::output::{self, Output, print, print_json};
use crate::topic::parse_config;
use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{
    Compression, DeliveryError, Durability, Idempotence, MissingTopic, Producer, ProducerConfig, Record,
    Ticket,
};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines to records.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    /// The topic.
    topic: String,
    /// Files to read instead of stdin; `-` is stdin.
    files: Vec<PathBuf>,
    /// The partition [default: by the key, or in turns without one].
    #[arg(long, short, value_name = "P")]
    partition: Option<u32>,
    /// What stands before the first SEPARATOR of a line is its key. A line without one has no key.
    #[arg(long, short = 'K', value_name = "SEPARATOR")]
    key_separator: Option<String>,
    /// When a record counts as stored.
    #[arg(long, value_enum, default_value_t)]
    acks: Acks,
    /// How batches are packed.
    #[arg(long, short = 'z', value_enum, default_value_t)]
    compression: Packing,
    /// A header of every record. May be repeated.
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = parse_config)]
    headers: Vec<(String, String)>,
    /// How long a batch waits for company, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    linger_ms: u64,
    /// Do not have retries recognised: a record whose answer was lost fails instead.
    #[arg(long)]
    no_idempotence: bool,
}

/// When a record counts as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// On stable storage of a majority of the replicas.
    #[default]
    Quorum,
    /// In memory of a majority: a power cut of a majority may lose the last records.
    Memory,
    /// On stable storage of the leader.
    Leader,
    /// When it has an offset: may be lost with the leader's process.
    None,
}

impl From<Acks> for Durability {
    fn from(acks: Acks) -> Self {
        match acks {
            Acks::Quorum => Self::Quorum,
            Acks::Memory => Self::Memory,
            Acks::Leader => Self::Leader,
            Acks::None => Self::None,
        }
    }
}

/// How batches are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the codecs' names")]
pub enum Packing {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Packing> for Compression {
    fn from(packing: Packing) -> Self {
        match packing {
            Packing::None => Self::None,
            Packing::Gzip => Self::Gzip,
            Packing::Snappy => Self::Snappy,
            Packing::Lz4 => Self::Lz4,
            Packing::Zstd => Self::Zstd,
        }
    }
}

/// Lines read ahead of the producer.
const LINES_AHEAD: usize = 1024;

/// Runs the command.
///
/// # Errors
/// What cannot be read, sent or stored, with the line's number.
pub async fn run(common: &Common, args: ProduceArgs) -> anyhow::Result<()> {
    let client = common.client().await?;
    let producer = client.producer(ProducerConfig {
        durability: args.acks.into(),
        compression: args.compression.into(),
        linger: Duration::from_millis(args.linger_ms),
        idempotence: if args.no_idempotence { Idempotence::Off } else { Idempotence::On },
        missing_topic: MissingTopic::Create,
        delivery_timeout: common.timeout(),
        ..ProducerConfig::default()
    });
    let began = clock::monotonic();
    let mut lines = read_in_background(args.files.clone())?;
    let mut settled = Settled::default();
    let mut tickets = VecDeque::new();
    let result = send_all(&args, &producer, &mut lines, &mut tickets, &mut settled).await;
    // What was handed over before a failure is settled all the same, and counted.
    while let Some((line, ticket)) = tickets.pop_front() {
        settled.note(line, ticket.await);
    }
    result?;
    settled.check()?;
    let seconds = began.elapsed().as_secs_f64();
    match common.output {
        Output::Json => {
            let partitions: Vec<_> = settled.partitions.iter().map(|(partition, range)| json!({
                "partition": partition, "records": range.records, "first_offset": range.first, "last_offset": range.last,
            })).collect();
            print_json(&json!({
                "topic": args.topic, "records": settled.records, "bytes": settled.bytes, "seconds": seconds,
                "acks": format!("{:?}", args.acks).to_lowercase(), "partitions": partitions,
            }))?;
        }
        Output::Text => {
            let plural = if settled.records == 1 { "record" } else { "records" };
            let place = match settled.partitions.iter().next() {
                Some((partition, range)) if settled.records == 1 => {
                    format!("partition {partition}, offset {}", range.first)
                }
                Some(_) => format!("{} partition(s)", settled.partitions.len()),
                None => "no partition".into(),
            };
            let records = output::count(settled.records);
            print(&format!("{records} {plural} stored in {}, {place}, {seconds:.2} s\n", args.topic))?;
        }
    }
    Ok(())
}

async fn send_all(
    args: &ProduceArgs,
    producer: &Producer,
    lines: &mut mpsc::Receiver<io::Result<Bytes>>,
    tickets: &mut VecDeque<(u64, Ticket)>,
    settled: &mut Settled,
) -> anyhow::Result<()> {
    let topic: Arc<str> = Arc::from(args.topic.as_str());
    let mut number = 0;
    while let Some(line) = lines.recv().await {
        number += 1;
        let line = line.with_context(|| format!("line {number}"))?;
        settled.bytes += line.len() as u64;
        let record = record_of(args, &topic, line);
        let ticket = producer.send(record).await.with_context(|| format!("line {number} was not sent"))?;
        tickets.push_back((number, ticket));
        while let Some(outcome) = tickets.front().and_then(|(_, ticket)| ticket.outcome_now()) {
            let Some((line, _)) = tickets.pop_front() else { break };
            settled.note(line, outcome);
        }
        if settled.failure.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

fn record_of(args: &ProduceArgs, topic: &Arc<str>, line: Bytes) -> Record {
    let mut record = Record::to(topic.clone());
    record.partition = args.partition.map(PartitionIndex);
    for (name, value) in &args.headers {
        record = record.header(name, value.clone().into_bytes());
    }
    let split = args.key_separator.as_ref().filter(|separator| !separator.is_empty()).and_then(|separator| {
        let found = line.windows(separator.len()).position(|window| window == separator.as_bytes())?;
        Some((line.slice(..found), line.slice(found + separator.len()..)))
    });
    match split {
        Some((key, value)) => record.key(key).value(value),
        None => record.value(line),
    }
}

/// Reads on a thread of its own: stdin blocks.
fn read_in_background(files: Vec<PathBuf>) -> anyhow::Result<mpsc::Receiver<io::Result<Bytes>>> {
    let files = if files.is_empty() { vec![PathBuf::from("-")] } else { files };
    let mut sources: Vec<Box<dyn Read + Send>> = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            sources.push(Box::new(io::stdin()));
        } else {
            let opened = File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
            sources.push(Box::new(opened));
        }
    }
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    let read = move || {
        for line in sources.into_iter().flat_map(Lines::new) {
            // Nobody wants more lines after a failure.
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("lines".into()).spawn(read).context("cannot start a thread")?;
    Ok(receiver)
}

/// What became of the records so far.
#[derive(Debug, Default)]
struct Settled {
    records: u64,
    bytes: u64,
    failed: u64,
    failure: Option<(u64, DeliveryError)>,
    partitions: BTreeMap<u32, Range>,
}

#[derive(Debug)]
struct Range {
    records: u64,
    first: u64,
    last: u64,
}

impl Settled {
    fn note(&mut self, line: u64, outcome: Result<raftline_client::Delivery, DeliveryError>) {
        match outcome {
            Ok(delivery) => {
                self.records += 1;
                let offset = delivery.offset.get();
                let range = self.partitions.entry(delivery.partition.get());
                let range = range.or_insert(Range { records: 0, first: offset, last: offset });
                range.records += 1;
                range.first = range.first.min(offset);
                range.last = range.last.max(offset);
            }
            Err(error) => {
                self.failed += 1;
                self.failure.get_or_insert((line, error));
            }
        }
    }

    fn check(&mut self) -> anyhow::Result<()> {
        let Some((line, error)) = self.failure.take() else { return Ok(()) };
        let (records, failed) = (self.records, self.failed);
        Err(error).with_context(|| {
            format!("{records} records stored, {failed} not acknowledged; first line {line}")
        })
    }
}
