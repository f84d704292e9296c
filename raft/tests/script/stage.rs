//! The commands of a script, played on replicas whose messages, disks and clock wait for commands.
//!
//! | command | what happens |
//! | --- | --- |
//! | `group 3 [learners 1] [prevote off] [eager 1] [window BYTES] [uncommitted N] [ack memory]` | replicas 1, 2, … start; all nodes are up |
//! | `stranger 4` | a replica that thinks it is a voter too; the others know nothing of it |
//! | `wait MS` | time passes; nobody is told |
//! | `tick N` | time passes up to N's deadline, if it is later, and N is told |
//! | `deliver A>B [FIRST]`, `deliver A>B last` | all queued messages of the link, or that many, or the last one |
//! | `repeat A>B` | delivers the first one and keeps it queued |
//! | `drop A>B`, `lose N` | the queued messages of a link, or to and from N, are lost |
//! | `save N`, `sync N` | N's hard state, or its log, becomes durable |
//! | `settle` | delivers, saves and syncs until nothing is left to do |
//! | `settle quietly [without N]` | the same, without telling; messages to and from N stay |
//! | `propose N [BYTES]`, `propose N times COUNT` | proposals |
//! | `learners N A B` | N proposes these learners |
//! | `crash N [keeping WRITES SAVES]` | loses what is not durable, but for so many; nobody is told |
//! | `start N` | N starts from its disk and sees the other nodes; they are not told |
//! | `up A B`, `down A B`, `reset A B` | A is told of B's node |
//! | `transfer N [B]`, `trim N INDEX`, `full N`, `room N`, `busy N` | as they say |
//! | `status [N]`, `peers N`, `logs`, `queued` | views |

use crate::support::disk::Disk;
use crate::support::replica::{Done, Event, Replica, Wire};
use crate::text;
use raftline_proto::ids::{EntryId, Index, Membership, NodeId};
use raftline_proto::time::Monotonic;
use raftline_raft::Config;
use raftline_raft::config::{FirstCampaign, PreVote};
use raftline_raft::types::{AckWanted, ReplicateOutcome};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

#[derive(Default)]
pub struct Stage {
    now: Monotonic,
    replicas: BTreeMap<NodeId, Actor>,
    links: BTreeMap<(NodeId, NodeId), VecDeque<Wire>>,
    value: u64,
    memory_acks: bool,
}

type Setting = Box<dyn Fn(&mut Config)>;

struct Actor {
    replica: Replica,
    running: bool,
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("not a number: {word}"))
}

fn name(word: &str) -> NodeId {
    NodeId(word.parse().unwrap_or_else(|_| panic!("not a node: {word}")))
}

fn link(word: &str) -> (NodeId, NodeId) {
    let (from, to) = word.split_once('>').unwrap_or_else(|| panic!("not a link: {word}"));
    (name(from), name(to))
}

