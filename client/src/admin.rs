//! Topics, nodes and leadership, for operators and tools; consumer groups in `groups`, how far they are in `offsets`.

mod groups;
mod offsets;

use crate::clock;
use crate::cluster::{Backoff, Cluster, left, refusal};
use crate::config::MissingTopic;
use crate::connection::{Stub, Use, describe_status};
use crate::consumer::StartAt;
use crate::error::{AdminError, ErrorCode, Refusal};
use raftline_proto::api;
use raftline_proto::ids::{NodeId, Offset, PartitionIndex};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use groups::{GroupDescription, GroupPartition};
pub(crate) use groups::{by_topic, each};
pub use offsets::OffsetReset;

/// A topic to make. Zero partitions or replicas mean the cluster's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Letters, digits, `.`, `_` and `-`; at most 249.
    pub name: String,
    /// How many partitions.
    pub partitions: u32,
    /// How many replicas of each.
    pub replication: u32,
    /// Only what differs from the defaults.
    pub configs: BTreeMap<String, String>,
}

/// Asks the cluster to change or to tell. Every question goes to whoever can answer it, is repeated where that helps,
/// and given up after [`crate::ClientConfig::request_timeout`].
///
/// ```no_run
/// # async fn example(client: raftline_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use raftline_client::{ErrorCode, NewTopic};
///
/// let admin = client.admin();
/// let topic = NewTopic { name: "orders".into(), partitions: 6, ..NewTopic::default() };
/// match admin.create_topic(&topic).await {
///     Ok(partitions) => println!("made with {partitions} partitions"),
///     Err(error) if error.code() == Some(ErrorCode::TopicExists) => println!("was there already"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Arc<Cluster>,
}

/// A reply that may carry an error.
trait Reply {
    fn error(&mut self) -> Option<api::Error>;
}

macro_rules! replies {
    ($($reply:ident),*) => {
        $(impl Reply for api::$reply {
            fn error(&mut self) -> Option<api::Error> {
                self.error.take()
            }
        })*
    };
}

replies!(
    CreateTopicReply,
    AdminReply,
    DescribeTopicReply,
    ListOffsetReply,
    ListConsumerGroupsReply,
    DescribeConsumerGroupReply,
    ConsumerGroupHeartbeatReply,
    CommitOffsetsReply,
    FetchOffsetsReply,
    DeleteOffsetsReply
);

/// Who is asked first.
enum Whom<'a> {
    Coordinator,
    /// Any broker: it passes the question on.
    Anyone,
    Leader {
        topic: &'a str,
        partition: PartitionIndex,
    },
}

