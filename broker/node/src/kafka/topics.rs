//! What changes the cluster's metadata: topics made, deleted and grown, and producer ids.

use super::connection::Peer;
use super::fencing::outlook;
use super::groups::warn_of_transactions;
use super::{Door, dispatch::OK, errors, metadata, text};
use crate::api::{decide, rehearse};
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use raftline_kafka::kafka_protocol::messages::create_topics_request::CreatableTopic;
use raftline_kafka::kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use raftline_kafka::kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use raftline_kafka::kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use raftline_kafka::kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
    TopicName,
};
use raftline_kafka::request::Header;
use raftline_proto::api::{
    AddPartitionsRequest, CreateTopicRequest, DeleteTopicRequest, InitProducerRequest, Replicas,
};
use raftline_proto::ids::{NodeId, TopicId};
use raftline_shard::coordinator::configs::{CONFIG_KEYS, effective};
use raftline_shard::coordinator::placement::check_assignment;
use std::collections::{BTreeMap, HashMap};

/// Answers CreateTopics, topic by topic in the order of the request.
pub(super) async fn create(door: &Door, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut named: HashMap<TopicName, usize> = HashMap::new();
    for topic in &request.topics {
        *named.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let created = if named[&name] > 1 {
            Err(refused(ErrorCode::InvalidRequest, "the topic stands in the request more than once"))
        } else {
            create_one(door, topic, request.validate_only).await
        };
        let result = created.unwrap_or_else(|(error, why)| {
            CreatableTopicResult::default()
                .with_error_code(error.code())
                .with_error_message(Some(text(why)))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
        });
        results.push(result.with_name(name));
    }
    CreateTopicsResponse::default().with_topics(results)
}

type Refused = (ErrorCode, String);

fn refused(error: ErrorCode, why: impl Into<String>) -> Refused {
    (error, why.into())
}

async fn create_one(
    door: &Door,
    topic: CreatableTopic,
    validate_only: bool,
) -> Result<CreatableTopicResult, Refused> {
    let mut assignment = topic.assignments;
    if !assignment.is_empty() && (topic.num_partitions != -1 || topic.replication_factor != -1) {
        let why = "either the numbers of partitions and replicas or an assignment, not both";
        return Err(refused(ErrorCode::InvalidRequest, why));
    }
    assignment.sort_by_key(|partition| partition.partition_index);
    if !assignment.iter().zip(0..).all(|(partition, at)| partition.partition_index == at) {
        let why = "the partitions of an assignment are numbered from 0, each once";
        return Err(refused(ErrorCode::InvalidReplicaAssignment, why));
    }
    let replicas = assignment.into_iter().map(|partition| partition.broker_ids).collect();
    let assignment = assigned(door, replicas)?;
    let partitions = match topic.num_partitions {
        -1 => 0,
        count if count > 0 => u32::try_from(count).unwrap_or(u32::MAX),
        count => {
            return Err(refused(ErrorCode::InvalidPartitions, format!("{count} partitions: at least 1")));
        }
    };
    let replication = match topic.replication_factor {
        -1 => 0,
        count if count > 0 => u32::try_from(count).unwrap_or(u32::MAX),
        count => {
            return Err(refused(
                ErrorCode::InvalidReplicationFactor,
                format!("{count} replicas: at least 1"),
            ));
        }
    };
    let mut configs = BTreeMap::new();
    for config in topic.configs {
        // A null value is the default.
        if let Some(value) = config.value {
            configs.insert(config.name.to_string(), value.to_string());
        }
    }
    let request = CreateTopicRequest {
        name: topic.name.to_string(),
        partitions,
        replication,
        configs: configs.clone().into_iter().collect(),
        assignment: assignment.clone(),
    };
    if validate_only {
        rehearse(&door.broker, request).map_err(errors::refused)?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (partitions, replication) = match assignment.first() {
            Some(first) => (count(assignment.len()), count(first.nodes.len())),
            None => (partitions, replication),
        };
        let partitions = if partitions == 0 { door.broker.default_partitions } else { partitions };
        let replication = if replication == 0 { door.broker.default_replication } else { replication };
        return Ok(described(CreatableTopicResult::default(), partitions, replication, &configs));
    }
    let reply = decide(&door.broker, tonic::Request::new(request)).await;
    if let Some(error) = reply.error {
        return Err(errors::refused(error));
    }
    // Known here as a rule by now; else the client gets the numbers from Metadata.
    let image = metadata::topic(door, &topic.name);
    let empty = BTreeMap::new();
    let configs = image.as_ref().map_or(&empty, |image| &image.configs);
    let id = image.as_ref().map(|image| metadata::uuid(image.id));
    let replication =
        image.as_ref().and_then(|image| image.partitions.first()).map_or(0, |p| p.replicas.len());
    let result = CreatableTopicResult::default().with_error_code(OK).with_topic_id(id.unwrap_or_default());
    Ok(described(result, reply.partitions, u32::try_from(replication).unwrap_or_default(), configs))
}

/// Where somebody wants replicas: on brokers that answer.
fn assigned(door: &Door, partitions: Vec<Vec<BrokerId>>) -> Result<Vec<Replicas>, Refused> {
    let node = |broker: &BrokerId| NodeId(u32::try_from(broker.0).unwrap_or(u32::MAX));
    let wanted: Vec<Vec<NodeId>> =
        partitions.iter().map(|replicas| replicas.iter().map(node).collect()).collect();
    let (outlook, image) = (outlook(door), door.broker.view.image());
    let is_there = |node: NodeId| image.brokers.contains_key(&node) && outlook.hears(node);
    check_assignment(&wanted, is_there).map_err(|why| refused(ErrorCode::InvalidReplicaAssignment, why))?;
    let replicas = |nodes: Vec<NodeId>| Replicas { nodes: nodes.into_iter().map(|node| node.0).collect() };
    Ok(wanted.into_iter().map(replicas).collect())
}

