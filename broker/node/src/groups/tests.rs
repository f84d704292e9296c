//! A coordinator over a log that the test holds: what it appends, and what it makes of a log that it finds.

use super::driver::{Asked, Driver};
use crate::clock::Clock;
use crate::handle::Shards;
use crate::inbox::{InboxBounds, Receiver, inbox};
use crate::payload::{FetchedBatches, OutReply, Payload};
use crate::shard_thread::Notice;
use crate::view::NodeView;
use bytes::Bytes;
use parking_lot::Mutex;
use raftline_proto::batch::{BatchView, Builder, Codec};
use raftline_proto::ids::{EntryId, GroupId, Index, Membership, Offset, Term};
use raftline_proto::time::Timestamp;
use raftline_raft::types::Role;
use raftline_shard::consumer_groups::codec::KeyValue;
use raftline_shard::consumer_groups::limits::GroupsConfig;
use raftline_shard::consumer_groups::types::{
    Answer, CommitOffset, GroupError, GroupRequest, GroupResponse, OffsetCommit, OffsetFetch, TopicPartition,
};
use raftline_shard::types::{Event, GroupDescription, ProduceError, Produced, Reply, RequestId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const GROUP: GroupId = GroupId(7);
const TERM: Term = Term(3);

/// The log, and what happens to who wants to append to it.
#[derive(Debug, Default)]
struct Log {
    batches: Vec<Bytes>,
    end: i64,
    refusal: Option<ProduceError>,
    /// How often it was read from its beginning.
    reads: usize,
}

impl Log {
    fn append(&mut self, batch: &[u8]) {
        let mut bytes = batch.to_vec();
        // As a leader does: the offset is the batch's first field.
        bytes[..8].copy_from_slice(&self.end.to_be_bytes());
        let bytes = Bytes::from(bytes);
        self.end = BatchView::open(&bytes).expect("a batch").header().next_offset().0.cast_signed();
        self.batches.push(bytes);
    }

    /// Keys and values, in order.
    fn records(&self) -> Vec<KeyValue> {
        let mut records = Vec::new();
        for batch in &self.batches {
            for record in BatchView::open(batch).expect("a batch").records() {
                let record = record.expect("a record");
                records.push((record.key.unwrap_or_default().to_vec(), record.value.map(<[u8]>::to_vec)));
            }
        }
        records
    }

    /// What compaction leaves in the end: of each key the last record, and no tombstones.
    fn compact(&mut self) {
        let records = self.records();
        let last: BTreeMap<&Vec<u8>, usize> =
            records.iter().enumerate().map(|(at, (key, _))| (key, at)).collect();
        let mut log = Self::default();
        for (at, (key, value)) in records.iter().enumerate() {
            if last[key] == at && value.is_some() {
                log.append(&batch(&[(key.clone(), value.clone())]));
            }
        }
        *self = log;
    }
}

fn batch(records: &[KeyValue]) -> Vec<u8> {
    let mut builder = Builder::new(Codec::None);
    for (key, value) in records {
        builder.push(Timestamp(1), Some(key), value.as_deref(), &[]).expect("a record");
    }
    builder.build().to_vec()
}

/// A shard that leads one group, whose log is `log`. It ends when it is dropped.
struct FakeShard {
    shards: Shards,
    log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeShard {
    fn start() -> Self {
        let (sender, receiver) = inbox(InboxBounds::default());
        let shards = Shards::new(vec![sender]);
        let (log, stop) = (Arc::new(Mutex::new(Log::default())), Arc::new(AtomicBool::new(false)));
        let (here, log_here, stop_here) = (shards.clone(), Arc::clone(&log), Arc::clone(&stop));
        let serve = move || serve(receiver, &here, &log_here, &stop_here);
        let thread =
            std::thread::Builder::new().name("test-shard".to_owned()).spawn(serve).expect("a thread");
        Self { shards, log, stop, thread: Some(thread) }
    }

    /// A coordinator that begins now.
    fn coordinator(&self) -> Coordinator {
        let (requests, inbox) = mpsc::channel(100);
        let view = Arc::new(NodeView::default());
        let config = GroupsConfig { initial_rebalance_delay: Duration::ZERO, ..GroupsConfig::default() };
        let driver = Driver::new((GROUP, TERM), self.shards.clone(), view, Clock::start(), config, inbox);
        let vacate = CancellationToken::new();
        let ended = tokio::spawn(driver.run(vacate.clone()));
        Coordinator { requests, vacate, ended }
    }
}

impl FakeShard {
    /// The records of the log once that holds.
    async fn until(&self, holds: impl Fn(&Log) -> bool) -> Vec<KeyValue> {
        let waiting = async {
            while !holds(&self.log.lock()) {
                tokio::task::yield_now().await
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        let records = self.log.lock().records();
        waited.unwrap_or_else(|_| panic!("in vain: {records:?}"));
        records
    }
}

impl Drop for FakeShard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("the shard's thread ends");
        }
    }
}

fn serve(
    mut receiver: Receiver<crate::handle::Parcel, Notice>,
    shards: &Shards,
    log: &Mutex<Log>,
    stop: &AtomicBool,
) {
    let (mut parcels, mut notices) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Acquire) {
        receiver.take(100, &mut parcels, &mut notices);
        for parcel in parcels.drain(..) {
            let (request, reply) = decide(parcel.event, &mut log.lock());
            if let Some(sink) = shards.sinks().take(0, request) {
                sink.send(reply);
            }
        }
        receiver.park(Duration::from_millis(50));
    }
}

