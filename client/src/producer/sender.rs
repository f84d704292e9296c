//! The task behind a producer: takes what has gathered, finds leaders, keeps the streams, and tells the lanes what
//! came of their batches. Rules of order and retry are the lanes'; this file does the errands.

use super::Shared;
use super::batch::Identity;
use super::lane::{Advice, Lane, LaneConfig, Outgoing, StreamId};
use super::queue::Queue;
use super::stream;
use super::ticket::{BatchDelivery, Ticket};
use crate::clock;
use crate::cluster::{Backoff, Cluster, View, left, refusal};
use crate::config::Idempotence;
use crate::connection::Use;
use crate::error::Attempts;
use raftline_proto::api;
use raftline_proto::ids::{NodeId, Offset, Term};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// What happens to a sender.
#[derive(Debug)]
pub(crate) enum Event {
    /// A queue has got its first record since it was emptied.
    Ready {
        lane: usize,
    },
    StreamUp {
        node: NodeId,
        id: StreamId,
    },
    StreamDown {
        node: NodeId,
        id: StreamId,
        reason: String,
    },
    Reply(api::ProduceReply),
    Refreshed(Result<Arc<View>, Attempts>),
    Identified(Identity),
    /// Close what gathers, and hand back a ticket for every batch that is not settled.
    Flush(oneshot::Sender<Vec<Ticket>>),
    /// No more records will come: end once all are settled.
    Close,
}

/// A request unanswered for this long makes the sender ask whether its broker still leads.
const STALL: Duration = Duration::from_secs(1);

/// Metadata is refreshed this often even if nothing contradicts it: partitions may have been added.
const VIEW_AGE_MAX: Duration = Duration::from_secs(60);

/// Events handled between two rounds of sending.
const EVENTS_A_ROUND: usize = 256;

struct Entry {
    lane: Lane,
    queue: Arc<Queue>,
    backoff: Backoff,
    /// The last identity that the lane had.
    identity: Option<Identity>,
    /// The leader in views up to this version was found wrong.
    stale_view: Option<u64>,
    stall_check_at: Option<Instant>,
    /// Where the entry stands in the timers.
    timer: Option<Instant>,
    dirty: bool,
}

struct Stream {
    id: StreamId,
    /// Requests may be given.
    up: bool,
    requests: mpsc::UnboundedSender<api::ProduceRequest>,
}

pub(crate) struct Sender {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Given to the tasks that this one starts.
    answers: mpsc::UnboundedSender<Event>,
    lanes: Vec<Entry>,
    streams: HashMap<NodeId, Stream>,
    /// Requests by correlation id: whose batch, and its number there.
    under_way: HashMap<u64, (usize, u64)>,
    /// Correlation ids and stream ids come from here.
    next_id: u64,
    identity: Option<Identity>,
    identifying: bool,
    refreshing: bool,
    timers: BTreeSet<(Instant, usize)>,
    dirty: Vec<usize>,
    closing: bool,
}

