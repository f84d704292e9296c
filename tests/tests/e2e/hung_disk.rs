//! One broker's disk hangs, with several shards on it: what it leads has other leaders while the disk hangs still.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use raftline_client::proto::ids::{NodeId, PartitionIndex};
use raftline_client::{Client, NewTopic, ProducerConfig, Record};
use raftline_tests::cluster::{Cluster, PATIENCE};
use tempfile::TempDir;

use crate::PROGRAM;

const TOPIC: &str = "spread";
const PARTITIONS: u32 = 8;
const VICTIM: NodeId = NodeId(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_disk_takes_no_partition_with_it() {
    let root = TempDir::with_prefix("raftline-hung-disk-").expect("a temporary directory");
    let Some(disk) = OwnDisk::mount(root.path(), "node-1") else {
        println!("skipped: this user may not mount a file system; the simulator hangs its disks in any case");
        return;
    };
    let mut cluster = Cluster::prepare(PROGRAM, "hung-disk", 3, root.path(), &["--shards", "4"]);
    cluster.start_all();
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let topic =
        NewTopic { name: TOPIC.into(), partitions: PARTITIONS, replication: 3, ..NewTopic::default() };
    client.admin().create_topic(&topic).await.expect("a topic is created");
    let metadata = cluster.wait_until_ready(&client, &[TOPIC]).await;
    let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
    let led = partitions.filter(|partition| partition.leader_node == Some(VICTIM.0)).count();
    assert!(led >= 2, "the victim leads {led} partitions");
    write_everywhere(&client).await;

    // The reads of the test itself must not touch the frozen file system.
    let frozen = disk.freeze();
    let began = wall_clock();
    write_everywhere(&client).await;
    let took = began.elapsed();
    println!("all {PARTITIONS} partitions acknowledged {took:?} after the disk of the leader of {led} hung");
    drop(frozen);
    cluster.wait_until_ready(&client, &[TOPIC]).await;
    write_everywhere(&client).await;
    // Ends before its disk is unmounted.
    drop(cluster);
}

/// One record into each partition, all acknowledged.
async fn write_everywhere(client: &Client) {
    let producer =
        client.producer(ProducerConfig { delivery_timeout: PATIENCE, ..ProducerConfig::default() });
    let mut tickets = Vec::new();
    for partition in 0..PARTITIONS {
        let record = Record::to(TOPIC).partition(PartitionIndex(partition)).value("x");
        tickets.push(producer.send(record).await.expect("the record is taken"));
    }
    for ticket in tickets {
        ticket.await.expect("acknowledged although one disk hangs");
    }
    producer.close().await.expect("nothing is left");
}

/// A file system of its own in a file; unmounted with the test.
struct OwnDisk {
    path: PathBuf,
}

/// As long as it lives, whatever writes to the disk hangs.
struct Frozen<'a>(&'a OwnDisk);

impl OwnDisk {
    /// `None` if this user may not mount.
    fn mount(root: &Path, name: &str) -> Option<Self> {
        let (image, path) = (root.join("image"), root.join(name));
        std::fs::create_dir(&path).expect("a mount point");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(512 << 20).expect("a sparse file");
        let run = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        let (image, target) = (image.to_str()?, path.to_str()?);
        let mounted = run("mkfs.ext4", &["-q", "-F", image]) && run("mount", &["-o", "loop", image, target]);
        mounted.then(|| Self { path: path.clone() })
    }

    fn freeze(&self) -> Frozen<'_> {
        assert!(self.fsfreeze("-f"), "a mounted file system can be frozen");
        Frozen(self)
    }

    fn fsfreeze(&self, what: &str) -> bool {
        let output = Command::new("fsfreeze").arg(what).arg(&self.path).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.fsfreeze("-u");
    }
}

impl Drop for OwnDisk {
    fn drop(&mut self) {
        // What was killed on a frozen disk ends a moment after it thaws.
        let unmounted = |path: &Path| {
            Command::new("umount").arg(path).output().is_ok_and(|output| output.status.success())
        };
        let until = wall_clock() + Duration::from_secs(10);
        while !unmounted(&self.path) && wall_clock() < until {
            std::thread::yield_now();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a measurement of real time")]
fn wall_clock() -> Instant {
    Instant::now()
}
