//! The APIs of consumer groups in every version: one group for each round, whose only member joins, commits and leaves
//! in the versions of that round.

use crate::client::{Connection, Lone, name, text};
use crate::common::{PATIENCE, create};
use crate::every_version::served;
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::time::timeout;

/// One member of one group, and the versions that it speaks.
struct Member {
    connection: Connection,
    round: i16,
    group: GroupId,
    id: StrBytes,
    generation: i32,
}

impl Member {
    fn of(connection: Connection, group: GroupId, round: i16) -> Self {
        Self { connection, round, group, id: StrBytes::default(), generation: 0 }
    }

    /// The API's version in this round: every version comes about in one of them.
    async fn version(&mut self, key: ApiKey) -> i16 {
        let served = served(&mut self.connection, key).await;
        self.round.clamp(*served.start(), *served.end())
    }

    async fn find_coordinator(&mut self) {
        let version = self.version(ApiKey::FindCoordinator).await;
        let mut request = FindCoordinatorRequest::default();
        if version < 4 {
            request = request.with_key(self.group.0.clone());
        } else {
            request = request.with_coordinator_keys(vec![self.group.0.clone()]);
        }
        let found = async {
            loop {
                let answer = self.connection.ask(version, &request).await;
                let (error, node, port) = match answer.coordinators.first() {
                    Some(found) => (found.error_code, found.node_id, found.port),
                    None => (answer.error_code, answer.node_id, answer.port),
                };
                assert_eq!(answer.coordinators.len(), usize::from(version >= 4), "version {version}");
                // Right after the start nobody coordinates yet.
                if error != 15 {
                    assert_eq!((error, node, port > 0), (0, BrokerId(1), true), "version {version}");
                    return;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("the group gets a coordinator");
    }

    /// Has the coordinator answer, which may have to read its log first.
    async fn patiently<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        error: impl Fn(&R::Response) -> i16,
    ) -> R::Response {
        let answered = async {
            loop {
                let answer = self.connection.ask(version, request).await;
                if !matches!(error(&answer), 14..=16) {
                    return answer;
                }
            }
        };
        timeout(PATIENCE, answered).await.expect("the coordinator has begun")
    }

    async fn join(&mut self) {
        let version = self.version(ApiKey::JoinGroup).await;
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(b"subscription"));
        let mut request = JoinGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_session_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        if version >= 1 {
            request = request.with_rebalance_timeout_ms(10_000);
        }
        let mut answer = self.patiently(version, &request, |answer| answer.error_code).await;
        if version >= 4 {
            assert_eq!(answer.error_code, 79, "version {version}: first a member's id is given");
            assert!(!answer.member_id.is_empty());
            let request = request.with_member_id(answer.member_id);
            answer = self.connection.ask(version, &request).await;
        }
        assert_eq!((answer.error_code, answer.members.len()), (0, 1), "version {version}: {answer:?}");
        assert_eq!(answer.leader, answer.member_id);
        assert_eq!(answer.protocol_name, Some(text("range")));
        assert!(version < 7 || answer.protocol_type == Some(text("consumer")), "version {version}");
        assert_eq!(answer.members[0].metadata, Bytes::from_static(b"subscription"));
        (self.id, self.generation) = (answer.member_id, answer.generation_id);
    }

    async fn sync(&mut self) {
        let version = self.version(ApiKey::SyncGroup).await;
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(self.id.clone())
            .with_assignment(Bytes::from_static(b"all of it"));
        let mut request = SyncGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_assignments(vec![assignment]);
        if version >= 5 {
            request =
                request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")));
        }
        let answer = self.connection.ask(version, &request).await;
        assert_eq!(answer.error_code, 0, "version {version}");
        assert_eq!(answer.assignment, Bytes::from_static(b"all of it"));
    }

    async fn heartbeat(&mut self) {
        let version = self.version(ApiKey::Heartbeat).await;
        for (generation, expected) in [(self.generation, 0), (self.generation + 1, 22)] {
            let request = HeartbeatRequest::default()
                .with_group_id(self.group.clone())
                .with_generation_id(generation)
                .with_member_id(self.id.clone());
            assert_eq!(self.connection.ask(version, &request).await.error_code, expected);
        }
    }

    async fn commit(&mut self) {
        let version = self.version(ApiKey::OffsetCommit).await;
        for (generation, expected) in [(self.generation, 0), (self.generation + 1, 22)] {
            let partition = |index| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(7)
                    .with_committed_metadata(Some(text("why not")))
            };
            let topic = |topic, partitions| {
                OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(partitions)
            };
            let topics = vec![
                topic("unknown", vec![partition(0)]),
                topic("t", vec![partition(2), partition(0), partition(-1)]),
            ];
            let request = OffsetCommitRequest::default()
                .with_group_id(self.group.clone())
                .with_generation_id_or_member_epoch(generation)
                .with_member_id(self.id.clone())
                .with_topics(topics);
            let answer = self.connection.ask(version, &request).await;
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let codes: Vec<_> = partitions.map(|partition| partition.error_code).collect();
            assert_eq!(codes, [3, 3, expected, 3], "version {version}");
        }
    }

