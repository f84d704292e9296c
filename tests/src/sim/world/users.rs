//! The clients and their connections to the nodes: requests and answers travel in order, and die with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raftline_broker::payload::{OutReply, Payload};
use raftline_proto::entry::BatchInfo;
use raftline_proto::ids::{GroupId, NodeId, Term, TopicId};
use raftline_proto::metadata::BrokerRecord;
use raftline_proto::producers::SEQUENCE_MAX;
use raftline_proto::time::Monotonic;
use raftline_shard::coordinator::configs::Cleanup;
use raftline_shard::image::MetadataImage;
use raftline_shard::types::{
    CoordinatorCommand, CoordinatorReply, Durability, Event, FetchError, OffsetQuery, ProduceError, Reply,
    RequestId,
};

use super::watch::{content_of, records, served};
use super::{Step, World};
use crate::sim::chance::Chance;
use crate::sim::clients::admin::Admin;
use crate::sim::clients::consumer::{Consumer, Lasting};
use crate::sim::clients::eraser::Eraser;
use crate::sim::clients::inquirer::Inquirer;
use crate::sim::clients::meddler::{FIRST_TOPIC, Meddler};
use crate::sim::clients::producer::{Habits, Producer};
use crate::sim::clients::{Around, Ask, Call, Client, Wishes};
use crate::sim::facts::{Fact, Life, Record};
use crate::sim::marks::Mark;
use crate::sim::plan::{Load, Plan};
use crate::sim::trace::{Place, mix};

/// All clients and what is on its way between them and the nodes.
pub struct Users {
    load: Load,
    chance: Chance,
    clients: Vec<Client>,
    /// The wake-up that is planned for each client.
    wakes: Vec<Option<Monotonic>>,
    /// Partitions that have clients.
    served: Vec<GroupId>,
    /// Partitions seen in an image and still without clients.
    found: Vec<(GroupId, TopicId, Cleanup)>,
    /// Topics wanted.
    topics: usize,
    /// The latest image that any node has published.
    image: MetadataImage,
    /// Groups of topics that were deleted.
    gone: BTreeSet<GroupId>,
    /// Requests handed to a node.
    pending: BTreeMap<RequestId, Pending>,
    next_request: u64,
    /// When the last message between a client and a node arrives, each way.
    lanes: BTreeMap<(usize, NodeId, Way), Monotonic>,
    /// Which node was first asked to append a batch.
    first_asked: BTreeMap<u64, NodeId>,
}

/// A request that a node holds.
struct Pending {
    client: usize,
    tag: u64,
    life: Life,
    since: Monotonic,
    asked: Asked,
}

/// What the checkers need to know of a request.
enum Asked {
    Produce { group: GroupId, content: u64, info: BatchInfo, durability: Durability },
    Fetch { group: GroupId, from: raftline_proto::ids::Offset },
    Delete { group: GroupId },
    Offset { group: GroupId, query: OffsetQuery },
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    There,
    Back,
}

impl Users {
    /// No clients yet.
    #[must_use]
    pub fn new(plan: &Plan, chance: Chance) -> Self {
        Self {
            load: plan.load,
            chance,
            clients: Vec::new(),
            wakes: Vec::new(),
            served: Vec::new(),
            found: Vec::new(),
            topics: plan.topics.len(),
            image: MetadataImage::default(),
            gone: BTreeSet::new(),
            pending: BTreeMap::new(),
            next_request: 0,
            lanes: BTreeMap::new(),
            first_asked: BTreeMap::new(),
        }
    }

    /// All clients.
    #[must_use]
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Whether every topic wanted has its clients.
    #[must_use]
    pub fn is_complete(&self, partitions: usize) -> bool {
        self.served.len() == partitions
    }

    /// Whether the group's topic was deleted, as far as any node knows.
    #[must_use]
    pub fn is_gone(&self, group: GroupId) -> bool {
        self.gone.contains(&group)
    }

