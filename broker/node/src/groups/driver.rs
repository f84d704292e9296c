//! One partition's coordinator: reads the log, then decides requests and appends what they lead to.

use crate::clock::Clock;
use crate::handle::{ReplySink, Shards};
use crate::limits;
use crate::payload::{OutReply, Payload};
use crate::view::NodeView;
use raftline_proto::batch::{self, BatchView, Builder, Codec};
use raftline_proto::ids::{GroupId, Offset, Term};
use raftline_proto::time::Monotonic;
use raftline_raft::types::Role;
use raftline_shard::consumer_groups::Groups;
use raftline_shard::consumer_groups::codec::{KeyValue, RecordError, earlier};
use raftline_shard::consumer_groups::limits::{APPEND_BYTES, GroupsConfig};
use raftline_shard::consumer_groups::record::GroupRecord;
use raftline_shard::consumer_groups::types::{Answer, GroupError, GroupRequest, Output, TopicImage};
use raftline_shard::coordinator::internal::GROUPS_TOPIC;
use raftline_shard::image::MetadataImage;
use raftline_shard::types::{Durability, Event, GroupDescription, ProduceError, Reply, RequestId};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// A request on its way to a coordinator.
pub(super) struct Asked {
    pub(super) request: GroupRequest,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// One partition's coordinator, for one term.
pub(super) struct Driver {
    group: GroupId,
    term: Term,
    shards: Shards,
    view: Arc<NodeView>,
    /// Wakes when the view changes.
    changes: watch::Receiver<u64>,
    /// The cluster's topics as the groups were last told of them.
    image: Option<Arc<MetadataImage>>,
    clock: Clock,
    groups: Groups,
    inbox: mpsc::Receiver<Asked>,
    waiting: HashMap<RequestId, oneshot::Sender<Answer>>,
    next_request: u64,
    /// Keys in an earlier version's layout that the log has records of.
    earlier: BTreeSet<Vec<u8>>,
    /// The append that is under way. One at a time: were one refused and a later one not, the log would have records that
    /// were planned on others which it has not.
    appending: Option<Appending>,
    /// What is appended next, in order.
    queued: VecDeque<Vec<GroupRecord>>,
    /// Whether the last append was refused: what is said once of it.
    is_refused: bool,
}

struct Appending {
    records: Vec<GroupRecord>,
    reply: oneshot::Receiver<OutReply>,
}

/// What became of an append.
enum Appended {
    Done,
    /// Surely not made: there is no room, or too much is waiting.
    Refused(String),
}

/// Why a coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
enum Halt {
    /// It leads no more, or the process stops.
    #[error("another term has begun")]
    Deposed,
    /// The outcome of an append is unknown, and only the log knows; or another term's leader appends.
    #[error("an append failed: {0}")]
    Append(String),
    /// The log cannot be read, or says something that this version does not know.
    #[error("the log cannot be read: {0}")]
    Log(String),
}

impl Driver {
    pub(super) fn new(
        (group, term): (GroupId, Term),
        shards: Shards,
        view: Arc<NodeView>,
        clock: Clock,
        config: GroupsConfig,
        inbox: mpsc::Receiver<Asked>,
    ) -> Self {
        Self {
            group,
            term,
            shards,
            changes: view.changes(),
            view,
            image: None,
            clock,
            groups: Groups::new(config),
            inbox,
            waiting: HashMap::new(),
            next_request: 0,
            earlier: BTreeSet::new(),
            appending: None,
            queued: VecDeque::new(),
            is_refused: false,
        }
    }

    /// Coordinates until told to go, or until it cannot go on. Whoever waits is told to look for the coordinator.
    pub(super) async fn run(mut self, vacate: CancellationToken) {
        let halted = tokio::select! {
            halted = self.coordinate() => halted,
            () = vacate.cancelled() => Halt::Deposed,
        };
        let (partition, term) = (self.view.place_of(self.group), self.term);
        match halted {
            Halt::Deposed => tracing::debug!(partition, %term, "no longer coordinating consumer groups"),
            Halt::Append(_) => tracing::info!(partition, %term, %halted, "the group coordinator begins anew"),
            Halt::Log(_) => tracing::error!(partition, %term, %halted, "the group coordinator cannot begin"),
        }
        let mut outputs = Vec::new();
        self.groups.follow(&mut outputs);
        self.answer(&mut outputs);
        // Dropping the inbox and all that still waits answers the rest.
    }

