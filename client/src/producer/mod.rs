//! The producer: records in, tickets out. In reading order: this file (the handle), [`ticket`], [`queue`] (where
//! records gather), [`batch`], [`lane`] (order and retries, pure), [`sender`] (the task), [`stream`] (the wire).

mod batch;
mod lane;
mod queue;
mod sender;
mod stream;
mod ticket;

pub use ticket::Ticket;

use crate::clock;
use crate::cluster::{Backoff, Cluster, TopicView, View, left};
use crate::config::{MissingTopic, ProducerConfig};
use crate::error::{Attempts, DeliveryError, ErrorCode, SendError};
use crate::limits::{BATCHES_IN_FLIGHT_MAX, RECORD_OVERHEAD_BYTES};
use crate::partitioner::{StickyTurns, partition_of_key};
use crate::record::Record;
use parking_lot::{Mutex, RwLock};
use queue::{Queue, Terms, Wake};
use raftline_proto::ids::PartitionIndex;
use raftline_proto::limits::{BATCH_BYTES_MAX, RECORD_HEADERS_MAX};
use sender::{Event, Sender};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Sends records. Cheap to clone; all clones share batches, order and bounds.
///
/// Records of one partition arrive in the order in which [`Producer::send`] was called, each exactly once (with
/// [`crate::Idempotence::On`], the default), through leader changes and broken connections. Dropping the last clone
/// lets what was handed over be delivered in the background, for as long as the runtime lives;
/// [`Producer::close`] waits for it.
///
/// ```no_run
/// # async fn example(client: raftline_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use raftline_client::{Compression, Durability, ProducerConfig, Record};
///
/// let producer = client.producer(ProducerConfig { compression: Compression::Lz4, ..Default::default() });
/// let mut tickets = Vec::new();
/// for number in 0..1000 {
///     // Waits only while more than `in_flight_bytes` are under way.
///     tickets.push(producer.send(Record::to("readings").key("sensor-1").value(number.to_string())).await?);
/// }
/// for ticket in tickets {
///     let delivery = ticket.await?;
///     println!("{}/{} is durable on {:?}", delivery.partition, delivery.offset, delivery.durable_on);
/// }
/// // A record may ask for less than the producer's durability.
/// let hint = Record::to("readings").value("ping").durability(Durability::Leader);
/// producer.send(hint).await?.await?;
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What all clones share; the last one's end is the sender's cue.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    events: mpsc::UnboundedSender<Event>,
}

/// What the handle and the sender task share.
#[derive(Debug)]
pub(crate) struct Shared {
    config: ProducerConfig,
    in_flight_batches: usize,
    /// Bytes that may still be handed over.
    budget: Arc<Semaphore>,
    budget_bytes: usize,
    topics: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    /// Every partition's queue; a queue's place is its lane's number.
    queues: Mutex<Vec<Arc<Queue>>>,
    closed: AtomicBool,
}

/// A topic that records were sent to. Replaced when partitions are added.
#[derive(Debug)]
struct Topic {
    partitions: Vec<Arc<Queue>>,
    turns: StickyTurns,
    message_bytes_max: usize,
}