fn decide(event: Event<Payload>, log: &mut Log) -> (RequestId, OutReply) {
    let end = Offset(log.end.cast_unsigned());
    match event {
        Event::Describe { request, .. } => {
            let description = Box::new(description(end));
            (request, OutReply::Described { description, log_bytes: 0 })
        }
        Event::Fetch { request, from, .. } => {
            log.reads += usize::from(from == Offset::ZERO);
            let is_at =
                |batch: &&Bytes| BatchView::open(batch).expect("a batch").header().next_offset() > from;
            let batches = log.batches.iter().filter(is_at).cloned().collect();
            let found = FetchedBatches { batches, start_offset: Offset::ZERO, high_watermark: end };
            (request, OutReply::Fetched(found))
        }
        Event::Produce { request, in_term, payload, .. } => {
            assert_eq!(in_term, Some(TERM), "it appends in its own term only");
            let reply = match log.refusal.clone() {
                Some(refusal) => Err(refusal),
                None => {
                    log.append(payload.bytes());
                    Ok(Produced {
                        base_offset: end,
                        start_offset: Offset::ZERO,
                        max_timestamp: Timestamp(1),
                        term: TERM,
                        durable_on: Vec::new(),
                        duplicate: false,
                    })
                }
            };
            (request, OutReply::Shard(Reply::Produced(reply)))
        }
        other => panic!("a coordinator asks for {other:?}"),
    }
}

fn description(end: Offset) -> GroupDescription {
    GroupDescription {
        group: GROUP,
        partition: None,
        role: Role::Leader,
        term: TERM,
        leader: None,
        membership: Membership::default(),
        last: EntryId { index: Index(9), term: TERM },
        commit: Index(9),
        durable: Index(9),
        start_offset: Offset::ZERO,
        high_watermark: end,
        end_offset: end,
        followers: Vec::new(),
        failure: None,
    }
}

