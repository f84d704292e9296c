//! A full disk: writes are refused clearly, reads go on, and writes are taken again once there is room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use raftline_client::proto::api::ConsumerGroupMember;
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::{
    AutoCommit, Client, ConsumerConfig, GroupConsumer, GroupConsumerConfig, NewTopic, ProducerConfig, Record,
    StartAt, TopicPartition,
};
use raftline_tests::cluster::{Cluster, PATIENCE};
use tempfile::TempDir;

use crate::PROGRAM;

const TOPIC: &str = "filled";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let dir = TempDir::with_prefix("raftline-full-disk-").expect("a temporary directory");
    let Some(disk) = SmallDisk::mount(dir.path(), 96) else {
        println!("skipped: this user may not mount a tmpfs; the simulator fills its disks in any case");
        return;
    };
    let (_cluster, client) = on(&disk, "full-disk", "16MiB").await;
    write(&client, "before", PATIENCE).await.expect("there is room");

    let filler = disk.fill();
    let refusal = refused(&client).await;
    assert!(refusal.to_lowercase().contains("disk"), "the refusal says why: {refusal}");
    assert_eq!(read(&client).await.first().map(String::as_str), Some("before"), "reads go on");

    std::fs::remove_file(&filler).expect("the filler goes");
    write(&client, "after", PATIENCE).await.expect("there is room again");
    let found = read(&client).await;
    assert_eq!(found.last().map(String::as_str), Some("after"));
    assert_eq!(found.iter().filter(|value| *value == "before").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_start_on_a_disk_without_a_byte_of_room() {
    let dir = TempDir::with_prefix("raftline-no-room-").expect("a temporary directory");
    let Some(disk) = SmallDisk::mount(dir.path(), 96) else {
        println!("skipped: this user may not mount a tmpfs");
        return;
    };
    let (mut cluster, client) = on(&disk, "no-room", "8MiB").await;
    write(&client, "before", PATIENCE).await.expect("there is room");

    // More than once: the room that a start used is kept again for the next.
    let filler = disk.path().join("filler");
    for _ in 0..3 {
        // Brokers may let go of something meanwhile.
        while disk.free_bytes() > 0 {
            brim(&filler);
        }
        cluster.kill_all();
        cluster.start_all();
        let client = cluster.client().await;
        cluster.wait_until_ready(&client, &[TOPIC]).await;
        assert_eq!(read(&client).await, ["before"]);
    }
    std::fs::remove_file(&filler).expect("the filler goes");
    write(&client, "after", PATIENCE).await.expect("there is room again");
    assert_eq!(read(&client).await.last().map(String::as_str), Some("after"));
}

/// A cluster on that disk, with the topic.
async fn on(disk: &SmallDisk, name: &str, reserve: &str) -> (Cluster, Client) {
    let extra = ["--disk-reserve", reserve, "--default-segment-bytes", "1MiB"];
    let mut cluster = Cluster::prepare(PROGRAM, name, 3, disk.path(), &extra);
    cluster.start_all();
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let topic = NewTopic { name: TOPIC.into(), partitions: 1, replication: 3, ..NewTopic::default() };
    client.admin().create_topic(&topic).await.expect("a topic is created");
    cluster.wait_until_ready(&client, &[TOPIC]).await;
    (cluster, client)
}

/// Takes all the room that is left.
fn brim(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
    for bytes in [1 << 20, 4096, 1] {
        while file.write_all(&vec![1; bytes]).is_ok() {}
    }
}

/// The group's coordinator cannot write: a member reads on, keeps its place, and commits once there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_reads_on_over_a_full_disk() {
    let dir = TempDir::with_prefix("raftline-full-disk-").expect("a temporary directory");
    let Some(disk) = SmallDisk::mount(dir.path(), 128) else {
        println!("skipped: this user may not mount a tmpfs; the simulator fills its disks in any case");
        return;
    };
    let (cluster, client) = on(&disk, "full-disk-group", "16MiB").await;
    for number in 0..RECORDS {
        write(&client, &number.to_string(), PATIENCE).await.expect("there is room");
    }
    let config = GroupConsumerConfig {
        auto_commit: AutoCommit::Every(Duration::from_millis(500)),
        heartbeat_interval_max: Duration::from_millis(500),
        ..GroupConsumerConfig::default()
    };
    let mut consumer = client.group_consumer("readers", [TOPIC], config);
    let first = RECORDS / 4;
    read_on(&mut consumer, 0..first).await;
    consumer.commit().await.expect("there is room");
    let before = members_now(&client).await;

    let filler = disk.fill();
    refused(&client).await;
    read_on(&mut consumer, first..2 * first).await;
    consumer.commit().await.expect_err("the coordinator cannot write");
    read_on(&mut consumer, 2 * first..3 * first).await;
    assert_eq!(committed(&client).await, Some(Offset(first)), "what was committed is told");
    assert_eq!(members_now(&client).await, before, "nobody joined, went or moved");
    for node in cluster.nodes() {
        assert!(!cluster.log(node).contains("begins anew"), "node {node}: {}", cluster.log(node));
    }

    std::fs::remove_file(&filler).expect("the filler goes");
    read_on(&mut consumer, 3 * first..RECORDS).await;
    let committing = async { while consumer.commit().await.is_err() {} };
    tokio::time::timeout(PATIENCE, committing).await.expect("there is room again");
    assert_eq!(committed(&client).await, Some(Offset(RECORDS)));
    assert_eq!(members_now(&client).await, before, "it is still the same member");
}

