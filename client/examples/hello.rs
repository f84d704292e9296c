//! Sends a few records and reads them back.
//!
//! ```sh
//! raftlined --dev --data-dir /tmp/raftline &
//! cargo run -p raftline-client --example hello            # or: --example hello -- HOST:PORT
//! ```

use std::error::Error;

use raftline_client::proto::ids::PartitionIndex;
use raftline_client::{Client, ClientConfig, ConsumerConfig, NewTopic, ProducerConfig, Record, StartAt};

#[allow(dead_code, reason = "the end-to-end tests call `hello` by itself")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9192".to_owned());
    hello(&address, "greetings").await
}

/// Makes a topic of one partition, writes to it, and reads back what was acknowledged.
///
/// # Errors
/// Whatever the cluster refuses, in its own words.
pub async fn hello(address: &str, topic: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect([address], ClientConfig::default()).await?;
    let wanted = NewTopic { name: topic.into(), partitions: 1, replication: 1, ..NewTopic::default() };
    client.admin().create_topic(&wanted).await?;

    let producer = client.producer(ProducerConfig::default());
    let mut tickets = Vec::new();
    for word in ["hello", "bonjour", "hallo"] {
        tickets.push((word, producer.send(Record::to(topic).key("greeting").value(word)).await?));
    }
    for (word, ticket) in tickets {
        let delivery = ticket.await?;
        println!("`{word}` is durable on a majority at offset {}", delivery.offset);
    }
    producer.close().await?;

    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(topic, PartitionIndex(0), StartAt::Start);
    for word in ["hello", "bonjour", "hallo"] {
        let record = consumer.next().await?;
        assert_eq!(record.value.as_deref(), Some(word.as_bytes()), "in the order sent");
        println!("read `{word}` at offset {}", record.offset);
    }
    Ok(())
}
