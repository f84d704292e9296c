//! Where everything is: Metadata and DescribeCluster.

use super::fencing::{Outlook, outlook};
use super::{Door, errors, text};
use crate::api::{auto_create, wait_for_topic};
use crate::limits;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use raftline_kafka::kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use raftline_kafka::kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
    describe_cluster_response::DescribeClusterBroker,
};
use raftline_kafka::leader::{Leader, NodeEndpoint};
use raftline_kafka::uuid::Uuid;
use raftline_proto::ids::{GroupId, NodeId, Term, TopicId};
use raftline_proto::metadata::PartitionRecord;
use raftline_shard::coordinator::internal::is_internal;
use raftline_shard::coordinator::names::check_topic_name;
use raftline_shard::image::{MetadataImage, TopicImage};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Waits until this broker is known to its cluster, but not longer than a while: a client that is told of no broker at
/// all has nobody to go on with.
pub(super) async fn registered(door: &Door) {
    if door.registered.load(Ordering::Relaxed) {
        return;
    }
    let own = door.broker.identity.node();
    let is_known = || endpoints(door).any(|endpoint| endpoint.id == node_id(own));
    // After a restart there is an image, but of before it: topics may be missing, until a leader has sent the rest.
    let has_coordinator =
        || door.broker.view.leader(GroupId::COORDINATOR).is_some_and(|group| group.leader.is_some());
    let mut changes = door.broker.view.changes();
    let known = async { while !(is_known() && has_coordinator()) && changes.changed().await.is_ok() {} };
    if tokio::time::timeout(limits::REGISTRATION_WAIT, known).await.is_ok() {
        door.registered.store(true, Ordering::Relaxed);
    }
}

/// Answers Metadata. Topics that are named and missing are made first, where broker and client want that.
pub(super) async fn metadata(door: &Door, version: i16, request: MetadataRequest) -> MetadataResponse {
    let broker = &door.broker;
    let (of_cluster, of_topics) =
        (request.include_cluster_authorized_operations, request.include_topic_authorized_operations);
    let mut topics = match request.topics {
        // Version 0 has no null: an empty list means all.
        Some(topics) if !(topics.is_empty() && version == 0) => {
            let may_create = request.allow_auto_topic_creation && broker.auto_create_topics;
            let image = broker.view.image();
            let known: Vec<_> = topics.iter().filter_map(|wanted| named(&image, wanted)).collect();
            broker.view.first_leaders(&known).await;
            let mut found = Vec::with_capacity(topics.len());
            for topic in topics {
                found.push(one(door, version, topic, may_create).await);
            }
            found
        }
        _ => {
            let mut all: Vec<_> = broker.view.image().topics.values().cloned().collect();
            all.sort_by(|left, right| left.name.cmp(&right.name));
            broker.view.first_leaders(&all).await;
            all.iter().map(|topic| describe(door, version, topic)).collect()
        }
    };
    let brokers = endpoints(door).map(|endpoint| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(endpoint.id))
            .with_host(endpoint.host)
            .with_port(endpoint.port)
    });
    if of_topics {
        // Of missing ones, too, as Kafka does: kafka-python 2 cannot read "not known" there.
        for topic in &mut topics {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    let mut answer = MetadataResponse::default();
    if of_cluster {
        answer.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    answer
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(cluster_id(door))))
        .with_controller_id(BrokerId(controller(door)))
        .with_topics(topics)
}

/// Answers DescribeCluster.
pub(super) fn describe_cluster(door: &Door, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let answer = DescribeClusterResponse::default().with_endpoint_type(request.endpoint_type);
    // 1 are brokers; 2 would be controllers of their own, which there are not.
    if request.endpoint_type != 1 {
        return answer
            .with_error_code(ErrorCode::UnsupportedEndpointType.code())
            .with_error_message(Some(text("every broker here is a controller too: ask for brokers")));
    }
    let outlook = outlook(door);
    let brokers = registered_endpoints(door).filter_map(|(node, endpoint)| {
        let is_fenced = !outlook.tells(node);
        let broker = DescribeClusterBroker::default()
            .with_broker_id(BrokerId(endpoint.id))
            .with_host(endpoint.host)
            .with_port(endpoint.port)
            .with_is_fenced(is_fenced);
        (!is_fenced || request.include_fenced_brokers).then_some(broker)
    });
    let answer = match request.include_cluster_authorized_operations {
        true => answer.with_cluster_authorized_operations(CLUSTER_OPERATIONS),
        false => answer,
    };
    answer
        .with_cluster_id(text(cluster_id(door)))
        .with_controller_id(BrokerId(controller(door)))
        .with_brokers(brokers.collect())
}