struct Coordinator {
    requests: mpsc::Sender<Asked>,
    vacate: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl Coordinator {
    async fn ask(&self, request: GroupRequest) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Asked { request, answer }).await.expect("it goes on");
        answered.await.expect("an answer")
    }

    /// Asks until it has read its log.
    async fn ask_when_ready(&self, request: GroupRequest) -> Answer {
        loop {
            let answer = self.ask(request.clone()).await;
            if answer != Err(GroupError::CoordinatorLoadInProgress) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The committed offset of `t`/0.
    async fn committed(&self, group: &str) -> i64 {
        let fetch = OffsetFetch {
            group: group.to_owned(),
            member_id: None,
            member_epoch: -1,
            partitions: Some(vec![TopicPartition { topic: "t".to_owned(), partition: 0 }]),
        };
        match self.ask_when_ready(GroupRequest::OffsetFetch(fetch)).await {
            Ok(GroupResponse::Offsets(offsets)) => offsets[0].offset,
            other => panic!("{other:?}"),
        }
    }

    async fn end(self) {
        self.vacate.cancel();
        self.ended.await.expect("it ends");
    }
}

/// A commit without a member.
fn commit(group: &str, offset: i64) -> GroupRequest {
    GroupRequest::OffsetCommit(OffsetCommit {
        group: group.to_owned(),
        member_id: String::new(),
        instance_id: None,
        generation: -1,
        offsets: vec![CommitOffset {
            topic_partition: TopicPartition { topic: "t".to_owned(), partition: 0 },
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }],
    })
}

/// An offset as earlier versions wrote it.
fn earlier_offset(group: &str, offset: u8) -> KeyValue {
    let size = u8::try_from(group.len()).expect("short");
    let key = [&[1, size, 0][..], group.as_bytes(), &[1, 0, b't', 0, 0, 0, 0]].concat();
    let value = [&[1, offset][..], &[0; 7], &[255; 4], &[0, 0], &[9], &[0; 7]].concat();
    (key, Some(value))
}

#[tokio::test]
async fn what_an_earlier_version_wrote_is_read_and_written_anew_once() {
    let shard = FakeShard::start();
    let (one, other) = (earlier_offset("one", 7), earlier_offset("other", 8));
    shard.log.lock().append(&batch(&[one.clone(), other.clone()]));
    let coordinator = shard.coordinator();
    assert_eq!(coordinator.committed("one").await, 7);
    assert_eq!(coordinator.committed("other").await, 8);
    let records = shard.until(|log| log.records().len() == 6).await;
    coordinator.end().await;
    // Two, and for each a tombstone and the record as Kafka has it.
    assert_eq!((&records[2], &records[4]), (&(one.0, None), &(other.0, None)));
    assert!(records[3].0.starts_with(&[0, 1, 0, 3, b'o', b'n', b'e']), "{records:?}");

    // The next one finds nothing to do.
    let coordinator = shard.coordinator();
    assert_eq!(coordinator.committed("one").await, 7);
    assert_eq!(shard.log.lock().records().len(), 6);
    // What goes stays gone, also when compaction has taken the tombstones.
    let gone = GroupRequest::DeleteGroup { group: "one".to_owned() };
    assert_eq!(coordinator.ask(gone).await, Ok(GroupResponse::Done));
    coordinator.end().await;
    shard.log.lock().compact();
    let coordinator = shard.coordinator();
    assert_eq!((coordinator.committed("one").await, coordinator.committed("other").await), (-1, 8));
    assert!(coordinator.ask(commit("one", 3)).await.is_ok());
    assert_eq!(coordinator.committed("one").await, 3);
    coordinator.end().await;
}

/// An upgrade on a full disk: what is there is told, and nothing is written before the earlier records are written anew.
#[tokio::test]
async fn what_cannot_be_written_anew_is_read_and_comes_before_anything_else() {
    let shard = FakeShard::start();
    {
        let mut log = shard.log.lock();
        log.append(&batch(&[earlier_offset("one", 7)]));
        log.refusal = Some(ProduceError::DiskFull { free_bytes: 1, reserve_bytes: 2 });
    }
    let coordinator = shard.coordinator();
    assert_eq!(coordinator.committed("one").await, 7);
    for offset in 8..12 {
        let refused = coordinator.ask(commit("one", offset)).await;
        assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
        assert_eq!(coordinator.committed("one").await, 7);
    }
    shard.log.lock().refusal = None;
    assert!(coordinator.ask(commit("one", 20)).await.is_ok());
    coordinator.end().await;
    let records = shard.log.lock().records();
    assert_eq!(records.len(), 4, "{records:?}");
    assert_eq!(
        records[1],
        (earlier_offset("one", 7).0, None),
        "first the tombstone, then 7 and 20 as Kafka has them"
    );
    assert_eq!(shard.log.lock().reads, 1, "it went on all the time");
}

/// A disk without room: the coordinator goes on, without reading its log again, and tells who commits to try again.
#[tokio::test]
async fn a_refused_append_ends_nothing() {
    let shard = FakeShard::start();
    let coordinator = shard.coordinator();
    assert!(coordinator.ask_when_ready(commit("group", 5)).await.is_ok());
    let full = ProduceError::DiskFull { free_bytes: 1, reserve_bytes: 2 };
    for refusal in [full, ProduceError::Busy] {
        shard.log.lock().refusal = Some(refusal);
        for offset in 6..20 {
            let refused = coordinator.ask(commit("group", offset)).await;
            assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
            assert_eq!(coordinator.committed("group").await, 5);
        }
        // Many at once, some of which wait for each other.
        let mut answers = Vec::new();
        for offset in 0..50 {
            let (answer, answered) = oneshot::channel();
            let asked = Asked { request: commit("group", offset), answer };
            coordinator.requests.send(asked).await.expect("it goes on");
            answers.push(answered);
        }
        for answered in answers {
            assert_eq!(answered.await.expect("an answer"), Err(GroupError::CoordinatorNotAvailable));
        }
    }
    assert!(!coordinator.ended.is_finished());
    shard.log.lock().refusal = None;
    assert!(coordinator.ask(commit("group", 9)).await.is_ok());
    assert_eq!(coordinator.committed("group").await, 9);
    coordinator.end().await;
    let log = shard.log.lock();
    assert_eq!((log.records().len(), log.reads), (2, 1), "two commits, and the log was read once");
}

/// An append whose outcome nobody knows is looked for in the log.
#[tokio::test]
async fn an_append_of_unknown_outcome_ends_the_coordinator() {
    let shard = FakeShard::start();
    let coordinator = shard.coordinator();
    coordinator.committed("group").await;
    shard.log.lock().refusal = Some(ProduceError::TimedOut);
    assert_eq!(coordinator.ask(commit("group", 5)).await, Err(GroupError::NotCoordinator));
    coordinator.ended.await.expect("it ends by itself");
}
