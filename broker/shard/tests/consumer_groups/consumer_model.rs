//! Members of the new protocol by chance: they join, give up, take over, lose answers, die and come back, while
//! topics change, leaders die and records wait. No partition is ever with two members.

use crate::chance::{Chance, Failing, seeds};
use crate::ledger::Ledger;
use crate::world::*;
use raftline_shard::consumer_groups::limits::GroupsConfig;
use raftline_shard::consumer_groups::record::{Assignment, CurrentValue, GroupRecord};
use raftline_shard::consumer_groups::types::{
    ConsumerHeartbeat, GroupError, GroupRequest, GroupResponse, OffsetCommit,
};
use raftline_shard::types::RequestId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A consumer's process.
struct Client {
    instance_id: Option<String>,
    member_id: String,
    /// 0: not in the group.
    epoch: i32,
    subscribed: Vec<String>,
    /// Empty: none.
    regex: &'static str,
    held: Assignment,
    /// Told, and not yet carried out.
    told: Option<Assignment>,
    beat: Option<RequestId>,
    /// The next heartbeat says everything: the client does not know what the coordinator knows.
    full: bool,
    /// The next heartbeat says what it owns: it carried out what it was told.
    reports: bool,
    commit: Option<(RequestId, i32, i64)>,
}

/// Names and an expression: `t` alone, or `t` and `u`.
const SUBSCRIPTIONS: [(&[&str], &str); 7] = [
    (&["t"], ""),
    (&["t"], ""),
    (&["t", "u"], ""),
    (&[], "t|u"),
    (&["t"], "u"),
    (&["t"], "t|u"),
    (&["t", "u"], "."),
];

struct Model {
    world: World,
    chance: Chance,
    clients: Vec<Client>,
    ledger: Ledger,
    offset: i64,
    partitions: i32,
    has_u: bool,
    /// What committed records say of members, and how many were looked at.
    currents: BTreeMap<String, CurrentValue>,
    looked_at: usize,
    /// Commits of older epochs.
    late_taken: usize,
    late_refused: usize,
}

impl Client {
    fn heartbeat(&self) -> ConsumerHeartbeat {
        let full = self.full || self.epoch == 0;
        ConsumerHeartbeat {
            group: G.into(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance_id.clone(),
            rack_id: None,
            rebalance_timeout_ms: if full { 20_000 } else { -1 },
            subscribed_topics: full.then(|| self.subscribed.clone()),
            subscribed_regex: full.then(|| self.regex.into()),
            server_assignor: None,
            owned: (full || self.reports).then(|| self.held.clone()),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            fresh_id: 0,
        }
    }

    fn reads_u(&self) -> bool {
        self.subscribed.len() == 2 || !self.regex.is_empty()
    }

    /// An answer was lost: what it was told earlier may not hold any more.
    fn is_unsure(&mut self) {
        self.told = None;
        self.full = true;
    }

    fn drop_everything(&mut self) {
        self.epoch = 0;
        self.held.clear();
        self.told = None;
        self.full = true;
    }

    /// Another process in place of this one.
    fn restart(&mut self, fresh: u64) {
        self.drop_everything();
        self.member_id = format!("m{fresh}");
        self.beat = None;
        self.commit = None;
    }
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut world = World::new(GroupsConfig::default());
        let client = |number: u64| Client {
            instance_id: (number % 3 == 2).then(|| format!("i{number}")),
            member_id: format!("first-{number}"),
            epoch: 0,
            subscribed: vec!["t".into()],
            regex: "",
            held: Assignment::new(),
            told: None,
            beat: None,
            full: true,
            reports: false,
            commit: None,
        };
        let clients = (0..2 + chance.below(4)).map(client).collect();
        world.topics(&[("t", 4, 1)]);
        let (currents, ledger) = (BTreeMap::new(), Ledger::default());
        let (offset, partitions, has_u, looked_at) = (0, 4, false, 0);
        Self {
            world,
            chance,
            clients,
            ledger,
            offset,
            partitions,
            has_u,
            currents,
            looked_at,
            late_taken: 0,
            late_refused: 0,
        }
    }

    fn step(&mut self) {
        self.world.commits = self.chance.one_in(60);
        let at = self.chance.index(self.clients.len());
        match self.chance.below(100) {
            0..60 => self.act(at),
            60..74 => {
                self.world.commit_one();
            }
            74..88 => {
                let ms = [100, 1_000, 4_000, 22_000][self.chance.index(4)];
                self.world.pass(Duration::from_millis(ms));
            }
            88..90 => self.world.fail_over(),
            90..92 => self.world.refuse(),
            92..94 => {
                let fresh = self.world.fresh();
                self.clients[at].restart(fresh);
            }
            94..96 => {
                let client = &mut self.clients[at];
                let (names, regex): (&[&str], _) = SUBSCRIPTIONS[self.chance.index(SUBSCRIPTIONS.len())];
                client.subscribed = names.iter().map(|name| (*name).to_owned()).collect();
                client.regex = regex;
                client.full = true;
            }
            96..98 => {
                self.partitions = (self.partitions + i32::from(self.chance.one_in(50))).min(12);
                self.has_u = self.chance.one_in(50);
                self.tell_topics();
            }
            _ => self.leave(at),
        }
        self.check();
    }

