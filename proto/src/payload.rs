//! The payloads of entries that carry no records: a [`Membership`], or a list of [`MetadataRecord`]s.
//!
//! Both start with a format version (`u16`, now 1). Integers are little-endian, a text is a `u16` size and UTF-8.
//!
//! ```text
//! membership  u16 version, u8 voters, u32 each, u8 learners, u32 each          both ascending, disjoint
//! metadata    u16 version, u32 records, each: u8 tag and
//!   1 Cluster          u128 id, text name, u32 feature level
//!   2 Broker           u32 node, u64 incarnation, text grpc address
//!   3 TopicCreated     u128 id, text name, partitions, configs
//!   4 TopicDeleted     u128 id
//!   5 TopicConfigured  u128 id, configs
//!   6 PartitionsAdded  u128 id, partitions
//!   7 ProducerIds      u64 next
//!   8 Broker           as 2, and text kafka address: that of its only listener, PLAINTEXT
//!   9 Broker           as 2, and its listeners
//! partitions  u32 count, each: u64 group, u8 replicas, u32 each               preferred leader first
//! listeners   u32 count, each: text name, text kafka address                  names ascending
//! configs     u32 count, each: text name, text value                          names ascending
//! ```
//!
//! There is one encoding of each value, so replicas that apply the same records hold the same bytes. A new tag or
//! field needs a new version and a feature level that allows it (DESIGN D12).

use crate::cursor::{CursorError, Reader, Writer};
use crate::ids::{ClusterId, GroupId, Incarnation, Membership, NodeId, ProducerId, TopicId};
use crate::limits;
use crate::metadata::{BrokerRecord, MetadataRecord, PLAINTEXT, PartitionRecord};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The layouts described above.
pub const VERSION: u16 = 1;

/// Encodes a membership.
///
/// # Errors
/// What [`decode_membership`] would refuse, so that nothing is ever committed that cannot be read back.
pub fn encode_membership(membership: &Membership) -> Result<Vec<u8>, PayloadError> {
    check_membership(membership)?;
    let mut writer = Writer::new();
    writer.u16(VERSION);
    put_nodes(&mut writer, &membership.voters);
    put_nodes(&mut writer, &membership.learners);
    Ok(writer.into_bytes())
}

/// Decodes a membership; `bytes` holds it and no more.
///
/// # Errors
/// Says what is malformed, unordered or over its bound.
pub fn decode_membership(bytes: &[u8]) -> Result<Membership, PayloadError> {
    let mut reader = Reader::new(bytes);
    check_version(&mut reader)?;
    let voters = get_nodes(&mut reader)?;
    let learners = get_nodes(&mut reader)?;
    reader.finish()?;
    let membership = Membership { voters, learners };
    check_membership(&membership)?;
    Ok(membership)
}

/// Encodes the metadata records of one entry.
///
/// # Errors
/// What [`decode_metadata`] would refuse, so that nothing is ever committed that cannot be read back.
pub fn encode_metadata(records: &[MetadataRecord]) -> Result<Vec<u8>, PayloadError> {
    at_most("metadata records", records.len(), limits::METADATA_RECORDS_MAX)?;
    let mut writer = Writer::new();
    writer.u16(VERSION);
    put_count(&mut writer, records.len());
    for record in records {
        put_record(&mut writer, record)?;
    }
    at_most("bytes of metadata", writer.len(), limits::ENTRY_PAYLOAD_BYTES_MAX as usize)?;
    Ok(writer.into_bytes())
}

/// Decodes the metadata records of one entry; `bytes` holds them and no more.
///
/// # Errors
/// Says what is malformed, unordered or over its bound.
pub fn decode_metadata(bytes: &[u8]) -> Result<Vec<MetadataRecord>, PayloadError> {
    at_most("bytes of metadata", bytes.len(), limits::ENTRY_PAYLOAD_BYTES_MAX as usize)?;
    let mut reader = Reader::new(bytes);
    check_version(&mut reader)?;
    let count = reader.count(limits::METADATA_RECORDS_MAX, RECORD_BYTES_MIN)?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        records.push(get_record(&mut reader)?);
    }
    reader.finish()?;
    Ok(records)
}