    /// Fetches the offsets of partitions 0 and 1, and of all that there are.
    async fn committed(&mut self) {
        let version = self.version(ApiKey::OffsetFetch).await;
        for all in [false, true] {
            let mut found = Vec::new();
            if version < 8 {
                let topic = OffsetFetchRequestTopic::default()
                    .with_name(name("t"))
                    .with_partition_indexes(vec![0, 1]);
                if all && version < 2 {
                    continue;
                }
                let request = OffsetFetchRequest::default()
                    .with_group_id(self.group.clone())
                    .with_topics((!all).then(|| vec![topic]));
                let answer = self.connection.ask(version, &request).await;
                assert_eq!(answer.error_code, 0, "version {version}");
                for partition in &answer.topics[0].partitions {
                    found.push((
                        partition.error_code,
                        partition.committed_offset,
                        partition.metadata.clone(),
                    ));
                }
            } else {
                let topic = OffsetFetchRequestTopics::default()
                    .with_name(name("t"))
                    .with_partition_indexes(vec![0, 1]);
                let mut group = OffsetFetchRequestGroup::default()
                    .with_group_id(self.group.clone())
                    .with_topics((!all).then(|| vec![topic]));
                if version >= 9 {
                    group = group.with_member_epoch(-1);
                }
                let request = OffsetFetchRequest::default().with_groups(vec![group]);
                let answer = self.connection.ask(version, &request).await;
                assert_eq!(answer.groups[0].error_code, 0, "version {version}");
                for partition in &answer.groups[0].topics[0].partitions {
                    found.push((
                        partition.error_code,
                        partition.committed_offset,
                        partition.metadata.clone(),
                    ));
                }
            }
            let expected = [(0, 7, Some(text("why not"))), (0, -1, Some(text("")))];
            assert_eq!(found, expected[..if all { 1 } else { 2 }], "version {version}");
        }
    }

    async fn described(&mut self, state: &str, members: usize) {
        let version = self.version(ApiKey::DescribeGroups).await;
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![self.group.clone(), GroupId(text("unknown"))])
            .with_include_authorized_operations(version >= 3);
        // Another partition of the internal topic coordinates the unknown group: its coordinator may only begin.
        let answer = self.patiently(version, &request, |answer| answer.groups[1].error_code).await;
        let found = &answer.groups[0];
        assert_eq!(
            (found.error_code, &*found.group_state, found.members.len()),
            (0, state, members),
            "version {version}"
        );
        let none = if version >= 3 { 0x148 } else { i32::MIN };
        assert_eq!(found.authorized_operations, none, "version {version}");
        let unknown = if version >= 6 { 69 } else { 0 };
        let answered = (answer.groups[1].error_code, &*answer.groups[1].group_state);
        assert_eq!(answered, (unknown, "Dead"), "version {version}");
    }

    async fn listed(&mut self) -> bool {
        let version = self.version(ApiKey::ListGroups).await;
        let answer = self.connection.ask(version, &ListGroupsRequest::default()).await;
        assert_eq!(answer.error_code, 0, "version {version}");
        let found = answer.groups.iter().find(|found| found.group_id == self.group);
        assert!(found.is_none_or(|found| version < 4 || !found.group_state.is_empty()));
        found.is_some()
    }

    async fn leave(&mut self) {
        let version = self.version(ApiKey::LeaveGroup).await;
        let mut request = LeaveGroupRequest::default().with_group_id(self.group.clone());
        if version < 3 {
            request = request.with_member_id(self.id.clone());
        } else {
            request = request.with_members(vec![MemberIdentity::default().with_member_id(self.id.clone())]);
        }
        let answer = self.connection.ask(version, &request).await;
        assert_eq!((answer.error_code, answer.members.len()), (0, usize::from(version >= 3)));
        assert!(answer.members.iter().all(|member| member.error_code == 0), "version {version}");
    }

    async fn delete(&mut self) {
        let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
        let partitions = vec![partition(2), partition(0)];
        let topic = OffsetDeleteRequestTopic::default().with_name(name("t")).with_partitions(partitions);
        let request =
            OffsetDeleteRequest::default().with_group_id(self.group.clone()).with_topics(vec![topic]);
        let answer = self.connection.ask(0, &request).await;
        let codes: Vec<_> =
            answer.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        assert_eq!((answer.error_code, codes), (0, vec![3, 0]));

        let version = self.version(ApiKey::DeleteGroups).await;
        let names = vec![self.group.clone(), GroupId(text("unknown"))];
        let request = DeleteGroupsRequest::default().with_groups_names(names);
        let answer = self.patiently(version, &request, |answer| answer.results[1].error_code).await;
        let codes: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
        assert!(matches!(codes[..], [0 | 69, 69]), "version {version}: {codes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classic_groups() {
    let lone = Lone::with_topic("t", 2).await;
    for round in 0..=9 {
        let group = GroupId(text(&format!("round-{round}")));
        let mut member = Member::of(lone.connect().await, group, round);
        member.find_coordinator().await;
        member.join().await;
        member.sync().await;
        member.heartbeat().await;
        member.commit().await;
        member.committed().await;
        member.described("Stable", 1).await;
        assert!(member.listed().await, "round {round}");
        member.leave().await;
        member.described("Empty", 0).await;
        member.delete().await;
        assert!(!member.listed().await, "round {round}");
    }
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_groups() {
    let lone = Lone::with_topic("t", 2).await;
    let mut connection = lone.connect().await;
    for version in served(&mut connection, ApiKey::ConsumerGroupHeartbeat).await {
        let group = GroupId(text(&format!("new-{version}")));
        let mut member = Member::of(lone.connect().await, group.clone(), version);
        // Which makes the topic that groups are kept in: as in Kafka, no heartbeat does.
        member.find_coordinator().await;
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group.clone())
            .with_member_id(text(if version >= 1 { "AAAAAAAAAAAAAAAAAAAAAQ" } else { "" }))
            .with_member_epoch(0)
            .with_rebalance_timeout_ms(10_000)
            .with_subscribed_topic_names(Some(vec![name("t")]))
            .with_topic_partitions(Some(Vec::new()));
        let answer = member.patiently(version, &request, |answer| answer.error_code).await;
        assert_eq!(answer.error_code, 0, "version {version}: {:?}", answer.error_message);
        let member_id = answer.member_id.clone().unwrap();
        let assigned = answer.assignment.unwrap();
        assert_eq!(assigned.topic_partitions[0].partitions.len(), 2, "version {version}");

        for described in served(&mut connection, ApiKey::ConsumerGroupDescribe).await {
            let request = ConsumerGroupDescribeRequest::default()
                .with_group_ids(vec![group.clone(), GroupId(text("unknown"))]);
            let answer = member.patiently(described, &request, |answer| answer.groups[1].error_code).await;
            let found = &answer.groups[0];
            assert_eq!((found.error_code, found.members.len()), (0, 1), "version {described}");
            assert_eq!(found.members[0].member_id, member_id);
            assert_eq!(answer.groups[1].error_code, 69, "version {described}");
        }
        let leaving = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group)
            .with_member_id(member_id)
            .with_member_epoch(-1);
        assert_eq!(connection.ask(version, &leaving).await.error_code, 0, "version {version}");
    }
    lone.stop().await;
}

