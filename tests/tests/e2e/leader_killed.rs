//! The leader is killed under load: nothing acknowledged is lost, doubled or out of order.

use crate::cluster::{Cluster, create_topic};
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::{ConsumerConfig, ProducerConfig, Record, StartAt};

const RECORDS: u64 = 30_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_and_doubles_nothing() {
    let (mut cluster, client) = Cluster::start(3).await;
    create_topic(&client, "load", 1).await;
    let first = cluster.leader(&client, "load", 0).await;
    let producer = client.producer(ProducerConfig { batch_bytes: 4096, ..ProducerConfig::default() });
    let mut tickets = Vec::new();
    let mut killed = Vec::new();
    for number in 0..RECORDS {
        let record = Record::to("load").value(number.to_string());
        tickets.push(producer.send(record).await.expect("the record is taken"));
        match number {
            _ if number == RECORDS / 3 => {
                cluster.kill(first);
                killed.push(first);
            }
            _ if number == RECORDS * 2 / 3 => {
                // The second leader falls only after the first is back, or there would be no majority.
                cluster.start_node(first);
                let client = cluster.client().await;
                let second = cluster.leader(&client, "load", 0).await;
                cluster.kill(second);
                cluster.start_node(second);
                killed.push(second);
            }
            _ => {}
        }
    }
    let mut acknowledged = Vec::new();
    for ticket in tickets {
        acknowledged.push(ticket.await.expect("everything is acknowledged in the end").offset);
    }
    assert_eq!(killed.len(), 2, "two leaders were killed");
    let end = client.admin().offset("load", PartitionIndex(0), StartAt::End).await.expect("there is an end");
    assert_eq!(end, Offset(RECORDS), "each record is there once");
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign("load", PartitionIndex(0), StartAt::Start);
    for number in 0..RECORDS {
        let record = consumer.next().await.expect("the record is there");
        assert_eq!(record.offset, Offset(number));
        assert_eq!(record.value.as_deref(), Some(number.to_string().as_bytes()), "at offset {number}");
        let place = usize::try_from(number).expect("it fits");
        assert_eq!(acknowledged[place], record.offset, "the offset that was acknowledged");
    }
    let client = cluster.client().await;
    cluster.wait_equal(&client).await;
    cluster.stop_all();
}
