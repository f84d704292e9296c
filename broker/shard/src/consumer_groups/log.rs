//! The leader's end of the log: what is appended and not yet committed, and the answers that wait for it.
//!
//! Positions count records since leadership began. Records are applied in the order in which they were appended, so
//! "everything up to here is committed" is one comparison.

use super::limits::{APPEND_BYTES, GroupsConfig};
use super::record::{Assignment, GroupRecord};
use super::store::{OffsetKey, Store};
use super::types::{Answer, GroupError, GroupResponse, Output};
use crate::types::RequestId;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::time::{Monotonic, Now};

/// What one call may look at and do besides the group it is about.
pub(super) struct Turn<'a> {
    pub now: Now,
    pub config: &'a GroupsConfig,
    pub log: &'a mut Log,
    pub outputs: &'a mut Vec<Output>,
}

/// Appended, uncommitted.
#[derive(Debug, Default)]
pub(super) struct Log {
    appended: u64,
    /// Invariant: at most `appended`.
    applied: u64,
    /// Invariant: by position, and so by deadline.
    withheld: VecDeque<Withheld>,
    /// Offsets with records under way. Invariant: no empty inner maps.
    offsets: BTreeMap<String, BTreeMap<OffsetKey, UnderWay>>,
    /// Groups with other records under way, and how many. Invariant: no zeros.
    groups: BTreeMap<String, u64>,
}

/// What was under way and will never be committed.
#[derive(Debug)]
pub(super) struct Refused {
    /// Groups with offsets in it.
    pub offsets: BTreeSet<String>,
    /// Groups with other records in it.
    pub groups: BTreeSet<String>,
    /// All that waited.
    pub withheld: Vec<After>,
}

#[derive(Debug)]
struct Withheld {
    position: u64,
    deadline: Monotonic,
    after: After,
}

/// What happens once everything appended before is committed.
#[derive(Debug)]
pub(super) enum After {
    /// A request about a group is answered.
    Respond { request: RequestId, group: String, response: GroupResponse },
    /// A classic generation has its assignment.
    Synced { group: String, generation: i32 },
}

/// Records of one offset that are not committed yet.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    count: u32,
    /// Whether the last of them is a value, not a tombstone.
    last_is_value: bool,
}

impl Turn<'_> {
    /// Answers now.
    pub fn respond(&mut self, request: RequestId, answer: Answer) {
        self.outputs.push(Output::Respond { request, answer });
    }

    /// Refuses now.
    pub fn refuse(&mut self, request: RequestId, error: GroupError) {
        self.respond(request, Err(error));
    }

    /// Appends a batch; of nothing, nothing.
    pub fn append(&mut self, records: Vec<GroupRecord>) {
        if records.is_empty() {
            return;
        }
        self.log.note(&records);
        self.outputs.push(Output::Append { records });
    }

    /// Appends records that need not be committed together, in batches of a size that every log takes.
    pub fn append_each(&mut self, records: Vec<GroupRecord>) {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for record in records {
            batch_bytes += record_bytes(&record);
            batch.push(record);
            if batch_bytes >= APPEND_BYTES {
                self.append(core::mem::take(&mut batch));
                batch_bytes = 0;
            }
        }
        self.append(batch);
    }

    /// Lets something wait until all that is appended by now is committed.
    pub fn after_commit(&mut self, after: After) {
        let deadline = self.now.monotonic + self.config.commit_timeout;
        let position = self.log.appended;
        self.log.withheld.push_back(Withheld { position, deadline, after });
    }

    /// Answers once all that is appended by now is committed: at once, if it is. What was planned and may still be
    /// lost is never told.
    pub fn respond_committed(&mut self, request: RequestId, group: &str, response: GroupResponse) {
        if self.log.applied == self.log.appended {
            self.respond(request, Ok(response));
        } else {
            self.after_commit(After::Respond { request, group: String::from(group), response });
        }
    }
}

impl Log {
    /// How many answers wait.
    pub fn withheld(&self) -> usize {
        self.withheld.len()
    }

