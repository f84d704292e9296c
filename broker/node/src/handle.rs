//! How tokio tasks reach the shards.
//!
//! A task submits an event and goes on; a request carries a [`ReplySink`], through which its one answer comes back.
//! A full inbox answers [`Busy`] at the door: nothing queues without bound behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use raftline_proto::ids::GroupId;
use raftline_shard::types::{Event, RequestId};
use tokio::sync::{mpsc, oneshot};

use crate::inbox::{Class, Sender};
use crate::payload::{OutReply, Payload};
use crate::shard_thread::Notice;
use crate::sinks::{Kind, Sinks};

/// The shard cannot take it now (its inbox is full) or not any more (the process is stopping). Nothing was done:
/// trying again is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is busy: nothing was done, try again")]
pub struct Busy;

/// Where the answer to a request goes. Exactly one answer comes, unless the process stops first: then the sink is
/// dropped.
#[derive(Debug)]
pub enum ReplySink {
    /// To one waiting task.
    One(oneshot::Sender<OutReply>),
    /// Into the stream of a connection, with the connection's own tag. Unbounded because a shard never waits; the
    /// connection bounds it by bounding how many of its requests are in flight.
    Stream {
        /// The connection's end.
        replies: mpsc::UnboundedSender<(u64, OutReply)>,
        /// What the connection knows the request by.
        tag: u64,
    },
}

impl ReplySink {
    /// Hands the answer over. That nobody waits for it any more is no error.
    pub(crate) fn send(self, reply: OutReply) {
        match self {
            Self::One(sender) => drop(sender.send(reply)),
            Self::Stream { replies, tag } => drop(replies.send((tag, reply))),
        }
    }
}

/// What travels through a shard's ring.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) event: Event<Payload>,
}

/// The way to all shards of this node. Cheap to clone; a long-lived task should have its own clone, so that tasks
/// publish side by side.
#[derive(Clone)]
pub struct Shards {
    senders: Vec<Sender<Parcel, Notice>>,
    sinks: Sinks,
    next_request: Arc<AtomicU64>,
}

impl Shards {
    pub(crate) fn new(senders: Vec<Sender<Parcel, Notice>>) -> Self {
        assert!(!senders.is_empty(), "a node has at least one shard");
        let sinks = Sinks::new(senders.len());
        Self { senders, sinks, next_request: Arc::new(AtomicU64::new(1)) }
    }