    /// The latest image that any node has published.
    #[must_use]
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Looks for new partitions in an image, and for groups that are gone in it.
    pub fn learn(&mut self, image: &MetadataImage) -> Vec<GroupId> {
        if image.topics.len() < self.topics.min(1) {
            return Vec::new();
        }
        let mut gone = Vec::new();
        if image.applied > self.image.applied {
            let groups = |image: &MetadataImage| -> BTreeSet<GroupId> {
                let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
                partitions.map(|partition| partition.group).collect()
            };
            gone.extend(groups(&self.image).difference(&groups(image)));
            self.gone.extend(&gone);
            self.image = image.clone();
        }
        for (id, topic) in image.topics.iter().filter(|(id, _)| **id < FIRST_TOPIC) {
            for partition in &topic.partitions {
                let found = (partition.group, *id, Cleanup::of(&topic.configs));
                if !self.served.contains(&partition.group) && !self.found.contains(&found) {
                    self.found.push(found);
                }
            }
        }
        gone
    }

    fn delay(&mut self) -> Duration {
        self.chance.span(Duration::from_micros(50), self.load.delay_max)
    }

    /// When a message between a client and a node arrives: after those before it.
    fn arrival(
        &mut self,
        now: Monotonic,
        client: usize,
        node: NodeId,
        way: Way,
        delay: Duration,
    ) -> Monotonic {
        let last = self.lanes.entry((client, node, way)).or_default();
        *last = (now + delay).max(Monotonic(last.0 + 1));
        *last
    }
}

impl World {
    /// The operators: one for each broker's registration, one for the topics.
    pub(super) fn start_users(&mut self) {
        let registrations: Vec<CoordinatorCommand> = self
            .nodes
            .values()
            .map(|node| {
                CoordinatorCommand::RegisterBroker(BrokerRecord {
                    node: node.id,
                    incarnation: node.incarnation,
                    grpc_address: format!("10.0.0.{}:9192", node.id),
                    kafka: [].into(),
                })
            })
            .collect();
        let replication = self.plan.nodes.min(3);
        let creations = self.plan.topics.iter().zip(1_u32..).map(|(partitions, number)| {
            let segment = ("segment.bytes".to_owned(), self.plan.segment_bytes.to_string());
            let upkeep = self.plan.upkeep.configs.get(number as usize - 1).into_iter().flatten();
            let upkeep = upkeep.map(|(name, value)| ((*name).to_owned(), value.clone()));
            CoordinatorCommand::CreateTopic {
                id: TopicId(u128::from(number)),
                name: format!("topic-{number}"),
                partitions: Some(*partitions),
                replication: Some(replication),
                configs: upkeep.chain([segment]).collect(),
                assignment: Vec::new(),
            }
        });
        let commands: Vec<CoordinatorCommand> = registrations.into_iter().chain(creations).collect();
        self.add_client(Client::Admin(Admin::new(commands)));
        self.add_client(Client::Admin(Admin::new([])));
        if let Some(what) = self.plan.upkeep.meddling {
            self.add_client(Client::Meddler(Meddler::new(what, replication)));
        }
    }

    fn add_client(&mut self, client: Client) {
        let number = self.users.clients.len();
        self.users.clients.push(client);
        self.users.wakes.push(None);
        let at = self.heap.now() + self.users.delay();
        self.plan_wake(number, at);
    }

    /// Gives newly found partitions their clients.
    pub(super) fn spawn_clients(&mut self) {
        for (group, topic, cleanup) in std::mem::take(&mut self.users.found) {
            self.users.served.push(group);
            let (bytes, age_ms) = self.plan.upkeep.retention(topic);
            let outlives = bytes.is_some() || age_ms.is_some();
            if outlives {
                self.judge.fact(&Fact::Keeps { group, bytes, age_ms });
            }
            let load = self.users.load;
            let keys = cleanup.compacts().then_some(self.plan.upkeep.keys);
            let erasures = self.plan.upkeep.erasures.filter(|_| cleanup == Cleanup::Delete);
            for nth in 0..load.idempotent + load.plain {
                let idempotent = nth < load.idempotent;
                let durability = if idempotent || self.chance.coin() {
                    Durability::Quorum
                } else {
                    let weaker = [Durability::Memory, Durability::Leader, Durability::None];
                    *self.chance.pick(&weaker).expect("not empty")
                };
                let habits = Habits {
                    name: self.users.clients.len() as u64,
                    group,
                    idempotent,
                    durability,
                    window: if idempotent { load.window } else { 1 },
                    keys,
                    records_max: load.records_max,
                    value_bytes_max: load.value_bytes_max,
                    pause: load.pause,
                };
                self.add_client(Client::Producer(Producer::new(habits, self.heap.now())));
            }
            for _ in 0..load.consumers {
                let may_go = erasures.is_some() || outlives;
                let lasting = if may_go { Lasting::MayGo } else { Lasting::Stay };
                self.add_client(Client::Consumer(Consumer::new(group, self.heap.now(), lasting)));
            }
            self.add_client(Client::Inquirer(Inquirer::new(group, load.pause * 2)));
            if let Some(pause) = erasures {
                self.add_client(Client::Eraser(Eraser::new(group, pause)));
            }
        }
    }

