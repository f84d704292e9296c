//! Classic members by chance: they join, assign, commit, fall silent and come back, while leaders die and records
//! wait. What was promised holds all the time, and everything settles once the weather is fair.

use crate::chance::{Chance, Failing, seeds};
use crate::ledger::Ledger;
use crate::world::*;
use raftline_shard::consumer_groups::limits::GroupsConfig;
use raftline_shard::consumer_groups::types::{
    Answer, GroupError, GroupRequest, GroupResponse, JoinGroup, MemberIdRule,
};
use raftline_shard::types::RequestId;
use std::collections::BTreeMap;
use std::time::Duration;

const PARTITIONS: u8 = 8;

/// Where a member is in the protocol.
enum Stage {
    Out,
    Joining(RequestId),
    Syncing(RequestId, i32),
    Stable(i32),
}

struct Client {
    instance_id: Option<String>,
    member_id: String,
    stage: Stage,
    owned: Vec<u8>,
    commit: Option<(RequestId, i32, i64)>,
}

struct Model {
    world: World,
    chance: Chance,
    clients: Vec<Client>,
    ledger: Ledger,
    /// Who owns what in each generation that anybody was told of.
    owners: BTreeMap<i32, BTreeMap<u8, String>>,
    offset: i64,
}

impl Client {
    fn join(&self, fresh_id: u128, chance: &mut Chance) -> GroupRequest {
        let metadata = ["t", "u"][usize::from(chance.one_in(10))];
        let rule = if chance.one_in(80) { MemberIdRule::Required } else { MemberIdRule::NotRequired };
        GroupRequest::Join(JoinGroup {
            instance_id: self.instance_id.clone(),
            fresh_id,
            protocols: vec![protocol("range", &[metadata])],
            member_id_rule: rule,
            can_skip_assignment: chance.one_in(50),
            ..join(&self.member_id)
        })
    }