    fn tell_topics(&mut self) {
        let topics = [("t", self.partitions, 1), ("u", 3, 2)];
        self.world.topics(&topics[..1 + usize::from(self.has_u)]);
    }

    /// A client goes on from where it is.
    fn act(&mut self, at: usize) {
        let lost = self.chance.one_in(10);
        let client = &mut self.clients[at];
        if let Some((request, partition, offset)) = client.commit
            && let Some(answer) = self.world.take(request)
        {
            self.ledger.answer(partition, offset, &answer);
            client.commit = None;
        }
        match client.beat {
            Some(request) => match self.world.take(request) {
                Some(_) if lost => {
                    client.beat = None;
                    client.is_unsure();
                }
                Some(answer) => {
                    client.beat = None;
                    answered(client, answer);
                }
                None => {}
            },
            None => {
                if let Some(told) = client.told.take_if(|_| !lost) {
                    client.held = told;
                    client.reports = true;
                }
                let request = self.world.ask(GroupRequest::ConsumerHeartbeat(client.heartbeat()));
                client.beat = Some(request);
                client.full = false;
                client.reports = false;
                self.commit(at);
            }
        }
    }

    fn commit(&mut self, at: usize) {
        let late = [0, 0, 1, 2, 5][self.chance.index(5)];
        let any = i32::try_from(self.chance.below(4)).expect("small");
        let client = &self.clients[at];
        let held = client.held.get("t").and_then(|partitions| partitions.first().copied());
        if client.commit.is_some() || client.epoch == 0 {
            return;
        }
        match held {
            Some(partition) if late == 0 => {
                let request = self.ask_to_commit(at, client.epoch, partition);
                self.clients[at].commit = Some(request);
            }
            // What it commits now it said when it was in an earlier epoch.
            Some(_) | None if late > 0 => {
                let partition = held.filter(|_| late < 5).unwrap_or(any);
                self.commit_late(at, (client.epoch - late).max(0), partition);
            }
            Some(_) | None => {}
        }
    }

    fn ask_to_commit(&mut self, at: usize, epoch: i32, partition: i32) -> (RequestId, i32, i64) {
        self.offset += 1;
        let offset = self.offset;
        self.ledger.ask(partition, offset);
        let commit: OffsetCommit = commit(&self.clients[at].member_id, epoch, partition, offset);
        (self.world.ask(GroupRequest::OffsetCommit(commit)), partition, offset)
    }

    fn commit_late(&mut self, at: usize, epoch: i32, partition: i32) {
        let member_id = self.clients[at].member_id.clone();
        let (is_member, has_had) = self.has_had(&member_id, epoch, partition);
        let commit = self.ask_to_commit(at, epoch, partition);
        match self.world.answers.get(&commit.0) {
            Some(Err(GroupError::StaleMemberEpoch)) => {
                assert!(is_member && !has_had, "{member_id} has had {partition} since {epoch}");
                self.late_refused += 1;
            }
            Some(Err(_)) => {}
            Some(Ok(_)) | None => {
                assert!(has_had, "{member_id} has not had {partition} since {epoch}");
                self.late_taken += 1;
            }
        }
        self.clients[at].commit = Some(commit);
    }

    /// Whether the member's last record is no tombstone, and whether it has had the partition in all its records from one
    /// of this epoch or before.
    fn has_had(&self, member_id: &str, epoch: i32, partition: i32) -> (bool, bool) {
        let mut since = None;
        let mut is_member = false;
        for record in self.world.log.iter().chain(&self.world.uncommitted) {
            let GroupRecord::ConsumerCurrent { member_id: of, value, .. } = record else { continue };
            if of != member_id {
                continue;
            }
            is_member = value.is_some();
            let has = |value: &CurrentValue| {
                pairs(&value.assigned).chain(pairs(&value.revoking)).any(|own| own == ("t", partition))
            };
            since = match value {
                Some(value) if has(value) => since.or(Some(value.member_epoch).filter(|epoch| *epoch > 0)),
                Some(_) | None => None,
            };
        }
        (is_member, since.is_some_and(|since| since <= epoch))
    }