fn put_record(writer: &mut Writer, record: &MetadataRecord) -> Result<(), PayloadError> {
    match record {
        MetadataRecord::Cluster { id, name, feature_level } => {
            writer.u8(TAG_CLUSTER);
            writer.u128(id.0);
            put_text(writer, "cluster name", name, limits::TEXT_BYTES_MAX)?;
            writer.u32(*feature_level);
        }
        MetadataRecord::Broker(broker) => {
            let plain = only_plain(&broker.kafka);
            writer.u8(match plain {
                _ if broker.kafka.is_empty() => TAG_BROKER,
                Some(_) => TAG_BROKER_WITH_KAFKA,
                None => TAG_BROKER_WITH_LISTENERS,
            });
            writer.u32(broker.node.0);
            writer.u64(broker.incarnation.0);
            put_text(writer, "broker address", &broker.grpc_address, limits::TEXT_BYTES_MAX)?;
            match plain {
                _ if broker.kafka.is_empty() => {}
                Some(address) => put_text(writer, "broker address", address, limits::TEXT_BYTES_MAX)?,
                None => put_listeners(writer, &broker.kafka)?,
            }
        }
        MetadataRecord::TopicCreated { id, name, partitions, configs } => {
            writer.u8(TAG_TOPIC_CREATED);
            writer.u128(id.0);
            put_text(writer, "topic name", name, limits::TOPIC_NAME_BYTES_MAX)?;
            put_partitions(writer, partitions)?;
            put_configs(writer, configs)?;
        }
        MetadataRecord::TopicDeleted { id } => {
            writer.u8(TAG_TOPIC_DELETED);
            writer.u128(id.0);
        }
        MetadataRecord::TopicConfigured { id, configs } => {
            writer.u8(TAG_TOPIC_CONFIGURED);
            writer.u128(id.0);
            put_configs(writer, configs)?;
        }
        MetadataRecord::PartitionsAdded { id, partitions } => {
            writer.u8(TAG_PARTITIONS_ADDED);
            writer.u128(id.0);
            put_partitions(writer, partitions)?;
        }
        MetadataRecord::ProducerIds { next } => {
            writer.u8(TAG_PRODUCER_IDS);
            writer.u64(next.0);
        }
    }
    Ok(())
}

fn get_record(reader: &mut Reader<'_>) -> Result<MetadataRecord, PayloadError> {
    Ok(match reader.u8()? {
        TAG_CLUSTER => MetadataRecord::Cluster {
            id: ClusterId(reader.u128()?),
            name: reader.text(limits::TEXT_BYTES_MAX)?,
            feature_level: reader.u32()?,
        },
        tag @ (TAG_BROKER | TAG_BROKER_WITH_KAFKA | TAG_BROKER_WITH_LISTENERS) => {
            MetadataRecord::Broker(BrokerRecord {
                node: NodeId(reader.u32()?),
                incarnation: Incarnation(reader.u64()?),
                grpc_address: reader.text(limits::TEXT_BYTES_MAX)?,
                kafka: match tag {
                    TAG_BROKER => BTreeMap::new(),
                    TAG_BROKER_WITH_KAFKA => {
                        BTreeMap::from([(PLAINTEXT.to_owned(), reader.text(limits::TEXT_BYTES_MAX)?)])
                    }
                    _ => get_listeners(reader)?,
                },
            })
        }
        TAG_TOPIC_CREATED => MetadataRecord::TopicCreated {
            id: TopicId(reader.u128()?),
            name: reader.text(limits::TOPIC_NAME_BYTES_MAX)?,
            partitions: get_partitions(reader)?,
            configs: get_configs(reader)?,
        },
        TAG_TOPIC_DELETED => MetadataRecord::TopicDeleted { id: TopicId(reader.u128()?) },
        TAG_TOPIC_CONFIGURED => {
            MetadataRecord::TopicConfigured { id: TopicId(reader.u128()?), configs: get_configs(reader)? }
        }
        TAG_PARTITIONS_ADDED => MetadataRecord::PartitionsAdded {
            id: TopicId(reader.u128()?),
            partitions: get_partitions(reader)?,
        },
        TAG_PRODUCER_IDS => MetadataRecord::ProducerIds { next: ProducerId(reader.u64()?) },
        found => return Err(PayloadError::Tag { found }),
    })
}

