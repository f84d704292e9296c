//! Any request at any time, from clients that follow no rule, for groups of both types. Nothing panics, everything is
//! answered, replicas stay equal, and the coordinator's own records never give a partition to two members.

use crate::chance::{Chance, Failing, seeds};
use crate::world::*;
use raftline_shard::consumer_groups::limits::GroupsConfig;
use raftline_shard::consumer_groups::record::{Assignment, GroupRecord};
use raftline_shard::consumer_groups::types::{
    Answer, ConsumerHeartbeat, GroupError, GroupRequest, GroupResponse, Heartbeat, JoinGroup, LeaveGroup,
    LeavingMember, ListGroups, MemberIdRule, OffsetCommit, OffsetDelete, OffsetFetch, SyncGroup,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Good ones and bad ones.
const EXPRESSIONS: [Option<&str>; 12] = [
    None,
    None,
    None,
    Some(""),
    Some("t"),
    Some("t|u"),
    Some(".*"),
    Some("[t"),
    Some("(((("),
    Some("*"),
    Some("(a{1000}){1000}"),
    Some(".*t.{30}"),
];

struct Fuzz {
    world: World,
    chance: Chance,
    /// Ids that were seen, and some that were not.
    ids: Vec<String>,
    owners: BTreeMap<(String, String), Assignment>,
    looked_at: usize,
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let initial_rebalance_delay = Duration::from_secs(chance.below(4));
        let members_max = 2 + chance.index(4);
        let config = GroupsConfig { initial_rebalance_delay, members_max, ..GroupsConfig::default() };
        let ids = ["", "a", "b", "c"].map(String::from).to_vec();
        Self { world: World::new(config), chance, ids, owners: BTreeMap::new(), looked_at: 0 }
    }

    fn group(&mut self) -> String {
        ["g", "h"][self.chance.index(2)].into()
    }

    fn id(&mut self) -> String {
        let recent = self.ids.len().saturating_sub(6);
        let at = if self.chance.one_in(70) { recent } else { 0 };
        self.ids[at + self.chance.index(self.ids.len() - at)].clone()
    }

    fn instance(&mut self) -> Option<String> {
        [None, None, Some("i".into()), Some("j".into())][self.chance.index(4)].clone()
    }

    /// A generation or an epoch.
    fn number(&mut self) -> i32 {
        i32::try_from(self.chance.below(9)).expect("small") - 2
    }

    fn owned(&mut self) -> Option<Assignment> {
        let partitions = (0..4).filter(|_| self.chance.one_in(40)).collect();
        [None, Some(Assignment::new()), Some([("t".into(), partitions)].into())][self.chance.index(3)].clone()
    }

    fn request(&mut self) -> GroupRequest {
        let (group, member_id, instance_id) = (self.group(), self.id(), self.instance());
        let (generation, partition) = (self.number(), self.number());
        let partitions = vec![at("t", partition), at("u", 0)];
        match self.chance.below(16) {
            0..3 => {
                let rule = [MemberIdRule::Required, MemberIdRule::NotRequired][self.chance.index(2)];
                let names = [["range", "sticky"], ["sticky", "range"]][self.chance.index(2)];
                let join = JoinGroup {
                    group,
                    instance_id,
                    protocols: names.iter().map(|name| protocol(name, &["t"])).collect(),
                    member_id_rule: rule,
                    can_skip_assignment: self.chance.one_in(50),
                    fresh_id: u128::from(self.world.fresh()),
                    ..join(&member_id)
                };
                GroupRequest::Join(join)
            }
            3..5 => {
                let parts = [(member_id.as_str(), "part")];
                let sync = sync(&member_id, generation, &parts);
                GroupRequest::Sync(SyncGroup { group, instance_id, ..sync })
            }
            5 => GroupRequest::Heartbeat(Heartbeat { group, member_id, instance_id, generation }),
            6 => {
                let members = vec![LeavingMember { member_id, instance_id }];
                GroupRequest::Leave(LeaveGroup { group, members })
            }
            7 => {
                let commit = commit(&member_id, generation, partition, 5);
                GroupRequest::OffsetCommit(OffsetCommit { group, instance_id, ..commit })
            }
            8 => {
                let fetch = OffsetFetch {
                    group,
                    member_id: Some(member_id),
                    member_epoch: generation,
                    partitions: Some(partitions),
                };
                GroupRequest::OffsetFetch(fetch)
            }
            9 => GroupRequest::OffsetDelete(OffsetDelete { group, partitions }),
            10 => match self.chance.below(4) {
                0 => GroupRequest::DeleteGroup { group },
                1 => GroupRequest::Describe { group },
                2 => GroupRequest::ConsumerDescribe { group },
                _ => GroupRequest::List(ListGroups::default()),
            },
            _ => {
                let joins = self.chance.one_in(40);
                let subscribed =
                    [vec!["t".into()], vec!["t".into(), "u".into()]][self.chance.index(2)].clone();
                let beat = ConsumerHeartbeat {
                    group,
                    member_id,
                    member_epoch: if joins { 0 } else { generation },
                    instance_id,
                    rack_id: None,
                    rebalance_timeout_ms: if joins { 10_000 } else { -1 },
                    subscribed_topics: (joins || self.chance.one_in(10)).then_some(subscribed),
                    subscribed_regex: EXPRESSIONS[self.chance.index(EXPRESSIONS.len())].map(String::from),
                    server_assignor: [None, Some("range".into())][self.chance.index(2)].clone(),
                    owned: if joins { Some(Assignment::new()) } else { self.owned() },
                    client_id: "client".into(),
                    client_host: "/127.0.0.1".into(),
                    fresh_id: u128::from(self.world.fresh()),
                };
                GroupRequest::ConsumerHeartbeat(beat)
            }
        }
    }

    fn step(&mut self) {
        self.world.commits = self.chance.one_in(50);
        match self.chance.below(100) {
            0..75 => {
                let request = self.request();
                self.world.ask(request);
            }
            75..85 => {
                self.world.commit_one();
            }
            85..94 => {
                let ms = [10, 3_000, 20_000, 700_000][self.chance.index(4)];
                self.world.pass(Duration::from_millis(ms));
            }
            94..96 => self.world.fail_over(),
            96 => self.world.refuse(),
            _ => {
                let partitions = i32::try_from(self.chance.below(6)).expect("small");
                let id = 1 + u128::from(self.chance.one_in(10));
                self.world.topics(&[("t", partitions, id), ("u", 2, 7)]);
            }
        }
        self.learn_ids();
        self.check();
    }

    fn learn_ids(&mut self) {
        let answers = std::mem::take(&mut self.world.answers);
        let id = |answer: Answer| match answer {
            Err(GroupError::MemberIdRequired { member_id }) => Some(member_id),
            Ok(GroupResponse::Joined(joined)) => Some(joined.member_id),
            Ok(GroupResponse::ConsumerHeartbeat(answer)) => Some(answer.member_id),
            _ => None,
        };
        self.ids.extend(answers.into_values().filter_map(id));
    }

    fn check(&mut self) {
        while let Some(record) = self.world.log.get(self.looked_at) {
            self.looked_at += 1;
            let GroupRecord::ConsumerCurrent { group, member_id, value } = record else { continue };
            let key = (group.clone(), member_id.clone());
            let Some(value) = value else {
                self.owners.remove(&key);
                continue;
            };
            let mut all = value.assigned.clone();
            for (topic, partitions) in &value.revoking {
                all.entry(topic.clone()).or_default().extend(partitions);
            }
            for ((other_group, other), owned) in &self.owners {
                let same = other_group != group || other == member_id;
                let apart = |(topic, partitions): (&String, &std::collections::BTreeSet<i32>)| {
                    owned.get(topic).is_none_or(|owned| owned.is_disjoint(partitions))
                };
                assert!(same || all.iter().all(apart), "{member_id} and {other} of {group}: {all:?}");
            }
            self.owners.insert(key, all);
        }
        let waits = self.world.unanswered > 0;
        assert!(!waits || self.world.groups.next_deadline().is_some(), "a wait without a deadline");
    }
}

#[test]
fn nothing_breaks_it() {
    for seed in seeds(300) {
        let _failing = Failing(seed);
        let mut fuzz = Fuzz::new(seed);
        fuzz.world.topics(&[("t", 4, 1), ("u", 2, 7)]);
        for _ in 0..300 {
            fuzz.step();
        }
        fuzz.world.commits = true;
        fuzz.world.commit_all();
        fuzz.world.pass(Duration::from_secs(3_600));
        assert_eq!(fuzz.world.unanswered, 0, "requests without an answer");
        fuzz.world.fail_over();
        // Everybody is gone, and in the end every trace of them.
        fuzz.world.pass(Duration::from_secs(9 * 24 * 3_600));
        assert_eq!(fuzz.world.groups.next_deadline(), None);
        assert_eq!(fuzz.world.groups.records().count(), 0);
    }
}
