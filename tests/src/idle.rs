//! What brokers cost while nobody uses them: their processor time and memory, as the kernel counts them.
//!
//! A cluster of broker processes is started, given some partitions and, if wanted, a load; then it is left alone until
//! its groups rest, and watched. The load is timed as well, and so is a restart with all of its data.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use raftline_client::proto::ids::{NodeId, PartitionIndex};
use raftline_client::{Client, NewTopic, ProducerConfig, Record, StartAt};

use crate::cluster::Cluster;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Topics of three partitions with three replicas each.
    pub topics: u32,
    /// MiB of records of 1 KiB to be written first, over all partitions.
    pub load_mib: u64,
    /// How long the cluster is left alone before it is watched. Groups rest after 60 to 120 s.
    pub settle: Duration,
    /// How long it is watched.
    pub watch: Duration,
}

/// What one broker costs.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time, in hundredths of a core.
    pub cpu_percent: f64,
    /// Resident memory, in KiB.
    pub resident_kib: u64,
    /// The part of it that no file backs.
    pub anonymous_kib: u64,
}

/// Measures and prints: fresh or after the load, then after a `kill -9` of all brokers and their restart.
///
/// # Errors
/// The cluster does not do its part, or this is not Linux.
pub async fn measure(program: &str, idle: Idle) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(program, "idle", 3);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let names: Vec<String> = (0..idle.topics).map(|nth| format!("idle-{nth}")).collect();
    for name in &names {
        let topic = NewTopic { name: name.clone(), partitions: 3, replication: 3, ..NewTopic::default() };
        client.admin().create_topic(&topic).await?;
    }
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.wait_until_ready(&client, &wanted).await;
    if idle.load_mib > 0 {
        load(&client, &names, idle.load_mib).await?;
    }
    watch(&cluster, idle, "as started").await?;
    if idle.load_mib > 0 {
        cluster.kill_all();
        let begun = wall_clock();
        cluster.start_all();
        every_partition_answers(&client, &names).await?;
        println!(
            "restart with {} MiB in each broker: every partition readable after {:.1} s",
            idle.load_mib,
            begun.elapsed().as_secs_f64()
        );
        cluster.wait_until_ready(&client, &wanted).await;
        watch(&cluster, idle, "restarted").await?;
    }
    for node in cluster.nodes() {
        cluster.stop(node);
    }
    Ok(())
}

/// Writes records of 1 KiB to all partitions in turn.
async fn load(client: &Client, topics: &[String], mib: u64) -> anyhow::Result<()> {
    let producer = client.producer(ProducerConfig::default());
    let value = vec![b'x'; RECORD_BYTES];
    let mut tickets = Vec::new();
    for (_, topic) in (0..mib * 1024).zip(topics.iter().cycle()) {
        let partition = PartitionIndex(u32::try_from(tickets.len() % 3).unwrap_or_default());
        let record = Record::to(topic.as_str()).partition(partition).value(value.clone());
        tickets.push(producer.send(record).await?);
    }
    for ticket in tickets {
        ticket.await?;
    }
    producer.close().await?;
    println!("loaded: {mib} MiB in records of 1 KiB, acknowledged by majorities");
    Ok(())
}

/// With the record's own overhead of some bytes.
const RECORD_BYTES: usize = 1024;

/// Waits until each partition says where it ends, which only a leader in its own term does.
async fn every_partition_answers(client: &Client, topics: &[String]) -> anyhow::Result<()> {
    for topic in topics {
        for partition in 0..3 {
            client.admin().offset(topic, PartitionIndex(partition), StartAt::End).await?;
        }
    }
    Ok(())
}

/// Leaves the brokers alone, then prints what each costs.
async fn watch(cluster: &Cluster, idle: Idle, when: &str) -> anyhow::Result<()> {
    println!(
        "{when}: left alone for {} s, then watched for {} s",
        idle.settle.as_secs(),
        idle.watch.as_secs()
    );
    tokio::time::sleep(idle.settle).await;
    let before =
        cluster.nodes().into_iter().map(|node| spent(cluster, node)).collect::<Result<Vec<_>, _>>()?;
    tokio::time::sleep(idle.watch).await;
    for (node, before) in cluster.nodes().into_iter().zip(before) {
        let used = spent(cluster, node)?.saturating_sub(before);
        let cost = cost(cluster, node, used, idle.watch)?;
        println!(
            "  broker {node}: {:.2} % of a core, {:.1} MiB resident, {:.1} MiB of it anonymous",
            cost.cpu_percent,
            mib_of(cost.resident_kib),
            mib_of(cost.anonymous_kib)
        );
    }
    Ok(())
}

/// A broker's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// The most that was ever resident, in KiB.
    pub(crate) peak_kib: u64,
}

/// Asks the kernel.
pub(crate) fn memory(cluster: &Cluster, node: NodeId) -> anyhow::Result<Memory> {
    Ok(Memory { peak_kib: status_field(&proc_file(cluster, node, "status")?, "VmHWM")? })
}

fn status_field(status: &str, name: &str) -> anyhow::Result<u64> {
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let number = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    number.parse::<u64>().with_context(|| format!("{name} is {line}"))
}

fn cost(cluster: &Cluster, node: NodeId, used: Duration, watched: Duration) -> anyhow::Result<Cost> {
    let status = proc_file(cluster, node, "status")?;
    Ok(Cost {
        cpu_percent: used.as_secs_f64() / watched.as_secs_f64() * 100.0,
        resident_kib: status_field(&status, "VmRSS")?,
        anonymous_kib: status_field(&status, "RssAnon")?,
    })
}

/// The processor time of a broker so far, user and system.
fn spent(cluster: &Cluster, node: NodeId) -> anyhow::Result<Duration> {
    let stat = proc_file(cluster, node, "stat")?;
    // The second field is the program's name in brackets and may hold blanks; user and system time are 14 and 15.
    let after_name = stat.rsplit_once(')').context("no name in /proc/PID/stat")?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut next =
        || -> anyhow::Result<u64> { Ok(fields.next().context("a short /proc/PID/stat")?.parse()?) };
    let ticks = next()? + next()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second)))
}

fn proc_file(cluster: &Cluster, node: NodeId, name: &str) -> anyhow::Result<String> {
    let Some(process) = cluster.process_id(node) else { bail!("broker {node} does not run") };
    let path = format!("/proc/{process}/{name}");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("{path}: not there; this needs Linux"),
        other => other.context(path),
    }
}

fn mib_of(kib: u64) -> f64 {
    u32::try_from(kib).map_or(f64::INFINITY, f64::from) / 1024.0
}

#[allow(clippy::disallowed_methods, reason = "a measurement of real time")]
fn wall_clock() -> Instant {
    Instant::now()
}
