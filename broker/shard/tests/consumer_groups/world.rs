//! One coordinator with a log that commits when it is told to.

use raftline_proto::time::{Monotonic, Now, Timestamp};
use raftline_shard::consumer_groups::Groups;
use raftline_shard::consumer_groups::limits::GroupsConfig;
use raftline_shard::consumer_groups::record::GroupRecord;
use raftline_shard::consumer_groups::types::TopicImage;
use raftline_shard::consumer_groups::types::{
    Answer, CommitOffset, GroupProtocol, GroupRequest, GroupResponse, Heartbeat, JoinGroup, Joined,
    LeaveGroup, LeavingMember, MemberIdRule, OffsetCommit, OffsetFetch, Output, SyncGroup, Synced,
    TopicPartition,
};
use raftline_shard::types::RequestId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub struct World {
    pub groups: Groups,
    pub config: GroupsConfig,
    pub now: Now,
    /// Committed records.
    pub log: Vec<GroupRecord>,
    /// Appended records.
    pub uncommitted: VecDeque<GroupRecord>,
    /// Of the batches that these are of, how many records are not committed yet, and whether any is.
    batches: VecDeque<(usize, bool)>,
    /// Whether what is appended is committed at once.
    pub commits: bool,
    /// Whether what is appended is refused at once.
    pub refuses: bool,
    pub answers: BTreeMap<RequestId, Answer>,
    pub unanswered: usize,
    /// What the coordinator was told of topics.
    pub topics: Option<BTreeMap<String, TopicImage>>,
    next: u64,
}

impl World {
    pub fn new(config: GroupsConfig) -> Self {
        let now = Now { monotonic: Monotonic(1), wall: Timestamp(1_000_000_000_000) };
        let mut groups = Groups::new(config.clone());
        groups.lead(now, &mut Vec::new());
        Self {
            groups,
            config,
            now,
            log: Vec::new(),
            uncommitted: VecDeque::new(),
            batches: VecDeque::new(),
            commits: true,
            refuses: false,
            answers: BTreeMap::new(),
            unanswered: 0,
            topics: None,
            next: 1,
        }
    }

    /// Without a delay for the first members.
    pub fn prompt() -> Self {
        Self::new(GroupsConfig { initial_rebalance_delay: Duration::ZERO, ..GroupsConfig::default() })
    }

    /// A number that never comes twice.
    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn ask(&mut self, request: GroupRequest) -> RequestId {
        let id = RequestId(self.fresh());
        let mut outputs = Vec::new();
        self.unanswered += 1;
        self.groups.handle(self.now, id, request, &mut outputs);
        self.carry_out(outputs);
        id
    }

    /// The answer to a request, if it is there.
    pub fn take(&mut self, id: RequestId) -> Option<Answer> {
        self.answers.remove(&id)
    }

    /// Asks what is answered without anybody else's doing.
    pub fn call(&mut self, request: GroupRequest) -> Answer {
        let shown = format!("{request:?}");
        let id = self.ask(request);
        self.take(id).unwrap_or_else(|| panic!("not answered: {shown}"))
    }

    /// Topics by name, partitions and id.
    pub fn topics(&mut self, topics: &[(&str, i32, u128)]) {
        let image = |(name, partitions, id): &(&str, i32, u128)| {
            ((*name).into(), TopicImage { partitions: *partitions, id: *id })
        };
        let topics: BTreeMap<String, TopicImage> = topics.iter().map(image).collect();
        let mut outputs = Vec::new();
        self.groups.topics_changed(self.now, &topics, &mut outputs);
        self.topics = Some(topics);
        self.carry_out(outputs);
    }

    /// Commits one appended record.
    pub fn commit_one(&mut self) -> bool {
        let Some(record) = self.uncommitted.pop_front() else { return false };
        if let Some((left, is_begun)) = self.batches.front_mut() {
            (*left, *is_begun) = (*left - 1, true);
            if *left == 0 {
                self.batches.pop_front();
            }
        }
        let (key, value) = record.encode(&|_| None);
        assert_eq!(GroupRecord::decode(&key, value.as_deref()).as_ref(), Ok(&record));
        let mut outputs = Vec::new();
        self.groups.apply(self.now, &record, &mut outputs);
        self.log.push(record);
        self.take_outputs(outputs);
        true
    }

