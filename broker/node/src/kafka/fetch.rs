//! Fetch: what is there, or a wait until there is enough of it over all partitions.

use super::connection::{Answer, Close, Peer};
use super::sessions::{self, Found, Told, TopicKey};
use super::{Door, errors, metadata};
use crate::handle::{Busy, ReplySink};
use crate::limits;
use crate::payload::{FetchedBatches, OutReply};
use bytes::Bytes;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::fetch::{
    FetchAnswer, FetchPartition, FetchPartitionAnswer, FetchRequest, FetchTopicAnswer, Isolation,
};
use raftline_kafka::kafka_protocol::protocol::StrBytes;
use raftline_kafka::request::Header;
use raftline_kafka::uuid::Uuid;
use raftline_proto::ids::{GroupId, Offset, TopicId};
use raftline_proto::metadata::PartitionRecord;
use raftline_proto::time::Monotonic;
use raftline_shard::image::TopicImage;
use raftline_shard::types::{Event, FetchError, Reply, RequestId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Decides a fetch.
pub(super) async fn decide(
    door: &Door,
    peer: &Peer,
    header: &Header,
    request: FetchRequest,
) -> Result<Answer, Close> {
    let version = header.version;
    let begun = door.sessions.begin(door.broker.clock.monotonic(), peer.connection, version, &request);
    let (turn, partitions) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let told = Told { error, session_id: 0, partitions: Vec::new() };
            return Ok(encode(door, header, told));
        }
    };
    let FetchRequest { wait_ms_max, bytes_min, bytes_max, isolation, .. } = request;
    let bytes = |bytes: i32| u64::try_from(bytes).unwrap_or(0);
    let wait = Duration::from_millis(bytes(wait_ms_max)).min(limits::FETCH_WAIT_MAX);
    let wanted = Wanted {
        deadline: door.broker.clock.after(wait),
        bytes_min: bytes(bytes_min),
        bytes_max: bytes(bytes_max).min(limits::KAFKA_FETCH_BYTES_MAX),
        waits: !wait.is_zero(),
    };
    let (topics, mut reads) = reads(door, version, partitions);
    gather(door, &mut reads, wanted).await?;
    let mut budget = Budget { left: wanted.bytes_max, first: true };
    let found = topics.into_iter().zip(reads).map(|(topic, read)| Found {
        topic,
        asked: read.wanted,
        answer: read.answer(door, isolation, &mut budget),
    });
    let told = door.sessions.finish(door.broker.clock.monotonic(), turn, found.collect());
    Ok(encode(door, header, told))
}

/// Whom to ask about each partition, and under which name its topic was asked for.
fn reads(door: &Door, version: i16, partitions: Vec<sessions::Wanted>) -> (Vec<TopicKey>, Vec<Read>) {
    let image = door.broker.view.image();
    let mut last: Option<(TopicKey, Option<Arc<TopicImage>>)> = None;
    let reads = partitions.into_iter().map(|sessions::Wanted { topic, partition }| {
        let known = match &last {
            Some((same, known)) if *same == topic => known.clone(),
            _ => {
                let id = match &topic {
                    TopicKey::Name(name) => image.topic_ids.get(&**name).copied(),
                    TopicKey::Id(id) => Some(TopicId(id.as_u128())),
                };
                let known = id.and_then(|id| image.topics.get(&id)).cloned();
                last = Some((topic.clone(), known.clone()));
                known
            }
        };
        (topic, Read::new(door, version, partition, known.as_deref()))
    });
    reads.unzip()
}

/// The whole answer, its partitions by topic.
fn encode(door: &Door, header: &Header, told: Told) -> Answer {
    let Told { error, session_id, partitions } = told;
    let leaders: Vec<i32> =
        partitions.iter().filter_map(|found| Some(found.answer.current_leader?.id)).collect();
    let node_endpoints = if leaders.is_empty() {
        Vec::new()
    } else {
        metadata::endpoints(door).filter(|endpoint| leaders.contains(&endpoint.id)).collect()
    };
    let mut topics: Vec<FetchTopicAnswer> = Vec::new();
    let mut places: HashMap<TopicKey, usize> = HashMap::new();
    for Found { topic, answer, .. } in partitions {
        let place = *places.entry(topic).or_insert_with_key(|topic| {
            let (name, id) = match topic {
                TopicKey::Name(name) => (name.clone(), Uuid::nil()),
                TopicKey::Id(id) => (StrBytes::new(), *id),
            };
            topics.push(FetchTopicAnswer { name, id, partitions: Vec::new() });
            topics.len() - 1
        });
        topics[place].partitions.push(answer);
    }
    let answer = FetchAnswer { throttle_ms: 0, error, session_id, topics, node_endpoints };
    answer.encode(header.version, header.correlation_id)
}

