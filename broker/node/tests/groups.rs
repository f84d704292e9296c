//! Consumer groups over the native API: a member's life, offsets from inside and outside, lists and deletions.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Client, PATIENCE, create, lone};
use raftline_proto::api::{
    CommitOffsetsRequest, CommittedOffset, ConsumerGroupHeartbeatReply, ConsumerGroupHeartbeatRequest,
    DeleteConsumerGroupRequest, DeleteOffsetsRequest, DescribeConsumerGroupReply,
    DescribeConsumerGroupRequest, Error, ErrorCode, FetchOffsetsRequest, ListConsumerGroupsRequest,
    TopicPartitions,
};

fn of(topic: &str, partitions: &[u32]) -> Vec<TopicPartitions> {
    vec![TopicPartitions { topic: topic.to_owned(), partitions: partitions.to_vec() }]
}

/// A coordinator that only begins is asked again.
fn begins(code: Option<ErrorCode>) -> bool {
    matches!(code, Some(ErrorCode::Busy | ErrorCode::NotCoordinator))
}

/// A heartbeat of a member of `g` that reads `t`.
async fn beat(
    client: &mut Client,
    member_id: &str,
    member_epoch: i32,
    owned: Vec<TopicPartitions>,
) -> ConsumerGroupHeartbeatReply {
    let request = ConsumerGroupHeartbeatRequest {
        group: "g".to_owned(),
        member_id: member_id.to_owned(),
        member_epoch,
        subscribed_topics: vec!["t".to_owned()],
        owned,
        rebalance_timeout_ms: 60_000,
        client_id: "test".to_owned(),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let answered = async {
        loop {
            let reply = client.consumer_group_heartbeat(request.clone()).await.unwrap().into_inner();
            if !begins(reply.error.as_ref().map(Error::code)) {
                return reply;
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the coordinator answers")
}

async fn commit(
    client: &mut Client,
    member: Option<(&str, i32)>,
    partition: u32,
    offset: u64,
) -> Option<ErrorCode> {
    let (member_id, member_epoch) = member.unwrap_or_default();
    let offset =
        CommittedOffset { topic: "t".to_owned(), partition, offset: Some(offset), metadata: "m".to_owned() };
    let request = CommitOffsetsRequest {
        group: "g".to_owned(),
        member_id: member_id.to_owned(),
        member_epoch,
        offsets: vec![offset],
    };
    let answered = async {
        loop {
            let reply = client.commit_offsets(request.clone()).await.unwrap().into_inner();
            assert_eq!(reply.failures, []);
            let code = reply.error.map(|error| error.code());
            if !begins(code) {
                return code;
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the coordinator answers")
}

async fn committed(client: &mut Client, partitions: Vec<TopicPartitions>) -> Vec<(u32, Option<u64>)> {
    let request = FetchOffsetsRequest { group: "g".to_owned(), partitions };
    let reply = client.fetch_offsets(request).await.unwrap().into_inner();
    assert_eq!(reply.error, None);
    reply.offsets.into_iter().map(|offset| (offset.partition, offset.offset)).collect()
}

async fn describe(client: &mut Client) -> DescribeConsumerGroupReply {
    let request = DescribeConsumerGroupRequest { group: "g".to_owned() };
    client.describe_consumer_group(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_partitions_and_commit() {
    let directory = tempfile::tempdir().unwrap();
    let broker = lone(directory.path(), &[]).await;
    let mut client = broker.client.clone();
    create(&mut client, "t", 2, &[]).await;
    let first = beat(&mut client, "one", 0, vec![]).await;
    assert_eq!((first.error, first.assignment), (None, of("t", &[0, 1])));
    assert!(first.heartbeat_interval_ms < first.session_timeout_ms);
    let epoch = first.member_epoch;
    let settled = beat(&mut client, "one", epoch, of("t", &[0, 1])).await;
    assert_eq!(settled.member_epoch, epoch);
    assert_eq!(commit(&mut client, Some(("one", epoch)), 0, 7).await, None);
    assert_eq!(commit(&mut client, Some(("one", epoch + 9)), 0, 8).await, Some(ErrorCode::StaleMemberEpoch));
    assert_eq!(commit(&mut client, Some(("who", epoch)), 0, 8).await, Some(ErrorCode::UnknownMember));
    assert_eq!(commit(&mut client, None, 0, 8).await, Some(ErrorCode::GroupNotEmpty));
    assert_eq!(committed(&mut client, of("t", &[1, 0])).await, [(1, None), (0, Some(7))]);

    // The second member gets one only when the first has given it up.
    let second = beat(&mut client, "two", 0, vec![]).await;
    assert_eq!((second.error, second.assignment), (None, vec![]));
    let asked = beat(&mut client, "one", epoch, of("t", &[0, 1])).await;
    assert_eq!((asked.member_epoch, asked.assignment.len()), (epoch, 1), "one partition is to be given up");
    let kept = asked.assignment;
    let waits = beat(&mut client, "two", second.member_epoch, vec![]).await;
    assert_eq!(waits.assignment, vec![]);
    let given_up = beat(&mut client, "one", epoch, kept.clone()).await;
    assert!(given_up.member_epoch > epoch);
    let got = beat(&mut client, "two", waits.member_epoch, vec![]).await;
    let other = 1 - kept[0].partitions[0];
    assert_eq!(got.assignment, of("t", &[other]));

    let described = describe(&mut client).await;
    assert_eq!(described.members.len(), 2);
    assert_eq!(
        (described.members[1].member_id.as_str(), &described.members[1].assignment),
        ("two", &got.assignment)
    );
    assert_eq!(described.members[0].client_host, "/127.0.0.1");
    for (member, epoch) in [("one", given_up.member_epoch), ("two", got.member_epoch)] {
        assert_eq!(beat(&mut client, member, -1, vec![]).await.error, None, "left in epoch {epoch}");
    }
    assert_eq!(describe(&mut client).await.group.unwrap().state, "Empty");
    let fenced = beat(&mut client, "one", given_up.member_epoch, vec![]).await.error.unwrap();
    assert_eq!(fenced.code(), ErrorCode::UnknownMember);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_without_members_are_changed_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let broker = lone(directory.path(), &[]).await;
    let mut client = broker.client.clone();
    create(&mut client, "t", 2, &[]).await;
    let unknown = describe(&mut client).await.error.unwrap();
    assert_eq!(unknown.code(), ErrorCode::GroupNotFound);
    assert!(unknown.message.contains("raftline group list"), "{}", unknown.message);
    let groups = client.list_consumer_groups(ListConsumerGroupsRequest::default()).await.unwrap();
    assert_eq!(groups.into_inner().groups, []);

    assert_eq!(commit(&mut client, None, 0, 3).await, None);
    assert_eq!(commit(&mut client, None, 1, 4).await, None);
    let groups = client.list_consumer_groups(ListConsumerGroupsRequest::default()).await.unwrap();
    let groups = groups.into_inner();
    assert_eq!(groups.error, None);
    let shown = groups.groups.iter().map(|group| (group.group.as_str(), group.state.as_str()));
    assert_eq!(shown.collect::<Vec<_>>(), [("g", "Empty")]);
    let active = ListConsumerGroupsRequest { states: vec!["stable".to_owned()], types: vec![] };
    assert_eq!(client.list_consumer_groups(active).await.unwrap().into_inner().groups, []);

    let delete = DeleteOffsetsRequest { group: "g".to_owned(), partitions: of("t", &[0]) };
    let reply = client.delete_offsets(delete).await.unwrap().into_inner();
    assert_eq!((reply.failures, reply.error), (vec![], None));
    assert_eq!(committed(&mut client, vec![]).await, [(1, Some(4))]);
    let delete = DeleteConsumerGroupRequest { group: "g".to_owned() };
    assert_eq!(client.delete_consumer_group(delete.clone()).await.unwrap().into_inner().error, None);
    let again = client.delete_consumer_group(delete).await.unwrap().into_inner().error.unwrap();
    assert_eq!(again.code(), ErrorCode::GroupNotFound);
    assert_eq!(committed(&mut client, vec![]).await, []);
    for name in [String::new(), "x".repeat(2_000)] {
        let reply =
            client.describe_consumer_group(DescribeConsumerGroupRequest { group: name }).await.unwrap();
        assert_eq!(reply.into_inner().error.unwrap().code(), ErrorCode::InvalidRequest);
    }
    broker.stop().await.unwrap();
}