    pub fn commit_all(&mut self) {
        while self.commit_one() {}
    }

    /// What is appended is not made, as on a full disk. Batches are made as a whole or not at all.
    pub fn refuse(&mut self) {
        while matches!(self.batches.front(), Some((_, true))) {
            self.commit_one();
        }
        self.uncommitted.clear();
        self.batches.clear();
        let mut outputs = Vec::new();
        self.groups.refused(self.now, &mut outputs);
        self.take_outputs(outputs);
    }

    /// Lets time pass, with all that becomes due on the way.
    pub fn pass(&mut self, span: Duration) {
        let until = self.now.monotonic + span;
        while let Some(deadline) = self.groups.next_deadline().filter(|deadline| *deadline <= until) {
            self.set_clock(deadline.max(self.now.monotonic));
            let mut outputs = Vec::new();
            self.groups.tick(self.now, &mut outputs);
            self.carry_out(outputs);
            let next = self.groups.next_deadline();
            assert!(next.is_none_or(|next| next > self.now.monotonic), "a tick leaves nothing due");
        }
        self.set_clock(until);
    }

    /// The leader dies with what is not committed; another one has only the log.
    pub fn fail_over(&mut self) {
        let mut outputs = Vec::new();
        self.groups.follow(&mut outputs);
        self.uncommitted.clear();
        self.batches.clear();
        self.carry_out(outputs);
        let mut groups = Groups::new(self.config.clone());
        for record in &self.log {
            groups.apply(self.now, record, &mut Vec::new());
        }
        assert!(groups.same_state(&self.groups), "equal records make equal replicas");
        let mut compacted = Groups::new(self.config.clone());
        for record in self.compacted() {
            compacted.apply(self.now, record, &mut Vec::new());
        }
        assert!(groups.same_state(&compacted), "compaction loses nothing");
        let mut copied = Groups::new(self.config.clone());
        for record in groups.records() {
            copied.apply(self.now, &record, &mut Vec::new());
        }
        assert!(groups.same_state(&copied), "a snapshot loses nothing");
        self.groups = groups;
        let mut outputs = Vec::new();
        if let Some(topics) = &self.topics {
            self.groups.topics_changed(self.now, topics, &mut outputs);
        }
        self.groups.lead(self.now, &mut outputs);
        self.carry_out(outputs);
    }

    /// The log with the last record of each key only.
    fn compacted(&self) -> Vec<&GroupRecord> {
        let mut keys = BTreeSet::new();
        let mut kept: Vec<_> =
            self.log.iter().rev().filter(|record| keys.insert(record.encode(&|_| None).0)).collect();
        kept.reverse();
        kept
    }

    fn set_clock(&mut self, monotonic: Monotonic) {
        let passed = monotonic.since(self.now.monotonic);
        self.now.monotonic = monotonic;
        self.now.wall.0 += i64::try_from(passed.as_millis()).expect("a while");
    }

    pub fn carry_out(&mut self, outputs: Vec<Output>) {
        self.take_outputs(outputs);
        if self.refuses && !self.uncommitted.is_empty() {
            self.refuse();
        }
        if self.commits {
            self.commit_all();
        }
    }

    fn take_outputs(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Respond { request, answer } => {
                    let earlier = self.answers.insert(request, answer);
                    assert!(earlier.is_none(), "{request:?} was answered twice");
                    self.unanswered -= 1;
                }
                Output::Append { records } => {
                    assert!(!records.is_empty(), "an append of nothing");
                    self.batches.push_back((records.len(), false));
                    self.uncommitted.extend(records);
                }
            }
        }
    }
}

/// Kafka's error number; 0 for none.
pub fn code(answer: &Answer) -> i16 {
    answer.as_ref().err().map_or(0, |error| error.code())
}

pub fn joined(answer: Option<Answer>) -> Joined {
    match answer {
        Some(Ok(GroupResponse::Joined(joined))) => joined,
        other => panic!("not joined: {other:?}"),
    }
}

