//! Files go in line by line, all brokers are killed half-way, and every byte comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use raftline_client::proto::api::Durability;
use raftline_client::{Client, ConsumerConfig, NewTopic, Producer, ProducerConfig, Record, StartAt, Ticket};
use raftline_tests::cluster::{Cluster, PATIENCE};
use raftline_tests::inputs::{self, FOLDER_VARIABLE, Input};

use crate::PROGRAM;

const PARTITIONS: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn the_log_files_come_back_byte_for_byte() {
    let Some(inputs) = inputs::loghub() else {
        println!("skipped: no *.log files; name their folder in {FOLDER_VARIABLE}");
        return;
    };
    assert_eq!(inputs.len(), 16, "the sixteen files of loghub");
    round_trip("loghub", inputs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_same_shape_come_back_byte_for_byte() {
    let seed = 20_240_101;
    println!("seed {seed}");
    round_trip("generated", inputs::generated(seed)).await;
}

async fn round_trip(name: &str, inputs: Vec<Input>) {
    let mut cluster = Cluster::start(PROGRAM, name, 3);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let topics: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    for topic in &topics {
        let topic =
            NewTopic { name: (*topic).into(), partitions: PARTITIONS, replication: 3, ..NewTopic::default() };
        client.admin().create_topic(&topic).await.expect("a topic is created");
    }
    cluster.wait_until_ready(&client, &topics).await;

    // Compared with what the producer was promised, not with what it meant to send.
    let producer = client.producer(ProducerConfig::default());
    let mut tickets = send(&producer, &inputs, Half::First).await;
    let settled = tickets.len() / 2;
    for ticket in tickets.drain(..settled) {
        let delivery = ticket.await.expect("acknowledged before the crash");
        assert!(delivery.durable_on.len() >= 2, "a majority has it: {delivery:?}");
    }
    cluster.kill_all();
    cluster.start_all();
    tickets.extend(send(&producer, &inputs, Half::Second).await);
    for ticket in tickets {
        ticket.await.expect("acknowledged in the end");
    }
    producer.close().await.expect("nothing is left");

    for input in &inputs {
        let found = read_back(&client, input).await;
        assert!(found == input.content(), "{} came back otherwise than it went in", input.name);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    First,
    Second,
}

/// Sends one half of every file, the files side by side.
async fn send(producer: &Producer, inputs: &[Input], half: Half) -> Vec<Ticket> {
    let longest = inputs.iter().map(|input| input.lines.len()).max().unwrap_or(0);
    let topics: Vec<Arc<str>> = inputs.iter().map(|input| Arc::from(input.name.as_str())).collect();
    let mut tickets = Vec::new();
    for number in 0..longest {
        for (input, topic) in inputs.iter().zip(&topics) {
            let in_first = number < input.lines.len() / 2;
            let Some(line) = input.lines.get(number).filter(|_| in_first == (half == Half::First)) else {
                continue;
            };
            let record = Record::to(topic.clone()).key(number.to_string()).value(line.clone());
            let record = record.durability(Durability::Quorum);
            tickets.push(producer.send(record).await.expect("the record is taken"));
        }
    }
    tickets
}

/// Reads a topic from its start and puts the lines back in order.
async fn read_back(client: &Client, input: &Input) -> Vec<u8> {
    let mut consumer = client.consumer(ConsumerConfig::default());
    let partitions =
        consumer.assign_topic(input.name.as_str(), StartAt::Start).await.expect("the topic is there");
    assert_eq!(partitions, PARTITIONS);
    let mut next = BTreeMap::new();
    let mut last_line: BTreeMap<_, usize> = BTreeMap::new();
    let mut lines: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    while lines.len() < input.lines.len() {
        let record = match tokio::time::timeout(PATIENCE, consumer.next()).await {
            Ok(record) => record.expect("records follow each other"),
            Err(_) => panic!("{}: {} of {} lines came back", input.name, lines.len(), input.lines.len()),
        };
        let expected = next.insert(record.partition, record.offset.next()).unwrap_or_default();
        assert_eq!(record.offset, expected, "{}: offsets are dense from 0", input.name);
        let key = record.key.expect("every line has its number");
        let number: usize = std::str::from_utf8(&key).expect("digits").parse().expect("a number");
        let before = last_line.insert(record.partition, number);
        assert!(
            before.is_none_or(|before| before < number),
            "{}: line {number} after {before:?}",
            input.name
        );
        let value = record.value.expect("every line has a value, be it empty");
        assert!(lines.insert(number, value.to_vec()).is_none(), "{}: line {number} came twice", input.name);
    }
    for partition in 0..PARTITIONS {
        let partition = raftline_client::proto::ids::PartitionIndex(partition);
        let end =
            client.admin().offset(&input.name, partition, StartAt::End).await.expect("there is a leader");
        assert_eq!(end, next.get(&partition).copied().unwrap_or_default(), "{}: more is there", input.name);
    }
    lines.into_values().collect::<Vec<_>>().join(&b'\n')
}
