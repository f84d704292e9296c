//! Leaders are killed under load: nothing acknowledged is lost or doubled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::{Client, ConsumerConfig, Delivery, NewTopic, ProducerConfig, Record, StartAt};
use raftline_tests::cluster::{Cluster, PATIENCE};

use crate::PROGRAM;

const TOPIC: &str = "load";
const PARTITIONS: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_when_leaders_die() {
    let mut cluster = Cluster::start(PROGRAM, "leader-killed", 3);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let topic =
        NewTopic { name: TOPIC.into(), partitions: PARTITIONS, replication: 3, ..NewTopic::default() };
    client.admin().create_topic(&topic).await.expect("a topic is created");
    cluster.wait_until_ready(&client, &[TOPIC]).await;

    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(produce(client.clone(), stop.clone()));
    for partition in 0..PARTITIONS {
        let before = end(&client, partition).await;
        wait_until_past(&client, partition, before).await;
        let victim = cluster.wait_for_leader(&client, TOPIC, partition, |_| true).await;
        cluster.kill(victim);
        cluster.wait_for_leader(&client, TOPIC, partition, |leader| leader != victim).await;
        let after = end(&client, partition).await;
        wait_until_past(&client, partition, after).await;
        cluster.start_broker(victim);
        cluster.wait_until_ready(&client, &[TOPIC]).await;
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = load.await.expect("the load ends by itself");
    assert!(acknowledged.len() > 100, "only {} records were acknowledged", acknowledged.len());

    let found = read_all(&client).await;
    for (number, delivery) in &acknowledged {
        let there = found.get(&(delivery.partition, delivery.offset));
        assert_eq!(there, Some(number), "acknowledged record {number}: {delivery:?}");
    }
    let mut numbers: Vec<u64> = found.values().copied().collect();
    numbers.sort_unstable();
    let records = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), records, "a record is there twice");
    for partition in 0..PARTITIONS {
        let in_order: Vec<u64> =
            found.iter().filter(|((found, _), _)| found.0 == partition).map(|(_, number)| *number).collect();
        assert!(in_order.is_sorted(), "partition {partition} is out of order");
    }
    println!("{} records acknowledged over {PARTITIONS} killed leaders", acknowledged.len());
}

/// Sends numbered records until told to stop; returns what was acknowledged and where.
async fn produce(client: Client, stop: Arc<AtomicBool>) -> Vec<(u64, Delivery)> {
    let producer = client.producer(ProducerConfig::default());
    let mut tickets = Vec::new();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let partition = PartitionIndex(u32::try_from(number % u64::from(PARTITIONS)).expect("small"));
        let record = Record::to(TOPIC).partition(partition).value(number.to_string());
        tickets.push((number, producer.send(record).await.expect("the record is taken")));
        number += 1;
        // A steady stream rather than as fast as possible: the machine is shared by three brokers.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut acknowledged = Vec::new();
    for (number, ticket) in tickets {
        let delivery = ticket.await.unwrap_or_else(|error| panic!("record {number}: {error}"));
        acknowledged.push((number, delivery));
    }
    producer.close().await.expect("nothing is left");
    acknowledged
}

async fn end(client: &Client, partition: u32) -> Offset {
    client.admin().offset(TOPIC, PartitionIndex(partition), StartAt::End).await.expect("there is a leader")
}

async fn wait_until_past(client: &Client, partition: u32, offset: Offset) {
    raftline_tests::cluster::wait_for("more records", async || {
        (end(client, partition).await > offset + 20).then_some(())
    })
    .await;
}

/// Every record there is, by its place.
async fn read_all(client: &Client) -> BTreeMap<(PartitionIndex, Offset), u64> {
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign_topic(TOPIC, StartAt::Start).await.expect("the topic is there");
    let mut left = 0;
    for partition in 0..PARTITIONS {
        left += end(client, partition).await.0;
    }
    let mut found = BTreeMap::new();
    while left > 0 {
        let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
        let record = next.unwrap_or_else(|_| panic!("{left} records did not come")).expect("a record");
        let value = record.value.expect("a number");
        let number = std::str::from_utf8(&value).expect("digits").parse().expect("a number");
        found.insert((record.partition, record.offset), number);
        left -= 1;
    }
    found
}
