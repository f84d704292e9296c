//! Subscriptions by regular expression (KIP-848), in version 1 of ConsumerGroupHeartbeat.

use crate::client::{Connection, Lone, name, text};
use crate::common::{PATIENCE, create};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    DeleteTopicsRequest, FindCoordinatorRequest, GroupId, MetadataRequest,
};
use raftline_kafka::uuid::Uuid;
use std::collections::BTreeMap;
use tokio::time::timeout;

const VERSION: i16 = 1;

/// One member of a group of its own.
struct Member {
    connection: Connection,
    group: GroupId,
    epoch: i32,
    /// What it was told last to own.
    owned: BTreeMap<Uuid, Vec<i32>>,
}

impl Member {
    /// A member that has yet to join.
    async fn of(lone: &Lone, group: &str) -> Self {
        let mut connection = lone.connect().await;
        let group = GroupId(text(group));
        // Which makes the topic that groups are kept in.
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![group.0.clone()]);
        let found = async { while connection.ask(4, &request).await.coordinators[0].error_code == 15 {} };
        timeout(PATIENCE, found).await.expect("the group gets a coordinator");
        Self { connection, group, epoch: 0, owned: BTreeMap::new() }
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let owned = self.owned.iter().map(|(id, partitions)| {
            TopicPartitions::default().with_topic_id(*id).with_partitions(partitions.clone())
        });
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(text("AAAAAAAAAAAAAAAAAAAAAQ"))
            .with_member_epoch(self.epoch)
            .with_topic_partitions(Some(owned.collect()))
    }

    /// A request that says all that a member says when it joins.
    fn joining(&self, names: &[&str], regex: Option<&str>) -> ConsumerGroupHeartbeatRequest {
        self.request()
            .with_rebalance_timeout_ms(10_000)
            .with_subscribed_topic_names(Some(names.iter().map(|topic| name(topic)).collect()))
            .with_subscribed_topic_regex(regex.map(text))
    }

    /// One heartbeat; an answer that is none yet is asked for again.
    async fn ask(&mut self, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let connection = &mut self.connection;
        let answered = async {
            loop {
                let answer = connection.ask(VERSION, request).await;
                if !matches!(answer.error_code, 14..=16) {
                    return answer;
                }
            }
        };
        timeout(PATIENCE, answered).await.expect("the coordinator has begun")
    }

    /// One heartbeat that is accepted.
    async fn say(&mut self, request: &ConsumerGroupHeartbeatRequest) {
        let answer = self.ask(request).await;
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        self.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.owned = topics.map(|topic| (topic.topic_id, topic.partitions)).collect();
        }
    }

    /// Heartbeats until it owns partitions of just these topics: how many of each.
    async fn owns(&mut self, expected: &[(&str, usize)]) {
        let expected: BTreeMap<String, usize> =
            expected.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect();
        let owned = async {
            loop {
                let request = self.request();
                self.say(&request).await;
                if self.named().await == expected {
                    return;
                }
            }
        };
        timeout(PATIENCE, owned).await.expect("the member gets what it is subscribed to");
    }

    /// How many partitions it owns of each topic.
    async fn named(&mut self) -> BTreeMap<String, usize> {
        let request = MetadataRequest::default().with_topics(None);
        let topics = self.connection.ask(12, &request).await.topics;
        let name = |id: &Uuid| {
            let found = topics.iter().find(|topic| topic.topic_id == *id);
            found.and_then(|topic| topic.name.as_ref()).map_or(id.to_string(), |name| name.to_string())
        };
        self.owned.iter().map(|(id, partitions)| (name(id), partitions.len())).collect()
    }

    /// What ConsumerGroupDescribe says that it is subscribed to.
    async fn described(&mut self) -> (Vec<String>, Option<String>) {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![self.group.clone()]);
        let mut answer = self.connection.ask(1, &request).await;
        let member = answer.groups.remove(0).members.remove(0);
        let names = member.subscribed_topic_names.iter().map(|name| name.to_string()).collect();
        (names, member.subscribed_topic_regex.map(|regex| regex.to_string()))
    }
}