    async fn coordinate(&mut self) -> Halt {
        let begun = self.clock.monotonic();
        let entries = match self.load().await {
            Ok(records) => records,
            Err(halted) => return halted,
        };
        if let Err(halted) = self.move_earlier().await {
            return halted;
        }
        let mut outputs = Vec::new();
        self.look_at_topics(&mut outputs);
        self.groups.lead(self.clock.now(), &mut outputs);
        self.perform(outputs);
        let took = Duration::from_micros(self.clock.monotonic().0.saturating_sub(begun.0));
        tracing::info!(partition = self.view.place_of(self.group), term = %self.term, records = entries, ?took, "coordinating consumer groups");
        loop {
            if let Err(halted) = self.step().await {
                return halted;
            }
        }
    }

    /// Reads the whole log, once all of it is committed. While it reads, requests are told to come again.
    async fn load(&mut self) -> Result<u64, Halt> {
        let end = loop {
            let described = self.describe().await?;
            if described.role != Role::Leader || described.term != self.term {
                return Err(Halt::Deposed);
            }
            if described.commit >= described.last.index {
                break described.high_watermark;
            }
            // An election leaves an entry of its own, which is committed within a round trip.
            self.put_off();
            tokio::time::sleep(limits::GROUP_LOAD_PAUSE).await;
        };
        let (mut from, mut records) = (None, 0);
        let mut outputs = Vec::new();
        loop {
            let at = from.unwrap_or(Offset::ZERO);
            let (batches, start) = self.read(at).await?;
            let Some(batches) = batches else {
                // Retention or compaction took the beginning away.
                from = Some(start);
                continue;
            };
            for batch in &batches {
                let view = BatchView::open(batch).map_err(|error| Halt::Log(error.to_string()))?;
                for record in view.records() {
                    let record = record.map_err(|error| Halt::Log(error.to_string()))?;
                    for decoded in self.read_record(record.key.unwrap_or_default(), record.value)? {
                        self.groups.apply(self.clock.now(), &decoded, &mut outputs);
                    }
                    records += 1;
                }
                // Not after its last record: compaction may have left none.
                from = Some(view.header().next_offset());
            }
            self.put_off();
            if batches.is_empty() || from.is_some_and(|from| from >= end) {
                return Ok(records);
            }
        }
    }

