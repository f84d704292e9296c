//! What committed records say: the same on every replica, and all that a new leader has.

use super::record::{
    Assignment, ClassicValue, ConsumerMemberValue, ConsumerValue, CurrentValue, GroupRecord, OffsetValue,
};
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;

/// A topic's name and a partition's number.
pub(super) type OffsetKey = (String, i32);

/// All groups of the partition. Invariant: no empty inner maps, so that equal records make equal stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Store {
    pub offsets: BTreeMap<String, BTreeMap<OffsetKey, OffsetValue>>,
    pub classic: BTreeMap<String, ClassicValue>,
    pub consumer: BTreeMap<String, ConsumerState>,
}

/// A group of the new protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConsumerState {
    pub group: Option<ConsumerValue>,
    /// The epoch that `targets` were made for.
    pub target_epoch: Option<i32>,
    pub members: BTreeMap<String, ConsumerMemberValue>,
    pub targets: BTreeMap<String, Assignment>,
    pub currents: BTreeMap<String, CurrentValue>,
}

impl Store {
    /// Takes one record. The last one of a key holds, whatever came before.
    pub fn apply(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Offset { group, topic, partition, value } => {
                let key = (topic.clone(), *partition);
                match value {
                    Some(value) => {
                        self.offsets.entry(group.clone()).or_default().insert(key, value.clone());
                    }
                    None => {
                        if let Entry::Occupied(mut offsets) = self.offsets.entry(group.clone()) {
                            offsets.get_mut().remove(&key);
                            if offsets.get().is_empty() {
                                offsets.remove();
                            }
                        }
                    }
                }
            }
            GroupRecord::Classic { group, value } => put(&mut self.classic, group, value.as_ref()),
            GroupRecord::Consumer { .. }
            | GroupRecord::ConsumerTargetEpoch { .. }
            | GroupRecord::ConsumerMember { .. }
            | GroupRecord::ConsumerTarget { .. }
            | GroupRecord::ConsumerCurrent { .. } => {
                let group = record.group();
                let state = self.consumer.entry(String::from(group)).or_default();
                state.apply(record);
                if *state == ConsumerState::default() {
                    self.consumer.remove(group);
                }
            }
        }
    }

    /// The whole state as records, one a key.
    pub fn records(&self) -> impl Iterator<Item = GroupRecord> + '_ {
        let offsets = self.offsets.iter().flat_map(|(group, offsets)| {
            offsets.iter().map(|((topic, partition), value)| GroupRecord::Offset {
                group: group.clone(),
                topic: topic.clone(),
                partition: *partition,
                value: Some(value.clone()),
            })
        });
        let classic = self
            .classic
            .iter()
            .map(|(group, value)| GroupRecord::Classic { group: group.clone(), value: Some(value.clone()) });
        let consumer = self.consumer.iter().flat_map(|(group, state)| state.records(group));
        offsets.chain(classic).chain(consumer)
    }

    /// The offset of one partition.
    pub fn offset(&self, group: &str, key: &OffsetKey) -> Option<&OffsetValue> {
        self.offsets.get(group)?.get(key)
    }
}

impl ConsumerState {
    /// The whole state as records, one a key.
    fn records<'a>(&'a self, group: &'a str) -> impl Iterator<Item = GroupRecord> + 'a {
        let own = self.group.iter().map(move |value| GroupRecord::Consumer {
            group: String::from(group),
            value: Some(value.clone()),
        });
        let target_epoch = self.target_epoch.iter().map(move |epoch| GroupRecord::ConsumerTargetEpoch {
            group: String::from(group),
            value: Some(*epoch),
        });
        let members = self.members.iter().map(move |(member_id, value)| GroupRecord::ConsumerMember {
            group: String::from(group),
            member_id: member_id.clone(),
            value: Some(value.clone()),
        });
        let targets = self.targets.iter().map(move |(member_id, value)| GroupRecord::ConsumerTarget {
            group: String::from(group),
            member_id: member_id.clone(),
            value: Some(value.clone()),
        });
        let currents = self.currents.iter().map(move |(member_id, value)| GroupRecord::ConsumerCurrent {
            group: String::from(group),
            member_id: member_id.clone(),
            value: Some(value.clone()),
        });
        own.chain(target_epoch).chain(members).chain(targets).chain(currents)
    }

    /// Takes a record of this group; of another kind, none.
    pub fn apply(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Consumer { value, .. } => self.group.clone_from(value),
            GroupRecord::ConsumerTargetEpoch { value, .. } => self.target_epoch = *value,
            GroupRecord::ConsumerMember { member_id, value, .. } => {
                put(&mut self.members, member_id, value.as_ref());
            }
            GroupRecord::ConsumerTarget { member_id, value, .. } => {
                put(&mut self.targets, member_id, value.as_ref());
            }
            GroupRecord::ConsumerCurrent { member_id, value, .. } => {
                put(&mut self.currents, member_id, value.as_ref());
            }
            GroupRecord::Offset { .. } | GroupRecord::Classic { .. } => {}
        }
    }
}

fn put<T: Clone>(map: &mut BTreeMap<String, T>, key: &str, value: Option<&T>) {
    match value {
        Some(value) => {
            map.insert(String::from(key), value.clone());
        }
        None => {
            map.remove(key);
        }
    }
}
