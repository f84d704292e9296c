//! The native API (`api.proto`): what clients and tools ask, turned into events, and the shards' answers into replies.
//!
//! In reading order: this file (the service and what its methods share), `errors`, `produce`, `fetch`,
//! `metadata`, `forward` (who is asked in our place), `admin` (what the coordinator decides), `groups` (consumer
//! groups), `register`, `status`.

mod admin;
pub(crate) mod errors;
mod fetch;
mod forward;
mod groups;
mod metadata;
mod produce;
mod register;
mod status;

use crate::clock::Clock;
use crate::groups::GroupCoordinators;
use crate::handle::Shards;
use crate::identity::Identity;
use crate::limits;
use crate::payload::OutReply;
use crate::peer::Peers;
use crate::pulse::PulseLine;
use crate::view::NodeView;
use errors::Place;
use forward::Forwarder;
use raftline_proto::api as pb;
use raftline_proto::ids::GroupId;
use raftline_shard::image::TopicImage;
use raftline_shard::types::{ProduceError, Produced, Reply};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use admin::{decide, rehearse};
pub(crate) use groups::make_groups_topic;
pub(crate) use metadata::{auto_create, wait_for_topic};
pub use register::{Addresses, register, registered};

/// What the service is made of.
pub struct BrokerParts {
    /// The way to the shards.
    pub shards: Shards,
    /// What the shards publish.
    pub view: Arc<NodeView>,
    /// The process's clock.
    pub clock: Clock,
    /// This node.
    pub identity: Arc<Identity>,
    /// The connections to the peers.
    pub peers: Peers,
    /// Whether topics that clients name are made.
    pub auto_create_topics: bool,
    /// Replicas of a new topic whose creator does not say.
    pub default_replication: u32,
    /// Partitions of a new topic whose creator does not say.
    pub default_partitions: u32,
    /// A new topic's `segment.bytes`, where it is not set and this is not the built-in default.
    pub default_segment_bytes: Option<u64>,
    /// Kept free on the disk.
    pub reserve_bytes: u64,
    /// The way to the pulse.
    pub pulse: PulseLine,
    /// The coordinators of consumer groups on this node.
    pub(crate) groups: Arc<GroupCoordinators>,
    /// Cancelled when the process stops.
    pub stop: CancellationToken,
}

