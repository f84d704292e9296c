//! Groups that change their protocol while their members live: a rolling restart from classic consumers to those of the new
//! protocol, and back. Clients are played as they are: eager or cooperative ones, and ones of the new protocol. At no moment
//! do two of them have one partition.

use crate::consumer::{beat, describe, entering, instance, owns, say, world};
use crate::world::*;
use raftline_shard::consumer_groups::limits::{GroupsConfig, MigrationPolicy};
use raftline_shard::consumer_groups::types::{
    ConsumerHeartbeat, GroupProtocol, GroupRequest, GroupResponse, JoinGroup, Joined,
};
use raftline_shard::types::RequestId;
use std::collections::BTreeSet;
use std::time::Duration;

type Partitions = BTreeSet<i32>;

/// How a client takes part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Gives everything up before it joins again.
    Eager,
    /// Keeps what it has, and joins once more after it gave something up.
    Cooperative,
    /// Of the new protocol.
    Consumer,
}

/// A client of topic `t`.
struct Client {
    kind: Kind,
    id: String,
    epoch: i32,
    owned: Partitions,
    joining: Option<RequestId>,
    syncing: Option<RequestId>,
    has_to_join: bool,
}

fn embedded(kind: Kind, owned: &Partitions) -> Vec<GroupProtocol> {
    let mut bytes = vec![0, 3, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255];
    let said: Partitions = if kind == Kind::Cooperative { owned.clone() } else { Partitions::new() };
    bytes.extend(assigned_bytes(&said));
    vec![GroupProtocol { name: "range".into(), metadata: bytes }]
}

fn assigned_bytes(partitions: &Partitions) -> Vec<u8> {
    let mut bytes = i32::from(!partitions.is_empty()).to_be_bytes().to_vec();
    if !partitions.is_empty() {
        bytes.extend([0, 1, b't']);
        bytes.extend(i32::try_from(partitions.len()).expect("small").to_be_bytes());
        bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
    }
    bytes
}

fn assignment(partitions: &Partitions) -> Vec<u8> {
    [&[0, 1][..], &assigned_bytes(partitions), &[255; 4]].concat()
}

/// The partitions of `t` in an assignment.
fn read(assignment: &[u8]) -> Partitions {
    let numbers = |bytes: &[u8]| -> Vec<i32> {
        bytes.chunks_exact(4).map(|four| i32::from_be_bytes(four.try_into().expect("small"))).collect()
    };
    match assignment.get(2..6) {
        Some([0, 0, 0, 1]) => {
            assert_eq!(assignment[6..9], [0, 1, b't']);
            let count = usize::try_from(numbers(&assignment[9..13])[0]).expect("small");
            numbers(&assignment[13..13 + 4 * count]).into_iter().collect()
        }
        _ => Partitions::new(),
    }
}

impl Client {
    fn new(kind: Kind, id: &str) -> Self {
        let id = if kind == Kind::Consumer { id } else { "" }.to_owned();
        let owned = Partitions::new();
        Self { kind, id, epoch: 0, owned, joining: None, syncing: None, has_to_join: true }
    }

    fn join_request(&self) -> JoinGroup {
        JoinGroup { protocols: embedded(self.kind, &self.owned), ..join(&self.id) }
    }

    /// One look at what came, and the next thing to do.
    fn step(&mut self, world: &mut World) {
        if self.kind == Kind::Consumer {
            self.beat(world);
        } else if let Some(request) = self.joining {
            if let Some(answer) = world.take(request) {
                self.joining = None;
                match answer {
                    Ok(GroupResponse::Joined(joined)) => self.joined(joined, world),
                    Err(error) if error.code() == 25 => self.lost(),
                    Err(error) => assert_eq!(error.code(), 27, "{error}"),
                    other => panic!("{other:?}"),
                }
            }
        } else if let Some(request) = self.syncing {
            if let Some(answer) = world.take(request) {
                self.syncing = None;
                match answer {
                    Ok(GroupResponse::Synced(synced)) => self.synced(read(&synced.assignment)),
                    Err(error) => self.failed(error.code()),
                    other => panic!("{other:?}"),
                }
            }
        } else if self.has_to_join {
            if self.kind == Kind::Eager {
                self.owned.clear();
            }
            let fresh_id = world.fresh().into();
            let request = JoinGroup { fresh_id, ..self.join_request() };
            let request = world.ask(GroupRequest::Join(request));
            if let Some(Err(error)) = world.answers.get(&request)
                && let raftline_shard::consumer_groups::types::GroupError::MemberIdRequired { member_id } =
                    error
            {
                self.id.clone_from(member_id);
                world.answers.remove(&request);
                return self.step(world);
            }
            self.joining = Some(request);
        } else {
            let answer = world.call(heartbeat(&self.id, self.epoch));
            if let Err(error) = answer {
                self.failed(error.code());
            }
        }
    }