impl Producer {
    pub(crate) fn start(cluster: Arc<Cluster>, config: ProducerConfig) -> Self {
        let budget_bytes = config.in_flight_bytes.clamp(1, u32::MAX as usize);
        let shared = Arc::new(Shared {
            in_flight_batches: config.in_flight_batches.clamp(1, BATCHES_IN_FLIGHT_MAX),
            budget: Arc::new(Semaphore::new(budget_bytes)),
            budget_bytes,
            config,
            topics: RwLock::default(),
            queues: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let (events, receiver) = mpsc::unbounded_channel();
        let sender = Sender::new(shared.clone(), cluster.clone(), receiver, events.clone());
        tokio::spawn(sender.run());
        Self { handle: Arc::new(Handle { shared, cluster, events }) }
    }

    /// Hands a record over. Waits only while the bytes in flight are used up, and for metadata when a topic is used
    /// for the first time. What becomes of the record, the ticket tells.
    ///
    /// # Errors
    /// Nothing was sent: the topic or partition does not exist, the record is too large, the producer is closed.
    pub async fn send(&self, record: Record) -> Result<Ticket, SendError> {
        let shared = &self.handle.shared;
        if shared.closed.load(Ordering::Acquire) {
            return Err(SendError::Closed);
        }
        let known = shared.topics.read().get(&record.topic).cloned();
        let topic = match known {
            Some(topic) => topic,
            None => self.find_topic(&record.topic).await?,
        };
        let topic = self.with_partition(topic, &record).await?;
        let record_bytes = check_size(&record, topic.message_bytes_max)?;
        let charged_bytes = (record_bytes + RECORD_OVERHEAD_BYTES).min(shared.budget_bytes);
        let permits = u32::try_from(charged_bytes).expect("the budget is bounded by 32 bits");
        match shared.budget.try_acquire_many(permits) {
            Ok(taken) => taken.forget(),
            Err(_) => shared.budget.acquire_many(permits).await.map_err(|_| SendError::Closed)?.forget(),
        }
        let queue = &topic.partitions[topic.choose(&record, record_bytes)];
        let terms = Terms {
            durability: record.durability.unwrap_or(shared.config.durability),
            compression: shared.config.compression,
            batch_bytes: shared.config.batch_bytes.min(topic.message_bytes_max),
            record_bytes,
            charged_bytes,
            budget: &shared.budget,
            timestamp: record.timestamp.unwrap_or_else(clock::wall),
        };
        let (ticket, wake) = queue.push(&record, &terms);
        if wake == Wake::Sender {
            // A sender that is gone has dropped the queues' batches, and so settled the ticket.
            let _ = self.handle.events.send(Event::Ready { lane: queue.lane });
        }
        Ok(ticket)
    }

    /// Waits until everything handed over before is settled; a linger is cut short.
    ///
    /// # Errors
    /// The first failure among what was waited for; each ticket tells its own.
    pub async fn flush(&self) -> Result<(), DeliveryError> {
        let stopped = || DeliveryError::Stopped { outcome: crate::Outcome::Unknown };
        let (reply, tickets) = oneshot::channel();
        self.handle.events.send(Event::Flush(reply)).map_err(|_| stopped())?;
        let mut first_failure = None;
        for ticket in tickets.await.map_err(|_| stopped())? {
            if let Err(error) = ticket.await {
                first_failure.get_or_insert(error);
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    /// Takes no more records, of any clone, and waits until all are settled.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<(), DeliveryError> {
        self.handle.shared.closed.store(true, Ordering::Release);
        self.flush().await
    }

    /// Learns about a topic that was not used before.
    async fn find_topic(&self, name: &Arc<str>) -> Result<Arc<Topic>, SendError> {
        let (cluster, shared) = (&self.handle.cluster, &self.handle.shared);
        cluster.note_interest(name);
        let began = clock::monotonic();
        let mut backoff = Backoff::new(&cluster.config);
        let mut view = cluster.view();
        let mut failure: Option<Attempts> = None;
        loop {
            if view.topics.contains_key(&**name) {
                shared.adopt_topic(name, &view.topics[&**name]);
                return Ok(shared.topics.read()[name].clone());
            }
            let waited = cluster.config.request_timeout;
            let limit = match view.refused.get(&**name).filter(|_| failure.is_none()) {
                // A broker that may make topics has made it before it answers: even then, this is a refusal.
                Some(refusal) if refusal.code == ErrorCode::UnknownTopicOrPartition => MISSING_TOPIC_PATIENCE,
                Some(refusal) if !is_passing(refusal.code) => {
                    return Err(SendError::Refused { topic: name.to_string(), refusal: refusal.clone() });
                }
                _ => waited,
            };
            if left(began + limit).is_none() {
                let topic = name.to_string();
                return Err(match (failure, view.refused.get(&**name)) {
                    (Some(tried), _) => SendError::Unreachable { topic, waited, tried },
                    (None, Some(refusal)) if is_passing(refusal.code) => {
                        SendError::Refused { topic, refusal: refusal.clone() }
                    }
                    (None, _) => SendError::UnknownTopic { topic },
                });
            }
            if view.refused.contains_key(&**name) || failure.is_some() {
                tokio::time::sleep(backoff.pause()).await;
            }
            match cluster.refresh(view.version, shared.config.missing_topic).await {
                Ok(newer) => (view, failure) = (newer, None),
                Err(tried) => failure = Some(tried),
            }
        }
    }

    /// Looks once more if the record asks for a partition that was not there.
    async fn with_partition(&self, topic: Arc<Topic>, record: &Record) -> Result<Arc<Topic>, SendError> {
        let Some(asked) = record.partition.filter(|asked| asked.0 >= topic.partition_count()) else {
            return Ok(topic);
        };
        let (cluster, shared) = (&self.handle.cluster, &self.handle.shared);
        if let Ok(view) = cluster.refresh(cluster.view().version, MissingTopic::Refuse).await {
            shared.adopt(&view);
        }
        let topic = shared.topics.read().get(&record.topic).cloned().unwrap_or(topic);
        let partitions = topic.partition_count();
        if asked.0 < partitions {
            return Ok(topic);
        }
        Err(SendError::NoSuchPartition { topic: record.topic.to_string(), asked, partitions })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A sender that is gone needs no cue.
        let _ = self.events.send(Event::Close);
    }
}

impl Shared {
    /// Takes over what a view says about the topics in use: partitions that were added.
    pub(crate) fn adopt(&self, view: &View) {
        let known: Vec<Arc<str>> = self.topics.read().keys().cloned().collect();
        for name in known {
            if let Some(topic) = view.topics.get(&*name) {
                self.adopt_topic(&name, topic);
            }
        }
    }

    fn adopt_topic(&self, name: &Arc<str>, view: &TopicView) {
        let mut topics = self.topics.write();
        let message_bytes_max = view.message_bytes_max.min(BATCH_BYTES_MAX as usize);
        let known = topics.get(name);
        let known_count = known.map_or(0, |known| known.partitions.len());
        // Partitions never go away; a view with fewer is an old one.
        let count = known_count.max(view.partitions.len());
        if known.is_some_and(|known| count == known_count && known.message_bytes_max == message_bytes_max) {
            return;
        }
        let mut partitions = known.map(|known| known.partitions.clone()).unwrap_or_default();
        let mut queues = self.queues.lock();
        for index in known_count..count {
            let partition = PartitionIndex(u32::try_from(index).expect("partition numbers have 32 bits"));
            let queue = Arc::new(Queue::new(name.clone(), partition, queues.len()));
            queues.push(queue.clone());
            partitions.push(queue);
        }
        let turns = StickyTurns::starting_at(rand::random_range(0..u32::try_from(count.max(1)).unwrap_or(1)));
        topics.insert(name.clone(), Arc::new(Topic { partitions, turns, message_bytes_max }));
    }
}

impl Topic {
    fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("partition numbers have 32 bits")
    }

    /// The place of the record's partition.
    fn choose(&self, record: &Record, record_bytes: usize) -> usize {
        let usable = |partition: u32| self.partitions[partition as usize].usable.load(Ordering::Relaxed);
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, self.partition_count()),
            (None, None) => self.turns.next(record_bytes, self.partition_count(), usable),
        };
        partition.0 as usize
    }
}

/// Whether asking again may bring another answer.
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Busy
            | ErrorCode::NotCoordinator
            | ErrorCode::NotLeader
            | ErrorCode::LeadershipLost
            | ErrorCode::Stopping
            | ErrorCode::TimedOut
    )
}

/// How long a topic may be unknown before sending to it fails: a topic made a moment ago is not on all brokers yet.
const MISSING_TOPIC_PATIENCE: Duration = Duration::from_secs(1);

/// The most that the record takes in a batch, if it can be in one.
fn check_size(record: &Record, bytes_max: usize) -> Result<usize, SendError> {
    if record.headers.len() > RECORD_HEADERS_MAX as usize {
        return Err(SendError::TooManyHeaders { found: record.headers.len() });
    }
    let record_bytes = batch::record_bytes_max(record);
    let bytes = batch::single_batch_bytes(record_bytes);
    if bytes > bytes_max {
        return Err(SendError::RecordTooLarge { topic: record.topic.to_string(), bytes, bytes_max });
    }
    Ok(record_bytes)
}
