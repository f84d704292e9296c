//! Files go in, all brokers are killed with -9 at once in the middle, and every byte comes back.

use crate::cluster::{Cluster, create_topic};
use crate::corpus::{self, Input};
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::{Client, ConsumerConfig, Producer, ProducerConfig, Record, StartAt, Ticket};
use std::sync::Arc;

const PARTITIONS: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_of_the_generated_files_survives_the_kill_of_all() {
    let seed = 20_261_122;
    println!("seed {seed}");
    every_byte_survives(corpus::generated(seed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_of_the_real_files_survives_the_kill_of_all() {
    match corpus::real() {
        Some(inputs) => {
            assert_eq!(inputs.len(), 16, "the set has 16 files");
            every_byte_survives(inputs).await;
        }
        None => println!("skipped: no real log files on this machine (set RAFTLINE_LOGHUB to their folder)"),
    }
}

async fn every_byte_survives(inputs: Vec<Input>) {
    let (mut cluster, client) = Cluster::start(3).await;
    for input in &inputs {
        create_topic(&client, &input.topic, PARTITIONS).await;
    }
    let producer = client.producer(ProducerConfig::default());
    let lines: Vec<Vec<&[u8]>> = inputs.iter().map(Input::lines).collect();
    let mut tickets = Vec::new();
    send(&producer, &inputs, &lines, |count| 0..count / 2, &mut tickets).await;
    // Some of it is acknowledged, some under way.
    let acknowledged = tickets.pop().expect("there is input").await.expect("the half is acknowledged");
    assert!(acknowledged.durable_on.len() >= 2, "acknowledged by {:?} alone", acknowledged.durable_on);
    send(&producer, &inputs, &lines, |count| count / 2..count * 3 / 4, &mut tickets).await;
    cluster.kill_all();
    cluster.start_all();
    send(&producer, &inputs, &lines, |count| count * 3 / 4..count, &mut tickets).await;
    for ticket in tickets {
        ticket.await.expect("everything is acknowledged in the end");
    }
    let client = cluster.client().await;
    for (input, lines) in inputs.iter().zip(&lines) {
        read_back(&client, input, lines).await;
    }
    cluster.wait_equal(&client).await;
    cluster.stop_all();
}

/// Sends the lines in `part` of every file, in turns over the files, the line's number as the key.
async fn send(
    producer: &Producer,
    inputs: &[Input],
    lines: &[Vec<&[u8]>],
    part: impl Fn(usize) -> std::ops::Range<usize>,
    tickets: &mut Vec<Ticket>,
) {
    for (input, lines) in inputs.iter().zip(lines) {
        let topic: Arc<str> = Arc::from(input.topic.as_str());
        for number in part(lines.len()) {
            let record = Record::to(topic.clone()).key(number.to_string()).value(lines[number].to_vec());
            tickets.push(producer.send(record).await.expect("the record is taken"));
        }
    }
}

/// Reads all partitions of a topic and puts the file together again.
async fn read_back(client: &Client, input: &Input, lines: &[&[u8]]) {
    let mut found: Vec<Option<Vec<u8>>> = vec![None; lines.len()];
    for partition in (0..PARTITIONS).map(PartitionIndex) {
        let end =
            client.admin().offset(&input.topic, partition, StartAt::End).await.expect("there is an end");
        let mut consumer = client.consumer(ConsumerConfig::default());
        consumer.assign(input.topic.as_str(), partition, StartAt::Start);
        let mut previous = None;
        for offset in 0..end.get() {
            let record = consumer.next().await.expect("the record is there");
            assert_eq!(record.offset, Offset(offset), "{}/{partition}: offsets are dense", input.topic);
            let key = String::from_utf8(record.key.expect("it has a key").to_vec()).expect("a number");
            let number: usize = key.parse().expect("a number");
            assert!(previous < Some(number), "{}/{partition}: line {number} after {previous:?}", input.topic);
            previous = Some(number);
            let value = record.value.expect("it has a value").to_vec();
            assert!(found[number].replace(value).is_none(), "{}: line {number} is there twice", input.topic);
        }
    }
    let found: Vec<Vec<u8>> = found
        .into_iter()
        .enumerate()
        .map(|(number, line)| line.unwrap_or_else(|| panic!("{}: line {number} is lost", input.topic)))
        .collect();
    assert!(found.join(&b'\n') == input.bytes, "{}: the bytes differ", input.topic);
}
