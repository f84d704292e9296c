//! The disk fills up: writes are refused clearly, reads go on, and writes resume when there is space again.

use crate::cluster::{ATTEMPTS, Cluster, create_topic, pause};
use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{ConsumerConfig, ProducerConfig, Record, StartAt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_serves_reads_and_resumes() {
    let Some(small) = SmallDisk::mount("64m") else {
        println!(
            "no small disk can be mounted here: the executor's tests over the simulated disk show a full disk \
             (cargo test -p raftline-broker full)"
        );
        return;
    };
    let mut cluster = Cluster::prepared(3, &["--disk-reserve", "8MiB"]);
    for node in cluster.nodes() {
        cluster.set_data_dir(node, small.path.join(format!("node-{node}")));
    }
    cluster.start_all();
    let client = cluster.client().await;
    create_topic(&client, "full", 1).await;

    let config = ProducerConfig { delivery_timeout: Duration::from_secs(3), ..ProducerConfig::default() };
    let producer = client.producer(config);
    let send = async |value: Vec<u8>| {
        producer.send(Record::to("full").value(value)).await.expect("it is taken").await
    };
    for number in 0..100_u32 {
        send(number.to_string().into_bytes()).await.expect("there is space");
    }
    let ballast = small.fill(4 << 20);
    let refused = first_refusal(&send).await;
    let said = refused.to_string();
    assert!(said.contains("disk") && said.contains("free"), "not clear: {said}");

    let end = client.admin().offset("full", PartitionIndex(0), StartAt::End).await.expect("reads go on");
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign("full", PartitionIndex(0), StartAt::Start);
    for _ in 0..end.get() {
        consumer.next().await.expect("reads go on");
    }

    std::fs::remove_file(ballast).expect("the ballast goes");
    for attempt in 0.. {
        match send(b"again".to_vec()).await {
            Ok(delivery) => {
                assert!(delivery.offset >= end, "acknowledged below what was there: {}", delivery.offset);
                break;
            }
            Err(error) => assert!(attempt < 20, "writes do not resume: {error}"),
        }
    }
    cluster.check_running();
    let client = cluster.client().await;
    cluster.wait_equal(&client).await;
    cluster.stop_all();
}

/// Writes until one is refused.
async fn first_refusal(
    send: &impl AsyncFn(Vec<u8>) -> Result<raftline_client::Delivery, raftline_client::DeliveryError>,
) -> raftline_client::DeliveryError {
    for _ in 0..ATTEMPTS {
        if let Err(error) = send(vec![b'x'; 10_000]).await {
            return error;
        }
        pause().await;
    }
    panic!("a full disk takes writes");
}

/// A file system of its own, unmounted in the end.
struct SmallDisk {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("disk");
        std::fs::create_dir(&path).expect("the mount point is made");
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output().ok()?;
        mount.status.success().then_some(Self { path, _folder: folder })
    }

    /// Takes all but about `left` bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let ballast = self.path.join("ballast");
        let free = free_bytes(&self.path);
        let file = std::fs::File::create(&ballast).expect("the ballast is made");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free.saturating_sub(left))
            .expect("there is space");
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("the disk can be asked");
    stat.f_bavail * stat.f_frsize
}