fn put_partitions(writer: &mut Writer, partitions: &[PartitionRecord]) -> Result<(), PayloadError> {
    at_most("partitions", partitions.len(), limits::PARTITIONS_MAX as usize)?;
    put_count(writer, partitions.len());
    for partition in partitions {
        at_most("replicas", partition.replicas.len(), limits::REPLICAS_MAX)?;
        writer.u64(partition.group.0);
        put_nodes(writer, &partition.replicas);
    }
    Ok(())
}

fn get_partitions(reader: &mut Reader<'_>) -> Result<Vec<PartitionRecord>, PayloadError> {
    let count = reader.count(limits::PARTITIONS_MAX as usize, PARTITION_BYTES_MIN)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        partitions.push(PartitionRecord { group: GroupId(reader.u64()?), replicas: get_nodes(reader)? });
    }
    Ok(partitions)
}

/// The address of the only listener of a broker, if it has the name that one without a name gets.
fn only_plain(listeners: &BTreeMap<String, String>) -> Option<&String> {
    listeners.get(PLAINTEXT).filter(|_| listeners.len() == 1)
}

fn put_listeners(writer: &mut Writer, listeners: &BTreeMap<String, String>) -> Result<(), PayloadError> {
    at_most("listeners", listeners.len(), limits::KAFKA_LISTENERS_MAX)?;
    put_count(writer, listeners.len());
    for (name, address) in listeners {
        put_text(writer, "listener name", name, limits::TEXT_BYTES_MAX)?;
        put_text(writer, "broker address", address, limits::TEXT_BYTES_MAX)?;
    }
    Ok(())
}

fn get_listeners(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, PayloadError> {
    let listeners = get_texts(reader, limits::KAFKA_LISTENERS_MAX, "listener names")?;
    // Those have records of their own.
    if listeners.is_empty() || only_plain(&listeners).is_some() {
        return Err(PayloadError::Order { what: "listeners" });
    }
    Ok(listeners)
}

fn put_configs(writer: &mut Writer, configs: &BTreeMap<String, String>) -> Result<(), PayloadError> {
    at_most("configs", configs.len(), limits::TOPIC_CONFIGS_MAX)?;
    put_count(writer, configs.len());
    for (name, value) in configs {
        put_text(writer, "config name", name, limits::TEXT_BYTES_MAX)?;
        put_text(writer, "config value", value, limits::TEXT_BYTES_MAX)?;
    }
    Ok(())
}

fn get_configs(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, PayloadError> {
    get_texts(reader, limits::TOPIC_CONFIGS_MAX, "config names")
}

/// Pairs of texts, the first of each ascending.
fn get_texts(
    reader: &mut Reader<'_>,
    count_max: usize,
    what: &'static str,
) -> Result<BTreeMap<String, String>, PayloadError> {
    let count = reader.count(count_max, PAIR_BYTES_MIN)?;
    let mut texts = BTreeMap::new();
    for _ in 0..count {
        let name = reader.text(limits::TEXT_BYTES_MAX)?;
        if texts.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(PayloadError::Order { what });
        }
        texts.insert(name, reader.text(limits::TEXT_BYTES_MAX)?);
    }
    Ok(texts)
}

/// The caller has checked that there are at most [`limits::REPLICAS_MAX`].
fn put_nodes(writer: &mut Writer, nodes: &[NodeId]) {
    writer.u8(u8::try_from(nodes.len()).expect("the bound on replicas fits a byte"));
    for node in nodes {
        writer.u32(node.0);
    }
}

fn get_nodes(reader: &mut Reader<'_>) -> Result<Vec<NodeId>, PayloadError> {
    let count = usize::from(reader.u8()?);
    at_most("replicas", count, limits::REPLICAS_MAX)?;
    (0..count).map(|_| Ok(NodeId(reader.u32()?))).collect()
}

fn put_text(
    writer: &mut Writer,
    what: &'static str,
    text: &str,
    bytes_max: usize,
) -> Result<(), PayloadError> {
    at_most(what, text.len(), bytes_max)?;
    writer.u16(u16::try_from(text.len()).expect("the bounds on texts fit 16 bits"));
    writer.bytes(text.as_bytes());
    Ok(())
}

fn put_count(writer: &mut Writer, count: usize) {
    writer.u32(u32::try_from(count).expect("the bounds on counts fit 32 bits"));
}

fn check_version(reader: &mut Reader<'_>) -> Result<(), PayloadError> {
    match reader.u16()? {
        VERSION => Ok(()),
        found => Err(PayloadError::Version { found }),
    }
}

fn check_membership(membership: &Membership) -> Result<(), PayloadError> {
    let Membership { voters, learners } = membership;
    at_most("voters", voters.len(), limits::VOTERS_MAX)?;
    at_most("replicas", voters.len() + learners.len(), limits::REPLICAS_MAX)?;
    if voters.is_empty() {
        return Err(PayloadError::NoVoters);
    }
    let ascending = |nodes: &[NodeId]| nodes.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending(voters) || !ascending(learners) {
        return Err(PayloadError::Order { what: "replicas" });
    }
    if learners.iter().any(|node| voters.binary_search(node).is_ok()) {
        return Err(PayloadError::Order { what: "voters and learners together" });
    }
    Ok(())
}

fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), PayloadError> {
    if found <= max {
        Ok(())
    } else {
        Err(PayloadError::Limit { what, found: found as u64, max: max as u64 })
    }
}

