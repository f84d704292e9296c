//! Configs of topics and brokers: described, and changed for topics.

use super::{Door, dispatch::OK, errors, metadata, text};
use crate::api::{decide, rehearse};
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use raftline_kafka::kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use raftline_kafka::kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, alter_configs_response,
    incremental_alter_configs_response,
};
use raftline_kafka::kafka_protocol::protocol::StrBytes;
use raftline_proto::api::AlterTopicRequest;
use raftline_shard::coordinator::configs::{
    CONFIG_KEYS, ConfigKey, ConfigKind, ListChange, changed_list, effective,
};
use raftline_shard::image::TopicImage;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Answers DescribeConfigs.
pub(super) fn describe(door: &Door, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    let results = request.resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match described(door, &resource, synonyms, documentation) {
            Ok(configs) => result.with_error_code(OK).with_error_message(None).with_configs(configs),
            Err((error, why)) => result.with_error_code(error.code()).with_error_message(Some(text(why))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

type Refused = (ErrorCode, String);

fn described(
    door: &Door,
    resource: &DescribeConfigsResource,
    synonyms: bool,
    documentation: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    let asked = |name: &str| {
        resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| &**key == name))
    };
    match resource.resource_type {
        TOPIC => {
            let topic = metadata::topic(door, &resource.resource_name).ok_or_else(no_topic)?;
            let keys = CONFIG_KEYS.iter().filter(|key| asked(key.name));
            Ok(keys.map(|key| describe_key(key, &topic, synonyms, documentation)).collect())
        }
        BROKER => {
            let own = metadata::node_id(door.broker.identity.node());
            if !resource.resource_name.is_empty() && *resource.resource_name != own.to_string() {
                let why = format!("ask broker {} itself: this is {own}", &*resource.resource_name);
                return Err((ErrorCode::InvalidRequest, why));
            }
            // A broker is configured by its own flags and file; these are the ones that Kafka's tools look for.
            let values = broker_values(door);
            let values = values.into_iter().filter(|(name, ..)| asked(name));
            let shown =
                |(name, value, kind, meaning)| read_only(name, value, kind, documentation.then_some(meaning));
            Ok(values.map(shown).collect())
        }
        other => Err((ErrorCode::InvalidRequest, format!("resources of type {other} have no configs here"))),
    }
}

/// A broker's own configs: their names, values, types and meanings.
fn broker_values(door: &Door) -> Vec<(&'static str, String, i8, &'static str)> {
    let (broker, groups) = (&door.broker, door.groups.config());
    let node = broker.identity.node();
    let ms = |duration: Duration| duration.as_millis().to_string();
    let mut values = vec![
        (
            "auto.create.topics.enable",
            broker.auto_create_topics.to_string(),
            BOOLEAN,
            "Whether topics are made that clients name and that do not exist (--auto-create-topics).",
        ),
        (
            "default.replication.factor",
            broker.default_replication.to_string(),
            INT,
            "How many replicas a new topic has that does not say (--default-replication).",
        ),
        (
            "group.consumer.heartbeat.interval.ms",
            ms(groups.consumer_heartbeat_interval),
            INT,
            "How often members of the new group protocol heartbeat (--group-consumer-heartbeat-interval-ms).",
        ),
        (
            "group.consumer.migration.policy",
            groups.migration.name().to_owned(),
            STRING,
            "Which way a group with members may change between the classic and the new protocol (--group-consumer-migration-policy).",
        ),
        (
            "group.consumer.session.timeout.ms",
            ms(groups.consumer_session_timeout),
            INT,
            "Silence after which a member of the new group protocol is removed (--group-consumer-session-timeout-ms).",
        ),
        (
            "group.initial.rebalance.delay.ms",
            ms(groups.initial_rebalance_delay),
            INT,
            "How long an empty group waits for more members before it assigns (--group-initial-rebalance-delay-ms).",
        ),
        (
            "group.max.session.timeout.ms",
            ms(groups.session_timeout_max),
            INT,
            "The longest session that a member of a classic group may ask for.",
        ),
        ("group.max.size", groups.members_max.to_string(), INT, "How many members a group may have."),
        (
            "group.min.session.timeout.ms",
            ms(groups.session_timeout_min),
            INT,
            "The shortest session that a member of a classic group may ask for (--group-min-session-timeout-ms).",
        ),
        ("node.id", metadata::node_id(node).to_string(), INT, "The number of this broker (--node-id)."),
        (
            "num.partitions",
            broker.default_partitions.to_string(),
            INT,
            "How many partitions a new topic has that does not say (--default-partitions).",
        ),
        (
            "offset.metadata.max.bytes",
            groups.offset_metadata_bytes_max.to_string(),
            INT,
            "The longest text that may be committed with an offset.",
        ),
        (
            "offsets.retention.minutes",
            (groups.offsets_retention.as_secs() / 60).to_string(),
            INT,
            "How long the offsets of a group without members are kept.",
        ),
    ];
    let image = broker.view.image();
    if let Some(record) = image.brokers.get(&node).filter(|record| !record.kafka.is_empty()) {
        let meaning = "Where Kafka clients are told to find this broker (--advertise-kafka).";
        let listeners = record.kafka.iter().map(|(name, address)| format!("{name}://{address}"));
        values.push(("advertised.listeners", listeners.collect::<Vec<_>>().join(","), LIST, meaning));
    }
    // What UIs look for and what is one way here.
    let fixed = [
        (
            "auto.leader.rebalance.enable",
            "false",
            BOOLEAN,
            "Leaderships go back to the preferred replicas by hand only.",
        ),
        ("compression.type", "producer", STRING, "Batches are stored as their producers packed them."),
        ("delete.topic.enable", "true", BOOLEAN, "Topics can be deleted."),
        ("log.cleanup.policy", "delete", LIST, "The cleanup.policy of a new topic that does not say."),
        (
            "log.message.timestamp.type",
            "CreateTime",
            STRING,
            "The message.timestamp.type of a new topic that does not say.",
        ),
        ("log.retention.bytes", "-1", LONG, "The retention.bytes of a new topic that does not say."),
        ("log.retention.ms", "604800000", LONG, "The retention.ms of a new topic that does not say."),
        (
            "unclean.leader.election.enable",
            "false",
            BOOLEAN,
            "Only a replica with every committed record leads.",
        ),
    ];
    values.extend(fixed.map(|(name, value, kind, meaning)| (name, value.to_owned(), kind, meaning)));
    let segment = broker.default_segment_bytes.unwrap_or(DEFAULT_SEGMENT_BYTES);
    let meaning = "The segment.bytes of a new topic that does not say (--default-segment-bytes).";
    values.push(("log.segment.bytes", segment.to_string(), INT, meaning));
    values.push(("broker.id", metadata::node_id(node).to_string(), INT, "The same as node.id."));
    values.sort_unstable();
    values
}

fn no_topic() -> Refused {
    (ErrorCode::UnknownTopicOrPartition, "there is no such topic".into())
}

fn describe_key(
    key: &ConfigKey,
    topic: &TopicImage,
    synonyms: bool,
    documentation: bool,
) -> DescribeConfigsResourceResult {
    let (configs, replicas) = (&topic.configs, topic.replication());
    let mut result = DescribeConfigsResourceResult::default()
        .with_name(text(key.name))
        .with_value(Some(text(effective(key, configs, replicas))))
        .with_config_source(source(key, configs))
        .with_config_type(config_type(key.kind))
        .with_documentation(documentation.then(|| text(key.documentation)));
    if synonyms {
        // The values that it could have, the one in force first.
        let synonym = |value: String, source| {
            DescribeConfigsSynonym::default()
                .with_name(text(key.name))
                .with_value(Some(text(value)))
                .with_source(source)
        };
        let own = configs.get(key.name).map(|value| synonym(value.clone(), FROM_TOPIC));
        let default = synonym(key.default_for(configs, replicas), FROM_DEFAULT);
        result.synonyms = own.into_iter().chain([default]).collect();
    }
    result
}

fn read_only(
    name: &str,
    value: String,
    kind: i8,
    documentation: Option<&str>,
) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
        .with_read_only(true)
        .with_config_source(FROM_BROKER)
        .with_config_type(kind)
        .with_documentation(documentation.map(text))
}