    /// When the first of them gives up.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.withheld.front().map(|withheld| withheld.deadline)
    }

    /// A record was committed. False: it is not of this leadership, or not in order.
    pub fn applied(&mut self, record: &GroupRecord) -> bool {
        if self.applied == self.appended {
            return false;
        }
        self.applied += 1;
        if let GroupRecord::Offset { group, topic, partition, value: _ } = record {
            self.offset_applied(group, &(topic.clone(), *partition));
        } else if let Some(count) = self.groups.get_mut(record.group()) {
            *count -= 1;
            if *count == 0 {
                self.groups.remove(record.group());
            }
        }
        true
    }

    /// Nothing that is under way will be committed.
    pub fn refuse(&mut self) -> Refused {
        self.applied = self.appended;
        Refused {
            offsets: core::mem::take(&mut self.offsets).into_keys().collect(),
            groups: core::mem::take(&mut self.groups).into_keys().collect(),
            withheld: self.take_all().into(),
        }
    }

    /// Takes what waits for nothing any more.
    pub fn take_ready(&mut self) -> Option<After> {
        if self.withheld.front()?.position > self.applied {
            return None;
        }
        self.withheld.pop_front().map(|withheld| withheld.after)
    }

    /// Takes what waits for too long.
    pub fn take_overdue(&mut self, now: Monotonic) -> Option<After> {
        if self.withheld.front()?.deadline > now {
            return None;
        }
        self.withheld.pop_front().map(|withheld| withheld.after)
    }

    /// Takes everything that waits.
    pub fn take_all(&mut self) -> VecDeque<After> {
        core::mem::take(&mut self.withheld).into_iter().map(|withheld| withheld.after).collect()
    }

    /// Whether a record of this offset is under way.
    pub fn is_under_way(&self, group: &str, key: &OffsetKey) -> bool {
        self.offsets.get(group).is_some_and(|offsets| offsets.contains_key(key))
    }

    /// The offsets that a group will have once all is committed.
    pub fn planned_offsets(&self, store: &Store, group: &str) -> BTreeSet<OffsetKey> {
        let mut keys: BTreeSet<OffsetKey> =
            store.offsets.get(group).map(|offsets| offsets.keys().cloned().collect()).unwrap_or_default();
        for (key, under_way) in self.offsets.get(group).into_iter().flatten() {
            if under_way.last_is_value {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        keys
    }

    /// Whether a group will have this offset once all is committed.
    pub fn has_planned_offset(&self, store: &Store, group: &str, key: &OffsetKey) -> bool {
        match self.offsets.get(group).and_then(|offsets| offsets.get(key)) {
            Some(under_way) => under_way.last_is_value,
            None => store.offset(group, key).is_some(),
        }
    }

    /// Whether a group will have any offset once all is committed.
    pub fn has_planned_offsets(&self, store: &Store, group: &str) -> bool {
        if self.offsets.contains_key(group) {
            return !self.planned_offsets(store, group).is_empty();
        }
        store.offsets.contains_key(group)
    }

    /// An upper bound of how many offsets a group will have.
    pub fn planned_offsets_max(&self, store: &Store, group: &str) -> usize {
        let committed = store.offsets.get(group).map_or(0, BTreeMap::len);
        committed + self.offsets.get(group).map_or(0, BTreeMap::len)
    }

    /// How many groups have offsets under way.
    pub fn groups_len(&self) -> usize {
        self.offsets.len()
    }

    /// Groups with offsets under way.
    pub fn groups(&self) -> impl Iterator<Item = &String> {
        self.offsets.keys()
    }

    fn note(&mut self, records: &[GroupRecord]) {
        self.appended += records.len() as u64;
        for record in records {
            if let GroupRecord::Offset { group, topic, partition, value } = record {
                let offsets = self.offsets.entry(group.clone()).or_default();
                let fresh = UnderWay { count: 0, last_is_value: false };
                let under_way = offsets.entry((topic.clone(), *partition)).or_insert(fresh);
                under_way.count += 1;
                under_way.last_is_value = value.is_some();
            } else {
                *self.groups.entry(String::from(record.group())).or_default() += 1;
            }
        }
    }

    fn offset_applied(&mut self, group: &str, key: &OffsetKey) {
        let Some(offsets) = self.offsets.get_mut(group) else { return };
        if let Some(under_way) = offsets.get_mut(key) {
            under_way.count -= 1;
            if under_way.count == 0 {
                offsets.remove(key);
            }
        }
        if offsets.is_empty() {
            self.offsets.remove(group);
        }
    }
}

/// About how many bytes a record takes. Records of classic groups are never split from others.
fn record_bytes(record: &GroupRecord) -> usize {
    let value = match record {
        GroupRecord::Offset { topic, value, .. } => {
            topic.len() + value.as_ref().map_or(0, |value| value.metadata.len())
        }
        GroupRecord::ConsumerMember { value, .. } => {
            let topics = value.iter().flat_map(|member| &member.subscribed_topics);
            let classic = value.iter().flat_map(|member| &member.classic);
            let protocols = classic.flat_map(|classic| &classic.protocols);
            let said: usize = protocols.map(|said| said.name.len() + said.metadata.len() + 6).sum();
            said + topics.map(|topic| topic.len() + 2).sum::<usize>()
        }
        GroupRecord::ConsumerTarget { value, .. } => value.as_ref().map_or(0, assignment_bytes),
        GroupRecord::ConsumerCurrent { value, .. } => value
            .as_ref()
            .map_or(0, |current| assignment_bytes(&current.assigned) + assignment_bytes(&current.revoking)),
        GroupRecord::Classic { .. }
        | GroupRecord::Consumer { .. }
        | GroupRecord::ConsumerTargetEpoch { .. } => 0,
    };
    RECORD_BYTES_MIN + record.group().len() + value
}

fn assignment_bytes(assignment: &Assignment) -> usize {
    // A topic's id, its name, sizes; of a partition also the epoch in which the member got it.
    assignment.iter().map(|(topic, partitions)| topic.len() + 32 + 8 * partitions.len()).sum()
}

const RECORD_BYTES_MIN: usize = 48;
