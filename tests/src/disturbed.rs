//! What brokers' clients notice of what goes on beside them: of a large topic that is deleted, and of others that want the
//! processors.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{Client, NewTopic, ProducerConfig, Record};

use crate::cluster::Cluster;

/// A large topic is deleted beside a paced load.
#[derive(Clone, Copy, Debug)]
pub struct Deleting {
    /// Its partitions, each with a replica on all three brokers.
    pub partitions: u32,
    /// What it takes of each broker's disk, in MiB.
    pub mib: u64,
    /// How long each measurement takes.
    pub watch: Duration,
    /// How often both are measured.
    pub rounds: u32,
}

/// Prints the longest gap between the acknowledgements of others, without and with the deletion.
///
/// # Errors
/// The cluster does not do its part, or the longest gap with the deletions is more than twice the longest without.
pub async fn deleting(program: &str, deleting: Deleting) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(program, "deleting", 3);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    create(&cluster, &client, PACED, 16).await?;
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    for round in 0..deleting.rounds {
        let doomed = format!("doomed-{round}");
        create(&cluster, &client, &doomed, deleting.partitions).await?;
        let bytes = (deleting.mib << 20) / u64::from(deleting.partitions);
        let extents = extend(&cluster, &client, &doomed, bytes).await?;
        quiet.push(longest_gap(&client, deleting.watch, async { Ok(()) }).await?);
        let delete = async {
            tokio::time::sleep(deleting.watch / 4).await;
            client.admin().delete_topic(&doomed).await.context("the topic is deleted")
        };
        beside.push(longest_gap(&client, deleting.watch, delete).await?);
        let (without, with) = (quiet[quiet.len() - 1], beside[beside.len() - 1]);
        println!(
            "round {round}: {extents} segments of {} MiB; longest gap {without:.1?} without, {with:.1?} with the deletion",
            bytes >> 20
        );
    }
    let (without, with) = (quiet.iter().max().copied(), beside.iter().max().copied());
    let (without, with) = (without.unwrap_or_default(), with.unwrap_or_default());
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!("longest gaps: {without:.1?} without, {with:.1?} with: {ratio:.2} times");
    for node in cluster.nodes() {
        cluster.stop(node);
    }
    ensure!(ratio <= 2.0, "the longest gap is {ratio:.2} times as long beside deletions");
    Ok(())
}

/// Others take the processors while brokers are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Starved {
    /// Busy loops beside brokers and load, at the same priority.
    pub loops: u32,
    /// For how long.
    pub watch: Duration,
}

/// Prints how many leaders changed.
///
/// # Errors
/// The cluster does not do its part, or a leader changed.
pub async fn starved(program: &str, starved: Starved) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(program, "starved", 3);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    create(&cluster, &client, PACED, 16).await?;
    let before = terms(&client).await?;
    let loops = (0..starved.loops).map(|_| BusyLoop::start()).collect::<Result<Vec<_>, _>>()?;
    let acknowledged = flat_out(&client, starved.watch).await?;
    drop(loops);
    let after = terms(&client).await?;
    let changed: u64 = before.iter().zip(&after).map(|(before, after)| after - before).sum();
    println!(
        "{} busy loops, {} s: {changed} leader changes over {} partitions, {:.0} records of 1 KiB acknowledged a second",
        starved.loops,
        starved.watch.as_secs(),
        before.len(),
        acknowledged / starved.watch.as_secs_f64()
    );
    for node in cluster.nodes() {
        cluster.stop(node);
    }
    ensure!(changed == 0, "{changed} leaders changed");
    Ok(())
}

const PACED: &str = "paced";
const RECORD_BYTES: usize = 1024;

/// Between two records of the paced load.
const PACE: Duration = Duration::from_millis(2);

/// Unacknowledged records of the load that goes as fast as it can.
const IN_FLIGHT: usize = 20_000;