    fn joined(&mut self, joined: Joined, world: &mut World) {
        (self.epoch, self.has_to_join) = (joined.generation, false);
        let mut parts = Vec::new();
        if joined.leader == self.id {
            let count = i32::try_from(joined.members.len()).expect("small");
            // As a cooperative assignor: what another one still has is given in the next generation.
            let owned = |metadata: &[u8]| read(&[&[0, 3][..], &metadata[13..]].concat());
            for (at, member) in (0..).zip(&joined.members) {
                let is_free = |partition: &i32| {
                    let others = joined.members.iter().filter(|other| other.member_id != member.member_id);
                    others.clone().all(|other| !owned(&other.metadata).contains(partition))
                };
                let part: Partitions =
                    (0..8).filter(|partition| partition % count == at).filter(is_free).collect();
                parts.push((member.member_id.clone(), assignment(&part)));
            }
        }
        let mut request = sync(&self.id, self.epoch, &[]);
        request.assignments = parts;
        self.syncing = Some(world.ask(GroupRequest::Sync(request)));
    }

    fn synced(&mut self, told: Partitions) {
        // A cooperative consumer that gives something up joins again to say so, and takes what is new in the meantime: here
        // the coordinator, or its protocol's leader, has made sure that it is free.
        self.has_to_join = self.kind == Kind::Cooperative && !self.owned.is_subset(&told);
        self.owned = told;
    }

    fn failed(&mut self, code: i16) {
        match code {
            27 => self.has_to_join = true,
            22 => self.has_to_join = true,
            25 => self.lost(),
            other => panic!("error {other}"),
        }
    }

    /// It is no member any more, and joins as a new one.
    fn lost(&mut self) {
        self.owned.clear();
        self.id.clear();
        self.has_to_join = true;
    }

    fn beat(&mut self, world: &mut World) {
        let owned = owns(&self.owned.iter().copied().collect::<Vec<_>>());
        let request = match self.epoch {
            0 => ConsumerHeartbeat { owned: owns(&[]), ..entering(&self.id) },
            epoch => ConsumerHeartbeat { owned, ..beat(&self.id, epoch) },
        };
        match world.call(GroupRequest::ConsumerHeartbeat(request)) {
            Ok(GroupResponse::ConsumerHeartbeat(answer)) => {
                self.epoch = answer.member_epoch;
                if let Some(told) = answer.assignment {
                    self.owned = told.into_values().flatten().collect();
                }
            }
            Err(error) if [25, 110].contains(&error.code()) => {
                self.owned.clear();
                self.epoch = 0;
            }
            other => panic!("{other:?}"),
        }
    }

    fn leave(&self, world: &mut World) {
        let left = match self.kind {
            Kind::Consumer => world.call(GroupRequest::ConsumerHeartbeat(beat(&self.id, -1))),
            Kind::Eager | Kind::Cooperative => world.call(leave(&self.id)),
        };
        left.expect("left");
    }
}

/// Lets the clients go on until they have everything between them; asserts that nothing is ever with two.
fn settle(world: &mut World, clients: &mut [Client]) {
    for _ in 0..200 {
        for at in 0..clients.len() {
            clients[at].step(world);
            let mut owners = Partitions::new();
            for client in clients.iter() {
                for partition in &client.owned {
                    assert!(owners.insert(*partition), "partition {partition} is with two");
                }
            }
        }
        world.pass(Duration::from_millis(100));
        let calm = clients
            .iter()
            .all(|client| !client.has_to_join && client.joining.is_none() && client.syncing.is_none());
        let all: usize = clients.iter().map(|client| client.owned.len()).sum();
        let (least, most) = clients
            .iter()
            .map(|client| client.owned.len())
            .fold((8, 0), |(least, most), now| (least.min(now), most.max(now)));
        if all == 8
            && most - least <= 1
            && (calm || clients.iter().all(|client| client.kind == Kind::Consumer))
        {
            return;
        }
    }
    let shares: Vec<_> = clients.iter().map(|client| (&client.id, client.epoch, &client.owned)).collect();
    panic!("they never have all: {shares:?}");
}

fn is_classic(world: &mut World) -> bool {
    world.call(GroupRequest::Describe { group: G.into() }).is_ok()
}