const TAG_CLUSTER: u8 = 1;
const TAG_BROKER: u8 = 2;
const TAG_TOPIC_CREATED: u8 = 3;
const TAG_TOPIC_DELETED: u8 = 4;
const TAG_TOPIC_CONFIGURED: u8 = 5;
const TAG_PARTITIONS_ADDED: u8 = 6;
const TAG_PRODUCER_IDS: u8 = 7;
const TAG_BROKER_WITH_KAFKA: u8 = 8;
const TAG_BROKER_WITH_LISTENERS: u8 = 9;

/// The shortest record: a tag and a `u64`.
const RECORD_BYTES_MIN: usize = 9;
/// A group and no replicas.
const PARTITION_BYTES_MIN: usize = 9;
/// Two empty texts.
const PAIR_BYTES_MIN: usize = 4;

const _: () = assert!(limits::REPLICAS_MAX <= u8::MAX as usize);
const _: () = assert!(limits::TEXT_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(limits::TOPIC_NAME_BYTES_MAX <= u16::MAX as usize);

/// Why a value has no encoding, or bytes are not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadError {
    /// Written by a newer Raftline.
    Version {
        /// Its version; ours is [`VERSION`].
        found: u16,
    },
    /// A record of a kind that this version does not know.
    Tag {
        /// Its number.
        found: u8,
    },
    /// A command of a kind that this version does not know.
    Command {
        /// Its number.
        found: u8,
    },
    /// A command that lets records go for a reason that this version does not know.
    TrimReason {
        /// Its number.
        found: u8,
    },
    /// A gap whose entries take other offsets than its header says, or no entries.
    Gap {
        /// What the header says.
        expected: u64,
        /// What its entries add up to.
        found: u64,
    },
    /// Cut short, too long, or not made of the right types.
    Malformed(CursorError),
    /// Over one of the bounds in [`limits`].
    Limit {
        /// Of what.
        what: &'static str,
        /// How much.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// Not in ascending order, or with repeats.
    Order {
        /// What.
        what: &'static str,
    },
    /// A membership that could never commit anything.
    NoVoters,
    /// A producer of whom nothing is known.
    NoBatches {
        /// Which one.
        producer: ProducerId,
    },
}

impl From<CursorError> for PayloadError {
    fn from(error: CursorError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found } => write!(
                formatter,
                "payload version {found} is not known here, only version {VERSION} is: run a newer Raftline"
            ),
            Self::Tag { found } => {
                write!(formatter, "metadata record {found} is not known here: run a newer Raftline")
            }
            Self::Command { found } => {
                write!(formatter, "command {found} is not known here: run a newer Raftline")
            }
            Self::TrimReason { found } => {
                write!(formatter, "reason {found} to let records go is not known here: run a newer Raftline")
            }
            Self::Gap { expected, found } => {
                write!(formatter, "the entries of a gap of {expected} offsets take {found}")
            }
            Self::Malformed(error) => write!(formatter, "{error}"),
            Self::Limit { what, found, max } => {
                write!(formatter, "{found} {what} are over the bound of {max}")
            }
            Self::Order { what } => write!(formatter, "{what} are not in ascending order without repeats"),
            Self::NoVoters => write!(formatter, "a membership needs at least one voter"),
            Self::NoBatches { producer } => {
                write!(formatter, "producer {producer} is listed without a batch")
            }
        }
    }
}

impl core::error::Error for PayloadError {}
