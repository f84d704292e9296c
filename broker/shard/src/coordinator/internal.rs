//! The topic that brokers keep for themselves: consumer groups and their offsets (docs/decisions/0006). Clients may read
//! it. What they wrote would be taken for the coordinators' own word, or keep a coordinator from reading its log; another
//! number of partitions would have each group looked for elsewhere.

use super::configs::table::{CLEANUP_POLICY, MAX_MESSAGE_BYTES};
use crate::types::{ConfigFault, CoordinatorError};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use raftline_proto::limits::BATCH_BYTES_MAX;

/// One key for each offset and group; the last record of a key holds. Kafka's name.
pub const GROUPS_TOPIC: &str = "__consumer_offsets";

/// Whether clients may only read the topic of this name.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    name == GROUPS_TOPIC
}

/// The configs of the internal topic: time takes nothing away, and no group is too large to be written.
#[must_use]
pub fn groups_topic_configs() -> BTreeMap<String, String> {
    let configs =
        [(CLEANUP_POLICY.name, "compact".to_owned()), (MAX_MESSAGE_BYTES.name, BATCH_BYTES_MAX.to_string())];
    configs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Checks the creation of a topic: the internal one is made by brokers, who know its configs.
///
/// # Errors
/// It is internal, and has others.
pub fn check_created(name: &str, configs: &BTreeMap<String, String>) -> Result<(), CoordinatorError> {
    if is_internal(name) && first_difference(configs).is_some() {
        return Err(refusal(name, "the brokers make it themselves, when a client first asks for a group"));
    }
    Ok(())
}

/// Checks the configs that a topic would have.
///
/// # Errors
/// It is internal, and one of them would lose offsets.
pub fn check_altered(name: &str, configs: &BTreeMap<String, String>) -> Result<(), CoordinatorError> {
    match first_difference(configs) {
        Some((key, needed)) if is_internal(name) => {
            let why = format!("{name} keeps the offsets of consumer groups, and needs {needed}");
            let value = configs.get(&key).cloned().unwrap_or_default();
            Err(CoordinatorError::InvalidConfig { name: key, value, fault: ConfigFault::Value(why) })
        }
        _ => Ok(()),
    }
}

/// Checks that a topic may be deleted.
///
/// # Errors
/// It is internal.
pub fn check_deleted(name: &str) -> Result<(), CoordinatorError> {
    if is_internal(name) {
        let reason = "all committed offsets are in it: delete groups, or offsets of a group, instead";
        return Err(refusal(name, reason));
    }
    Ok(())
}

/// Checks that a topic may have more partitions.
///
/// # Errors
/// It is internal.
pub fn check_partitions_added(name: &str) -> Result<(), CoordinatorError> {
    if is_internal(name) {
        return Err(refusal(name, "groups are found by the number of its partitions, which stays"));
    }
    Ok(())
}

/// The first config that is not as the internal topic needs it, and how it should be.
fn first_difference(configs: &BTreeMap<String, String>) -> Option<(String, String)> {
    groups_topic_configs().into_iter().find(|(name, needed)| configs.get(name) != Some(needed))
}

fn refusal(name: &str, reason: &'static str) -> CoordinatorError {
    CoordinatorError::InternalTopic { name: name.to_owned(), reason }
}
