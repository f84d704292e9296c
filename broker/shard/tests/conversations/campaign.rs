//! A campaign: idempotent clients against a cluster to which everything happens, by seed. The simulator does this
//! with the real storage; here it finds faults of the shard alone, in milliseconds.

use crate::node::Answer;
use crate::weather::{Chance, Weather};
use crate::world::{End, N1, N2, N3, World};
use raftline_proto::ids::{GroupId, NodeId, Offset};
use raftline_proto::time::Monotonic;
use raftline_shard::types::{Durability, ProduceError, Reply, RequestId};
use std::collections::BTreeMap;
use std::time::Duration;

/// A producer with one batch under way at a time, which it sends until it is acknowledged.
struct Client {
    id: u64,
    sequence: u32,
    batch: u32,
    waiting: Option<Waiting>,
    acknowledged: Vec<(Offset, String)>,
    target: NodeId,
}

struct Waiting {
    request: RequestId,
    text: String,
    records: u32,
    /// After this the answer never comes: the process died with the request.
    until: Monotonic,
}

impl Client {
    fn new(id: u64) -> Self {
        Self { id, sequence: 0, batch: 0, waiting: None, acknowledged: Vec::new(), target: N1 }
    }

    fn text(&self) -> String {
        let records = 1 + self.batch % 3;
        (0..records)
            .map(|record| format!("p{}b{}r{record}", self.id, self.batch))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn send(&mut self, world: &mut World, group: GroupId) {
        let text = self.text();
        let records = 1 + self.batch % 3;
        let stamp = (self.id, 0, self.sequence);
        let wait = Duration::from_millis(700);
        let make = world.produce_event(group, &text, Some(stamp), Durability::Quorum, wait);
        let request = world.ask(self.target, make);
        let until = world.deadline(wait + Duration::from_millis(100));
        self.waiting = Some(Waiting { request, text, records, until });
    }

    /// Takes an answer if there is one, and sends what is next.
    fn go_on(&mut self, world: &mut World, group: GroupId, chance: &mut Chance) {
        let Some(waiting) = self.waiting.take() else {
            self.send(world, group);
            return;
        };
        match world.answers.remove(&waiting.request) {
            Some(Answer::Shard(reply)) => match *reply {
                Reply::Produced(Ok(produced)) => {
                    self.acknowledged.push((produced.base_offset, waiting.text));
                    self.sequence += waiting.records;
                    self.batch += 1;
                }
                Reply::Produced(Err(error)) => {
                    let harmful = matches!(
                        error,
                        ProduceError::OutOfOrderSequence { .. } | ProduceError::ProducerFenced { .. }
                    );
                    assert!(!harmful, "a well-behaved producer was told {error:?}");
                    self.target = match error {
                        ProduceError::NotLeader { leader: Some(leader), .. } => leader,
                        _ => chance.pick(&[N1, N2, N3]),
                    };
                }
                other => panic!("not a produce's answer: {other:?}"),
            },
            Some(other) => panic!("not a produce's answer: {other:?}"),
            None if world.now > waiting.until => self.target = chance.pick(&[N1, N2, N3]),
            None => self.waiting = Some(waiting),
        }
    }
}

fn disturb(world: &mut World, chance: &mut Chance) {
    let node = chance.pick(&[N1, N2, N3]);
    let runs = world.nodes[&node].process.is_some();
    match chance.below(12) {
        0 if runs => world.end(node, End::Killed),
        1 if runs => world.end(node, End::PowerCut),
        2 => world.isolate(node),
        3 => {
            let other = chance.pick(&[N1, N2, N3]);
            world.cut.insert((node, other));
        }
        4 => world.node(node).full = !world.nodes[&node].full,
        5 => world.node(node).sync_us = chance.below(60_000),
        6 => {
            for node in world.running() {
                world.end(node, End::PowerCut);
            }
        }
        7 | 8 => world.heal(),
        _ if !runs => world.start(node),
        _ => {}
    }
}

fn recover(world: &mut World) {
    world.weather = None;
    world.heal();
    for node in [N1, N2, N3] {
        world.node(node).full = false;
        world.node(node).sync_us = 0;
        if world.nodes[&node].process.is_none() {
            world.start(node);
        }
    }
}

fn run(seed: u64) -> usize {
    let mut chance = Chance::new(seed);
    let (mut world, group) = World::with_topic();
    world.weather = Some(Weather {
        chance: Chance::new(seed ^ 0xffff),
        lost: chance.below(15),
        doubled: chance.below(15),
        delay_us_max: 1 + chance.below(30_000),
    });
    let mut clients: Vec<Client> = (1..4).map(Client::new).collect();
    let disturbances = 1 + chance.below(40);
    for _ in 0..400 {
        for client in &mut clients {
            client.go_on(&mut world, group, &mut chance);
        }
        if chance.below(400) < disturbances {
            disturb(&mut world, &mut chance);
        }
        world.run_for(Duration::from_millis(1 + chance.below(20)));
    }
    recover(&mut world);
    for _ in 0..400 {
        for client in &mut clients {
            client.go_on(&mut world, group, &mut chance);
        }
        world.run_for(Duration::from_millis(10));
    }
    let log = world.converged(group);
    check(&clients, &log);
    world.assert_no_alarms();
    clients.iter().map(|client| client.acknowledged.len()).sum()
}

/// What is acknowledged is there, at its offset, once, and in the producer's order.
fn check(clients: &[Client], log: &[(Offset, String)]) {
    let by_offset: BTreeMap<Offset, &String> = log.iter().map(|(offset, text)| (*offset, text)).collect();
    let mut places: BTreeMap<&String, Offset> = BTreeMap::new();
    for (offset, text) in log {
        assert_eq!(places.insert(text, *offset), None, "{text} is there twice");
    }
    for client in clients {
        assert!(!client.acknowledged.is_empty(), "producer {} got nothing through", client.id);
        for (offset, text) in &client.acknowledged {
            assert_eq!(by_offset.get(offset), Some(&text), "at {offset:?}");
        }
        assert!(client.acknowledged.is_sorted(), "producer {} is out of order", client.id);
    }
}

#[test]
fn whatever_happens_what_is_acknowledged_stays() {
    // SEED=7 runs one; SEEDS=1000 runs so many.
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (1..=count.unwrap_or(60)).collect(),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(
            outcome.is_ok(),
            "seed {seed} failed; again with SEED={seed} cargo test -p raftline-shard campaign"
        );
    }
}