    fn leave(&mut self, at: usize) {
        let fresh = self.world.fresh();
        let client = &mut self.clients[at];
        if client.epoch > 0 && client.beat.is_none() {
            client.held.clear();
            let member_epoch = if client.instance_id.is_some() { -2 } else { -1 };
            let beat = ConsumerHeartbeat { member_epoch, ..client.heartbeat() };
            self.world.ask(GroupRequest::ConsumerHeartbeat(beat));
            client.restart(fresh);
        }
    }

    fn check(&mut self) {
        self.ledger.check(&mut self.world);
        while let Some(record) = self.world.log.get(self.looked_at) {
            self.looked_at += 1;
            if let GroupRecord::ConsumerCurrent { member_id, value, .. } = record {
                match value {
                    Some(value) => self.currents.insert(member_id.clone(), value.clone()),
                    None => self.currents.remove(member_id),
                };
                one_owner_each(&self.currents);
            }
        }
        for client in &self.clients {
            if let Some(current) = self.currents.get(&client.member_id) {
                for item in pairs(&client.held) {
                    let known =
                        pairs(&current.assigned).chain(pairs(&current.revoking)).any(|own| own == item);
                    assert!(known, "{} holds {item:?}, the coordinator says {current:?}", client.member_id);
                }
            }
        }
        let waits = self.world.unanswered > 0;
        assert!(!waits || self.world.groups.next_deadline().is_some(), "a wait without a deadline");
    }

    /// Fair weather: everything subscribed to is with somebody, and evenly so.
    fn settle(&mut self) {
        self.world.commits = true;
        self.world.commit_all();
        for _ in 0..400 {
            for at in 0..self.clients.len() {
                self.act(at);
            }
            self.check();
            self.world.pass(Duration::from_millis(500));
        }
        let epochs: BTreeSet<i32> = self.clients.iter().map(|client| client.epoch).collect();
        assert!(epochs.len() == 1 && !epochs.contains(&0), "{epochs:?}");
        let mut held: Vec<_> = self.clients.iter().flat_map(|client| pairs(&client.held)).collect();
        held.sort_unstable();
        let read_u = self.clients.iter().filter(|client| client.reads_u()).count();
        let mut all: Vec<_> = (0..self.partitions).map(|partition| ("t", partition)).collect();
        if self.has_u && read_u > 0 {
            all.extend((0..3).map(|partition| ("u", partition)));
        }
        assert_eq!(held, all);
        if read_u == 0 || read_u == self.clients.len() {
            let counts: Vec<usize> = self.clients.iter().map(|client| pairs(&client.held).count()).collect();
            let spread = counts.iter().max().expect("some") - counts.iter().min().expect("some");
            assert!(spread <= 1, "{counts:?}");
        }
        self.world.pass(Duration::from_secs(3_600));
        assert_eq!(self.world.unanswered, 0, "requests without an answer");
        self.world.fail_over();
        self.check();
    }
}

/// What a client makes of an answer.
fn answered(client: &mut Client, answer: raftline_shard::consumer_groups::types::Answer) {
    match answer {
        Ok(GroupResponse::ConsumerHeartbeat(answer)) => {
            client.epoch = answer.member_epoch;
            if answer.assignment.is_some() {
                client.told = answer.assignment;
            }
        }
        Ok(other) => panic!("not a heartbeat's answer: {other:?}"),
        Err(GroupError::UnknownMemberId | GroupError::FencedMemberEpoch | GroupError::GroupIdNotFound) => {
            client.drop_everything();
        }
        Err(
            GroupError::NotCoordinator
            | GroupError::CoordinatorNotAvailable
            | GroupError::UnreleasedInstanceId
            | GroupError::CoordinatorLoadInProgress,
        ) => client.is_unsure(),
        Err(other) => panic!("a well-behaved member was told {other:?}"),
    }
}

fn pairs(assignment: &Assignment) -> impl Iterator<Item = (&str, i32)> {
    assignment
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(|partition| (topic.as_str(), *partition)))
}

fn one_owner_each(currents: &BTreeMap<String, CurrentValue>) {
    let mut owners: BTreeMap<(&str, i32), &String> = BTreeMap::new();
    for (id, current) in currents {
        for item in pairs(&current.assigned).chain(pairs(&current.revoking)) {
            let earlier = owners.insert(item, id);
            assert!(earlier.is_none(), "{item:?} is with {earlier:?} and {id}");
        }
    }
}

#[test]
fn no_partition_is_with_two_members() {
    let (mut taken, mut refused) = (0, 0);
    for seed in seeds(300) {
        let _failing = Failing(seed);
        let mut model = Model::new(seed);
        for _ in 0..400 {
            model.step();
        }
        model.settle();
        taken += model.late_taken;
        refused += model.late_refused;
    }
    assert!(taken > 100 && refused > 100, "commits of older epochs: {taken} taken, {refused} refused");
}
