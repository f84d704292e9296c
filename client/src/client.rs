//! The entrance: a connection to a cluster, from which producers, consumers and admins are made.

use crate::admin::Admin;
use crate::clock;
use crate::cluster::{Backoff, Cluster, left};
use crate::config::{ClientConfig, ConsumerConfig, GroupConsumerConfig, MissingTopic, ProducerConfig};
use crate::consumer::Consumer;
use crate::error::ConnectError;
use crate::group_consumer::GroupConsumer;
use crate::producer::Producer;
use std::sync::Arc;

/// A cluster, seen from outside. Cheap to clone; all clones share connections and metadata.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use raftline_client::{Client, ClientConfig, ProducerConfig, Record};
///
/// let client = Client::connect(["127.0.0.1:9192"], ClientConfig::default()).await?;
/// let producer = client.producer(ProducerConfig::default());
/// let ticket = producer.send(Record::to("orders").value("first")).await?;
/// println!("stored at offset {}", ticket.await?.offset);
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) cluster: Arc<Cluster>,
}

impl Client {
    /// Finds the cluster through any of its brokers (`host:port` of their gRPC listeners). One that answers is
    /// enough: the others are learnt from it. Tries for [`ClientConfig::connect_timeout`].
    ///
    /// # Errors
    /// No broker answered, or an address is none.
    pub async fn connect(
        brokers: impl IntoIterator<Item = impl Into<String>>,
        config: ClientConfig,
    ) -> Result<Self, ConnectError> {
        let deadline = clock::monotonic() + config.connect_timeout;
        let mut backoff = Backoff::new(&config);
        let cluster = Arc::new(Cluster::new(brokers.into_iter().map(Into::into).collect(), config)?);
        loop {
            match cluster.refresh(0, MissingTopic::Refuse).await {
                Ok(_) => return Ok(Self { cluster }),
                Err(tried) => match left(deadline) {
                    Some(left) => tokio::time::sleep(backoff.pause().min(left)).await,
                    None => return Err(ConnectError::Unreachable { tried }),
                },
            }
        }
    }

    /// A producer. Must be called within a tokio runtime, as it starts a task there.
    #[must_use]
    pub fn producer(&self, config: ProducerConfig) -> Producer {
        Producer::start(self.cluster.clone(), config)
    }

    /// A consumer with nothing assigned yet.
    #[must_use]
    pub fn consumer(&self, config: ConsumerConfig) -> Consumer {
        Consumer::new(self.cluster.clone(), config)
    }

    /// A consumer that shares the partitions of these topics with the other members of its group. Joins in the
    /// background; what is wrong with that, [`GroupConsumer::next`] says. Must be called within a tokio runtime, as it
    /// starts a task there.
    #[must_use]
    pub fn group_consumer(
        &self,
        group: impl Into<String>,
        topics: impl IntoIterator<Item = impl Into<String>>,
        config: GroupConsumerConfig,
    ) -> GroupConsumer {
        let topics = topics.into_iter().map(Into::into).collect();
        GroupConsumer::start(self, group.into(), topics, config)
    }

    /// Topics, nodes, leadership, consumer groups.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.cluster.clone())
    }
}