async fn one(
    door: &Door,
    version: i16,
    wanted: MetadataRequestTopic,
    may_create: bool,
) -> MetadataResponseTopic {
    let Some(name) = wanted.name else {
        if version < LOOKUP_BY_ID_FROM {
            // Nor is there a null name to answer with.
            return refused(Some(TopicName(text(""))), ErrorCode::InvalidRequest);
        }
        let id = TopicId(wanted.topic_id.as_u128());
        return match door.broker.view.image().topics.get(&id) {
            Some(topic) => describe(door, version, topic),
            None => refused(None, ErrorCode::UnknownTopicId).with_topic_id(wanted.topic_id),
        };
    };
    if let Some(topic) = topic(door, &name) {
        return describe(door, version, &topic);
    }
    if check_topic_name(&name).is_err() {
        return refused(Some(name), ErrorCode::InvalidTopicException);
    }
    if !may_create {
        return refused(Some(name), ErrorCode::UnknownTopicOrPartition);
    }
    match auto_create(&door.broker, &name).await {
        Ok(()) => wait_for_topic(&door.broker, &name).await,
        Err(error) => return refused(Some(name), errors::native(&error)),
    }
    match topic(door, &name) {
        Some(topic) => describe(door, version, &topic),
        // Made, and not known here yet: the client asks again.
        None => refused(Some(name), ErrorCode::LeaderNotAvailable),
    }
}

/// The topic that is asked for by its name or its id, if there is one here. A topic that has just been made gets its leaders
/// in a moment, and is waited for: some clients (rskafka) never ask again about a partition that had none when they first
/// asked.
fn named(image: &MetadataImage, wanted: &MetadataRequestTopic) -> Option<Arc<TopicImage>> {
    let id = match &wanted.name {
        Some(name) => *image.topic_ids.get(&***name)?,
        None => TopicId(wanted.topic_id.as_u128()),
    };
    image.topics.get(&id).cloned()
}

fn refused(name: Option<TopicName>, error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(error.code()).with_name(name)
}

fn describe(door: &Door, version: i16, topic: &TopicImage) -> MetadataResponseTopic {
    let (partitions, outlook) = (topic.partitions.iter().zip(0..), outlook(door));
    let found: Vec<i32> = registered_endpoints(door).map(|(_, endpoint)| endpoint.id).collect();
    let partitions = partitions.map(|(record, index)| {
        let told = partition(door, &outlook, record, index);
        if told.leader_id.0 < 0 || found.contains(&told.leader_id.0) {
            return told;
        }
        // Its leader cannot be reached by this listener: as Kafka says it.
        let error = if version >= LISTENER_NOT_FOUND_FROM {
            ErrorCode::ListenerNotFound
        } else {
            ErrorCode::LeaderNotAvailable
        };
        told.with_error_code(error.code()).with_leader_id(BrokerId(-1))
    });
    let partitions = partitions.collect();
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(topic.name.as_str()))))
        .with_topic_id(uuid(topic.id))
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions)
}

fn partition(
    door: &Door,
    outlook: &Outlook,
    record: &PartitionRecord,
    index: i32,
) -> MetadataResponsePartition {
    let view = &door.broker.view;
    let leader = leader_by(door, outlook, record);
    let is_open = |node: &NodeId| {
        let is_closed = if outlook.is_own(*node) {
            view.failure(record.group).is_some()
        } else {
            view.is_closed_on(*node, record.group)
        };
        // Of one that is out of reach nothing else is known than that it leads.
        node_id(*node) == leader.id || (outlook.hears(*node) && !is_closed)
    };
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| BrokerId(node_id(*node))).collect::<Vec<_>>();
    let (mut up, down): (Vec<NodeId>, Vec<NodeId>) = record.replicas.iter().partition(|node| is_open(node));
    // Before its first leader has said who is in sync, all that are up are as good.
    if let Some(in_sync) = view.in_sync(record.group) {
        up.retain(|node| node_id(*node) == leader.id || in_sync.contains(node));
    }
    let error = if leader.id < 0 { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
    MetadataResponsePartition::default()
        .with_error_code(error.code())
        .with_partition_index(index)
        .with_leader_id(BrokerId(leader.id))
        .with_leader_epoch(leader.epoch)
        .with_replica_nodes(ids(&record.replicas))
        .with_isr_nodes(ids(&up))
        .with_offline_replicas(ids(&down))
}

