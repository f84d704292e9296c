//! Raftline's client: [`Producer`], [`Consumer`], [`GroupConsumer`] and [`Admin`] over one [`Client`].
//!
//! It speaks the native gRPC API (`proto/proto/api.proto`), finds leaders by itself, and follows them when they change.
//! The defaults are the safe ones: a record is acknowledged when a majority of its partition's replicas has it on
//! stable storage, is stored exactly once however often the connection breaks, and stays in order within its
//! partition. What failed says what is known of its outcome ([`Outcome`]).
//!
//! It never holds more than it was told to: bytes on their way to the brokers
//! ([`ProducerConfig::in_flight_bytes`]) and bytes read ahead ([`ConsumerConfig::prefetch_bytes`]) are bounded, and
//! whoever sends more waits.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use raftline_client::{Client, ClientConfig, ConsumerConfig, NewTopic, ProducerConfig, Record, StartAt};
//!
//! let client = Client::connect(["127.0.0.1:9192"], ClientConfig::default()).await?;
//! client.admin().create_topic(&NewTopic { name: "greetings".into(), ..Default::default() }).await?;
//!
//! let producer = client.producer(ProducerConfig::default());
//! let ticket = producer.send(Record::to("greetings").key("en").value("hello")).await?;
//! let delivery = ticket.await?;
//! println!("partition {}, offset {}", delivery.partition, delivery.offset);
//!
//! let mut consumer = client.consumer(ConsumerConfig::default());
//! consumer.assign("greetings", delivery.partition, StartAt::Offset(delivery.offset));
//! assert_eq!(consumer.next().await?.value.as_deref(), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! In reading order: `client` (the entrance), `config`, `error`, `record`; `cluster` (what is known of the cluster),
//! `ask` and `connection`; `producer`, `partitioner`, `consumer`, `group_consumer`, `admin`.
#![forbid(unsafe_code)]

mod admin;
mod ask;
mod client;
mod clock;
mod cluster;
mod config;
mod connection;
mod consumer;
mod error;
mod group_consumer;
mod limits;
mod partitioner;
mod producer;
mod record;

pub use admin::{Admin, GroupDescription, GroupPartition, NewTopic, OffsetReset};
pub use client::Client;
pub use config::{
    Assignor, AutoCommit, ClientConfig, Compression, ConsumerConfig, Durability, GroupConsumerConfig,
    Idempotence, MissingTopic, OutOfRange, ProducerConfig,
};
pub use consumer::{Consumer, StartAt};
pub use error::{
    AdminError, Attempt, Attempts, CommitError, ConnectError, ConsumeError, DeliveryError, ErrorCode,
    GroupConsumeError, Outcome, Refusal, SendError,
};
pub use group_consumer::GroupConsumer;
pub use partitioner::{murmur2, partition_of_key};
pub use producer::{Producer, Ticket};
pub use record::{ConsumedRecord, Delivery, Header, Record, TopicPartition};

/// Ids, offsets, times, and the messages that [`Admin`] hands out.
pub use raftline_proto as proto;