fn restart_each(kinds: [Kind; 3], later: Kind, fails_over: bool) -> World {
    let mut world = world(8);
    let mut clients: Vec<Client> =
        (0..3).zip(kinds).map(|(at, kind)| Client::new(kind, &format!("first-{at}"))).collect();
    for consumer in clients.iter_mut().filter(|client| client.kind == Kind::Consumer) {
        consumer.has_to_join = false;
    }
    settle(&mut world, &mut clients);
    for at in 0..3 {
        clients[at].leave(&mut world);
        clients[at] = Client::new(later, &format!("later-{at}"));
        clients[at].has_to_join = later != Kind::Consumer;
        if fails_over {
            clients[at].step(&mut world);
            world.fail_over();
            // What was asked of the old leader is asked anew.
            for client in &mut clients {
                for request in client.joining.take().into_iter().chain(client.syncing.take()) {
                    assert!(
                        world.take(request).is_some(),
                        "an answer, if only that the coordinator is another one"
                    );
                    client.has_to_join = true;
                }
            }
        }
        settle(&mut world, &mut clients);
    }
    world
}

#[test]
fn consumers_change_to_the_new_protocol_one_by_one_and_back() {
    for kind in [Kind::Eager, Kind::Cooperative] {
        for fails_over in [false, true] {
            let mut upgraded = restart_each([kind; 3], Kind::Consumer, fails_over);
            assert!(!is_classic(&mut upgraded));
            let described = describe(&mut upgraded);
            assert!(
                described.members.len() == 3 && described.members.iter().all(|member| !member.is_classic)
            );

            let mut back = restart_each([Kind::Consumer; 3], kind, fails_over);
            assert!(is_classic(&mut back), "the last one of the new protocol has gone");
        }
    }
}

#[test]
fn members_of_both_protocols_share_a_group() {
    let mut world = world(8);
    let mut clients = vec![Client::new(Kind::Eager, ""), Client::new(Kind::Cooperative, "")];
    settle(&mut world, &mut clients);
    clients.push(Client { has_to_join: false, ..Client::new(Kind::Consumer, "new") });
    settle(&mut world, &mut clients);
    let described = describe(&mut world);
    let classic: Vec<bool> = described.members.iter().map(|member| member.is_classic).collect();
    assert_eq!((classic.iter().filter(|classic| **classic).count(), classic.len()), (2, 3));
    // Each commits in its own words.
    let of = |client: &Client| commit(&client.id, client.epoch, 0, 7);
    for client in &clients {
        world.call(GroupRequest::OffsetCommit(of(client))).expect("committed");
    }
    let mut old = of(&clients[0]);
    old.generation -= 1;
    assert_eq!(code(&world.call(GroupRequest::OffsetCommit(old))), 22, "a generation of the past");
    world.fail_over();
    settle(&mut world, &mut clients);
}

#[test]
fn the_policy_says_which_way_a_group_may_change() {
    let with = |migration| {
        let config =
            GroupsConfig { migration, initial_rebalance_delay: Duration::ZERO, ..GroupsConfig::default() };
        let mut world = World::new(config);
        world.topics(&[("t", 8, 1)]);
        world
    };
    for (policy, up, down) in [
        (MigrationPolicy::Bidirectional, true, true),
        (MigrationPolicy::Upgrade, true, false),
        (MigrationPolicy::Downgrade, false, true),
        (MigrationPolicy::Disabled, false, false),
    ] {
        let mut world = with(policy);
        let mut clients = vec![Client::new(Kind::Eager, "")];
        settle(&mut world, &mut clients);
        let answer = say(&mut world, entering("new"));
        assert_eq!(answer == "error 69", !up, "{policy:?}: {answer}");

        let mut world = with(policy);
        let consumer = Client { has_to_join: false, ..Client::new(Kind::Consumer, "new") };
        let mut clients = vec![consumer];
        settle(&mut world, &mut clients);
        // Members of the classic protocol may always come.
        clients.push(Client::new(Kind::Cooperative, ""));
        settle(&mut world, &mut clients);
        clients.remove(0).leave(&mut world);
        settle(&mut world, &mut clients);
        assert_eq!(is_classic(&mut world), down, "{policy:?}");
    }
}