/// The topic of this name, if there is one here.
pub(super) fn topic(door: &Door, name: &str) -> Option<Arc<TopicImage>> {
    let image = door.broker.view.image();
    image.topic_ids.get(name).and_then(|id| image.topics.get(id)).cloned()
}

/// Who leads a partition, as far as this broker knows; node -1 for nobody, or for one that clients are not told of. The
/// epoch never goes back.
pub(super) fn leader(door: &Door, record: &PartitionRecord) -> Leader {
    leader_by(door, &outlook(door), record)
}

fn leader_by(door: &Door, outlook: &Outlook, record: &PartitionRecord) -> Leader {
    let view = &door.broker.view;
    // Nothing was heard of it since the start. Epoch 0 is before any leader: a client that knows a later one keeps what it
    // knows. An epoch of -1 would have it forget that (Java's `Metadata.updateLatestMetadata`).
    let Some(known) = view.leader(record.group) else { return Leader { id: -1, epoch: 0 } };
    let leader = known.leader.filter(|node| outlook.tells(*node) && !outlook.is_gone(*node));
    let leader = leader.or_else(|| {
        let last = view.last_leader(record.group);
        outlook.where_led_out_of_reach(&record.replicas, last, door.broker.clock.monotonic())
    });
    Leader { id: leader.map_or(-1, node_id), epoch: epoch(known.term) }
}

/// Every broker that has a listener of this door's name and is not fenced: all that clients are to know.
pub(super) fn endpoints(door: &Door) -> impl Iterator<Item = NodeEndpoint> {
    let outlook = outlook(door);
    let all = registered_endpoints(door);
    all.filter(move |(node, _)| outlook.tells(*node)).map(|(_, endpoint)| endpoint)
}

/// Every broker that has a listener of this door's name, down or not.
fn registered_endpoints(door: &Door) -> impl Iterator<Item = (NodeId, NodeEndpoint)> + use<> {
    let image = door.broker.view.image();
    let endpoints: Vec<(NodeId, NodeEndpoint)> = image
        .brokers
        .values()
        .filter_map(|record| {
            let (host, port) = record.kafka.get(&door.listener)?.rsplit_once(':')?;
            let endpoint = NodeEndpoint {
                id: node_id(record.node),
                host: text(host.trim_start_matches('[').trim_end_matches(']')),
                port: port.parse::<u16>().ok()?.into(),
                rack: None,
            };
            Some((record.node, endpoint))
        })
        .collect();
    endpoints.into_iter()
}

/// Any broker serves admin requests, for it passes them on: this one does as well as another.
fn controller(door: &Door) -> i32 {
    let known = door.broker.view.leader(GroupId::COORDINATOR).and_then(|group| group.leader);
    node_id(known.filter(|node| outlook(door).tells(*node)).unwrap_or(door.broker.identity.node()))
}

fn cluster_id(door: &Door) -> String {
    door.broker.view.image().cluster.as_ref().map(|(id, _)| id.to_string()).unwrap_or_default()
}

/// A term as a leader epoch. Terms of more than 31 bits do not come about: that would be an election a second for
/// seventy years.
pub(super) fn epoch(term: Term) -> i32 {
    i32::try_from(term.0).unwrap_or(i32::MAX)
}

/// A node's number on the wire.
pub(super) fn node_id(node: NodeId) -> i32 {
    i32::try_from(node.0).unwrap_or(i32::MAX)
}

/// A topic's id on the wire.
pub(super) fn uuid(id: TopicId) -> Uuid {
    Uuid::from_u128(id.0)
}

/// The first version whose clients know the error.
const LISTENER_NOT_FOUND_FROM: i16 = 6;

/// The first version in which a topic may be asked for by its id alone.
const LOOKUP_BY_ID_FROM: i16 = 12;

// What a client may do, a bit for each of Kafka's operations: all that there is to do, for nothing is forbidden.
const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

const TOPIC_OPERATIONS: i32 =
    READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
const CLUSTER_OPERATIONS: i32 =
    CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE;
pub(super) const GROUP_OPERATIONS: i32 = READ | DELETE | DESCRIBE;