/// KIP-1251: a member commits in the epoch that it knows; a heartbeat has moved it meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_may_cross_a_heartbeat() {
    let mut lone = Lone::with_topic("t", 2).await;
    let group = GroupId(text("crossing"));
    let mut member = Member::of(lone.connect().await, group.clone(), 1);
    member.find_coordinator().await;
    let beat = |epoch: i32| {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group.clone())
            .with_member_id(text("AAAAAAAAAAAAAAAAAAAAAQ"))
            .with_member_epoch(epoch)
    };
    let joining = beat(0)
        .with_rebalance_timeout_ms(10_000)
        .with_subscribed_topic_names(Some(vec![name("t"), name("u")]))
        .with_topic_partitions(Some(Vec::new()));
    let answer = member.patiently(1, &joining, |answer| answer.error_code).await;
    assert_eq!((answer.error_code, answer.member_epoch), (0, 1));
    create(&mut lone.broker.client, "u", 1, &[]).await;
    let moved =
        async { while member.patiently(1, &beat(1), |answer| answer.error_code).await.member_epoch == 1 {} };
    timeout(PATIENCE, moved).await.expect("the topic that came moves the epoch");
    member.id = text("AAAAAAAAAAAAAAAAAAAAAQ");
    let one = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(7);
    // Of topics that it had in that epoch, in which; then of one that it has got since.
    let cases: [(&[&str], i32, i16); 6] = [
        (&["t"], 1, 0),
        (&["t"], 2, 0),
        (&["t"], 3, 113),
        (&["u"], 2, 0),
        (&["u"], 1, 113),
        (&["t", "u"], 1, 113),
    ];
    for version in [8, 9] {
        for (topics, epoch, expected) in cases {
            let topics = topics.iter().map(|topic| {
                OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![one.clone()])
            });
            let request = OffsetCommitRequest::default()
                .with_group_id(group.clone())
                .with_generation_id_or_member_epoch(epoch)
                .with_member_id(member.id.clone())
                .with_topics(topics.collect());
            let answer = member.connection.ask(version, &request).await;
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let codes: Vec<_> = partitions.map(|partition| partition.error_code).collect();
            assert_eq!(codes, vec![expected; answer.topics.len()], "version {version}, epoch {epoch}");
        }
    }
    lone.stop().await;
}