/// What the request wants of all partitions together.
#[derive(Clone, Copy)]
struct Wanted {
    deadline: Monotonic,
    bytes_min: u64,
    bytes_max: u64,
    waits: bool,
}

/// One partition's part.
struct Read {
    wanted: FetchPartition,
    record: Option<PartitionRecord>,
    /// Whom to ask, and from where on.
    place: Option<(GroupId, Offset)>,
    state: State,
}

/// How far it is.
enum State {
    Unasked,
    Found(FetchedBatches),
    Refused(ErrorCode),
}

impl Read {
    fn new(door: &Door, version: i16, wanted: FetchPartition, topic: Option<&TopicImage>) -> Self {
        let at = usize::try_from(wanted.index).ok();
        let record = topic.and_then(|topic| topic.partitions.get(at?));
        let place = match record {
            None if topic.is_none() && version >= TOPIC_IDS_FROM => Err(ErrorCode::UnknownTopicId),
            None => Err(ErrorCode::UnknownTopicOrPartition),
            Some(record) => may_read(door, record, wanted).map(|from| (record.group, from)),
        };
        let state = place.map_or_else(State::Refused, |_| State::Unasked);
        Self { wanted, record: record.cloned(), place: place.ok(), state }
    }

    fn bytes(&self) -> u64 {
        match &self.state {
            State::Found(found) => found.batches.iter().map(|batch| batch.len() as u64).sum(),
            State::Unasked | State::Refused(_) => 0,
        }
    }

    /// The bytes that its own bound lets it have.
    fn bytes_max(&self, wanted: Wanted) -> u64 {
        u64::try_from(self.wanted.bytes_max).unwrap_or(0).min(wanted.bytes_max).max(1)
    }

    fn answer(self, door: &Door, isolation: Isolation, budget: &mut Budget) -> FetchPartitionAnswer {
        let index = self.wanted.index;
        match self.state {
            State::Found(found) => FetchPartitionAnswer {
                high_watermark: Some(found.high_watermark),
                last_stable_offset: Some(found.high_watermark),
                log_start_offset: Some(found.start_offset),
                aborted_transactions: (isolation == Isolation::ReadCommitted).then(Vec::new),
                records: budget.take(found.batches),
                ..FetchPartitionAnswer::of_error(index, ErrorCode::None)
            },
            // Whoever leads is told with it (KIP-951).
            State::Refused(error @ (ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch)) => {
                let leader = self.record.as_ref().map(|record| metadata::leader(door, record));
                let current_leader = leader.filter(|leader| leader.id >= 0);
                FetchPartitionAnswer { current_leader, ..FetchPartitionAnswer::of_error(index, error) }
            }
            State::Refused(error) => FetchPartitionAnswer::of_error(index, error),
            // The broker is stopping: another will lead.
            State::Unasked => FetchPartitionAnswer::of_error(index, ErrorCode::NotLeaderOrFollower),
        }
    }
}

/// Whether this broker may be asked at all, and from which offset.
fn may_read(door: &Door, record: &PartitionRecord, wanted: FetchPartition) -> Result<Offset, ErrorCode> {
    if !record.replicas.contains(&door.broker.identity.node()) {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    check_epoch(door, record, wanted.current_leader_epoch)?;
    wanted.fetch_offset.ok_or(ErrorCode::OffsetOutOfRange)
}

/// Compares the leader epoch that a client knows with ours.
pub(super) fn check_epoch(
    door: &Door,
    record: &PartitionRecord,
    known: Option<i32>,
) -> Result<(), ErrorCode> {
    let ours = metadata::leader(door, record).epoch;
    match known {
        Some(theirs) if theirs < ours => Err(ErrorCode::FencedLeaderEpoch),
        Some(theirs) if theirs > ours => Err(ErrorCode::UnknownLeaderEpoch),
        Some(_) | None => Ok(()),
    }
}

/// The whole answer's share of bytes, spent in the order of the request.
struct Budget {
    left: u64,
    /// Nothing was taken yet: the first batch goes out however large it is, or its consumer would never get on.
    first: bool,
}

impl Budget {
    fn take(&mut self, mut batches: Vec<Bytes>) -> Vec<Bytes> {
        let mut keep = 0;
        for batch in &batches {
            let bytes = batch.len() as u64;
            if bytes > self.left && !self.first {
                self.left = 0;
                break;
            }
            self.first = false;
            self.left = self.left.saturating_sub(bytes);
            keep += 1;
        }
        batches.truncate(keep);
        batches
    }
}

/// Reads all partitions; waits, until together they have enough, one is refused, or the time is over.
async fn gather(door: &Door, reads: &mut [Read], wanted: Wanted) -> Result<(), Close> {
    let mut asking = Asking::new(door);
    for (nth, read) in reads.iter_mut().enumerate() {
        asking.ask(nth, read, wanted, Patience::None)?;
    }
    while let Some((nth, reply)) = asking.next().await {
        reads[nth].state = state(reply);
    }
    if !wanted.waits || is_enough(reads, wanted) {
        return Ok(());
    }
    for (nth, read) in reads.iter_mut().enumerate() {
        asking.ask(nth, read, wanted, Patience::ForMore)?;
    }
    while let Some((nth, reply)) = asking.next().await {
        let before = reads[nth].bytes();
        reads[nth].state = state(reply);
        // One that comes back with no more than it had is out of time, and so are the others.
        if is_enough(reads, wanted) || reads[nth].bytes() <= before {
            break;
        }
        asking.ask(nth, &mut reads[nth], wanted, Patience::ForMore)?;
    }
    // Whoever still waits answers with what it has: nothing is left behind in the shards.
    asking.hurry();
    while let Some((nth, reply)) = asking.next().await {
        reads[nth].state = state(reply);
    }
    Ok(())
}

fn is_enough(reads: &[Read], wanted: Wanted) -> bool {
    let refused = reads.iter().any(|read| matches!(read.state, State::Refused(_)));
    refused || reads.is_empty() || reads.iter().map(Read::bytes).sum::<u64>() >= wanted.bytes_min
}

/// How long a partition may take to answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// It answers with what it has.
    None,
    /// Until it has more than it had, or the request's time is over.
    ForMore,
}