fn described(
    result: CreatableTopicResult,
    partitions: u32,
    replication: u32,
    configs: &BTreeMap<String, String>,
) -> CreatableTopicResult {
    let replicas = usize::try_from(replication).unwrap_or(usize::MAX);
    let configs = CONFIG_KEYS.iter().map(|key| {
        CreatableTopicConfigs::default()
            .with_name(text(key.name))
            .with_value(Some(text(effective(key, configs, replicas))))
            .with_config_source(super::configs::source(key, configs))
    });
    result
        .with_error_message(None)
        .with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
        .with_replication_factor(i16::try_from(replication).unwrap_or(i16::MAX))
        .with_configs(Some(configs.collect()))
}

/// Answers DeleteTopics.
pub(super) async fn delete(door: &Door, version: i16, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let topics: Vec<DeleteTopicState> = if version >= 6 {
        request.topics
    } else {
        let named = |name| DeleteTopicState::default().with_name(Some(name));
        request.topic_names.into_iter().map(named).collect()
    };
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics {
        let image = door.broker.view.image();
        let (found, id, unknown) = match &topic.name {
            Some(name) => (metadata::topic(door, name), None, ErrorCode::UnknownTopicOrPartition),
            None => {
                let id = TopicId(topic.topic_id.as_u128());
                (image.topics.get(&id).cloned(), Some(id), ErrorCode::UnknownTopicId)
            }
        };
        let result = DeletableTopicResult::default()
            .with_name(None)
            .with_error_message(None)
            .with_topic_id(found.as_ref().map_or(topic.topic_id, |found| metadata::uuid(found.id)));
        let name = match (found, topic.name) {
            (Some(found), _) => TopicName(text(found.name.as_str())),
            // Unknown here: perhaps this broker is late, the coordinator knows.
            (None, Some(name)) => name,
            (None, None) => {
                results.push(result.with_error_code(unknown.code()));
                continue;
            }
        };
        // By id: not another one that has the name by now.
        let request = DeleteTopicRequest {
            name: name.to_string(),
            id: id.map_or_else(String::new, |id| id.to_string()),
        };
        let reply = decide(&door.broker, tonic::Request::new(request)).await;
        let result = result.with_name(Some(name));
        results.push(match reply.error {
            None => result.with_error_code(OK),
            Some(error) => {
                let code = match errors::native(&error) {
                    ErrorCode::UnknownTopicOrPartition => unknown,
                    other => other,
                };
                result.with_error_code(code.code()).with_error_message(Some(text(error.message)))
            }
        });
    }
    DeleteTopicsResponse::default().with_responses(results)
}

/// Answers CreatePartitions.
pub(super) async fn add_partitions(
    door: &Door,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let there = metadata::topic(door, &topic.name).map(|image| image.partitions.len());
        let count = u32::try_from(topic.count).unwrap_or(0);
        let done = if there.is_some_and(|there| usize::try_from(count).is_ok_and(|count| count <= there)) {
            let there = there.unwrap_or_default();
            let why = format!("the topic has {there} partitions, {} would not be more", topic.count);
            Err(refused(ErrorCode::InvalidPartitions, why))
        } else {
            let wanted = topic.assignments.into_iter().flatten().map(|partition| partition.broker_ids);
            match assigned(door, wanted.collect()) {
                Err(refused) => Err(refused),
                Ok(assignment) => {
                    let name = topic.name.to_string();
                    let wants_places = !assignment.is_empty();
                    let more = AddPartitionsRequest { name, total: count, assignment };
                    let done = if request.validate_only {
                        rehearse(&door.broker, more).map_err(errors::refused)
                    } else {
                        let reply = decide(&door.broker, tonic::Request::new(more)).await;
                        reply.error.map_or(Ok(()), |error| Err(errors::refused(error)))
                    };
                    // Of an assignment, what else can be wrong is how many there are.
                    done.map_err(|(error, why)| match error {
                        ErrorCode::InvalidRequest if wants_places => {
                            (ErrorCode::InvalidReplicaAssignment, why)
                        }
                        other => (other, why),
                    })
                }
            }
        };
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        results.push(match done {
            Ok(()) => result.with_error_code(OK),
            Err((error, why)) => result.with_error_code(error.code()).with_error_message(Some(text(why))),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

/// Answers InitProducerId: an id for an idempotent producer. Transactions are not served yet.
pub(super) async fn init_producer(
    door: &Door,
    peer: &Peer,
    header: &Header,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    let answer = InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    if request.transactional_id.is_some() {
        warn_of_transactions(door, peer, header);
        return answer.with_error_code(ErrorCode::InvalidRequest.code());
    }
    let reply = decide(&door.broker, tonic::Request::new(InitProducerRequest {})).await;
    match reply.error {
        None => answer
            .with_error_code(OK)
            .with_producer_id(ProducerId(i64::try_from(reply.producer_id).unwrap_or(i64::MAX)))
            .with_producer_epoch(i16::try_from(reply.producer_epoch).unwrap_or(i16::MAX)),
        Some(error) => {
            let code = match errors::native(&error) {
                // What Java's producers take for "try again".
                ErrorCode::NotController => ErrorCode::CoordinatorNotAvailable,
                other => other,
            };
            answer.with_error_code(code.code())
        }
    }
}