impl Admin {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Makes a topic and tells how many partitions it has.
    ///
    /// # Errors
    /// [`ErrorCode::TopicExists`] and the other refusals. After a broken connection the topic may have been made by
    /// an attempt whose answer was lost, and "exists" is then good news.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<u32, AdminError> {
        let request = api::CreateTopicRequest {
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication: topic.replication,
            configs: topic.configs.clone(),
            assignment: Vec::new(),
        };
        let question = format!("create topic `{}`", topic.name);
        let reply = self
            .ask(&question, Whom::Coordinator, |mut stub| {
                let request = request.clone();
                async move { stub.create_topic(request).await }
            })
            .await?;
        Ok(reply.partitions)
    }

    /// Deletes a topic and all its records.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopicOrPartition`] if there is none.
    pub async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        let question = format!("delete topic `{name}`");
        self.ask(&question, Whom::Coordinator, |mut stub| {
            let request = api::DeleteTopicRequest { name: name.to_owned(), id: String::new() };
            async move { stub.delete_topic(request).await }
        })
        .await?;
        Ok(())
    }

    /// Sets some configs of a topic and resets others to their defaults.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidConfig`] names the entry and its range.
    pub async fn alter_topic(
        &self,
        name: &str,
        set: BTreeMap<String, String>,
        reset: Vec<String>,
    ) -> Result<(), AdminError> {
        let request = api::AlterTopicRequest { name: name.to_owned(), set, reset };
        let question = format!("alter topic `{name}`");
        self.ask(&question, Whom::Coordinator, |mut stub| {
            let request = request.clone();
            async move { stub.alter_topic(request).await }
        })
        .await?;
        Ok(())
    }

    /// Adds partitions to a topic until it has `total`. Keys map to other partitions from then on.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidPartitions`] if it has that many already.
    pub async fn add_partitions(&self, name: &str, total: u32) -> Result<(), AdminError> {
        let question = format!("add partitions to topic `{name}`");
        self.ask(&question, Whom::Coordinator, |mut stub| {
            let request = api::AddPartitionsRequest { name: name.to_owned(), total, assignment: Vec::new() };
            async move { stub.add_partitions(request).await }
        })
        .await?;
        Ok(())
    }

    /// A topic's partitions, and all its configs with defaults and documentation.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopicOrPartition`] if there is none.
    pub async fn describe_topic(&self, name: &str) -> Result<api::DescribeTopicReply, AdminError> {
        let question = format!("describe topic `{name}`");
        self.ask(&question, Whom::Coordinator, |mut stub| {
            let request = api::DescribeTopicRequest { name: name.to_owned() };
            async move { stub.describe_topic(request).await }
        })
        .await
    }

    /// Brokers, and the named topics (empty: all), as the first broker that answers knows them.
    ///
    /// # Errors
    /// No broker answered in time.
    pub async fn cluster(&self, topics: Vec<String>) -> Result<api::MetadataReply, AdminError> {
        let waited = self.cluster.config.request_timeout;
        let deadline = clock::monotonic() + waited;
        let mut backoff = Backoff::new(&self.cluster.config);
        loop {
            match self.cluster.ask_metadata(topics.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(tried) => match left(deadline) {
                    Some(left) => tokio::time::sleep(backoff.pause().min(left)).await,
                    None => {
                        return Err(AdminError::TimedOut {
                            question: "describe the cluster".into(),
                            waited,
                            last_failure: format!("no broker answered: {tried}"),
                        });
                    }
                },
            }
        }
    }

    /// The first, the next, or the offset at a timestamp, as the partition's leader knows it.
    ///
    /// # Errors
    /// The partition does not exist, or has no leader in time.
    pub async fn offset(
        &self,
        topic: &str,
        partition: PartitionIndex,
        at: StartAt,
    ) -> Result<Offset, AdminError> {
        self.offset_within(self.cluster.config.request_timeout, topic, partition, at).await
    }

    async fn offset_within(
        &self,
        waited: Duration,
        topic: &str,
        partition: PartitionIndex,
        at: StartAt,
    ) -> Result<Offset, AdminError> {
        use api::list_offset_request::At;
        let at = match at {
            StartAt::Start => At::Start(true),
            StartAt::End => At::End(true),
            StartAt::Timestamp(timestamp) => At::TimestampMs(timestamp.get()),
            StartAt::Offset(offset) => return Ok(offset),
        };
        let request =
            api::ListOffsetRequest { topic: topic.to_owned(), partition: partition.0, at: Some(at) };
        let question = format!("offset of topic `{topic}` partition {partition}");
        let reply = self
            .ask_within(waited, &question, Whom::Leader { topic, partition }, |mut stub| {
                let request = request.clone();
                async move { stub.list_offset(request).await }
            })
            .await?;
        Ok(Offset(reply.offset))
    }

    /// Hands a partition's leadership to `to`, or to the best placed replica. Returns when the hand-over has begun.
    ///
    /// # Errors
    /// `to` holds no copy, or is not caught up.
    pub async fn transfer(
        &self,
        topic: &str,
        partition: PartitionIndex,
        to: Option<NodeId>,
    ) -> Result<(), AdminError> {
        let to_node = to.map(NodeId::get);
        let question = format!("transfer the leadership of topic `{topic}` partition {partition}");
        self.ask(&question, Whom::Leader { topic, partition }, |mut stub| {
            let request = api::TransferRequest { topic: topic.to_owned(), partition: partition.0, to_node };
            async move { stub.transfer(request).await }
        })
        .await?;
        Ok(())
    }

    /// A node's own replicas and peers, in detail. Asked once: a node that is down is an answer, too.
    ///
    /// # Errors
    /// There is no such node, or it does not answer.
    pub async fn node_status(&self, node: NodeId) -> Result<api::NodeStatusReply, AdminError> {
        let Some(mut stub) = self.cluster.node_stub(Use::Requests, node) else {
            let known = self.cluster.view().brokers.keys().map(|node| node.get()).collect();
            return Err(AdminError::UnknownNode { asked: node.get(), known });
        };
        let waited = crate::limits::METADATA_ATTEMPT_TIMEOUT.min(self.cluster.config.request_timeout);
        let failed = |reason| AdminError::NodeSilent { node: node.get(), reason };
        let asked = stub.node_status(api::NodeStatusRequest { groups: Vec::new() });
        match tokio::time::timeout(waited, asked).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(failed(describe_status(&status))),
            Err(_) => Err(failed(format!("nothing within {waited:?}"))),
        }
    }

    /// Has a node trust its wall clock, which it doubts since it jumped: for whoever has set it right. Asked once.
    ///
    /// # Errors
    /// There is no such node, or it does not answer.
    pub async fn trust_clock(&self, node: NodeId) -> Result<(), AdminError> {
        let Some(mut stub) = self.cluster.node_stub(Use::Requests, node) else {
            let known = self.cluster.view().brokers.keys().map(|node| node.get()).collect();
            return Err(AdminError::UnknownNode { asked: node.get(), known });
        };
        let waited = crate::limits::METADATA_ATTEMPT_TIMEOUT.min(self.cluster.config.request_timeout);
        let failed = |reason| AdminError::NodeSilent { node: node.get(), reason };
        match tokio::time::timeout(waited, stub.trust_clock(api::TrustClockRequest {})).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(failed(describe_status(&status))),
            Err(_) => Err(failed(format!("nothing within {waited:?}"))),
        }
    }

    /// Asks until there is an answer that repeating would not change.
    async fn ask<R, F>(
        &self,
        question: &str,
        whom: Whom<'_>,
        call: impl Fn(Stub) -> F,
    ) -> Result<R, AdminError>
    where
        R: Reply,
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        self.ask_within(self.cluster.config.request_timeout, question, whom, call).await
    }

    /// The same, with a time of its own.
    async fn ask_within<R, F>(
        &self,
        waited: Duration,
        question: &str,
        whom: Whom<'_>,
        call: impl Fn(Stub) -> F,
    ) -> Result<R, AdminError>
    where
        R: Reply,
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        let deadline = clock::monotonic() + waited;
        let mut backoff = Backoff::new(&self.cluster.config);
        let mut last_failure = "nobody was found to ask".to_owned();
        let mut hint = None;
        if let Whom::Leader { topic, .. } = whom {
            self.cluster.note_interest(topic);
        }
        loop {
            let Some(left) = left(deadline) else {
                return Err(AdminError::TimedOut { question: question.to_owned(), waited, last_failure });
            };
            match self.target(&whom, hint.take()) {
                None => last_failure = "no leader is known".into(),
                Some(stub) => match tokio::time::timeout(left, call(stub)).await {
                    Err(_) => last_failure = "no answer".into(),
                    Ok(Err(status)) if is_final(&status) => {
                        let message = describe_status(&status);
                        return Err(Refusal { code: ErrorCode::InvalidRequest, message }.into());
                    }
                    Ok(Err(status)) => last_failure = describe_status(&status),
                    Ok(Ok(response)) => {
                        let mut reply = response.into_inner();
                        let Some(error) = reply.error() else { return Ok(reply) };
                        hint = error.leader_node.map(NodeId);
                        let refusal = refusal(error);
                        if !is_retriable(refusal.code) {
                            return Err(refusal.into());
                        }
                        last_failure = refusal.message;
                    }
                },
            }
            if hint.is_none() {
                tokio::time::sleep(backoff.pause().min(left)).await;
                let seen = self.cluster.view().version;
                if let Err(tried) = self.cluster.refresh(seen, MissingTopic::Refuse).await {
                    last_failure = format!("no broker answered: {tried}");
                }
                self.refuse_unknown(&whom)?;
            } else {
                tokio::time::sleep(backoff.pause().min(left) / 4).await;
            }
        }
    }

    /// A partition that does not exist has no leader to wait for.
    fn refuse_unknown(&self, whom: &Whom<'_>) -> Result<(), AdminError> {
        let Whom::Leader { topic, partition } = whom else { return Ok(()) };
        let view = self.cluster.view();
        let known = view.topics.get(*topic).map_or(0, |topic| topic.partitions.len());
        if known > partition.0 as usize {
            return Ok(());
        }
        let message = match view.topics.get(*topic) {
            Some(_) => {
                format!("topic `{topic}` has no partition {partition}: it has {known}, numbered from 0")
            }
            None => {
                format!("topic `{topic}` does not exist: create it first (`raftline topic create {topic}`)")
            }
        };
        Err(Refusal { code: ErrorCode::UnknownTopicOrPartition, message }.into())
    }

    /// The hinted node, else the one that the view says is right, else (any broker passes coordinators' questions on
    /// or tells whom to ask) one at random.
    fn target(&self, whom: &Whom<'_>, hint: Option<NodeId>) -> Option<Stub> {
        let view = self.cluster.view();
        let node = hint.or_else(|| match whom {
            Whom::Coordinator => view.coordinator,
            Whom::Anyone => None,
            Whom::Leader { topic, partition } => view.leader(topic, partition.0).map(|(node, _)| node),
        });
        let stub = node.and_then(|node| self.cluster.node_stub(Use::Requests, node));
        if stub.is_some() || matches!(whom, Whom::Leader { .. }) {
            return stub;
        }
        let address = self.cluster.candidates(None).into_iter().next()?;
        self.cluster.connections.stub(Use::Requests, &address).ok()
    }
}

/// The broker understood the call and will never take it.
fn is_final(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::InvalidArgument | tonic::Code::Unimplemented)
}

fn is_retriable(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeader
            | ErrorCode::NotCoordinator
            | ErrorCode::Busy
            | ErrorCode::Stopping
            | ErrorCode::LeadershipLost
            | ErrorCode::TimedOut
    )
}