/// Reads these records and no others.
async fn read_on(consumer: &mut GroupConsumer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let next = tokio::time::timeout(PATIENCE, consumer.next());
        let record = next.await.expect("it reads on").expect("a record");
        assert_eq!(record.value.as_deref(), Some(number.to_string().as_bytes()));
    }
}

/// The members with their epochs and parts. Another broker may coordinate them meanwhile: full disks are not full at once.
async fn members_now(client: &Client) -> Vec<ConsumerGroupMember> {
    client.admin().group_members("readers").await.expect("a group").members
}

/// What the group has committed.
async fn committed(client: &Client) -> Option<Offset> {
    let partition = TopicPartition::new(TOPIC, PartitionIndex(0));
    let found = client.admin().committed_offsets("readers", &[partition]).await.expect("offsets are told");
    found[0].offset.map(Offset)
}

const RECORDS: u64 = 40;

/// Writes until a write is refused for good: the brokers look at the disk about once a second. On a busy machine an
/// answer may be late, which is no refusal.
async fn refused(client: &Client) -> String {
    let writing = async {
        loop {
            match write(client, "meanwhile", Duration::from_secs(2)).await {
                Err(refusal) if !refusal.contains("the broker did not answer") => return refusal,
                Ok(()) | Err(_) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, writing).await.expect("a full disk refuses writes")
}

async fn write(client: &Client, value: &str, patience: Duration) -> Result<(), String> {
    let config = ProducerConfig { delivery_timeout: patience, ..ProducerConfig::default() };
    let producer = client.producer(config);
    let record = Record::to(TOPIC).partition(PartitionIndex(0)).value(value.to_owned());
    let ticket = producer.send(record).await.map_err(|error| error.to_string())?;
    let settled = ticket.await.map(drop).map_err(|error| error.to_string());
    // What did not get through has been reported by its ticket.
    let _ = producer.close().await;
    settled
}

/// Everything that can be read now.
async fn read(client: &Client) -> Vec<String> {
    let end = client.admin().offset(TOPIC, PartitionIndex(0), StartAt::End).await.expect("reads go on");
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(TOPIC, PartitionIndex(0), StartAt::Start);
    let mut values = Vec::new();
    while (values.len() as u64) < end.0 {
        let record =
            tokio::time::timeout(PATIENCE, consumer.next()).await.expect("reads go on").expect("a record");
        values.push(String::from_utf8(record.value.expect("a value").to_vec()).expect("text"));
    }
    values
}

/// A file system in memory; unmounted with the test, after the brokers have ended.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None` if this user may not mount.
    fn mount(path: &Path, mebibytes: u32) -> Option<Self> {
        let options = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then(|| Self { path: path.to_owned() })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// Somebody else fills the disk to below the reserve.
    fn fill(&self) -> PathBuf {
        let filler = self.path.join("filler");
        let room = self.free_bytes().saturating_sub(8 << 20);
        std::fs::write(&filler, vec![1; usize::try_from(room).expect("a small disk")])
            .expect("room for the filler");
        filler
    }

    fn free_bytes(&self) -> u64 {
        let facts = rustix::fs::statvfs(&self.path).expect("a mounted file system");
        facts.f_bavail * facts.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).output();
    }
}