impl Stage {
    pub fn command(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["group", options @ ..] => self.group(options),
            ["stranger", node] => self.stranger(name(node)),
            ["wait", ms] => {
                self.now = self.now + Duration::from_millis(number(ms));
                Vec::new()
            }
            ["tick", node] => self.tick(name(node)),
            ["deliver", pair] => self.deliver_first(link(pair), usize::MAX),
            ["deliver", pair, "last"] => self.deliver_last(link(pair)),
            ["deliver", pair, count] => {
                self.deliver_first(link(pair), usize::try_from(number(count)).unwrap())
            }
            ["repeat", pair] => self.repeat(link(pair)),
            ["drop", pair] => {
                self.links.remove(&link(pair));
                Vec::new()
            }
            ["lose", node] => {
                self.links.retain(|(from, to), _| *from != name(node) && *to != name(node));
                Vec::new()
            }
            ["save", node] => self.save(name(node)),
            ["sync", node] => self.sync(name(node)),
            ["settle"] => self.settle(None),
            ["settle", "quietly"] => self.settle_quietly(None),
            ["settle", "quietly", "without", node] => self.settle_quietly(Some(name(node))),
            ["propose", node] => self.propose(name(node), 100, None),
            ["propose", node, "times", count] => {
                (0..number(count)).flat_map(|_| self.propose(name(node), 100, None)).collect()
            }
            ["propose", node, bytes] => self.propose(name(node), number(bytes), None),
            ["learners", node, learners @ ..] => {
                let voters = self.actor(name(node)).replica.raft.membership().voters.clone();
                let learners = learners.iter().map(|word| name(word)).collect();
                self.propose(name(node), 100, Some(Membership { voters, learners }))
            }
            ["crash", node] => self.crash(name(node), 0, 0),
            ["crash", node, "keeping", writes, saves] => {
                let count = |word: &str| usize::try_from(number(word)).unwrap();
                self.crash(name(node), count(writes), count(saves))
            }
            ["start", node] => self.start(name(node)),
            ["up", node, peer] => self.handle(name(node), &Event::PeerUp(name(peer))),
            ["down", node, peer] => self.handle(name(node), &Event::PeerDown(name(peer))),
            ["reset", node, peer] => self.handle(name(node), &Event::PeerReset(name(peer))),
            ["transfer", node] => self.handle(name(node), &Event::Transfer(None)),
            ["transfer", node, to] => self.handle(name(node), &Event::Transfer(Some(name(to)))),
            ["trim", node, through] => self.handle(name(node), &Event::Trim(Index(number(through)))),
            ["full", node] => self.set_full(name(node), true),
            ["room", node] => self.set_full(name(node), false),
            ["busy", node] => {
                self.actor(name(node)).replica.outcomes.push_back(ReplicateOutcome::Busy);
                Vec::new()
            }
            ["status"] => self.replicas.keys().map(|node| self.status(*node)).collect(),
            ["status", node] => vec![self.status(name(node))],
            ["peers", node] => self.peers(name(node)),
            ["logs"] => self.logs(),
            ["queued"] => self.links.values().flatten().map(text::wire).collect(),
            _ => panic!("unknown command: {command}"),
        }
    }

    fn actor(&mut self, node: NodeId) -> &mut Actor {
        self.replicas.get_mut(&node).unwrap_or_else(|| panic!("no replica {node}"))
    }

    fn group(&mut self, options: &[&str]) -> Vec<String> {
        let mut voters = 0;
        let mut learners = 0;
        let mut settings: Vec<Setting> = Vec::new();
        let mut rest = options;
        loop {
            rest = match rest {
                [] => break,
                ["learners", count, rest @ ..] => {
                    learners = u32::try_from(number(count)).unwrap();
                    rest
                }
                ["prevote", "off", rest @ ..] => {
                    settings.push(Box::new(|config| config.pre_vote = PreVote::Off));
                    rest
                }
                ["eager", node, rest @ ..] => {
                    let node = name(node);
                    settings.push(Box::new(move |config| {
                        if config.node == node {
                            config.first_campaign = FirstCampaign::AtOnce;
                        }
                    }));
                    rest
                }
                ["window", bytes, rest @ ..] => {
                    let bytes = number(bytes);
                    settings.push(Box::new(move |config| config.in_flight_bytes_max = bytes));
                    rest
                }
                ["uncommitted", count, rest @ ..] => {
                    let count = usize::try_from(number(count)).unwrap();
                    settings.push(Box::new(move |config| config.uncommitted_entries_max = count));
                    rest
                }
                ["ack", "memory", rest @ ..] => {
                    self.memory_acks = true;
                    rest
                }
                [count, rest @ ..] => {
                    voters = u32::try_from(number(count)).unwrap();
                    rest
                }
            };
        }
        let membership = Membership {
            voters: (1..=voters).map(NodeId).collect(),
            learners: (voters + 1..=voters + learners).map(NodeId).collect(),
        };
        for node in membership.all() {
            let mut config = Config::new(node, membership.clone(), u64::from(node.get()));
            settings.iter().for_each(|setting| setting(&mut config));
            let replica = Replica::new(config, Disk::default(), self.now);
            self.replicas.insert(node, Actor { replica, running: false });
            self.start(node);
        }
        Vec::new()
    }

    fn stranger(&mut self, node: NodeId) -> Vec<String> {
        let known: Vec<NodeId> = self.replicas.keys().copied().chain([node]).collect();
        let config = Config::new(node, Membership::of_voters(known), u64::from(node.get()));
        let replica = Replica::new(config, Disk::default(), self.now);
        self.replicas.insert(node, Actor { replica, running: false });
        self.start(node)
    }

    /// It sees the nodes of the others; whether they see it is told by `up` and `reset`.
    fn start(&mut self, node: NodeId) -> Vec<String> {
        let peers: Vec<NodeId> = self.replicas.keys().copied().filter(|peer| *peer != node).collect();
        let (now, memory_acks) = (self.now, self.memory_acks);
        let first = self.actor(node).replica.raft.term().get() == 0;
        let actor = self.actor(node);
        actor.running = true;
        actor.replica.restart(now);
        if memory_acks {
            actor.replica.raft.set_ack_wanted(AckWanted::Memory);
        }
        let mut lines = Vec::new();
        for peer in peers {
            lines.extend(self.handle(node, &Event::PeerUp(peer)));
            if first {
                lines.extend(self.handle(peer, &Event::PeerUp(node)));
            }
        }
        lines
    }

    fn crash(&mut self, node: NodeId, writes: usize, saves: usize) -> Vec<String> {
        let actor = self.actor(node);
        actor.running = false;
        actor.replica.disk.crash(writes, saves);
        Vec::new()
    }

    fn set_full(&mut self, node: NodeId, full: bool) -> Vec<String> {
        self.actor(node).replica.disk.full = full;
        Vec::new()
    }

    fn tick(&mut self, node: NodeId) -> Vec<String> {
        let Some(deadline) = self.actor(node).replica.raft.deadline() else {
            return vec![format!("{node} has no timer")];
        };
        self.now = self.now.max(deadline);
        self.handle(node, &Event::Tick)
    }

    fn handle(&mut self, node: NodeId, event: &Event) -> Vec<String> {
        let now = self.now;
        let actor = self.actor(node);
        if !actor.running {
            return Vec::new();
        }
        let done = actor.replica.handle(now, event);
        self.tell(node, done)
    }

    fn tell(&mut self, node: NodeId, done: Done) -> Vec<String> {
        let mut lines: Vec<String> =
            done.outputs.iter().filter_map(|output| text::output(node, output)).collect();
        for wire in done.wires {
            lines.push(text::wire(&wire));
            self.links.entry((wire.from, wire.to)).or_default().push_back(wire);
        }
        lines
    }

    fn propose(&mut self, node: NodeId, bytes: u64, membership: Option<Membership>) -> Vec<String> {
        self.value += 1;
        let (now, value) = (self.now, self.value);
        let (result, done) = self.actor(node).replica.propose(now, value, bytes, membership);
        let mut lines = match result {
            Ok(_) => Vec::new(),
            Err(error) => vec![format!("{node} refuses: {error:?}")],
        };
        lines.extend(self.tell(node, done));
        lines
    }

    fn deliver_first(&mut self, pair: (NodeId, NodeId), count: usize) -> Vec<String> {
        let queue = self.links.entry(pair).or_default();
        let wires: Vec<Wire> = queue.drain(..count.min(queue.len())).collect();
        if wires.is_empty() {
            return vec!["nothing is queued".to_string()];
        }
        wires.into_iter().flat_map(|wire| self.handle(pair.1, &Event::Wire(wire))).collect()
    }

    fn deliver_last(&mut self, pair: (NodeId, NodeId)) -> Vec<String> {
        match self.links.entry(pair).or_default().pop_back() {
            Some(wire) => self.handle(pair.1, &Event::Wire(wire)),
            None => vec!["nothing is queued".to_string()],
        }
    }

    fn repeat(&mut self, pair: (NodeId, NodeId)) -> Vec<String> {
        match self.links.entry(pair).or_default().front().cloned() {
            Some(wire) => self.handle(pair.1, &Event::Wire(wire)),
            None => vec!["nothing is queued".to_string()],
        }
    }

    fn save(&mut self, node: NodeId) -> Vec<String> {
        let mut lines = Vec::new();
        while self.actor(node).running && !self.actor(node).replica.disk.saving.is_empty() {
            lines.extend(self.handle(node, &Event::Saved));
        }
        lines
    }

    fn sync(&mut self, node: NodeId) -> Vec<String> {
        let count = self.actor(node).replica.disk.unsynced();
        self.handle(node, &Event::Synced(count))
    }

    /// Rounds of: deliver what is queued, save, sync; each told with what caused it.
    fn settle(&mut self, without: Option<NodeId>) -> Vec<String> {
        let mut lines = Vec::new();
        for _round in 0..200 {
            let mut quiet = true;
            let queued: Vec<_> = self
                .links
                .iter_mut()
                .filter(|(pair, _)| Some(pair.0) != without && Some(pair.1) != without)
                .flat_map(|(_, queue)| queue.drain(..))
                .collect();
            for wire in queued {
                quiet = false;
                lines.extend(self.handle(wire.to, &Event::Wire(wire)));
            }
            for node in self.replicas.keys().copied().collect::<Vec<_>>() {
                let actor = self.actor(node);
                if actor.running && !actor.replica.disk.saving.is_empty() {
                    quiet = false;
                    lines.push(format!("{node}: hard state saved"));
                    lines.extend(self.save(node));
                }
                let actor = self.actor(node);
                if actor.running && actor.replica.disk.unsynced() > 0 {
                    quiet = false;
                    lines.push(format!("{node}: log synced"));
                    lines.extend(self.sync(node));
                }
            }
            if quiet {
                return lines;
            }
        }
        panic!("it does not settle");
    }

    fn settle_quietly(&mut self, without: Option<NodeId>) -> Vec<String> {
        let lines = self.settle(without);
        lines.into_iter().filter(|line| line.contains("ALARM")).collect()
    }

    fn status(&self, node: NodeId) -> String {
        let Actor { replica, running } = &self.replicas[&node];
        let raft = &replica.raft;
        if !running {
            return format!("{node} is down, log {}", replica.disk.live.last());
        }
        let timer = raft.deadline().map_or("no timer".to_string(), |deadline| {
            format!("timer in {} ms", deadline.since(self.now).as_millis())
        });
        format!(
            "{node} {} term {} leader {} last {} durable {} commit {}, {timer}{}",
            text::role(raft.role()),
            raft.term(),
            text::node(raft.leader()),
            raft.last(),
            raft.durable(),
            raft.commit(),
            if raft.idle() { ", idle" } else { "" }
        )
    }

    fn peers(&self, node: NodeId) -> Vec<String> {
        let view = |peer: raftline_raft::PeerView| {
            format!(
                "{} {} matched {} received {} next {} commit {} in flight {} bytes, {}",
                peer.node,
                if peer.alive { "up" } else { "down" },
                peer.matched,
                peer.received,
                peer.next,
                peer.commit,
                peer.in_flight_bytes,
                if peer.streaming { "streaming" } else { "probing" }
            )
        };
        self.replicas[&node].replica.raft.peers().map(view).collect()
    }

    fn logs(&self) -> Vec<String> {
        let log = |(node, actor): (&NodeId, &Actor)| {
            let log = &actor.replica.disk.live;
            let ids: Vec<EntryId> = log.entries.iter().map(|stored| stored.entry.id).collect();
            let values: Vec<u64> = log.entries.iter().map(|stored| stored.value).collect();
            format!("{node} after {}: {} values {values:?}", log.start.previous, text::ids(&ids))
        };
        self.replicas.iter().map(log).collect()
    }
}
