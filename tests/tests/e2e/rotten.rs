//! Bytes go bad under running brokers: nobody is given them, one replica is closed, and no other partition notices.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use raftline_client::proto::ids::{GroupId, NodeId};
use raftline_client::{Client, ConsumerConfig, NewTopic, ProducerConfig, Record, StartAt};
use raftline_tests::cluster::{Cluster, PATIENCE, wait_for};

use crate::PROGRAM;

const TOPIC: &str = "rotten";
const RECORDS: usize = 2000;

struct Story {
    cluster: Cluster,
    client: Client,
    group: GroupId,
    leader: NodeId,
}

impl Story {
    /// Three brokers and a partition of [`RECORDS`], whose leader is known.
    async fn begin(name: &str) -> Self {
        let cluster = Cluster::start(PROGRAM, name, 3);
        let client = cluster.client().await;
        cluster.wait_until_ready(&client, &[]).await;
        for topic in [TOPIC, "bystander"] {
            let topic = NewTopic { name: topic.into(), partitions: 1, replication: 3, ..NewTopic::default() };
            client.admin().create_topic(&topic).await.expect("a topic is created");
        }
        let metadata = cluster.wait_until_ready(&client, &[TOPIC, "bystander"]).await;
        let topic = metadata.topics.iter().find(|topic| topic.name == TOPIC).expect("it was asked for");
        let group = GroupId(topic.partitions[0].group);
        let leader = cluster.wait_for_leader(&client, TOPIC, 0, |_| true).await;
        let story = Self { cluster, client, group, leader };
        story.produce(TOPIC, RECORDS).await;
        story
    }

    async fn produce(&self, topic: &'static str, count: usize) {
        let producer =
            self.client.producer(ProducerConfig { batch_bytes: 4096, ..ProducerConfig::default() });
        let mut tickets = Vec::new();
        for number in 0..count {
            let value = format!("{number} {}", "-".repeat(100));
            tickets.push(producer.send(Record::to(topic).value(value)).await.expect("the record is taken"));
        }
        for ticket in tickets {
            ticket.await.expect("acknowledged");
        }
        producer.close().await.expect("nothing is left");
    }

    /// All records come back as they went in.
    async fn read_back(&self) {
        let mut consumer = self.client.consumer(ConsumerConfig::default());
        consumer.assign_topic(TOPIC, StartAt::Start).await.expect("the topic is there");
        for number in 0..RECORDS {
            let record = match tokio::time::timeout(PATIENCE, consumer.next()).await {
                Ok(record) => record.expect("a record"),
                Err(_) => panic!("no record {number}: {}", self.cluster.log(self.leader)),
            };
            let value = record.value.expect("it has one");
            let expected = format!("{number} {}", "-".repeat(100));
            assert_eq!(std::str::from_utf8(&value), Ok(&*expected), "record {number}");
        }
    }

    fn segment(&self) -> PathBuf {
        let dir = self.cluster.data_dir(self.leader).join("groups").join(self.group.to_string());
        dir.join("0000000000000001.segment")
    }

    /// The replica is closed by name, another leads, and the rest of the broker goes on.
    async fn ends_well(self) {
        let Self { leader, group, .. } = self;
        self.cluster.wait_for_leader(&self.client, TOPIC, 0, |led_by| led_by != leader).await;
        wait_for("the closed replica", async || {
            let status = self.client.admin().node_status(leader).await.ok()?;
            let of_group = |replica: &raftline_client::proto::api::ReplicaStatus| replica.group == group.0;
            let replica = status.replicas.into_iter().find(of_group)?;
            replica.failure.contains(".segment").then_some(())
        })
        .await;
        self.produce("bystander", 50).await;
        self.produce(TOPIC, 50).await;
        let log = self.cluster.log(leader);
        assert!(log.contains("replica closed") && log.contains(".segment"), "{log}");
        assert!(self.cluster.process_id(leader).is_some(), "it runs on:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_of_a_running_leader_reaches_nobody() {
    let story = Story::begin("flipped").await;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(story.segment()).expect("it is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100_000).expect("it is as long");
    file.write_all_at(&[byte[0] ^ 0x04], 100_000).expect("it can be written");
    story.read_back().await;
    story.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shortened_file_of_a_running_leader_ends_no_broker() {
    let story = Story::begin("shortened").await;
    let file = std::fs::OpenOptions::new().write(true).open(story.segment()).expect("it is there");
    file.set_len(4096).expect("it can be shortened");
    story.read_back().await;
    story.ends_well().await;
}
