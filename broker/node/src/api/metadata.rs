//! Metadata: the image as this broker has it, and who leads as far as it knows.

use super::errors;
use super::groups::make_groups_topic;
use super::{Broker, admin};
use crate::limits;
use raftline_proto::api::{
    BrokerInfo, ConfigEntry, CreateTopicRequest, DescribeTopicReply, DescribeTopicRequest, Error, ErrorCode,
    MetadataReply, MetadataRequest, PartitionInfo, TopicInfo,
};
use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::metadata::{PLAINTEXT, PartitionRecord};
use raftline_shard::coordinator::configs::{CONFIG_KEYS, effective};
use raftline_shard::coordinator::internal::is_internal;
use raftline_shard::image::TopicImage;
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::Request;

/// Answers; topics that are asked for and do not exist are made first, where that is allowed and wanted.
pub(super) async fn metadata(broker: &Broker, request: MetadataRequest) -> MetadataReply {
    let mut topics = Vec::new();
    if request.topics.is_empty() {
        topics.extend(broker.view.image().topics.values().map(|topic| topic_info(broker, topic)));
        topics.sort_by(|left, right| left.name.cmp(&right.name));
    }
    let too_many = request.topics.len() > limits::METADATA_TOPICS_MAX;
    for name in request.topics {
        let found = if too_many {
            Err(too_many_topics())
        } else if request.auto_create && broker.auto_create_topics {
            find_or_create(broker, &name).await
        } else {
            broker.topic(&name).map(|topic| topic_info(broker, &topic))
        };
        topics.push(found.unwrap_or_else(|error| TopicInfo {
            name,
            error: Some(error),
            ..TopicInfo::default()
        }));
        if too_many {
            break;
        }
    }
    let image = broker.view.image();
    let alive = broker.view.alive();
    let own = broker.identity.node();
    let brokers = image.brokers.values().map(|record| BrokerInfo {
        node: record.node.0,
        grpc_address: record.grpc_address.clone(),
        incarnation: record.incarnation.to_string(),
        alive: record.node == own || alive.contains(&record.node),
        kafka_address: record.kafka.get(PLAINTEXT).or_else(|| record.kafka.values().next()).cloned(),
        kafka_listeners: record.kafka.clone(),
    });
    MetadataReply {
        cluster_id: image.cluster.as_ref().map(|(id, _)| id.to_string()).unwrap_or_default(),
        cluster_name: broker.identity.cluster_name(),
        brokers: brokers.collect(),
        topics,
        coordinator_node: broker
            .view
            .leader(GroupId::COORDINATOR)
            .and_then(|leader| leader.leader)
            .map(|node| node.0),
        answering_node: own.0,
    }
}

/// Every config of a topic, with its default and what it means.
pub(super) fn describe_topic(broker: &Broker, request: &DescribeTopicRequest) -> DescribeTopicReply {
    let topic = match broker.topic(&request.name) {
        Ok(topic) => topic,
        Err(error) => return DescribeTopicReply { error: Some(error), ..DescribeTopicReply::default() },
    };
    let configs = CONFIG_KEYS.iter().map(|key| ConfigEntry {
        name: key.name.to_owned(),
        value: effective(key, &topic.configs, topic.replication()),
        default_value: key.default_for(&topic.configs, topic.replication()),
        is_default: !topic.configs.contains_key(key.name),
        documentation: key.documentation.to_owned(),
    });
    DescribeTopicReply { topic: Some(topic_info(broker, &topic)), configs: configs.collect(), error: None }
}

async fn find_or_create(broker: &Broker, name: &str) -> Result<TopicInfo, Error> {
    if let Ok(topic) = broker.topic(name) {
        return Ok(topic_info(broker, &topic));
    }
    auto_create(broker, name).await?;
    wait_for_topic(broker, name).await;
    broker.topic(name).map(|topic| topic_info(broker, &topic))
}

/// Makes a topic with the defaults, as a client named it.
pub(crate) async fn auto_create(broker: &Broker, name: &str) -> Result<(), Error> {
    if is_internal(name) {
        make_groups_topic(broker).await;
        return Ok(());
    }
    let create = CreateTopicRequest { name: name.to_owned(), ..CreateTopicRequest::default() };
    let reply = admin::decide(broker, Request::new(create)).await;
    match reply.error {
        // Somebody else made it meanwhile: just as good.
        Some(error) if error.code() == ErrorCode::TopicExists => Ok(()),
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The coordinator has committed it; this broker's image follows. Whoever asked here should find it here, and with a
/// leader, so that the first produce does not begin with a refusal.
pub(crate) async fn wait_for_topic(broker: &Broker, name: &str) {
    let mut changes = broker.view.changes();
    let ready = async {
        loop {
            let led = |topic: &TopicImage| {
                let mut partitions = topic.partitions.iter();
                partitions.all(|partition| {
                    broker.view.leader(partition.group).is_some_and(|group| group.leader.is_some())
                })
            };
            if broker.topic(name).is_ok_and(|topic| led(&topic)) || changes.changed().await.is_err() {
                return;
            }
        }
    };
    // Whatever is there by then has to do.
    drop(tokio::time::timeout(TOPIC_READY_WAIT, ready).await);
}

/// The replicas that can be counted on: open on brokers that answer, and caught up as the last leader saw them.
fn in_sync(
    broker: &Broker,
    alive: &BTreeSet<NodeId>,
    record: &PartitionRecord,
    leader: Option<NodeId>,
) -> Vec<u32> {
    let (view, own) = (&broker.view, broker.identity.node());
    let is_open = |node: NodeId| match node == own {
        true => view.failure(record.group).is_none(),
        false => alive.contains(&node) && !view.is_closed_on(node, record.group),
    };
    let caught_up = view.in_sync(record.group);
    let is_caught_up = |node| {
        // Before its first leader has said who is in sync, all that are up are as good.
        Some(node) == leader || caught_up.as_ref().is_none_or(|nodes| nodes.contains(&node))
    };
    let replicas = record.replicas.iter().copied();
    replicas.filter(|node| is_open(*node) && is_caught_up(*node)).map(|node| node.0).collect()
}

fn topic_info(broker: &Broker, topic: &TopicImage) -> TopicInfo {
    let alive = broker.view.alive();
    let partitions = topic.partitions.iter().zip(0..).map(|(record, partition)| {
        let known = broker.view.leader(record.group);
        let leader = known.and_then(|group| group.leader);
        PartitionInfo {
            partition,
            group: record.group.0,
            replicas: record.replicas.iter().map(|node| node.0).collect(),
            leader_node: leader.map(|node| node.0),
            term: known.map_or(0, |group| group.term.0),
            in_sync: in_sync(broker, &alive, record, leader),
        }
    });
    TopicInfo {
        name: topic.name.clone(),
        id: topic.id.to_string(),
        partitions: partitions.collect(),
        error: None,
        configs: topic.configs.clone(),
    }
}

fn too_many_topics() -> Error {
    let max = limits::METADATA_TOPICS_MAX;
    errors::error(
        ErrorCode::LimitExceeded,
        format!("more than {max} topics in one request: ask in parts, or for all by naming none"),
    )
}

/// How long a created topic may take to get here and to elect its leaders before the answer goes out anyway.
const TOPIC_READY_WAIT: Duration = Duration::from_secs(3);
