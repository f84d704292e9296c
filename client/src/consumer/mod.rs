//! The consumer: assigned partitions in, records out. In reading order: this file (the handle), [`subscription`]
//! (the task behind each partition), [`chunk`] (bytes to records).
//!
//! Each partition has its own `Subscribe` stream rather than repeated long-poll fetches: a broker then pushes what is
//! committed at once instead of waiting to be asked again (half a round trip less for each record at the tail), and
//! a stream message costs an eighth of a call. Reading ahead is bounded twice: by the connection's HTTP/2 windows
//! for what has not been received, and by [`ConsumerConfig::prefetch_bytes`] for what has.

mod chunk;
mod subscription;

use crate::clock;
use crate::cluster::{Backoff, Cluster, left};
use crate::config::{ConsumerConfig, MissingTopic};
use crate::error::ConsumeError;
use crate::limits::CHUNKS_AHEAD_MAX;
use crate::record::ConsumedRecord;
use raftline_proto::api::fetch_request::From as WireFrom;
use raftline_proto::batch::BatchView;
use raftline_proto::ids::{Offset, PartitionIndex};
use raftline_proto::time::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use subscription::Subscription;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;

/// Where reading a partition starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the first record that is still there.
    Start,
    /// With what is committed after the subscription reaches the broker.
    End,
    /// With the record at this offset.
    Offset(Offset),
    /// With the first record that has this timestamp or a later one.
    Timestamp(Timestamp),
}

impl From<StartAt> for WireFrom {
    fn from(start: StartAt) -> Self {
        match start {
            StartAt::Start => Self::Start(true),
            StartAt::End => Self::End(true),
            StartAt::Offset(offset) => Self::Offset(offset.get()),
            StartAt::Timestamp(timestamp) => Self::TimestampMs(timestamp.get()),
        }
    }
}

/// Reads assigned partitions. Records of one partition come in the order of their offsets, each once; leader changes
/// and broken connections are followed. Every batch's checksum is verified before any of its records is handed out.
///
/// ```no_run
/// # async fn example(client: raftline_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use raftline_client::{ConsumerConfig, StartAt};
/// use raftline_client::proto::ids::{Offset, PartitionIndex};
///
/// let mut consumer = client.consumer(ConsumerConfig::default());
/// consumer.assign_topic("readings", StartAt::Start).await?;
/// for _ in 0..10 {
///     let record = consumer.next().await?;
///     println!("{}/{}: {:?}", record.partition, record.offset, record.value);
/// }
/// consumer.seek("readings", PartitionIndex(0), StartAt::Offset(Offset(42)))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    cluster: Arc<Cluster>,
    config: ConsumerConfig,
    assigned: HashMap<(Arc<str>, PartitionIndex), Assigned>,
    generation: u64,
    messages: mpsc::Receiver<Message>,
    /// Given to the subscriptions.
    sender: mpsc::Sender<Message>,
    budget: Arc<Semaphore>,
    chunk: Option<Chunk>,
    records: std::vec::IntoIter<ConsumedRecord>,
}

#[derive(Debug)]
struct Assigned {
    /// What comes from an earlier one is stale: somebody has sought since.
    generation: u64,
    task: AbortHandle,
    /// The offset after the last record handed out, or after the batch that is being handed out.
    position: Option<Offset>,
    high_watermark: Option<Offset>,
}

#[derive(Debug)]
enum Message {
    Chunk(Chunk),
    Failed { generation: u64, error: ConsumeError },
}

/// Batches of one partition, in order.
#[derive(Debug)]
struct Chunk {
    topic: Arc<str>,
    partition: PartitionIndex,
    generation: u64,
    /// Records below are not handed out.
    next: Offset,
    high_watermark: Offset,
    batches: VecDeque<BatchView>,
    /// Held for as long as the bytes are.
    _permit: OwnedSemaphorePermit,
}

impl Consumer {
    pub(crate) fn new(cluster: Arc<Cluster>, config: ConsumerConfig) -> Self {
        let (sender, messages) = mpsc::channel(CHUNKS_AHEAD_MAX);
        let budget = Arc::new(Semaphore::new(config.prefetch_bytes.clamp(1, u32::MAX as usize)));
        Self {
            cluster,
            config,
            assigned: HashMap::new(),
            generation: 0,
            messages,
            sender,
            budget,
            chunk: None,
            records: Vec::new().into_iter(),
        }
    }

    /// Reads this partition from `start` on; if it was assigned already, goes on there. What is wrong with it,
    /// [`Consumer::next`] says. Must be called within a tokio runtime, as it starts a task there.
    pub fn assign(&mut self, topic: impl Into<Arc<str>>, partition: PartitionIndex, start: StartAt) {
        let topic = topic.into();
        self.unassign(&topic, partition);
        self.generation += 1;
        let position = match start {
            StartAt::Offset(offset) => Some(offset),
            StartAt::Start | StartAt::End | StartAt::Timestamp(_) => None,
        };
        let subscription = Subscription {
            cluster: self.cluster.clone(),
            config: self.config.clone(),
            topic: topic.clone(),
            partition,
            generation: self.generation,
            next: start,
            messages: self.sender.clone(),
            budget: self.budget.clone(),
            unknown_since: None,
        };
        let task = tokio::spawn(subscription.run()).abort_handle();
        let assigned = Assigned { generation: self.generation, task, position, high_watermark: None };
        self.assigned.insert((topic, partition), assigned);
    }