    /// Plans a client's wake-up, unless it wakes sooner anyway.
    fn plan_wake(&mut self, client: usize, at: Monotonic) {
        let Some(planned) = self.users.wakes.get_mut(client) else { return };
        if planned.is_none_or(|planned| at < planned) {
            *planned = Some(at);
            self.heap.push(at, Step::Client { client, at });
        }
    }

    pub(super) fn wake_client(&mut self, client: usize, at: Monotonic) {
        match self.users.wakes.get_mut(client) {
            Some(planned) if *planned == Some(at) => *planned = None,
            Some(_) | None => return,
        }
        self.with_client(client, |client, around, wishes| client.wake(around, wishes));
    }

    /// A client is answered.
    pub(super) fn response(&mut self, client: usize, tag: u64, reply: Option<OutReply>) {
        self.with_client(client, |client, around, wishes| client.answered(tag, reply, around, wishes));
    }

    fn with_client(&mut self, number: usize, act: impl FnOnce(&mut Client, &mut Around<'_>, &mut Wishes)) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        let now = self.heap.now();
        let users = &mut self.users;
        let mut around = Around {
            now,
            chance: &mut users.chance,
            nodes: &nodes,
            patience: users.load.patience,
            calm: self.calm,
        };
        let mut wishes = Wishes::default();
        let Some(client) = users.clients.get_mut(number) else { return };
        act(client, &mut around, &mut wishes);
        for call in wishes.calls {
            let straggles = !self.calm && self.users.chance.hit(self.users.load.straggler);
            let delay = self.users.delay();
            let at = if straggles {
                now + self.users.chance.span(delay, Duration::from_secs(4))
            } else {
                self.users.arrival(now, number, call.to, Way::There, delay)
            };
            self.heap.push(at, Step::Request { client: number, call: Box::new(call), straggles });
        }
        if let Some(at) = wishes.wake {
            self.plan_wake(number, at);
        }
        if let Some(words) = wishes.outrage {
            self.judge.fact(&Fact::NotLive { what: &words });
        }
    }

    /// A request reaches a node: refused at once if nothing runs there.
    pub(super) fn request(&mut self, client: usize, call: Call) {
        let Call { tag, to, ask } = call;
        let now = self.heap.now();
        let Some(node) = self.nodes.get(&to) else { return };
        let Some(life) = node.life() else {
            self.answer(client, to, tag, None);
            return;
        };
        let clocks = node.clocks(now);
        self.users.next_request += 1;
        let request = RequestId(self.users.next_request);
        let deadline = clocks.monotonic + self.users.load.patience;
        let (shard, asked, event) = match ask {
            Ask::Produce { group, batch, info, durability } => {
                let content = content_of(&batch);
                if !self.users.first_asked.contains_key(&content) {
                    let said = records(&batch).expect("a batch just built");
                    let said: Vec<Record> = said.into_iter().map(|(_, record)| record).collect();
                    self.judge.fact(&Fact::Batch { content, records: &said });
                }
                self.users.first_asked.entry(content).or_insert(to);
                let asked = Asked::Produce { group, content, info, durability };
                self.trace(Place::at(to, group), "produce", content, || {
                    format!(
                        "client {client} batch {content:016x}, {} records, {:?}",
                        info.record_count, info.producer
                    )
                });
                let payload = Payload::Batch(batch);
                let event = Event::Produce {
                    request,
                    group,
                    in_term: None,
                    batch: info,
                    payload,
                    durability,
                    deadline,
                };
                (self.shard_of(group), asked, event)
            }
            Ask::Fetch { group, from, bytes_min, bytes_max, wait } => {
                let deadline = clocks.monotonic + wait;
                let event = Event::Fetch { request, group, from, bytes_min, bytes_max, deadline };
                (self.shard_of(group), Asked::Fetch { group, from }, event)
            }
            Ask::Offset { group, query } => {
                self.ask_offset(request, group, query);
                let event = Event::ListOffset { request, group, query };
                (self.shard_of(group), Asked::Offset { group, query }, event)
            }
            Ask::Coordinate(command) => (0, Asked::Other, Event::Coordinate { request, command, deadline }),
            Ask::Delete { group, up_to } => {
                let event = Event::DeleteRecords { request, group, up_to, deadline };
                (self.shard_of(group), Asked::Delete { group }, event)
            }
            Ask::Transfer(group) => {
                let event = Event::Transfer { request, group: Some(group), to: None };
                (self.shard_of(group), Asked::Other, event)
            }
        };
        self.users.pending.insert(request, Pending { client, tag, life, since: now, asked });
        self.deliver(to, shard, event);
    }

    /// A node answers: judged the moment it leaves.
    pub(super) fn replied(&mut self, life: Life, request: RequestId, reply: OutReply) {
        let Some(pending) = self.users.pending.remove(&request) else {
            if request.0 <= self.users.next_request {
                let alarm = format!("request {request:?} is answered twice: {reply:?}");
                self.judge.fact(&Fact::Alarmed { life, group: GroupId::COORDINATOR, alarm: &alarm });
            }
            return;
        };
        match (&pending.asked, &reply) {
            (
                Asked::Produce { group, content, info, durability },
                OutReply::Shard(Reply::Produced(Ok(produced))),
            ) => {
                let (group, content) = (*group, *content);
                self.trace(Place::at(life.node, group), "ack", content ^ produced.base_offset.0, || {
                    format!("batch {content:016x} at offset {}, {durability:?}", produced.base_offset)
                });
                if produced.duplicate {
                    self.mark(Mark::DuplicateAnswered);
                    if self.users.first_asked.get(&content) != Some(&life.node) {
                        self.mark(Mark::DuplicateAcrossLeaders);
                    }
                }
                let last =
                    info.producer.map(|producer| u64::from(producer.base_sequence + info.record_count));
                if last.is_some_and(|last| last > u64::from(SEQUENCE_MAX) + 1) {
                    self.mark(Mark::SequenceWrapped);
                }
                self.counts.acks += u64::from(*durability == Durability::Quorum);
                let (base_offset, record_count, durability) =
                    (produced.base_offset, info.record_count, *durability);
                self.judge.fact(&Fact::Acked { group, base_offset, content, record_count, durability });
            }
            (Asked::Produce { group, info, .. }, OutReply::Shard(Reply::Produced(Err(error)))) => {
                if matches!(error, ProduceError::LeadershipLost { .. }) {
                    self.judge.marks.hit(Mark::LeadershipLostAnswered);
                }
                if let (ProduceError::OutOfOrderSequence { expected, .. }, Some(producer)) =
                    (error, info.producer)
                {
                    let (group, expected) = (*group, *expected);
                    let term = self.views.get(&(life.node, group)).map_or(Term::ZERO, |view| view.elected);
                    self.judge.fact(&Fact::SequenceRefused { life, group, term, producer, expected });
                }
                let place = Place::at(life.node, *group);
                let (client, now) = (pending.client, self.heap.now());
                self.judge
                    .trace
                    .event(now, place, "refuse", client as u64, || format!("client {client}: {error:?}"));
            }
            (Asked::Delete { group }, OutReply::Shard(Reply::RecordsDeleted(Ok(start_offset)))) => {
                let (group, start_offset) = (*group, *start_offset);
                if start_offset.0 > 0 {
                    self.mark(Mark::Erased);
                }
                self.trace(Place::at(life.node, group), "deleted", start_offset.0, || {
                    format!("below {start_offset}")
                });
                self.judge.fact(&Fact::Deleted { group, start_offset });
            }
            (
                Asked::Fetch { group, from },
                OutReply::Shard(Reply::Fetched(Err(FetchError::OffsetOutOfRange { start_offset, .. }))),
            ) if start_offset > from => {
                let (group, start_offset) = (*group, *start_offset);
                self.trace(Place::at(life.node, group), "sent on", start_offset.0, || {
                    format!("from {from} to {start_offset}")
                });
                self.judge.fact(&Fact::SentOn { life, group, start_offset });
            }
            (Asked::Other, OutReply::Shard(Reply::Coordinated(Ok(CoordinatorReply::ProducerId(id))))) => {
                let id = *id;
                self.trace(Place::on(life.node), "id", id.0, || format!("producer id {id}"));
                self.judge.fact(&Fact::IdGiven { life, id });
            }
            (Asked::Offset { group, query }, _) => {
                let (group, query) = (*group, *query);
                self.judge_offset(life, (request, pending.since), group, query, &reply);
            }
            (Asked::Fetch { group, from }, OutReply::Shard(Reply::Fetched(Ok(empty)))) => {
                let (group, from, high_watermark) = (*group, *from, empty.high_watermark);
                self.judge.fact(&Fact::Served { life, group, from, high_watermark, batches: &[] });
            }
            (Asked::Fetch { group, from }, OutReply::Fetched(fetched)) => {
                self.judge_fetch(life, *group, *from, fetched, pending.since);
            }
            _ => {}
        }
        let lag = self.users.delay();
        let now = self.heap.now();
        let at = self.users.arrival(now, pending.client, life.node, Way::Back, lag);
        let reply = Some(Box::new(reply));
        self.heap.push(at, Step::Response { client: pending.client, tag: pending.tag, reply });
    }

    fn judge_fetch(
        &mut self,
        life: Life,
        group: GroupId,
        from: raftline_proto::ids::Offset,
        fetched: &raftline_broker::payload::FetchedBatches,
        since: Monotonic,
    ) {
        let batches = match served(fetched) {
            Ok(batches) => batches,
            Err(reason) => {
                self.judge.fact(&Fact::Failed { life, group, reason: &reason });
                return;
            }
        };
        let records: u64 = batches.iter().map(|batch| u64::from(batch.record_count)).sum();
        self.counts.served += records;
        if self.heap.now().since(since) > Duration::from_millis(2) {
            self.mark(Mark::FetchParked);
        }
        let high_watermark = fetched.high_watermark;
        self.trace(Place::at(life.node, group), "served", mix(from.0) ^ records, || {
            format!("{records} records from {from}, high watermark {high_watermark}")
        });
        self.judge.fact(&Fact::Served { life, group, from, high_watermark, batches: &batches });
    }

    fn answer(&mut self, client: usize, from: NodeId, tag: u64, reply: Option<OutReply>) {
        let delay = self.users.delay();
        let now = self.heap.now();
        let at = self.users.arrival(now, client, from, Way::Back, delay);
        self.heap.push(at, Step::Response { client, tag, reply: reply.map(Box::new) });
    }

    /// A process died: what it held is lost. Its clients' connections break if the machine lives to tell them.
    pub(super) fn drop_requests(&mut self, life: Life, told: bool) {
        let held: Vec<RequestId> = self
            .users
            .pending
            .iter()
            .filter(|(_, it)| it.life == life)
            .map(|(request, _)| *request)
            .collect();
        for request in held {
            let Some(pending) = self.users.pending.remove(&request) else { continue };
            if told {
                self.answer(pending.client, life.node, pending.tag, None);
            }
        }
    }

    /// An operator asks a node to hand a partition's leadership over.
    pub(super) fn ask_for_transfer(&mut self) {
        let groups = self.users.served.clone();
        let (Some(group), Some(to)) = (self.chance.pick(&groups).copied(), self.leader_of(&groups)) else {
            return;
        };
        let call = Call { tag: u64::MAX, to, ask: Ask::Transfer(group) };
        self.request(1, call);
    }

    fn leader_of(&mut self, groups: &[GroupId]) -> Option<NodeId> {
        let leaders: Vec<NodeId> = self
            .views
            .iter()
            .filter(|((_, group), view)| groups.contains(group) && view.leads)
            .map(|((node, _), _)| *node)
            .collect();
        self.chance.pick(&leaders).copied()
    }
}