#[test]
fn what_is_no_consumer_does_not_change() {
    let mut world = world(8);
    let connect = JoinGroup { protocol_type: "connect".into(), ..join(&world.id()) };
    let request = world.ask(GroupRequest::Join(connect.clone()));
    assert_eq!(joined(world.take(request)).leader, connect.member_id);
    assert_eq!(say(&mut world, entering("new")), "error 69");

    let mut world = crate::consumer::world(8);
    assert_eq!(say(&mut world, entering("new")), "1 [0, 1, 2, 3, 4, 5, 6, 7]");
    assert_eq!(code(&world.call(GroupRequest::Join(connect))), 23);
    let unreadable =
        JoinGroup { protocols: vec![GroupProtocol { name: "range".into(), metadata: vec![0] }], ..join("") };
    assert_eq!(code(&world.call(GroupRequest::Join(unreadable))), 23);
}

#[test]
fn a_member_that_does_not_join_again_is_removed() {
    let mut world = world(8);
    let mut clients = vec![Client::new(Kind::Eager, ""), Client::new(Kind::Eager, "")];
    settle(&mut world, &mut clients);
    clients.push(Client { has_to_join: false, ..Client::new(Kind::Consumer, "new") });
    clients[2].step(&mut world);
    // The first one goes on heartbeating, and never joins.
    let silent = clients.remove(0);
    assert_eq!(code(&world.call(heartbeat(&silent.id, silent.epoch))), 27);
    for _ in 0..14 {
        world.pass(Duration::from_secs(5));
        let answer = world.call(heartbeat(&silent.id, silent.epoch));
        assert!([27, 25].contains(&code(&answer)), "{answer:?}");
        for client in &mut clients {
            client.step(&mut world);
        }
    }
    assert_eq!(
        code(&world.call(heartbeat(&silent.id, silent.epoch))),
        25,
        "its rebalance timeout has passed"
    );
    settle(&mut world, &mut clients);
}

#[test]
fn a_static_member_takes_its_place_in_the_other_protocol() {
    let mut world = world(8);
    let static_join = |fresh_id| {
        let protocols = embedded(Kind::Eager, &Partitions::new());
        JoinGroup { instance_id: Some("i".into()), protocols, fresh_id, ..join("") }
    };
    let request = world.ask(GroupRequest::Join(static_join(1)));
    let member = joined(world.take(request));
    let all: Partitions = (0..8).collect();
    let mut request = sync(&member.member_id, member.generation, &[]);
    request.assignments = vec![(member.member_id.clone(), assignment(&all))];
    let request = world.ask(GroupRequest::Sync(request));
    assert_eq!(read(&synced(world.take(request)).assignment), all);
    // It is restarted with the new protocol, without a word: static members do not leave.
    assert_eq!(say(&mut world, instance("i", entering("new"))), "1 [0, 1, 2, 3, 4, 5, 6, 7]");
    assert_eq!(describe(&mut world).members.len(), 1);
    assert_eq!(code(&world.call(heartbeat(&member.member_id, member.generation))), 25);
    // And back: of the classic protocol alone, the group is a classic one again.
    let request = world.ask(GroupRequest::Join(static_join(2)));
    let back = joined(world.take(request));
    assert!(is_classic(&mut world));
    assert_eq!(say(&mut world, instance("i", beat("new", 1))), "error 69");
    let answer = world.call(heartbeat(&back.member_id, back.generation));
    assert_eq!(code(&answer), 27, "it joins again, as in any classic group: {answer:?}");
}

/// The group's epoch moves with whoever goes; classic members do not know it yet. Told `ILLEGAL_GENERATION`, clients would drop
/// what they have at once and be as new.
#[test]
fn who_stays_when_the_last_consumer_goes_keeps_what_it_has_until_it_joins_again() {
    let mut world = world(8);
    assert_eq!(say(&mut world, entering("new")), "1 [0, 1, 2, 3, 4, 5, 6, 7]");
    let mut classic = Client::new(Kind::Cooperative, "");
    let mut new = Client::new(Kind::Consumer, "new");
    (new.epoch, new.owned) = (1, (0..8).collect());
    for _ in 0..10 {
        new.step(&mut world);
        classic.step(&mut world);
    }
    assert_eq!((classic.owned.len(), new.owned.len()), (4, 4));
    let epoch = classic.epoch;
    assert_eq!(code(&world.call(heartbeat(&classic.id, epoch))), 0);
    assert_eq!(say(&mut world, beat("new", -1)), "-1");
    assert_eq!(code(&world.call(heartbeat(&classic.id, epoch))), 27);
    for _ in 0..5 {
        classic.step(&mut world);
    }
    assert_eq!((classic.owned, classic.epoch), ((0..8).collect(), epoch + 1));
}