async fn create(cluster: &Cluster, client: &Client, name: &str, partitions: u32) -> anyhow::Result<()> {
    let topic = NewTopic { name: name.into(), partitions, replication: 3, ..NewTopic::default() };
    client.admin().create_topic(&topic).await?;
    cluster.wait_until_ready(client, &[name]).await;
    Ok(())
}

/// Gives each segment of a topic real extents, on every broker; says how many there are.
async fn extend(cluster: &Cluster, client: &Client, topic: &str, bytes: u64) -> anyhow::Result<u32> {
    let metadata = client.admin().cluster(vec![topic.to_owned()]).await?;
    let mut count = 0;
    for partition in metadata.topics.iter().flat_map(|topic| &topic.partitions) {
        for node in cluster.nodes() {
            let folder = cluster.data_dir(node).join("groups").join(partition.group.to_string());
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "segment") {
                    reserve(&path, bytes)?;
                    count += 1;
                }
            }
        }
    }
    Ok(count)
}

fn reserve(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
        .with_context(|| format!("{}: room for {bytes} bytes", path.display()))
}

/// The longest time without an acknowledgement under a paced load, while something else is done.
async fn longest_gap(
    client: &Client,
    watch: Duration,
    beside: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Duration> {
    let producer = client.producer(ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() });
    let value = vec![b'x'; RECORD_BYTES];
    let begun = wall_clock();
    let last = Arc::new(AtomicU64::new(0));
    let longest = Arc::new(AtomicU64::new(0));
    let load = async {
        let mut pace = tokio::time::interval(PACE);
        for partition in (0..16).cycle().map(PartitionIndex) {
            pace.tick().await;
            if begun.elapsed() >= watch {
                break;
            }
            let ticket = producer.send(Record::to(PACED).partition(partition).value(value.clone())).await?;
            let (last, longest) = (Arc::clone(&last), Arc::clone(&longest));
            tokio::spawn(async move {
                if ticket.await.is_ok() {
                    let now = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    let before = last.fetch_max(now, Ordering::Relaxed);
                    longest.fetch_max(now.saturating_sub(before), Ordering::Relaxed);
                }
            });
        }
        anyhow::Ok(())
    };
    let (loaded, done) = tokio::join!(load, beside);
    loaded?;
    done?;
    producer.close().await?;
    Ok(Duration::from_micros(longest.load(Ordering::Relaxed)))
}

/// Writes as fast as it can; says how many records were acknowledged.
async fn flat_out(client: &Client, watch: Duration) -> anyhow::Result<f64> {
    let producer = client.producer(ProducerConfig::default());
    let value = vec![b'x'; RECORD_BYTES];
    let begun = wall_clock();
    let slots = Arc::new(tokio::sync::Semaphore::new(IN_FLIGHT));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let refused = Arc::new(AtomicBool::new(false));
    for partition in (0..16).cycle().map(PartitionIndex) {
        if begun.elapsed() >= watch {
            break;
        }
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let ticket = producer.send(Record::to(PACED).partition(partition).value(value.clone())).await?;
        let (acknowledged, refused) = (Arc::clone(&acknowledged), Arc::clone(&refused));
        tokio::spawn(async move {
            match ticket.await {
                Ok(_) => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                Err(_) => refused.store(true, Ordering::Relaxed),
            }
            drop(slot);
        });
    }
    producer.close().await?;
    ensure!(!refused.load(Ordering::Relaxed), "a record was refused for good");
    let count = acknowledged.load(Ordering::Relaxed);
    Ok(f64::from(u32::try_from(count).unwrap_or(u32::MAX)))
}

/// The terms of the loaded partitions.
async fn terms(client: &Client) -> anyhow::Result<Vec<u64>> {
    let metadata = client.admin().cluster(vec![PACED.to_owned()]).await?;
    Ok(metadata.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.term).collect())
}

/// A process that does nothing, as fast as it can. Ends with its value.
struct BusyLoop(Child);

impl BusyLoop {
    fn start() -> std::io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self)
    }
}

impl Drop for BusyLoop {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[allow(clippy::disallowed_methods, reason = "it measures a real cluster")]
fn wall_clock() -> Instant {
    Instant::now()
}