    /// What a client does with an error.
    fn refused(&mut self, error: &GroupError) {
        match error {
            GroupError::MemberIdRequired { member_id } => self.member_id.clone_from(member_id),
            GroupError::UnknownMemberId | GroupError::FencedInstanceId => self.member_id.clear(),
            _ => {}
        }
        self.stage = Stage::Out;
        self.owned.clear();
    }
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let delay = Duration::from_secs(3 * chance.below(2));
        let config = GroupsConfig { initial_rebalance_delay: delay, ..GroupsConfig::default() };
        let client = |number: u64| Client {
            instance_id: (number % 3 == 2).then(|| format!("i{number}")),
            member_id: String::new(),
            stage: Stage::Out,
            owned: Vec::new(),
            commit: None,
        };
        let clients = (0..2 + chance.below(4)).map(client).collect();
        let (world, ledger, owners) = (World::new(config), Ledger::default(), BTreeMap::new());
        Self { world, chance, clients, ledger, owners, offset: 0 }
    }

    fn step(&mut self) {
        self.world.commits = self.chance.one_in(60);
        match self.chance.below(100) {
            0..60 => {
                let at = self.chance.index(self.clients.len());
                self.act(at);
            }
            60..75 => {
                self.world.commit_one();
            }
            75..90 => {
                let ms = [100, 1_000, 4_000, 12_000][self.chance.index(4)];
                self.world.pass(Duration::from_millis(ms));
            }
            90..92 => self.world.fail_over(),
            92..94 => self.world.refuse(),
            94..97 => {
                // The process dies; another one with its instance id, if it has one, comes later.
                let at = self.chance.index(self.clients.len());
                let client = &mut self.clients[at];
                client.member_id.clear();
                client.stage = Stage::Out;
                client.owned.clear();
                client.commit = None;
            }
            _ => self.leave(),
        }
        self.ledger.check(&mut self.world);
        let waits = self.world.unanswered > 0;
        assert!(!waits || self.world.groups.next_deadline().is_some(), "a wait without a deadline");
    }

    /// A client goes on from where it is.
    fn act(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if let Some((request, partition, offset)) = client.commit
            && let Some(answer) = self.world.take(request)
        {
            self.ledger.answer(partition, offset, &answer);
            client.commit = None;
        }
        match client.stage {
            Stage::Out => {
                let fresh = u128::from(self.world.fresh());
                let request = self.world.ask(client.join(fresh, &mut self.chance));
                client.stage = Stage::Joining(request);
            }
            Stage::Joining(request) => {
                if let Some(answer) = self.world.take(request) {
                    self.joined(at, &answer);
                }
            }
            Stage::Syncing(request, generation) => match self.world.take(request) {
                Some(Ok(GroupResponse::Synced(synced))) => {
                    self.synced(at, generation, synced.assignment);
                }
                Some(answer) => client.refused(&answer.expect_err("an error")),
                None => {}
            },
            Stage::Stable(generation) => self.live(at, generation),
        }
    }

    fn joined(&mut self, at: usize, answer: &Answer) {
        let client = &mut self.clients[at];
        let joined = match answer {
            Ok(GroupResponse::Joined(joined)) => joined,
            Ok(other) => panic!("not a join's answer: {other:?}"),
            Err(error) => return client.refused(error),
        };
        client.member_id.clone_from(&joined.member_id);
        let members: Vec<&String> = joined.members.iter().map(|member| &member.member_id).collect();
        let mut parts = Vec::new();
        if !members.is_empty() && !joined.skip_assignment {
            parts = members.iter().map(|member| ((*member).clone(), Vec::new())).collect();
            let turn = self.chance.index(members.len());
            for partition in 0..PARTITIONS {
                let to = (usize::from(partition) + turn) % members.len();
                parts[to].1.push(partition);
            }
        }
        let mut sync = sync(&joined.member_id, joined.generation, &[]);
        sync.instance_id.clone_from(&client.instance_id);
        sync.assignments = parts;
        let request = self.world.ask(GroupRequest::Sync(sync));
        client.stage = Stage::Syncing(request, joined.generation);
    }

    fn synced(&mut self, at: usize, generation: i32, assignment: Vec<u8>) {
        let client = &mut self.clients[at];
        let owners = self.owners.entry(generation).or_default();
        // A static member's successor takes over from it.
        let name = client.instance_id.clone().unwrap_or_else(|| client.member_id.clone());
        for partition in &assignment {
            let owner = owners.entry(*partition).or_insert_with(|| name.clone());
            assert_eq!(*owner, name, "two owners of {partition} in generation {generation}");
        }
        client.owned = assignment;
        client.stage = Stage::Stable(generation);
    }

    /// A stable member heartbeats and commits.
    fn live(&mut self, at: usize, generation: i32) {
        let client = &mut self.clients[at];
        let partition = client.owned.first().copied().map(i32::from);
        if let (Some(partition), None) = (partition, &client.commit) {
            self.offset += 1;
            let offset = self.offset;
            self.ledger.ask(partition, offset);
            let mut commit = commit(&client.member_id, generation, partition, offset);
            commit.instance_id.clone_from(&client.instance_id);
            let request = self.world.ask(GroupRequest::OffsetCommit(commit));
            client.commit = Some((request, partition, offset));
        }
        let beat = self.world.call(heartbeat(&client.member_id, generation));
        if let Err(error) = beat {
            client.refused(&error);
        }
    }

    fn leave(&mut self) {
        let at = self.chance.index(self.clients.len());
        let client = &mut self.clients[at];
        if matches!(client.stage, Stage::Stable(_)) && client.instance_id.is_none() {
            self.world.ask(leave(&client.member_id));
            client.refused(&GroupError::UnknownMemberId);
        }
    }

    /// Fair weather: everybody ends in one generation that shares out everything.
    fn settle(&mut self) {
        self.world.commits = true;
        self.world.commit_all();
        for _ in 0..400 {
            for at in 0..self.clients.len() {
                self.act(at);
            }
            self.world.pass(Duration::from_millis(1_000));
        }
        let generations: Vec<Option<i32>> = self
            .clients
            .iter()
            .map(|client| match client.stage {
                Stage::Stable(generation) => Some(generation),
                Stage::Out | Stage::Joining(_) | Stage::Syncing(..) => None,
            })
            .collect();
        assert!(
            generations.iter().all(|found| found.is_some() && *found == generations[0]),
            "{generations:?}"
        );
        let mut owned: Vec<u8> = self.clients.iter().flat_map(|client| client.owned.clone()).collect();
        owned.sort_unstable();
        assert_eq!(owned, (0..PARTITIONS).collect::<Vec<u8>>());
        // Everybody falls silent: whatever waits is answered all the same.
        self.world.pass(Duration::from_secs(3_600));
        assert_eq!(self.world.unanswered, 0, "requests without an answer");
        self.ledger.check(&mut self.world);
        self.world.fail_over();
        self.ledger.check(&mut self.world);
    }
}

#[test]
fn promises_hold_in_any_weather() {
    for seed in seeds(300) {
        let _failing = Failing(seed);
        let mut model = Model::new(seed);
        for _ in 0..400 {
            model.step();
        }
        model.settle();
    }
}
