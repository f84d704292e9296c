//! The task behind one assigned partition: subscribes at the leader, follows it when it changes, resumes at the next
//! offset. What a broker calls retriable is retried for as long as the partition is assigned.

use super::chunk;
use super::{Chunk, Message, StartAt};
use crate::clock;
use crate::cluster::{Backoff, Cluster, refusal};
use crate::config::{ConsumerConfig, MissingTopic, OutOfRange};
use crate::connection::{Stub, Use, describe_status};
use crate::error::{ConsumeError, ErrorCode};
use crate::limits::SUBSCRIPTION_MESSAGE_BYTES;
use raftline_proto::api;
use raftline_proto::ids::{NodeId, Offset, PartitionIndex};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

pub(crate) struct Subscription {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) config: ConsumerConfig,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionIndex,
    pub(crate) generation: u64,
    /// Where to go on. An offset as soon as one is known.
    pub(crate) next: StartAt,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) budget: Arc<Semaphore>,
    /// When the partition was first said not to exist.
    pub(crate) unknown_since: Option<Instant>,
}

/// Why a stream of records ended.
enum End {
    /// Ask who leads, and go on.
    Refresh(String),
    /// Go on after a pause.
    Pause(String),
    /// Go on at once, from elsewhere.
    Moved,
    /// Nobody reads any more.
    Dropped,
    /// It makes no sense to go on.
    Failed(ConsumeError),
}