    /// What a record says; keys of an earlier version's layout are remembered.
    fn read_record(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Vec<GroupRecord>, Halt> {
        let unknown = |error: RecordError| Halt::Log(error.to_string());
        if !earlier::is_earlier(key) {
            return GroupRecord::decode(key, value).map(|record| vec![record]).map_err(unknown);
        }
        let records = earlier::decode(key, value).map_err(unknown)?;
        if value.is_some() {
            self.earlier.insert(key.to_vec());
        } else {
            self.earlier.remove(key);
        }
        Ok(records)
    }

    /// Writes anew what the log has in an earlier version's layout, before anything else is appended.
    async fn move_earlier(&mut self) -> Result<(), Halt> {
        if self.earlier.is_empty() {
            return Ok(());
        }
        let image = self.view.image();
        let keys = std::mem::take(&mut self.earlier);
        for batch in self.groups.moved(&keys, &|topic| topic_id(&image, topic)) {
            let reply = self.append(batch).map_err(Halt::Append)?;
            let mut appending = Some(Appending { records: Vec::new(), reply });
            if let (_, Appended::Refused(why)) = acknowledged(&mut appending).await? {
                return Err(Halt::Append(why));
            }
            self.put_off();
        }
        tracing::info!(
            partition = self.view.place_of(self.group),
            records = keys.len(),
            "wrote group records of an earlier version anew, as Kafka writes them"
        );
        Ok(())
    }

    /// What has come while there is nothing to answer it with.
    fn put_off(&mut self) {
        while let Ok(asked) = self.inbox.try_recv() {
            // Whoever has gone meanwhile needs no answer.
            let _ = asked.answer.send(Err(GroupError::CoordinatorLoadInProgress));
        }
    }

    async fn describe(&self) -> Result<GroupDescription, Halt> {
        let group = self.group;
        let reply = self.shards.ask(|request| Event::Describe { request, group }).await;
        match reply.map_err(|_| Halt::Deposed)? {
            OutReply::Described { description, .. } => Ok(*description),
            _ => Err(Halt::Deposed),
        }
    }

    /// Batches from an offset on; `None` and the log's start, if it starts later.
    async fn read(&self, from: Offset) -> Result<(Option<Vec<bytes::Bytes>>, Offset), Halt> {
        let group = self.group;
        let event = |request| Event::Fetch {
            request,
            group,
            from,
            bytes_min: 0,
            bytes_max: limits::GROUP_LOAD_BYTES,
            deadline: Monotonic::ZERO,
        };
        match self.shards.ask(event).await.map_err(|_| Halt::Deposed)? {
            OutReply::Fetched(found) => Ok((Some(found.batches), found.start_offset)),
            OutReply::Shard(Reply::Fetched(Ok(empty))) => Ok((Some(Vec::new()), empty.start_offset)),
            OutReply::Shard(Reply::Fetched(Err(error))) => match error {
                raftline_shard::types::FetchError::OffsetOutOfRange { asked, start_offset, .. }
                    if asked < start_offset =>
                {
                    Ok((None, start_offset))
                }
                raftline_shard::types::FetchError::Storage(why) => Err(Halt::Log(why)),
                _ => Err(Halt::Deposed),
            },
            _ => Err(Halt::Deposed),
        }
    }

    /// One thing that happens: a request, an acknowledgement, a deadline.
    async fn step(&mut self) -> Result<(), Halt> {
        let deadline = self.groups.next_deadline();
        let wait = deadline.map(|at| Duration::from_micros(at.0.saturating_sub(self.clock.monotonic().0)));
        let mut outputs = Vec::new();
        tokio::select! {
            asked = self.inbox.recv() => {
                let Some(Asked { request, answer }) = asked else { return Err(Halt::Deposed) };
                let id = RequestId(self.next_request);
                self.next_request += 1;
                self.waiting.insert(id, answer);
                self.groups.handle(self.clock.now(), id, request, &mut outputs);
            }
            appended = acknowledged(&mut self.appending) => match appended? {
                (records, Appended::Done) => self.appended(&records, &mut outputs),
                (_, Appended::Refused(why)) => self.refused(&why, &mut outputs),
            },
            changed = self.changes.changed() => {
                changed.map_err(|_| Halt::Deposed)?;
                self.look_at_topics(&mut outputs);
            }
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {
                self.groups.tick(self.clock.now(), &mut outputs);
            }
        }
        self.perform(outputs);
        Ok(())
    }

    fn perform(&mut self, mut outputs: Vec<Output>) {
        loop {
            self.answer(&mut outputs);
            for output in outputs.drain(..) {
                if let Output::Append { records } = output {
                    self.queued.push_back(records);
                }
            }
            match self.append_queued() {
                Ok(()) => return,
                Err(why) => self.refused(&why, &mut outputs),
            }
        }
    }

    /// What was appended is committed.
    fn appended(&mut self, records: &[GroupRecord], outputs: &mut Vec<Output>) {
        if std::mem::take(&mut self.is_refused) {
            let (partition, term) = (self.view.place_of(self.group), self.term);
            tracing::info!(partition, %term, "the group coordinator can write again");
        }
        for record in records {
            self.groups.apply(self.clock.now(), record, outputs);
        }
    }

    /// Nothing was appended. What is queued was planned on it: it goes, too.
    fn refused(&mut self, why: &str, outputs: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.is_refused, true) {
            let (partition, term) = (self.view.place_of(self.group), self.term);
            tracing::warn!(
                partition, %term, why,
                "the group coordinator cannot write: commits and changes of groups are refused, retriable, until it can"
            );
        }
        self.queued.clear();
        self.groups.refused(self.clock.now(), outputs);
    }