    /// How many shards there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.senders.len()
    }

    /// Submits an event that wants no answer. Goes to the shard of its group; node-level events go to shard 0, and
    /// [`Event::Drain`], [`Event::DiskSpace`] and [`Event::Liveness`] to all. Those are never refused.
    ///
    /// # Errors
    /// [`Busy`] if the inbox is full.
    pub fn submit(&self, event: Event<Payload>) -> Result<(), Busy> {
        match route(&event) {
            Route::Group(group) => self.push(self.shard_of(group), event),
            Route::First => self.push(0, event),
            Route::All => {
                for sender in &self.senders {
                    sender.notify(Notice::Event(Box::new(event.clone())));
                }
                Ok(())
            }
        }
    }

    /// Like [`Shards::submit`], but waits for room: for a peer's stream, which is then not read on. What is for a shard that
    /// does not go on is lost, as on a network: it must not keep the stream from the others.
    ///
    /// # Errors
    /// [`Busy`] if the process is stopping.
    pub async fn submit_when_room(&self, event: Event<Payload>) -> Result<(), Busy> {
        let shard = match route(&event) {
            Route::Group(group) => self.shard_of(group),
            Route::First => 0,
            Route::All => return self.submit(event),
        };
        if self.sinks.is_stuck(shard) {
            return Ok(());
        }
        let (class, bytes) = weigh(&event);
        tokio::select! {
            pushed = self.senders[shard].push_when_room(Parcel { event }, bytes, class) => pushed.map_err(|_| Busy),
            () = self.sinks.until_stuck(shard) => Ok(()),
        }
    }

    /// Submits a request whose answer goes into `sink`. `make` gets the request's id, for the event; it is returned, to
    /// name the request later. If the shard does not go on, be it now or while it holds the request, the answer is what one
    /// gets of a leader that was deposed.
    ///
    /// # Errors
    /// [`Busy`] if the inbox is full; the sink is dropped.
    pub fn request(
        &self,
        sink: ReplySink,
        make: impl FnOnce(RequestId) -> Event<Payload>,
    ) -> Result<RequestId, Busy> {
        let request = self.next_request();
        let event = make(request);
        let shard = match route(&event) {
            Route::Group(group) => self.shard_of(group),
            Route::First | Route::All => 0,
        };
        self.push_request(shard, request, event, sink)?;
        Ok(request)
    }

    /// Like [`Shards::request`], but waits for room: for a client's stream, which is then not read on.
    ///
    /// # Errors
    /// [`Busy`] if the process is stopping; the sink is dropped.
    pub async fn request_when_room(
        &self,
        sink: ReplySink,
        make: impl FnOnce(RequestId) -> Event<Payload>,
    ) -> Result<(), Busy> {
        let request = self.next_request();
        let event = make(request);
        let shard = match route(&event) {
            Route::Group(group) => self.shard_of(group),
            Route::First | Route::All => 0,
        };
        if !self.park(shard, request, &event, sink) {
            return Ok(());
        }
        let (class, bytes) = weigh(&event);
        tokio::select! {
            pushed = self.senders[shard].push_when_room(Parcel { event }, bytes, class) => pushed.map_err(|_| {
                drop(self.sinks.take(shard, request));
                Busy
            }),
            // The sink was answered.
            () = self.sinks.until_stuck(shard) => Ok(()),
        }
    }

    /// Submits a request and waits for its answer.
    ///
    /// # Errors
    /// [`Busy`] if the inbox is full or the process is stopping.
    pub async fn ask(&self, make: impl FnOnce(RequestId) -> Event<Payload>) -> Result<OutReply, Busy> {
        let (sender, receiver) = oneshot::channel();
        self.request(ReplySink::One(sender), make)?;
        receiver.await.map_err(|_| Busy)
    }

    /// Submits a request to every shard and waits for all answers, in the shards' order: for what concerns no one
    /// group, like handing over all leaderships.
    ///
    /// # Errors
    /// [`Busy`] if an inbox is full or the process is stopping.
    pub async fn ask_all(&self, make: impl Fn(RequestId) -> Event<Payload>) -> Result<Vec<OutReply>, Busy> {
        let mut receivers = Vec::with_capacity(self.senders.len());
        for shard in 0..self.senders.len() {
            let (sender, receiver) = oneshot::channel();
            let request = self.next_request();
            self.push_request(shard, request, make(request), ReplySink::One(sender))?;
            receivers.push(receiver);
        }
        let mut replies = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            replies.push(receiver.await.map_err(|_| Busy)?);
        }
        Ok(replies)
    }

    /// Notices for all shards but `except`: what one shard found out for all of them.
    pub(crate) fn tell_others(&self, except: usize, make: impl Fn() -> Event<Payload>) {
        for (shard, sender) in self.senders.iter().enumerate() {
            if shard != except {
                sender.notify(Notice::Event(Box::new(make())));
            }
        }
    }

    pub(crate) fn notify(&self, shard: usize, notice: Notice) {
        self.senders[shard].notify(notice);
    }

    fn next_request(&self) -> RequestId {
        RequestId(self.next_request.fetch_add(1, Ordering::Relaxed))
    }

    fn shard_of(&self, group: GroupId) -> usize {
        let shards = self.senders.len() as u64;
        usize::try_from(group.0 % shards).expect("smaller than the number of shards")
    }

    fn push(&self, shard: usize, event: Event<Payload>) -> Result<(), Busy> {
        let (class, bytes) = weigh(&event);
        self.senders[shard].push(Parcel { event }, bytes, class).map_err(|_| Busy)
    }

    fn push_request(
        &self,
        shard: usize,
        request: RequestId,
        event: Event<Payload>,
        sink: ReplySink,
    ) -> Result<(), Busy> {
        if !self.park(shard, request, &event, sink) {
            return Ok(());
        }
        self.push(shard, event).inspect_err(|_| drop(self.sinks.take(shard, request)))
    }

    /// `false` if the request is answered already.
    fn park(&self, shard: usize, request: RequestId, event: &Event<Payload>, sink: ReplySink) -> bool {
        let kind = Kind::of(event).expect("a request");
        self.sinks.park(shard, request, sink, kind)
    }

    /// Where answers go.
    pub(crate) fn sinks(&self) -> &Sinks {
        &self.sinks
    }
}

/// Where an event goes.
enum Route {
    Group(GroupId),
    /// Shard 0, refusable.
    First,
    /// Every shard, never refused.
    All,
}

fn route(event: &Event<Payload>) -> Route {
    match event {
        Event::Produce { group, .. }
        | Event::Fetch { group, .. }
        | Event::ListOffset { group, .. }
        | Event::Describe { group, .. }
        | Event::Transfer { group: Some(group), .. }
        | Event::Peer { group, .. }
        | Event::Opened { group, .. }
        | Event::Replay { group, .. }
        | Event::Failed { group, .. }
        | Event::LogDurable { group, .. }
        | Event::HardStateDurable { group, .. }
        | Event::Replicated { group, .. }
        | Event::AppendFailed { group, .. }
        | Event::ReadShort { group, .. }
        | Event::Hurry { group, .. }
        | Event::DeleteRecords { group, .. }
        | Event::Surveyed { group, .. }
        | Event::Compacted { group, .. }
        | Event::CompactionFailed { group }
        | Event::Trimmed { group, .. }
        | Event::Appraised { group, .. }
        | Event::TrimHeld { group, .. } => Route::Group(*group),
        Event::Drain | Event::DiskSpace(_) | Event::Image(_) | Event::Liveness { .. } => Route::All,
        Event::Tick | Event::Coordinate { .. } | Event::Transfer { group: None, .. } => Route::First,
    }
}

/// The class and payload bytes of an event.
fn weigh(event: &Event<Payload>) -> (Class, usize) {
    match event {
        Event::Produce { payload, .. } => (Class::Client, payload.bytes().len()),
        Event::Fetch { .. }
        | Event::ListOffset { .. }
        | Event::DeleteRecords { .. }
        | Event::Coordinate { .. }
        | Event::Describe { .. }
        | Event::Transfer { .. } => (Class::Client, 0),
        Event::Peer { payload, .. } => {
            (Class::Peer, payload.as_ref().map_or(0, |payload| payload.bytes().len()))
        }
        _ => (Class::Peer, 0),
    }
}