/// Who set a topic's config.
pub(super) fn source(key: &ConfigKey, configs: &BTreeMap<String, String>) -> i8 {
    if configs.contains_key(key.name) { FROM_TOPIC } else { FROM_DEFAULT }
}

const fn config_type(kind: ConfigKind) -> i8 {
    match kind {
        ConfigKind::Boolean => BOOLEAN,
        ConfigKind::Text => STRING,
        ConfigKind::Int => INT,
        ConfigKind::Long => LONG,
        ConfigKind::Double => DOUBLE,
        ConfigKind::List => LIST,
    }
}

/// Answers AlterConfigs: what is not named goes back to its default.
pub(super) async fn alter(door: &Door, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let mut changes = BTreeMap::new();
        if let Some(topic) = metadata::topic(door, &resource.resource_name) {
            changes.extend(topic.configs.keys().map(|name| (name.clone(), None)));
        }
        for config in resource.configs {
            changes.insert(config.name.to_string(), config.value.map(|value| value.to_string()));
        }
        let changes = Ok(changes);
        let done =
            change(door, resource.resource_type, &resource.resource_name, changes, request.validate_only);
        let (error, why) = outcome(done.await);
        responses.push(
            alter_configs_response::AlterConfigsResourceResponse::default()
                .with_error_code(error)
                .with_error_message(why)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name),
        );
    }
    AlterConfigsResponse::default().with_responses(responses)
}