    /// Begins the next append, if none is under way: of all that is queued, as far as it is one batch of a moderate size.
    fn append_queued(&mut self) -> Result<(), String> {
        if self.appending.is_some() {
            return Ok(());
        }
        let image = self.view.image();
        let (mut records, mut encoded, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = self.queued.front() {
            let next: Vec<KeyValue> =
                next.iter().map(|record| record.encode(&|topic| topic_id(&image, topic))).collect();
            bytes +=
                next.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>();
            if !encoded.is_empty() && bytes > APPEND_BYTES {
                break;
            }
            encoded.extend(next);
            records.extend(self.queued.pop_front().into_iter().flatten());
        }
        if !records.is_empty() {
            let reply = self.append(encoded)?;
            self.appending = Some(Appending { records, reply });
        }
        Ok(())
    }

    /// Sends the answers among the outputs; the others stay.
    fn answer(&mut self, outputs: &mut Vec<Output>) {
        outputs.retain_mut(|output| {
            let Output::Respond { request, answer } = output else { return true };
            if let Some(sender) = self.waiting.remove(request) {
                let answer = std::mem::replace(answer, Err(GroupError::NotCoordinator));
                // The client may have gone.
                let _ = sender.send(answer);
            }
            false
        });
    }

    /// Hands one batch to the shard, or says why not.
    fn append(
        &self,
        records: impl IntoIterator<Item = KeyValue>,
    ) -> Result<oneshot::Receiver<OutReply>, String> {
        let mut builder = Builder::new(Codec::None);
        let now = self.clock.now().wall;
        for (key, value) in records {
            builder
                .push(now, Some(&key), value.as_deref(), &[])
                .map_err(|error| format!("a record of {GROUPS_TOPIC}: {error}"))?;
        }
        let bytes = builder.build();
        let checked = batch::validate(&bytes).map_err(|error| error.to_string())?;
        let (sender, reply) = oneshot::channel();
        let (group, in_term) = (self.group, Some(self.term));
        let deadline = self.clock.after(limits::PRODUCE_TIMEOUT);
        let event = |request| Event::Produce {
            request,
            group,
            in_term,
            batch: checked,
            payload: Payload::Batch(bytes),
            durability: Durability::Quorum,
            deadline,
        };
        self.shards.request(ReplySink::One(sender), event).map(|_| reply).map_err(|busy| busy.to_string())
    }

    /// Tells the groups what topics there are, if that changed.
    fn look_at_topics(&mut self, outputs: &mut Vec<Output>) {
        let image = self.view.image();
        if self.image.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &image)) {
            return;
        }
        if let Some(seen) = &self.image
            && same_topics(seen, &image)
        {
            // Brokers came, or producer ids were given away: nothing that concerns groups.
            self.image = Some(image);
            return;
        }
        let topics = image.topics.values().map(|topic| {
            let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            (topic.name.clone(), TopicImage { partitions, id: topic.id.0 })
        });
        self.groups.topics_changed(self.clock.now(), &topics.collect(), outputs);
        self.image = Some(image);
    }
}

/// Whether two images have the same topics: a topic that did not change is shared by them.
fn same_topics(one: &MetadataImage, other: &MetadataImage) -> bool {
    one.topics.len() == other.topics.len()
        && one.topics.values().zip(other.topics.values()).all(|(one, other)| Arc::ptr_eq(one, other))
}

fn topic_id(image: &MetadataImage, name: &str) -> Option<u128> {
    image.topic_ids.get(name).map(|id| id.0)
}

/// The records of the append that is under way, once it is known what became of it.
///
/// # Errors
/// If it is not, or nothing can be appended any more.
async fn acknowledged(appending: &mut Option<Appending>) -> Result<(Vec<GroupRecord>, Appended), Halt> {
    let Some(under_way) = appending.as_mut() else { return std::future::pending().await };
    let reply = (&mut under_way.reply).await;
    let records = appending.take().map(|appending| appending.records).unwrap_or_default();
    let error = match reply {
        Ok(OutReply::Shard(Reply::Produced(Ok(_)))) => return Ok((records, Appended::Done)),
        Ok(OutReply::Shard(Reply::Produced(Err(error)))) => error,
        Ok(other) => return Err(Halt::Append(format!("{other:?}"))),
        Err(_) => return Err(Halt::Deposed),
    };
    match error {
        ProduceError::DiskFull { free_bytes, reserve_bytes } => Ok((
            records,
            Appended::Refused(format!(
                "the disk is full: {free_bytes} bytes are free, {reserve_bytes} are to stay free"
            )),
        )),
        ProduceError::Busy => Ok((records, Appended::Refused("too much is waiting".to_owned()))),
        ProduceError::TooLarge { batch_bytes, bytes_max } => {
            let why = format!("a batch of {batch_bytes} bytes, {GROUPS_TOPIC} takes {bytes_max}");
            Ok((records, Appended::Refused(why)))
        }
        ProduceError::UnknownGroup
        | ProduceError::NotLeader { .. }
        | ProduceError::LeadershipLost { .. }
        | ProduceError::TimedOut
        | ProduceError::OutOfOrderSequence { .. }
        | ProduceError::ProducerFenced { .. }
        | ProduceError::Stopping => Err(Halt::Append(format!("{error:?}"))),
    }
}