impl Subscription {
    pub(crate) async fn run(mut self) {
        self.cluster.note_interest(&self.topic);
        let mut backoff = Backoff::new(&self.cluster.config);
        let mut stale_view = None;
        loop {
            let end = match self.find_leader(stale_view).await {
                Ok(stub) => self.read(stub, &mut backoff).await,
                Err(end) => end,
            };
            match end {
                End::Moved => continue,
                End::Dropped => return,
                End::Failed(error) => {
                    let failed = Message::Failed { generation: self.generation, error };
                    // If nobody reads any more, nobody wants to know.
                    let _ = self.messages.send(failed).await;
                    return;
                }
                End::Refresh(reason) => {
                    self.say_why(&reason);
                    stale_view = Some(self.cluster.view().version);
                }
                End::Pause(reason) => self.say_why(&reason),
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    fn say_why(&self, reason: &str) {
        tracing::debug!(topic = %self.topic, partition = %self.partition, reason, "subscription interrupted");
    }

    /// A stub for the leader. Asks brokers unless the view is newer than the `stale` one and names a leader.
    async fn find_leader(&mut self, stale: Option<u64>) -> Result<Stub, End> {
        let mut view = self.cluster.view();
        let fresh = stale.is_none_or(|stale| view.version > stale);
        if !fresh || view.leader(&self.topic, self.partition.0).is_none() {
            let refreshed = self.cluster.refresh(view.version, MissingTopic::Refuse).await;
            view = refreshed.map_err(|tried| End::Pause(format!("no broker answered: {tried}")))?;
        }
        match view.leader(&self.topic, self.partition.0) {
            Some((_, address)) => {
                let stub = self.cluster.connections.stub(Use::Subscriptions, address);
                stub.map_err(|error| End::Refresh(error.to_string()))
            }
            None => {
                let partition = view.topics.get(&*self.topic).map(|topic| topic.partitions.len());
                if partition.is_none_or(|count| count <= self.partition.0 as usize) {
                    return Err(self.unknown());
                }
                Err(End::Refresh("no leader is known".into()))
            }
        }
    }

    /// The partition is said not to exist: believed after a while only, as brokers learn of topics one by one.
    fn unknown(&mut self) -> End {
        let now = clock::monotonic();
        let waited = now.duration_since(*self.unknown_since.get_or_insert(now));
        if waited < self.config.unknown_timeout {
            return End::Refresh("no broker knows the partition".into());
        }
        let topic = self.topic.to_string();
        End::Failed(ConsumeError::UnknownPartition { topic, partition: self.partition, waited })
    }

    /// "The end" is a moment: it is asked for once, so that a connection that breaks before the first record comes
    /// does not move it.
    async fn settle_end(&mut self, stub: &mut Stub) -> Result<(), End> {
        if self.next != StartAt::End {
            return Ok(());
        }
        let request = api::ListOffsetRequest {
            topic: self.topic.to_string(),
            partition: self.partition.0,
            at: Some(api::list_offset_request::At::End(true)),
        };
        let reply =
            stub.list_offset(request).await.map_err(|status| End::Refresh(describe_status(&status)))?;
        let reply = reply.into_inner();
        if let Some(error) = reply.error {
            return Err(self.refused(error));
        }
        self.next = StartAt::Offset(Offset(reply.offset));
        Ok(())
    }

    /// Reads from one broker until that ends.
    async fn read(&mut self, mut stub: Stub, backoff: &mut Backoff) -> End {
        if let Err(end) = self.settle_end(&mut stub).await {
            return end;
        }
        let request = api::FetchRequest {
            topic: self.topic.to_string(),
            partition: self.partition.0,
            from: Some(self.next.into()),
            min_bytes: 1,
            max_bytes: SUBSCRIPTION_MESSAGE_BYTES,
            max_wait_ms: 0,
        };
        let mut replies = match stub.subscribe(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return End::Refresh(describe_status(&status)),
        };
        loop {
            match replies.message().await {
                Ok(Some(reply)) => {
                    if let Err(end) = self.take(reply).await {
                        return end;
                    }
                    backoff.reset();
                    self.unknown_since = None;
                }
                Ok(None) => return End::Refresh("the broker ended the stream".into()),
                Err(status) => return End::Refresh(describe_status(&status)),
            }
        }
    }

    async fn take(&mut self, reply: api::FetchReply) -> Result<(), End> {
        if let Some(error) = reply.error {
            return Err(self.refused(error));
        }
        let next = match self.next {
            StartAt::Offset(next) => next,
            StartAt::Start | StartAt::End | StartAt::Timestamp(_) => Offset(reply.from_offset),
        };
        let batches = chunk::open(&reply.batches, next).map_err(|reason| {
            End::Failed(ConsumeError::Corrupt {
                topic: self.topic.to_string(),
                partition: self.partition,
                offset: next,
                reason,
            })
        })?;
        let unpacked: usize = batches.iter().map(raftline_proto::batch::BatchView::unpacked_bytes).sum();
        let bytes = unpacked.max(reply.batches.len()).clamp(1, self.config.prefetch_bytes.max(1));
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = self.budget.clone().acquire_many_owned(permits).await.map_err(|_| End::Dropped)?;
        self.next = StartAt::Offset(batches.last().map_or(next, |last| last.header().next_offset()));
        let chunk = Chunk {
            topic: self.topic.clone(),
            partition: self.partition,
            generation: self.generation,
            next,
            high_watermark: Offset(reply.high_watermark),
            batches: batches.into(),
            _permit: permit,
        };
        self.messages.send(Message::Chunk(chunk)).await.map_err(|_| End::Dropped)
    }

    fn refused(&mut self, error: api::Error) -> End {
        if let Some(leader) = error.leader_node {
            self.cluster.note_leader(&self.topic, self.partition.0, NodeId(leader));
        }
        let hint = error.leader_node;
        let range = error.start_offset.zip(error.high_watermark);
        let refusal = refusal(error);
        match refusal.code {
            // The hint is in the view: it is tried before anybody is asked.
            ErrorCode::NotLeader if hint.is_some() => End::Pause(refusal.message),
            ErrorCode::NotLeader
            | ErrorCode::NotCoordinator
            | ErrorCode::LeadershipLost
            // The replica is closed; if it led, another one takes over.
            | ErrorCode::StorageError
            | ErrorCode::Stopping => End::Refresh(refusal.message),
            ErrorCode::UnknownTopicOrPartition => self.unknown(),
            ErrorCode::Busy | ErrorCode::TimedOut | ErrorCode::DiskFull => End::Pause(refusal.message),
            ErrorCode::OffsetOutOfRange => match self.config.out_of_range {
                OutOfRange::Start => self.go_on_at(StartAt::Start),
                OutOfRange::End => self.go_on_at(StartAt::End),
                OutOfRange::Fail => {
                    let (start, high_watermark) = range.unwrap_or_default();
                    let StartAt::Offset(asked) = self.next else { return End::Pause(refusal.message) };
                    End::Failed(ConsumeError::OffsetOutOfRange {
                        topic: self.topic.to_string(),
                        partition: self.partition,
                        asked,
                        start: Offset(start),
                        high_watermark: Offset(high_watermark),
                    })
                }
            },
            _ => {
                let topic = self.topic.to_string();
                End::Failed(ConsumeError::Refused { topic, partition: self.partition, refusal })
            }
        }
    }

    fn go_on_at(&mut self, next: StartAt) -> End {
        self.next = next;
        End::Moved
    }
}