async fn world() -> Lone {
    let mut lone = Lone::with_topic("orders", 2).await;
    for topic in ["orders-v2", "reorders"] {
        create(&mut lone.broker.client, topic, 1, &[]).await;
    }
    lone
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_reads_what_its_expression_matches_as_topics_come_and_go() {
    let mut lone = world().await;
    let mut member = Member::of(&lone, "g").await;
    let joining = member.joining(&[], Some("orders.*"));
    member.say(&joining).await;
    let expected = [("orders".to_owned(), 2), ("orders-v2".to_owned(), 1)];
    assert_eq!(member.named().await, expected.into(), "the whole name is matched, in the first heartbeat");
    assert_eq!(member.described().await, (vec![], Some("orders.*".to_owned())));
    create(&mut lone.broker.client, "orders-v3", 1, &[]).await;
    member.owns(&[("orders", 2), ("orders-v2", 1), ("orders-v3", 1)]).await;
    let gone = DeleteTopicState::default().with_name(Some(name("orders-v2")));
    let request = DeleteTopicsRequest::default().with_topics(vec![gone]).with_timeout_ms(10_000);
    assert_eq!(member.connection.ask(6, &request).await.responses[0].error_code, 0);
    member.owns(&[("orders", 2), ("orders-v3", 1)]).await;
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_an_expression_count_together_until_an_empty_one_comes() {
    let lone = world().await;
    let mut member = Member::of(&lone, "g").await;
    let joining = member.joining(&["reorders"], Some("orders-.*"));
    member.say(&joining).await;
    assert_eq!(member.named().await, [("reorders".to_owned(), 1)].into(), "names come first");
    member.owns(&[("reorders", 1), ("orders-v2", 1)]).await;
    assert_eq!(member.described().await, (vec!["reorders".to_owned()], Some("orders-.*".to_owned())));
    // Other names, and nothing of the expression: it stays.
    let renaming = member.request().with_subscribed_topic_names(Some(vec![name("orders")]));
    member.say(&renaming).await;
    member.owns(&[("orders", 2), ("orders-v2", 1)]).await;
    let dropping = member.request().with_subscribed_topic_regex(Some(text("")));
    member.say(&dropping).await;
    member.owns(&[("orders", 2)]).await;
    assert_eq!(member.described().await, (vec!["orders".to_owned()], None));
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expression_outlives_the_coordinator() {
    let lone = world().await;
    let mut member = Member::of(&lone, "g").await;
    let joining = member.joining(&[], Some("re.*|orders-.*"));
    member.say(&joining).await;
    member.owns(&[("reorders", 1), ("orders-v2", 1)]).await;
    let mut lone = lone.restart("orders").await;
    member.connection = lone.connect().await;
    create(&mut lone.broker.client, "recycled", 1, &[]).await;
    member.owns(&[("reorders", 1), ("orders-v2", 1), ("recycled", 1)]).await;
    assert_eq!(member.described().await.1.as_deref(), Some("re.*|orders-.*"));
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn internal_topics_are_matched_by_expressions_as_in_kafka() {
    let lone = world().await;
    let mut member = Member::of(&lone, "g").await;
    let joining = member.joining(&[], Some(".*_offsets|reorders"));
    member.say(&joining).await;
    let owned = member.named().await;
    let names: Vec<&str> = owned.keys().map(String::as_str).collect();
    assert_eq!(names, ["__consumer_offsets", "reorders"]);
    lone.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_expression_is_refused_with_the_reason() {
    let lone = world().await;
    let mut member = Member::of(&lone, "g").await;
    for (regex, reason) in [
        ("^.*[0", "unclosed character class"),
        ("(?=a)b", "look-around"),
        (r"(a)\1", "backreferences"),
        ("(a{1000}){1000}", "its automaton would pass"),
        (&"a".repeat(30_000), "it is 30000 bytes long"),
        (&"(".repeat(2_000), "unclosed group"),
    ] {
        let joining = member.joining(&["orders"], Some(regex));
        let answer = member.ask(&joining).await;
        let said = answer.error_message.map(|message| message.to_string()).unwrap_or_default();
        assert_eq!(answer.error_code, 128, "{said}");
        assert!(said.contains(reason) && said.len() < 400, "{said}");
    }
    let joining = member.joining(&["orders"], Some("re.*"));
    member.say(&joining).await;
    member.owns(&[("orders", 2), ("reorders", 1)]).await;
    let spoiling = member.request().with_subscribed_topic_regex(Some(text("re.*)")));
    assert_eq!(member.ask(&spoiling).await.error_code, 128);
    assert_eq!(member.described().await.1.as_deref(), Some("re.*"), "it stays as it was");
    lone.stop().await;
}