/// Answers IncrementalAlterConfigs: what is not named stays.
pub(super) async fn alter_some(
    door: &Door,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let topic = metadata::topic(door, &resource.resource_name);
        let mut changes = Ok(BTreeMap::new());
        let mut named = BTreeSet::new();
        for config in resource.configs {
            let name = config.name.to_string();
            let change = match (config.config_operation, config.value) {
                _ if !named.insert(name.clone()) => {
                    Err((ErrorCode::InvalidRequest, format!("config `{name}` is changed twice")))
                }
                (SET, Some(value)) => Ok(Some(value.to_string())),
                (SET, None) => Err((ErrorCode::InvalidRequest, format!("config `{name}` is set to null"))),
                (DELETE, _) => Ok(None),
                // Refused for what it is about, not for how it is changed.
                (APPEND | SUBTRACT, _) if resource.resource_type != TOPIC => Ok(None),
                (APPEND, words) => change_list(topic.as_deref(), &name, words.as_deref(), ListChange::Append),
                (SUBTRACT, words) => {
                    change_list(topic.as_deref(), &name, words.as_deref(), ListChange::Subtract)
                }
                (operation, _) => {
                    Err((ErrorCode::InvalidRequest, format!("there is no operation {operation} on configs")))
                }
            };
            match (&mut changes, change) {
                (Ok(changes), Ok(change)) => drop(changes.insert(name, change)),
                (Ok(_), Err(refused)) => changes = Err(refused),
                (Err(_), _) => {}
            }
        }
        let done =
            change(door, resource.resource_type, &resource.resource_name, changes, request.validate_only);
        let (error, why) = outcome(done.await);
        responses.push(
            incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                .with_error_code(error)
                .with_error_message(why)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name),
        );
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// The list that a config of a topic becomes.
fn change_list(
    topic: Option<&TopicImage>,
    name: &str,
    words: Option<&str>,
    change: ListChange,
) -> Result<Option<String>, Refused> {
    let topic = topic.ok_or_else(no_topic)?;
    let Some(key) = ConfigKey::find(name) else {
        // It is no list: the coordinator says what it is, or that it is nothing.
        return Ok(Some(words.unwrap_or_default().to_owned()));
    };
    let value = effective(key, &topic.configs, topic.replication());
    let list = changed_list(key, &value, words.unwrap_or_default(), change).ok_or_else(|| {
        let operation = match change {
            ListChange::Append => "APPEND",
            ListChange::Subtract => "SUBTRACT",
        };
        let why = format!("Can't {operation} to key {name} because its type is not LIST.");
        (ErrorCode::InvalidConfig, why)
    })?;
    Ok(Some(list))
}

fn outcome(done: Result<(), Refused>) -> (i16, Option<StrBytes>) {
    match done {
        Ok(()) => (OK, None),
        Err((error, why)) => (error.code(), Some(text(why))),
    }
}

async fn change(
    door: &Door,
    resource_type: i8,
    name: &str,
    changes: Result<BTreeMap<String, Option<String>>, Refused>,
    validate_only: bool,
) -> Result<(), Refused> {
    let changes = changes?;
    if resource_type != TOPIC {
        let why = "only topics' configs can be changed: a broker takes its own from its flags and its file";
        return Err((ErrorCode::InvalidRequest, why.into()));
    }
    // As Kafka's brokers do it: what does not exist is reset as it is.
    let told = |(name, value): &(String, Option<String>)| value.is_some() || ConfigKey::find(name).is_some();
    let (set, reset): (Vec<_>, Vec<_>) =
        changes.into_iter().filter(told).partition(|(_, value)| value.is_some());
    let request = AlterTopicRequest {
        name: name.to_owned(),
        set: set.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        reset: reset.into_iter().map(|(name, _)| name).collect(),
    };
    let refused = if validate_only {
        rehearse(&door.broker, request).err()
    } else {
        decide(&door.broker, tonic::Request::new(request)).await.error
    };
    refused.map_or(Ok(()), |error| Err(errors::refused(error)))
}

/// The default of `segment.bytes`.
const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;

// Kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

// Where a value comes from.
const FROM_TOPIC: i8 = 1;
const FROM_BROKER: i8 = 4;
const FROM_DEFAULT: i8 = 5;

// Types of values.
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const DOUBLE: i8 = 6;
const LIST: i8 = 7;

// What IncrementalAlterConfigs does to a value.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