/// A broker, as its clients see it.
pub struct Broker {
    pub(crate) shards: Shards,
    pub(crate) view: Arc<NodeView>,
    pub(crate) clock: Clock,
    pub(crate) identity: Arc<Identity>,
    pub(crate) peers: Peers,
    forwarder: Forwarder,
    pub(crate) auto_create_topics: bool,
    pub(crate) default_replication: u32,
    pub(crate) default_partitions: u32,
    pub(crate) default_segment_bytes: Option<u64>,
    reserve_bytes: u64,
    pulse: PulseLine,
    groups: Arc<GroupCoordinators>,
    /// KiB of batches that are on their way to a quorum, all connections together.
    pub(crate) produce_budget: Arc<Semaphore>,
    /// KiB of records that are on their way to consumers.
    fetch_budget: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Broker {
    /// A broker of these parts.
    #[must_use]
    pub fn new(parts: BrokerParts) -> Self {
        let BrokerParts { shards, view, clock, identity, peers, groups, stop, .. } = parts;
        let forwarder = Forwarder::new(identity.node(), Arc::clone(&view), peers.clone());
        Self {
            shards,
            view,
            clock,
            identity,
            peers,
            forwarder,
            auto_create_topics: parts.auto_create_topics,
            default_replication: parts.default_replication,
            default_partitions: parts.default_partitions,
            default_segment_bytes: parts.default_segment_bytes,
            reserve_bytes: parts.reserve_bytes,
            pulse: parts.pulse,
            groups,
            produce_budget: Arc::new(Semaphore::new(limits::PRODUCE_KIBIBYTES_MAX)),
            fetch_budget: Arc::new(Semaphore::new(limits::FETCH_KIBIBYTES_MAX)),
            stop,
        }
    }

    /// The topic of this name.
    fn topic(&self, name: &str) -> Result<Arc<TopicImage>, pb::Error> {
        let image = self.view.image();
        let id = image.topic_ids.get(name);
        id.and_then(|id| image.topics.get(id)).cloned().ok_or_else(|| errors::unknown_topic(name))
    }

    /// The group of a partition, if it has a replica here.
    fn group(&self, place: Place<'_>) -> Result<GroupId, pb::Error> {
        self.hosted(place).map(|(_, group)| group)
    }

    /// The same, with its topic.
    fn hosted(&self, place: Place<'_>) -> Result<(Arc<TopicImage>, GroupId), pb::Error> {
        let topic = self.topic(place.topic)?;
        let partition = usize::try_from(place.partition).ok().and_then(|at| topic.partitions.get(at));
        let partition = partition.ok_or_else(|| errors::unknown_partition(place, topic.partitions.len()))?;
        if partition.replicas.contains(&self.identity.node()) {
            let group = partition.group;
            Ok((topic, group))
        } else {
            Err(errors::not_leader(place, partition.replicas.first().copied()))
        }
    }
}

/// The answer to a produce.
fn expect_produced(answer: OutReply) -> Result<Result<Produced, ProduceError>, pb::Error> {
    match answer {
        OutReply::Shard(Reply::Produced(result)) => Ok(result),
        other => Err(errors::unexpected(&other)),
    }
}

/// The service: a handle on the broker that tonic may clone for every connection.
#[derive(Clone)]
pub struct BrokerService(pub Arc<Broker>);

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl pb::broker_server::Broker for BrokerService {
    type ProduceStream = Replies<pb::ProduceReply>;
    type SubscribeStream = Replies<pb::FetchReply>;

    async fn produce(
        &self,
        request: Request<Streaming<pb::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let replies = produce::serve(Arc::clone(&self.0), request.into_inner());
        Ok(Response::new(Box::pin(replies)))
    }

    async fn fetch(&self, request: Request<pb::FetchRequest>) -> Result<Response<pb::FetchReply>, Status> {
        Ok(Response::new(fetch::fetch(&self.0, request.into_inner()).await))
    }

    async fn subscribe(
        &self,
        request: Request<pb::FetchRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (sender, replies) = mpsc::channel(1);
        tokio::spawn(fetch::subscribe(Arc::clone(&self.0), request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }

    async fn list_offset(
        &self,
        request: Request<pb::ListOffsetRequest>,
    ) -> Result<Response<pb::ListOffsetReply>, Status> {
        Ok(Response::new(fetch::list_offset(&self.0, request.into_inner()).await))
    }

    async fn metadata(
        &self,
        request: Request<pb::MetadataRequest>,
    ) -> Result<Response<pb::MetadataReply>, Status> {
        Ok(Response::new(metadata::metadata(&self.0, request.into_inner()).await))
    }

    async fn init_producer(
        &self,
        request: Request<pb::InitProducerRequest>,
    ) -> Result<Response<pb::InitProducerReply>, Status> {
        Ok(Response::new(admin::decide(&self.0, request).await))
    }

    async fn create_topic(
        &self,
        request: Request<pb::CreateTopicRequest>,
    ) -> Result<Response<pb::CreateTopicReply>, Status> {
        Ok(Response::new(admin::decide(&self.0, request).await))
    }

    async fn delete_topic(
        &self,
        request: Request<pb::DeleteTopicRequest>,
    ) -> Result<Response<pb::AdminReply>, Status> {
        Ok(Response::new(admin::decide(&self.0, request).await))
    }

    async fn alter_topic(
        &self,
        request: Request<pb::AlterTopicRequest>,
    ) -> Result<Response<pb::AdminReply>, Status> {
        Ok(Response::new(admin::decide(&self.0, request).await))
    }

    async fn add_partitions(
        &self,
        request: Request<pb::AddPartitionsRequest>,
    ) -> Result<Response<pb::AdminReply>, Status> {
        Ok(Response::new(admin::decide(&self.0, request).await))
    }

    async fn describe_topic(
        &self,
        request: Request<pb::DescribeTopicRequest>,
    ) -> Result<Response<pb::DescribeTopicReply>, Status> {
        Ok(Response::new(metadata::describe_topic(&self.0, &request.into_inner())))
    }

    async fn node_status(
        &self,
        request: Request<pb::NodeStatusRequest>,
    ) -> Result<Response<pb::NodeStatusReply>, Status> {
        Ok(Response::new(status::node_status(&self.0, request.into_inner()).await))
    }

    async fn transfer(
        &self,
        request: Request<pb::TransferRequest>,
    ) -> Result<Response<pb::AdminReply>, Status> {
        Ok(Response::new(status::transfer(&self.0, request).await))
    }

    async fn trust_clock(
        &self,
        _: Request<pb::TrustClockRequest>,
    ) -> Result<Response<pb::AdminReply>, Status> {
        tracing::info!("told to trust this broker's wall clock again");
        self.0.pulse.trust_clock(self.0.clock.now());
        Ok(Response::new(pb::AdminReply::default()))
    }

    async fn list_consumer_groups(
        &self,
        request: Request<pb::ListConsumerGroupsRequest>,
    ) -> Result<Response<pb::ListConsumerGroupsReply>, Status> {
        Ok(Response::new(groups::list(&self.0, request).await))
    }

    async fn describe_consumer_group(
        &self,
        request: Request<pb::DescribeConsumerGroupRequest>,
    ) -> Result<Response<pb::DescribeConsumerGroupReply>, Status> {
        Ok(Response::new(groups::answer(&self.0, request).await))
    }

    async fn consumer_group_heartbeat(
        &self,
        request: Request<pb::ConsumerGroupHeartbeatRequest>,
    ) -> Result<Response<pb::ConsumerGroupHeartbeatReply>, Status> {
        Ok(Response::new(groups::answer(&self.0, request).await))
    }

    async fn commit_offsets(
        &self,
        request: Request<pb::CommitOffsetsRequest>,
    ) -> Result<Response<pb::CommitOffsetsReply>, Status> {
        Ok(Response::new(groups::answer(&self.0, request).await))
    }

    async fn fetch_offsets(
        &self,
        request: Request<pb::FetchOffsetsRequest>,
    ) -> Result<Response<pb::FetchOffsetsReply>, Status> {
        Ok(Response::new(groups::answer(&self.0, request).await))
    }

    async fn delete_offsets(
        &self,
        request: Request<pb::DeleteOffsetsRequest>,
    ) -> Result<Response<pb::DeleteOffsetsReply>, Status> {
        Ok(Response::new(groups::answer(&self.0, request).await))
    }

    async fn delete_consumer_group(
        &self,
        request: Request<pb::DeleteConsumerGroupRequest>,
    ) -> Result<Response<pb::AdminReply>, Status> {
        Ok(Response::new(groups::answer(&self.0, request).await))
    }
}
