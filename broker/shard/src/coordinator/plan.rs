//! What a command to the coordinator would change: pure, and may refuse. Runs on the leader against the image as it
//! will be once everything proposed is committed.

use super::configs::{check_config, check_config_name, check_together};
use super::internal;
use super::names::check_topic_name;
use super::placement::{assign, place};
use crate::config::TopicDefaults;
use crate::image::{MetadataImage, TopicImage};
use crate::limits::{CLUSTER_PARTITIONS_MAX, PRODUCER_IDS_BLOCK};
use crate::pulse::Condition;
use crate::types::{CoordinatorCommand, CoordinatorError, CoordinatorReply};
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use raftline_proto::ids::{NodeId, ProducerId, TopicId};
use raftline_proto::limits;
use raftline_proto::metadata::{BrokerRecord, MetadataRecord, PartitionRecord};

/// What a plan may look at.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The cluster with all that is proposed.
    pub image: &'a MetadataImage,
    /// The nodes that answer, this one among them.
    pub alive: &'a BTreeSet<NodeId>,
    /// How nodes are, as far as is known.
    pub conditions: &'a BTreeMap<NodeId, Condition>,
    /// What a topic gets where its creator does not say.
    pub defaults: TopicDefaults,
}

/// Records to propose as one entry, perhaps none, and what to answer once they are committed.
pub type Plan = Result<(Vec<MetadataRecord>, CoordinatorReply), CoordinatorError>;

/// Says what `command` would change.
///
/// # Errors
/// The refusal, which changes nothing.
pub fn plan(situation: Situation<'_>, command: &CoordinatorCommand) -> Plan {
    let image = situation.image;
    match command {
        CoordinatorCommand::RegisterBroker(broker) => register_broker(image, broker),
        CoordinatorCommand::CreateTopic { id, name, partitions, replication, configs, assignment } => {
            let counts = (*partitions, *replication);
            create_topic(situation, *id, name, (counts, assignment), configs)
        }
        CoordinatorCommand::DeleteTopic { name, id } => {
            let topic = find_topic(image, name)?;
            if id.is_some_and(|id| id != topic.id) {
                return Err(CoordinatorError::UnknownTopic { name: name.clone() });
            }
            internal::check_deleted(name)?;
            Ok((vec![MetadataRecord::TopicDeleted { id: topic.id }], CoordinatorReply::Done))
        }
        CoordinatorCommand::AlterTopic { name, configs } => alter_topic(image, name, configs),
        CoordinatorCommand::AddPartitions { name, total, assignment } => {
            add_partitions(situation, name, *total, assignment)
        }
        CoordinatorCommand::AllocateProducerId => {
            let id = image.next_producer;
            // The leader gives the others away by itself.
            let next = ProducerId(id.get() + PRODUCER_IDS_BLOCK);
            Ok((vec![MetadataRecord::ProducerIds { next }], CoordinatorReply::ProducerId(id)))
        }
    }
}

fn register_broker(image: &MetadataImage, broker: &BrokerRecord) -> Plan {
    let listeners = broker.kafka.iter().flat_map(|(name, address)| [name, address]);
    for text in core::iter::once(&broker.grpc_address).chain(listeners) {
        at_most("bytes of a broker's address", text.len(), limits::TEXT_BYTES_MAX)?;
    }
    at_most("Kafka listeners of a broker", broker.kafka.len(), limits::KAFKA_LISTENERS_MAX)?;
    let BrokerRecord { node, incarnation, .. } = *broker;
    match image.brokers.get(&node) {
        Some(known) if known.incarnation != incarnation => {
            Err(CoordinatorError::IncarnationMismatch { node, known: known.incarnation, found: incarnation })
        }
        Some(known) if known == broker => Ok((Vec::new(), CoordinatorReply::Done)),
        Some(_) => Ok((vec![MetadataRecord::Broker(broker.clone())], CoordinatorReply::Done)),
        None => {
            at_most("brokers of the cluster", image.brokers.len() + 1, limits::BROKERS_MAX)?;
            Ok((vec![MetadataRecord::Broker(broker.clone())], CoordinatorReply::Done))
        }
    }
}

/// How many partitions and replicas are asked for; `None`: the default.
type Counts = (Option<u32>, Option<u32>);

fn create_topic(
    situation: Situation<'_>,
    id: TopicId,
    name: &str,
    ((partitions, replication), assignment): (Counts, &[Vec<NodeId>]),
    configs: &BTreeMap<String, String>,
) -> Plan {
    let Situation { image, alive, defaults, .. } = situation;
    check_topic_name(name)
        .map_err(|reason| CoordinatorError::InvalidTopicName { name: name.to_owned(), reason })?;
    if let Some(topic) = image.topic_ids.get(name).and_then(|id| image.topics.get(id)) {
        if topic.id == id {
            // A retry of the very request that made it: the first answer was lost.
            return Ok((Vec::new(), created(id, topic.partitions.len())));
        }
        return Err(CoordinatorError::TopicExists { name: name.to_owned() });
    }
    if image.topics.contains_key(&id) {
        return Err(CoordinatorError::TopicExists { name: name.to_owned() });
    }
    let assigned = assign(image, assignment)?;
    let (partitions, replication) = match assigned.first() {
        Some(first) => (u32::try_from(assigned.len()).ok(), u32::try_from(first.replicas.len()).ok()),
        None => (partitions, replication),
    };
    let count = partitions.unwrap_or(defaults.partitions);
    if count == 0 || count > limits::PARTITIONS_MAX {
        return Err(CoordinatorError::InvalidPartitions {
            asked: count,
            min: 1,
            max: limits::PARTITIONS_MAX,
        });
    }
    check_total(image, count)?;
    let replication = check_replication(image, replication.unwrap_or(defaults.replication))?;
    for (name, value) in configs {
        check_config(name, value)?;
    }
    check_together(configs, replication)?;
    internal::check_created(name, configs)?;
    let partitions = if assigned.is_empty() { place(image, alive, count, replication) } else { assigned };
    check_held(situation, &partitions)?;
    let record =
        MetadataRecord::TopicCreated { id, name: name.to_owned(), partitions, configs: configs.clone() };
    Ok((vec![record], CoordinatorReply::TopicCreated { id, partitions: count }))
}