/// The questions that are out.
struct Asking<'a> {
    door: &'a Door,
    replies: mpsc::UnboundedSender<(u64, OutReply)>,
    inbox: mpsc::UnboundedReceiver<(u64, OutReply)>,
    /// By place in the list of reads.
    out: BTreeMap<u64, (GroupId, RequestId)>,
}

impl<'a> Asking<'a> {
    fn new(door: &'a Door) -> Self {
        let (replies, inbox) = mpsc::unbounded_channel();
        Self { door, replies, inbox, out: BTreeMap::new() }
    }

    /// Asks one partition, unless it is refused already.
    fn ask(&mut self, nth: usize, read: &mut Read, wanted: Wanted, patience: Patience) -> Result<(), Close> {
        let (Some((group, from)), false) = (read.place, matches!(read.state, State::Refused(_))) else {
            return Ok(());
        };
        let tag = nth as u64;
        let bytes_max = read.bytes_max(wanted);
        let (bytes_min, deadline) = match patience {
            Patience::None => (0, self.door.broker.clock.monotonic()),
            Patience::ForMore => (read.bytes() + 1, wanted.deadline),
        };
        let sink = ReplySink::Stream { replies: self.replies.clone(), tag };
        let event = |request| Event::Fetch { request, group, from, bytes_min, bytes_max, deadline };
        match self.door.broker.shards.request(sink, event) {
            Ok(request) => drop(self.out.insert(tag, (group, request))),
            Err(Busy) if self.door.stop.is_cancelled() => return Err(Close::Stopping),
            Err(Busy) => read.state = State::Refused(errors::fetch(&FetchError::Busy)),
        }
        Ok(())
    }

    /// The next answer; `None` once all have come.
    async fn next(&mut self) -> Option<(usize, OutReply)> {
        if self.out.is_empty() {
            return None;
        }
        let (tag, reply) = self.inbox.recv().await?;
        self.out.remove(&tag);
        Some((usize::try_from(tag).ok()?, reply))
    }

    /// Has all that wait answer at once.
    fn hurry(&self) {
        for (group, request) in self.out.values() {
            // A full inbox: then their deadline has to do.
            let _ = self.door.broker.shards.submit(Event::Hurry { group: *group, request: *request });
        }
    }
}

impl Drop for Asking<'_> {
    /// The client is gone, or enough was found: nobody waits for what is still out.
    fn drop(&mut self) {
        self.hurry();
    }
}

fn state(reply: OutReply) -> State {
    match reply {
        OutReply::Fetched(found) => State::Found(found),
        OutReply::Shard(Reply::Fetched(Ok(empty))) => State::Found(FetchedBatches {
            batches: Vec::new(),
            start_offset: empty.start_offset,
            high_watermark: empty.high_watermark,
        }),
        OutReply::Shard(Reply::Fetched(Err(found))) => State::Refused(errors::fetch(&found)),
        other => {
            tracing::error!(?other, "a fetch got an answer that was not expected");
            State::Refused(ErrorCode::KafkaStorageError)
        }
    }
}

const TOPIC_IDS_FROM: i16 = 13;