    /// Reads every partition of the topic from `start` on, and tells how many there are. Partitions that are added
    /// later are not among them.
    ///
    /// # Errors
    /// [`ConsumeError::UnknownPartition`] if no broker knows the topic for [`ConsumerConfig::unknown_timeout`].
    pub async fn assign_topic(
        &mut self,
        topic: impl Into<Arc<str>>,
        start: StartAt,
    ) -> Result<u32, ConsumeError> {
        let topic = topic.into();
        self.cluster.note_interest(&topic);
        let deadline = clock::monotonic() + self.config.unknown_timeout;
        let mut backoff = Backoff::new(&self.cluster.config);
        let mut view = self.cluster.view();
        let partitions = loop {
            if let Some(known) = view.topics.get(&*topic) {
                break u32::try_from(known.partitions.len()).expect("partition numbers have 32 bits");
            }
            if left(deadline).is_none() {
                let waited = self.config.unknown_timeout;
                let partition = PartitionIndex(0);
                return Err(ConsumeError::UnknownPartition { topic: topic.to_string(), partition, waited });
            }
            if view.refused.contains_key(&*topic) {
                tokio::time::sleep(backoff.pause()).await;
            }
            match self.cluster.refresh(view.version, MissingTopic::Refuse).await {
                Ok(newer) => view = newer,
                Err(_) => tokio::time::sleep(backoff.pause()).await,
            }
        };
        for partition in 0..partitions {
            self.assign(topic.clone(), PartitionIndex(partition), start);
        }
        Ok(partitions)
    }

    /// Reads this partition no more. What was read ahead of it is dropped.
    pub fn unassign(&mut self, topic: &str, partition: PartitionIndex) {
        if let Some(assigned) = self.assigned.remove(&(Arc::from(topic), partition)) {
            assigned.task.abort();
        }
        let current = self.chunk.as_ref();
        if current.is_some_and(|chunk| &*chunk.topic == topic && chunk.partition == partition) {
            self.chunk = None;
            self.records = Vec::new().into_iter();
        }
    }

    /// Goes on elsewhere in an assigned partition. What was read ahead of it is dropped.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn seek(&mut self, topic: &str, partition: PartitionIndex, to: StartAt) -> Result<(), ConsumeError> {
        let key = (Arc::from(topic), partition);
        if !self.assigned.contains_key(&key) {
            return Err(ConsumeError::NotAssigned { topic: topic.to_owned(), partition });
        }
        self.assign(key.0, partition, to);
        Ok(())
    }

    /// The offset of the record that comes next from this partition: the one after the last handed out. `None` if it
    /// is not assigned, or not known yet.
    #[must_use]
    pub fn position(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        let assigned = self.assigned.get(&(Arc::from(topic), partition))?;
        let being_read = |chunk: &&Chunk| &*chunk.topic == topic && chunk.partition == partition;
        match (self.chunk.as_ref().filter(being_read), self.records.as_slice().first()) {
            (Some(_), Some(record)) => Some(record.offset),
            _ => assigned.position,
        }
    }

    /// The offset after the partition's last committed record, as last heard.
    #[must_use]
    pub fn high_watermark(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        self.assigned.get(&(Arc::from(topic), partition))?.high_watermark
    }

    /// The next record of any assigned partition. Waits for as long as there is none. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// What keeps one of the partitions from going on; it is not read any further until it is assigned or sought
    /// again. The other partitions go on with the next call.
    pub async fn next(&mut self) -> Result<ConsumedRecord, ConsumeError> {
        loop {
            if let Some(record) = self.next_ready()? {
                return Ok(record);
            }
            let message = self.messages.recv().await.expect("the consumer itself holds a sender");
            self.take(message)?;
        }
    }

    /// The next record if one has been read ahead.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub fn try_next(&mut self) -> Result<Option<ConsumedRecord>, ConsumeError> {
        loop {
            if let Some(record) = self.next_ready()? {
                return Ok(Some(record));
            }
            match self.messages.try_recv() {
                Ok(message) => self.take(message)?,
                Err(_) => return Ok(None),
            }
        }
    }

    fn next_ready(&mut self) -> Result<Option<ConsumedRecord>, ConsumeError> {
        loop {
            if let Some(record) = self.records.next() {
                return Ok(Some(record));
            }
            let Some(chunk) = &mut self.chunk else { return Ok(None) };
            let Some(batch) = chunk.batches.pop_front() else {
                self.chunk = None;
                return Ok(None);
            };
            let key = (chunk.topic.clone(), chunk.partition);
            match chunk::records(&batch, chunk.next, &chunk.topic, chunk.partition) {
                Ok(records) => {
                    self.records = records.into_iter();
                    if let Some(assigned) = self.assigned.get_mut(&key) {
                        assigned.position = Some(batch.header().next_offset());
                    }
                }
                Err(reason) => {
                    self.chunk = None;
                    let offset = batch.header().base_offset;
                    if let Some(assigned) = self.assigned.get(&key) {
                        assigned.task.abort();
                    }
                    let topic = key.0.to_string();
                    return Err(ConsumeError::Corrupt { topic, partition: key.1, offset, reason });
                }
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<(), ConsumeError> {
        match message {
            Message::Chunk(chunk) => {
                let assigned = self.assigned.get_mut(&(chunk.topic.clone(), chunk.partition));
                if let Some(assigned) = assigned.filter(|assigned| assigned.generation == chunk.generation) {
                    assigned.high_watermark = Some(chunk.high_watermark);
                    assigned.position.get_or_insert(chunk.next);
                    self.chunk = Some(chunk);
                }
                Ok(())
            }
            Message::Failed { generation, error } => {
                let current = self.assigned.values().any(|assigned| assigned.generation == generation);
                if current { Err(error) } else { Ok(()) }
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        for assigned in self.assigned.values() {
            assigned.task.abort();
        }
    }
}