fn alter_topic(image: &MetadataImage, name: &str, changes: &BTreeMap<String, Option<String>>) -> Plan {
    let topic = find_topic(image, name)?;
    let mut configs = topic.configs.clone();
    for (name, value) in changes {
        match value {
            Some(value) => {
                check_config(name, value)?;
                configs.insert(name.clone(), value.clone());
            }
            // What an older version took, and this one does not know, can still be removed.
            None if configs.remove(name).is_none() => check_config_name(name)?,
            None => {}
        }
    }
    check_together(&configs, topic.replication())?;
    internal::check_altered(name, &configs)?;
    at_most("configs of a topic", configs.len(), limits::TOPIC_CONFIGS_MAX)?;
    if configs == topic.configs {
        return Ok((Vec::new(), CoordinatorReply::Done));
    }
    Ok((vec![MetadataRecord::TopicConfigured { id: topic.id, configs }], CoordinatorReply::Done))
}

fn add_partitions(situation: Situation<'_>, name: &str, total: u32, assignment: &[Vec<NodeId>]) -> Plan {
    let Situation { image, alive, .. } = situation;
    let topic = find_topic(image, name)?;
    let now = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    if total == now {
        return Ok((Vec::new(), CoordinatorReply::Done));
    }
    if total < now || total > limits::PARTITIONS_MAX {
        let (min, max) = (now, limits::PARTITIONS_MAX);
        return Err(CoordinatorError::InvalidPartitions { asked: total, min, max });
    }
    internal::check_partitions_added(name)?;
    check_total(image, total - now)?;
    let replication = topic.replication();
    let assigned = assign(image, assignment)?;
    let partitions = match assigned.first() {
        None => place(image, alive, total - now, replication),
        Some(first) if first.replicas.len() != replication => {
            let why = "the new partitions must have as many replicas as the others";
            return Err(CoordinatorError::InvalidAssignment { why });
        }
        Some(_) if u32::try_from(assigned.len()) != Ok(total - now) => {
            let why = "there must be replicas for each new partition, and no others";
            return Err(CoordinatorError::InvalidAssignment { why });
        }
        Some(_) => assigned,
    };
    check_held(situation, &partitions)?;
    Ok((vec![MetadataRecord::PartitionsAdded { id: topic.id, partitions }], CoordinatorReply::Done))
}

fn find_topic<'a>(image: &'a MetadataImage, name: &str) -> Result<&'a Arc<TopicImage>, CoordinatorError> {
    let topic = image.topic_ids.get(name).and_then(|id| image.topics.get(id));
    topic.ok_or_else(|| CoordinatorError::UnknownTopic { name: name.to_owned() })
}

fn check_replication(image: &MetadataImage, asked: u32) -> Result<usize, CoordinatorError> {
    let replication = usize::try_from(asked).unwrap_or(usize::MAX);
    // Every replica of a partition votes, and the engine stops the process at more voters than these.
    at_most("replicas of a partition", replication, limits::VOTERS_MAX)?;
    if replication == 0 || replication > image.brokers.len() {
        let brokers = u32::try_from(image.brokers.len()).unwrap_or(u32::MAX);
        return Err(CoordinatorError::InvalidReplication { asked, brokers });
    }
    Ok(replication)
}

fn check_total(image: &MetadataImage, more: u32) -> Result<(), CoordinatorError> {
    let now: usize = image.topics.values().map(|topic| topic.partitions.len()).sum();
    let total = now.saturating_add(usize::try_from(more).unwrap_or(usize::MAX));
    at_most("partitions of the cluster", total, CLUSTER_PARTITIONS_MAX)
}

/// Whether each broker can hold the replicas that it gets beside those that it has.
fn check_held(situation: Situation<'_>, more: &[PartitionRecord]) -> Result<(), CoordinatorError> {
    let Situation { image, conditions, .. } = situation;
    let mut asked: BTreeMap<NodeId, u64> = BTreeMap::new();
    for node in more.iter().flat_map(|partition| &partition.replicas) {
        *asked.entry(*node).or_default() += 1;
    }
    let max_of = |node: NodeId| conditions.get(&node).map_or(0, |condition| condition.replicas_max);
    asked.retain(|node, _| max_of(*node) > 0);
    let mut held: BTreeMap<NodeId, u64> = asked.keys().map(|node| (*node, 0)).collect();
    let there = image.topics.values().flat_map(|topic| &topic.partitions);
    for node in there.flat_map(|partition| &partition.replicas) {
        if let Some(held) = held.get_mut(node) {
            *held += 1;
        }
    }
    for (node, asked) in asked {
        let (held, max) = (held.get(&node).copied().unwrap_or_default(), u64::from(max_of(node)));
        if held + asked > max {
            return Err(CoordinatorError::BrokerFull { node, held, asked, max });
        }
    }
    Ok(())
}

fn at_most(what: &'static str, asked: usize, max: usize) -> Result<(), CoordinatorError> {
    if asked > max {
        return Err(CoordinatorError::LimitExceeded { what, asked: asked as u64, max: max as u64 });
    }
    Ok(())
}

fn created(id: TopicId, partitions: usize) -> CoordinatorReply {
    CoordinatorReply::TopicCreated { id, partitions: u32::try_from(partitions).unwrap_or(u32::MAX) }
}