pub fn synced(answer: Option<Answer>) -> Synced {
    match answer {
        Some(Ok(GroupResponse::Synced(synced))) => synced,
        other => panic!("not synced: {other:?}"),
    }
}

pub const G: &str = "group";

/// A consumer's subscription, as Kafka's clients write it.
pub fn subscription(topics: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(i32::try_from(topics.len()).expect("few").to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).expect("short").to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes
}

pub fn protocol(name: &str, topics: &[&str]) -> GroupProtocol {
    GroupProtocol { name: name.into(), metadata: subscription(topics) }
}

pub fn join(member_id: &str) -> JoinGroup {
    JoinGroup {
        group: G.into(),
        member_id: member_id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", &["t"])],
        member_id_rule: MemberIdRule::Required,
        can_skip_assignment: true,
        fresh_id: 7,
    }
}

pub fn sync(member_id: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncGroup {
    let assignments = assignments.iter().map(|(id, part)| ((*id).into(), part.as_bytes().to_vec())).collect();
    SyncGroup {
        group: G.into(),
        member_id: member_id.into(),
        instance_id: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments,
    }
}

pub fn heartbeat(member_id: &str, generation: i32) -> GroupRequest {
    GroupRequest::Heartbeat(Heartbeat {
        group: G.into(),
        member_id: member_id.into(),
        instance_id: None,
        generation,
    })
}

pub fn leave(member_id: &str) -> GroupRequest {
    let members = vec![LeavingMember { member_id: member_id.into(), instance_id: None }];
    GroupRequest::Leave(LeaveGroup { group: G.into(), members })
}

pub fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

pub fn commit(member_id: &str, generation: i32, partition: i32, offset: i64) -> OffsetCommit {
    let offset = CommitOffset {
        topic_partition: at("t", partition),
        offset,
        leader_epoch: 3,
        metadata: "note".into(),
    };
    OffsetCommit {
        group: G.into(),
        member_id: member_id.into(),
        instance_id: None,
        generation,
        offsets: vec![offset],
    }
}

pub fn fetch_all() -> GroupRequest {
    GroupRequest::OffsetFetch(OffsetFetch {
        group: G.into(),
        member_id: None,
        member_epoch: -1,
        partitions: None,
    })
}

/// All offsets of the group, as `topic-partition=offset`.
pub fn offsets(world: &mut World) -> Vec<String> {
    match world.call(fetch_all()) {
        Ok(GroupResponse::Offsets(offsets)) => offsets
            .iter()
            .map(|fetched| {
                let TopicPartition { topic, partition } = &fetched.topic_partition;
                format!("{topic}-{partition}={}", fetched.offset)
            })
            .collect(),
        other => panic!("not offsets: {other:?}"),
    }
}

impl World {
    /// A new dynamic member asks for its id.
    pub fn id(&mut self) -> String {
        let fresh_id = u128::from(self.fresh());
        match self.call(GroupRequest::Join(JoinGroup { fresh_id, ..join("") })) {
            Err(raftline_shard::consumer_groups::types::GroupError::MemberIdRequired { member_id }) => {
                member_id
            }
            other => panic!("no id: {other:?}"),
        }
    }

    /// Two members, the first of them leading, in a stable generation.
    pub fn pair(&mut self) -> (String, String, i32) {
        let first = self.id();
        let request = self.ask(GroupRequest::Join(join(&first)));
        assert_eq!(joined(self.take(request)).leader, first);
        let second = self.id();
        let request_second = self.ask(GroupRequest::Join(join(&second)));
        let request_first = self.ask(GroupRequest::Join(join(&first)));
        let generation = joined(self.take(request_first)).generation;
        assert_eq!(joined(self.take(request_second)).generation, generation);
        let waiting = self.ask(GroupRequest::Sync(sync(&second, generation, &[])));
        let parts = [(first.as_str(), "one"), (second.as_str(), "two")];
        let leading = self.ask(GroupRequest::Sync(sync(&first, generation, &parts)));
        assert_eq!(synced(self.take(leading)).assignment, b"one");
        assert_eq!(synced(self.take(waiting)).assignment, b"two");
        (first, second, generation)
    }
}