impl Sender {
    pub(crate) fn new(
        shared: Arc<Shared>,
        cluster: Arc<Cluster>,
        events: mpsc::UnboundedReceiver<Event>,
        answers: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self {
            shared,
            cluster,
            events,
            answers,
            lanes: Vec::new(),
            streams: HashMap::new(),
            under_way: HashMap::new(),
            next_id: 0,
            identity: None,
            identifying: false,
            refreshing: false,
            timers: BTreeSet::new(),
            dirty: Vec::new(),
            closing: false,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut view_age = tokio::time::interval(VIEW_AGE_MAX);
        view_age.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        view_age.tick().await;
        if self.shared.config.idempotence == Idempotence::On {
            self.ask_identity();
        }
        while !(self.closing && self.idle()) {
            let timer = self.timers.first().map(|(at, _)| *at);
            tokio::select! {
                event = self.events.recv() => {
                    let Some(event) = event else { return };
                    self.handle(event);
                    for _ in 0..EVENTS_A_ROUND {
                        let Ok(event) = self.events.try_recv() else { break };
                        self.handle(event);
                    }
                }
                () = sleep_until(timer) => self.fire_timers(),
                _ = view_age.tick() => self.refresh(),
            }
            self.pump_dirty();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Ready { lane } => {
                self.adopt_queues();
                self.mark(lane);
            }
            Event::StreamUp { node, id } => {
                if let Some(stream) = self.streams.get_mut(&node).filter(|stream| stream.id == id) {
                    stream.up = true;
                    self.mark_waiting();
                }
            }
            Event::StreamDown { node, id, reason } => self.stream_down(node, id, &reason),
            Event::Reply(reply) => self.reply(reply),
            Event::Refreshed(result) => self.refreshed(result),
            Event::Identified(identity) => {
                self.identity = Some(identity);
                self.identifying = false;
                self.mark_waiting();
            }
            Event::Flush(reply) => {
                let tickets = self.flush();
                // Whoever flushed may have lost interest.
                let _ = reply.send(tickets);
            }
            Event::Close => self.closing = true,
        }
    }

    /// Makes lanes for queues that are new.
    fn adopt_queues(&mut self) {
        let queues = self.shared.queues.lock();
        for queue in &queues[self.lanes.len()..] {
            let config = LaneConfig {
                topic: queue.topic.clone(),
                partition: queue.partition,
                in_flight_max: self.shared.in_flight_batches,
                idempotent: self.shared.config.idempotence == Idempotence::On,
                delivery_timeout: self.shared.config.delivery_timeout,
            };
            self.lanes.push(Entry {
                lane: Lane::new(config),
                queue: queue.clone(),
                backoff: Backoff::new(&self.cluster.config),
                identity: None,
                stale_view: None,
                stall_check_at: None,
                timer: None,
                dirty: false,
            });
        }
    }

    fn mark(&mut self, lane: usize) {
        if !std::mem::replace(&mut self.lanes[lane].dirty, true) {
            self.dirty.push(lane);
        }
    }

    /// Marks every lane that has something to send.
    fn mark_waiting(&mut self) {
        for lane in 0..self.lanes.len() {
            if !self.lanes[lane].lane.is_empty() {
                self.mark(lane);
            }
        }
    }

    fn reply(&mut self, reply: api::ProduceReply) {
        let Some((index, number)) = self.under_way.remove(&reply.correlation_id) else { return };
        self.mark(index);
        let entry = &mut self.lanes[index];
        match reply.result {
            Some(api::produce_reply::Result::Produced(produced)) => {
                entry.backoff.reset();
                entry.stale_view = None;
                entry.queue.note_usable(true);
                entry.lane.acknowledged(
                    number,
                    BatchDelivery {
                        base_offset: Offset(produced.base_offset),
                        term: Term(produced.term),
                        durable_on: produced.durable_on.into_iter().map(NodeId).collect(),
                        duplicate: produced.duplicate,
                    },
                );
            }
            Some(api::produce_reply::Result::Error(error)) => {
                if let Some(leader) = error.leader_node {
                    self.cluster.note_leader(&entry.queue.topic, entry.queue.partition.0, NodeId(leader));
                }
                let advice = entry.lane.refused(number, refusal(error));
                self.follow(index, advice);
            }
            // A oneof that this version does not know: the attempt has no usable answer.
            None => {
                let advice = entry.lane.refused(
                    number,
                    crate::Refusal {
                        code: crate::ErrorCode::StorageError,
                        message: "the broker's answer has neither result nor error".into(),
                    },
                );
                self.follow(index, advice);
            }
        }
    }

    fn follow(&mut self, index: usize, advice: Advice) {
        let entry = &mut self.lanes[index];
        match advice {
            Advice::GoOn => return,
            Advice::Pause => {}
            Advice::Refresh => {
                entry.stale_view = Some(self.cluster.view().version);
                entry.queue.note_usable(false);
            }
        }
        entry.lane.pause_until(clock::monotonic() + entry.backoff.pause());
        if advice == Advice::Refresh {
            self.refresh();
        }
    }

    fn stream_down(&mut self, node: NodeId, id: StreamId, reason: &str) {
        if self.streams.get(&node).is_none_or(|stream| stream.id != id) {
            return;
        }
        let was_up = self.streams.remove(&node).is_some_and(|stream| stream.up);
        tracing::debug!(%node, reason, was_up, "produce stream ended");
        let reason = format!("node {node}: {reason}");
        let view = self.cluster.view();
        for index in 0..self.lanes.len() {
            let entry = &mut self.lanes[index];
            let mut advice = entry.lane.stream_lost(id, &reason);
            let queue = &entry.queue;
            let routed_there =
                view.leader(&queue.topic, queue.partition.0).is_some_and(|(leader, _)| leader == node);
            if routed_there && !entry.lane.is_empty() {
                entry.lane.note_failure(&reason);
                advice = Advice::Refresh;
            }
            self.follow(index, advice);
            if advice != Advice::GoOn {
                self.mark(index);
            }
        }
        let lanes = &self.lanes;
        self.under_way.retain(|_, (lane, _)| lanes[*lane].lane.stream().is_some());
    }

    fn refreshed(&mut self, result: Result<Arc<View>, Attempts>) {
        self.refreshing = false;
        match result {
            Ok(view) => self.shared.adopt(&view),
            Err(attempts) => {
                let reason = format!("no broker answered: {attempts}");
                for entry in &mut self.lanes {
                    entry.lane.note_failure(&reason);
                    if !entry.lane.is_empty() {
                        entry.lane.pause_until(clock::monotonic() + entry.backoff.pause());
                    }
                }
            }
        }
        self.adopt_queues();
        self.mark_waiting();
    }

    fn flush(&mut self) -> Vec<Ticket> {
        self.adopt_queues();
        let now = clock::monotonic();
        let mut tickets = Vec::new();
        for index in 0..self.lanes.len() {
            self.lanes[index].queue.close_open();
            self.pump(index, now);
            tickets.extend(self.lanes[index].lane.watch());
        }
        tickets
    }

    fn fire_timers(&mut self) {
        let now = clock::monotonic();
        while let Some((at, lane)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, lane));
            self.lanes[lane].timer = None;
            self.mark(lane);
        }
    }

    fn pump_dirty(&mut self) {
        let now = clock::monotonic();
        for index in std::mem::take(&mut self.dirty) {
            self.lanes[index].dirty = false;
            self.pump(index, now);
        }
    }

    /// Moves one lane on as far as it goes.
    fn pump(&mut self, index: usize, now: Instant) {
        let gathering_since = self.take_gathered(index, now);
        self.lanes[index].lane.expire(now);
        self.check_stall(index, now);
        if self.lanes[index].lane.wants_identity() {
            self.give_identity(index);
        }
        while self.lanes[index].lane.may_send(now) {
            let Some(node) = self.route(index) else { break };
            let id = self.streams[&node].id;
            let Some(outgoing) = self.lanes[index].lane.send_next(id, now) else { break };
            self.send(index, node, outgoing);
        }
        self.set_timer(index, gathering_since);
    }

    /// Hands what has gathered to the lane; what the lane has no room for goes on gathering, and its age is told.
    fn take_gathered(&mut self, index: usize, now: Instant) -> Option<Instant> {
        let entry = &mut self.lanes[index];
        let config = &self.shared.config;
        let room = entry.lane.has_room();
        let (taken, left_since) = entry.queue.take(|since| {
            let age = now.saturating_duration_since(since);
            room && age >= config.linger || age >= config.delivery_timeout
        });
        for gathered in taken {
            let deadline = gathered.since + config.delivery_timeout;
            entry.lane.accept(gathered.batch.close(), gathered.settler, gathered.durability, deadline);
        }
        if entry.lane.is_empty() {
            entry.queue.note_usable(true);
        }
        left_since
    }

    fn give_identity(&mut self, index: usize) {
        match self.identity.filter(|identity| self.lanes[index].identity != Some(*identity)) {
            Some(identity) => {
                self.lanes[index].identity = Some(identity);
                self.lanes[index].lane.identify(identity);
            }
            None => self.ask_identity(),
        }
    }

    /// The node whose stream takes the lane's next batch; `None`: not yet, and an event will come.
    fn route(&mut self, index: usize) -> Option<NodeId> {
        let entry = &mut self.lanes[index];
        if let Some(id) = entry.lane.stream() {
            return self.streams.iter().find(|(_, stream)| stream.id == id).map(|(node, _)| *node);
        }
        let view = self.cluster.view();
        let stale = entry.stale_view.is_some_and(|version| view.version <= version);
        let leader = view.leader(&entry.queue.topic, entry.queue.partition.0).filter(|_| !stale);
        let Some((node, address)) = leader else {
            if !stale {
                // The view is new and still has no leader: ask again, but not at once.
                entry.stale_view = Some(view.version);
                entry.lane.pause_until(clock::monotonic() + entry.backoff.pause());
                entry.lane.note_failure("no leader is known: most of the partition's replicas may be down");
                return None;
            }
            self.refresh();
            return None;
        };
        match self.streams.get(&node) {
            Some(stream) => stream.up.then_some(node),
            None => {
                self.dial(node, address);
                None
            }
        }
    }

    fn dial(&mut self, node: NodeId, address: &str) {
        self.next_id += 1;
        let id = StreamId(self.next_id);
        let (requests, receiver) = mpsc::unbounded_channel();
        self.streams.insert(node, Stream { id, up: false, requests });
        match self.cluster.connections.stub(Use::Requests, address) {
            Ok(stub) => {
                tokio::spawn(stream::run(stub, node, id, receiver, self.answers.clone()));
            }
            Err(error) => {
                // Both ends of this channel are this task's own: it cannot be closed.
                let _ = self.answers.send(Event::StreamDown { node, id, reason: error.to_string() });
            }
        }
    }

    fn send(&mut self, index: usize, node: NodeId, outgoing: Outgoing) {
        let queue = &self.lanes[index].queue;
        self.next_id += 1;
        let correlation_id = self.next_id;
        self.under_way.insert(correlation_id, (index, outgoing.number));
        let timeout = left(outgoing.deadline).unwrap_or(Duration::from_millis(1));
        let request = api::ProduceRequest {
            correlation_id,
            topic: queue.topic.to_string(),
            partition: queue.partition.0,
            batch: outgoing.bytes,
            durability: i32::from(outgoing.durability),
            timeout_ms: u32::try_from(timeout.as_millis())
                .unwrap_or(u32::MAX)
                .clamp(1, BROKER_TIMEOUT_MS_MAX),
        };
        // If the stream has just ended, its StreamDown is on the way and has the batch sent again.
        let _ = self.streams[&node].requests.send(request);
    }

    /// A broker that answers nothing may have lost its leadership without being able to say so.
    fn check_stall(&mut self, index: usize, now: Instant) {
        let entry = &mut self.lanes[index];
        let Some((id, since)) = entry.lane.unanswered_since() else {
            entry.stall_check_at = None;
            return;
        };
        let check_at = *entry.stall_check_at.get_or_insert(since + STALL);
        if now < check_at.max(since + STALL) || self.shared.config.idempotence == Idempotence::Off {
            entry.stall_check_at = Some(check_at.max(since + STALL));
            return;
        }
        entry.stall_check_at = Some(now + STALL);
        let view = self.cluster.view();
        let leader = view.leader(&entry.queue.topic, entry.queue.partition.0).map(|(leader, _)| leader);
        let used = self.streams.iter().find(|(_, stream)| stream.id == id).map(|(node, _)| *node);
        match (leader, used) {
            (Some(leader), Some(used)) if leader != used => {
                let reason = format!("node {used} did not answer, and node {leader} leads now");
                entry.lane.stream_lost(id, &reason);
                self.under_way.retain(|_, (lane, _)| *lane != index);
            }
            _ => self.refresh(),
        }
    }

    fn set_timer(&mut self, index: usize, gathering_since: Option<Instant>) {
        let config = &self.shared.config;
        let entry = &mut self.lanes[index];
        let gathering = gathering_since.map(|since| {
            let wait = if entry.lane.has_room() { config.linger } else { config.delivery_timeout };
            since + wait
        });
        let at = [entry.lane.wake_at(), gathering, entry.stall_check_at].into_iter().flatten().min();
        if at == entry.timer {
            return;
        }
        if let Some(old) = entry.timer {
            self.timers.remove(&(old, index));
        }
        entry.timer = at;
        self.timers.extend(at.map(|at| (at, index)));
    }

    fn refresh(&mut self) {
        if std::mem::replace(&mut self.refreshing, true) {
            return;
        }
        let (cluster, answers) = (self.cluster.clone(), self.answers.clone());
        let missing = self.shared.config.missing_topic;
        tokio::spawn(async move {
            let seen = cluster.view().version;
            // The sender may have ended meanwhile.
            let _ = answers.send(Event::Refreshed(cluster.refresh(seen, missing).await));
        });
    }

    fn ask_identity(&mut self) {
        if std::mem::replace(&mut self.identifying, true) {
            return;
        }
        tokio::spawn(identify(self.cluster.clone(), self.answers.clone()));
    }

    fn idle(&self) -> bool {
        self.lanes.iter().all(|entry| entry.lane.is_empty() && entry.queue.is_empty())
            && self.shared.queues.lock().len() == self.lanes.len()
    }
}

/// The longest that a broker is asked to wait for the quorum in one attempt.
const BROKER_TIMEOUT_MS_MAX: u32 = 30_000;

/// Asks broker after broker for a producer id until one gives it or the sender is gone.
async fn identify(cluster: Arc<Cluster>, answers: mpsc::UnboundedSender<Event>) {
    let mut backoff = Backoff::new(&cluster.config);
    while !answers.is_closed() {
        for address in cluster.candidates(None) {
            let Ok(mut stub) = cluster.connections.stub(Use::Requests, &address) else { continue };
            let asked = stub.init_producer(api::InitProducerRequest {});
            match tokio::time::timeout(cluster.config.request_timeout, asked).await {
                Ok(Ok(reply)) => match Identity::of(&reply.into_inner()) {
                    Ok(identity) => {
                        let _ = answers.send(Event::Identified(identity));
                        return;
                    }
                    Err(reason) => tracing::debug!(address, reason, "no producer id from this broker"),
                },
                Ok(Err(status)) => {
                    tracing::debug!(address, reason = status.message(), "no producer id from this broker");
                }
                Err(_) => tracing::debug!(address, "no producer id from this broker in time"),
            }
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
