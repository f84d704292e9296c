//! The produce stream: decoded and checked on the socket's thread, appended by the shards, answered in the order of
//! decision.

use super::errors::{self, Place};
use super::{Broker, expect_produced};
use crate::handle::ReplySink;
use crate::intake;
use crate::limits;
use crate::payload::{OutReply, Payload};
use crate::stamp::stamp;
use parking_lot::Mutex;
use raftline_proto::api::produce_reply::Result as ReplyResult;
use raftline_proto::api::{self, ErrorCode, ProduceReply, ProduceRequest};
use raftline_shard::coordinator::internal::is_internal;
use raftline_shard::types::{Durability, Event};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

/// Serves one stream; the replies come out of what is returned.
pub(super) fn serve(broker: Arc<Broker>, requests: Streaming<ProduceRequest>) -> Replies {
    let (decided, decided_here) = mpsc::unbounded_channel();
    let (refused, refused_here) = mpsc::unbounded_channel();
    let flight = Arc::new(Mutex::new(HashMap::new()));
    let places = Arc::new(Semaphore::new(limits::PRODUCE_IN_FLIGHT_MAX));
    let intake = Intake { broker, decided, refused, flight: Arc::clone(&flight), places, next_tag: 0 };
    tokio::spawn(intake.run(requests));
    Replies { decided: decided_here, refused: refused_here, flight }
}

/// What is known of a request until its answer.
struct InFlight {
    correlation_id: u64,
    topic: String,
    partition: u32,
    /// Given back with the answer: the stream's own places, and the broker's bytes.
    _place: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

type Flight = Arc<Mutex<HashMap<u64, InFlight>>>;

/// The reading half of a stream.
struct Intake {
    broker: Arc<Broker>,
    decided: mpsc::UnboundedSender<(u64, OutReply)>,
    refused: mpsc::UnboundedSender<Result<ProduceReply, Status>>,
    flight: Flight,
    places: Arc<Semaphore>,
    next_tag: u64,
}

impl Intake {
    /// Reads until the client has no more to say, or is gone. Gone must end it wherever it waits: what is in flight
    /// gives its places and bytes back only with the last hand on `flight`, and it may be these that it waits for.
    async fn run(mut self, requests: impl Stream<Item = Result<ProduceRequest, Status>> + Unpin) {
        let replies = self.refused.clone();
        tokio::select! {
            () = replies.closed() => {}
            () = self.read(requests) => {}
        }
    }

    /// Not reading on while too much is in flight is the back-pressure: the stream's flow control carries it to the
    /// client.
    async fn read(&mut self, mut requests: impl Stream<Item = Result<ProduceRequest, Status>> + Unpin) {
        let stop = self.broker.stop.clone();
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            let request = tokio::select! {
                request = requests.next() => request,
                () = stop.cancelled() => return,
            };
            match request {
                Some(Ok(request)) => self.take(request, place).await,
                None => return,
                Some(Err(status)) => {
                    // Not of the schema, or over the bound: the stream cannot go on. A lost connection ends here too.
                    drop(self.refused.send(Err(status)));
                    return;
                }
            }
        }
    }

    async fn take(&mut self, request: ProduceRequest, place: OwnedSemaphorePermit) {
        let correlation_id = request.correlation_id;
        if let Err(error) = self.submit(request, place).await {
            let result = Some(ReplyResult::Error(error));
            drop(self.refused.send(Ok(ProduceReply { correlation_id, result })));
        }
    }

    async fn submit(
        &mut self,
        request: ProduceRequest,
        place: OwnedSemaphorePermit,
    ) -> Result<(), api::Error> {
        let durability = durability(request.durability)?;
        let ProduceRequest { correlation_id, topic, partition, batch: bytes, timeout_ms, .. } = request;
        let named = Place { topic: &topic, partition };
        if is_internal(named.topic) {
            return Err(errors::internal_topic(named.topic, "it is written by brokers alone"));
        }
        let (image, group) = self.broker.hosted(named)?;
        let now = self.broker.clock.now().wall;
        let batch =
            intake::validate(&image.configs, now, &bytes).map_err(|found| errors::batch(named, &found))?;
        let kilobytes = u32::try_from(bytes.len().div_ceil(1024)).unwrap_or(u32::MAX).max(1);
        let permit = Arc::clone(&self.broker.produce_budget).acquire_many_owned(kilobytes).await;
        let permit = permit.map_err(|_| errors::stopping())?;
        let deadline = self.broker.clock.after(match timeout_ms {
            0 => limits::PRODUCE_TIMEOUT,
            ms => Duration::from_millis(u64::from(ms)).min(limits::PRODUCE_TIMEOUT_MAX),
        });
        let tag = self.next_tag;
        self.next_tag += 1;
        let in_flight = InFlight { correlation_id, topic, partition, _place: place, _bytes: permit };
        self.flight.lock().insert(tag, in_flight);
        let (bytes, batch) = stamp(&image.configs, &self.broker.clock, bytes, batch);
        let sink = ReplySink::Stream { replies: self.decided.clone(), tag };
        let event = |request| Event::Produce {
            request,
            group,
            in_term: None,
            batch,
            payload: Payload::Batch(bytes),
            durability,
            deadline,
        };
        self.broker.shards.request_when_room(sink, event).await.map_err(|_| {
            self.flight.lock().remove(&tag);
            errors::stopping()
        })
    }
}

fn durability(wanted: i32) -> Result<Durability, api::Error> {
    match api::Durability::try_from(wanted) {
        Ok(api::Durability::Quorum) => Ok(Durability::Quorum),
        Ok(api::Durability::Memory) => Ok(Durability::Memory),
        Ok(api::Durability::Leader) => Ok(Durability::Leader),
        Ok(api::Durability::None) => Ok(Durability::None),
        Err(_) => Err(errors::error(
            ErrorCode::InvalidRequest,
            format!("there is no durability {wanted}: 0 is quorum, 1 memory, 2 leader, 3 none"),
        )),
    }
}

/// The answering half of a stream. Ends when the client has ended its half and everything is answered.
pub(super) struct Replies {
    decided: mpsc::UnboundedReceiver<(u64, OutReply)>,
    refused: mpsc::UnboundedReceiver<Result<ProduceReply, Status>>,
    flight: Flight,
}

impl Replies {
    fn reply(&self, tag: u64, answer: OutReply) -> Option<ProduceReply> {
        let in_flight = self.flight.lock().remove(&tag)?;
        let place = Place { topic: &in_flight.topic, partition: in_flight.partition };
        let result = match expect_produced(answer) {
            Ok(Ok(produced)) => ReplyResult::Produced(api::Produced {
                base_offset: produced.base_offset.0,
                term: produced.term.0,
                durable_on: produced.durable_on.iter().map(|node| node.0).collect(),
                duplicate: produced.duplicate,
            }),
            Ok(Err(found)) => ReplyResult::Error(errors::produce(place, &found)),
            Err(error) => ReplyResult::Error(error),
        };
        Some(ProduceReply { correlation_id: in_flight.correlation_id, result: Some(result) })
    }
}

impl Stream for Replies {
    type Item = Result<ProduceReply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let refused = self.refused.poll_recv(context);
        if let Poll::Ready(Some(reply)) = refused {
            return Poll::Ready(Some(reply));
        }
        loop {
            match self.decided.poll_recv(context) {
                Poll::Ready(Some((tag, answer))) => {
                    if let Some(reply) = self.reply(tag, answer) {
                        return Poll::Ready(Some(Ok(reply)));
                    }
                }
                Poll::Ready(None) if refused.is_ready() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BrokerParts;
    use super::*;
    use crate::clock::Clock;
    use crate::groups::GroupCoordinators;
    use crate::handle::Shards;
    use crate::identity::Identity;
    use crate::inbox::{InboxBounds, inbox};
    use crate::peer::Peers;
    use crate::view::NodeView;
    use raftline_proto::ids::{BootId, Incarnation, NodeId};
    use raftline_shard::consumer_groups::limits::GroupsConfig;
    use std::collections::BTreeMap;
    use tokio_util::sync::CancellationToken;

    /// A broker whose shard never answers.
    fn broker(data_dir: &std::path::Path) -> Arc<Broker> {
        let identity = Arc::new(Identity::claim(data_dir, NodeId(1), "test", Incarnation(1)).unwrap());
        let (sender, _) = inbox(InboxBounds::default());
        let (shards, view) = (Shards::new(vec![sender]), Arc::new(NodeView::default()));
        Arc::new(Broker::new(BrokerParts {
            shards: shards.clone(),
            view: Arc::clone(&view),
            clock: Clock::start(),
            peers: Peers::new(Arc::clone(&identity), BootId(1), &BTreeMap::new()),
            identity,
            auto_create_topics: false,
            default_partitions: 1,
            default_replication: 1,
            default_segment_bytes: None,
            reserve_bytes: 0,
            pulse: crate::pulse::line().0,
            groups: Arc::new(GroupCoordinators::new(
                shards,
                view,
                Clock::start(),
                GroupsConfig::default(),
                CancellationToken::new(),
            )),
            stop: CancellationToken::new(),
        }))
    }

    #[tokio::test]
    async fn a_client_that_is_gone_gives_back_what_its_stream_waits_for() {
        let directory = tempfile::tempdir().unwrap();
        let broker = broker(directory.path());
        let budget = Arc::clone(&broker.produce_budget);
        let (decided, decided_here) = mpsc::unbounded_channel();
        let (refused, refused_here) = mpsc::unbounded_channel();
        // One request has the stream's only place and all the bytes of the broker, and is never answered.
        let places = Arc::new(Semaphore::new(1));
        let all = u32::try_from(limits::PRODUCE_KIBIBYTES_MAX).unwrap();
        let in_flight = InFlight {
            correlation_id: 1,
            topic: "t".to_owned(),
            partition: 0,
            _place: Arc::clone(&places).try_acquire_owned().unwrap(),
            _bytes: Arc::clone(&budget).try_acquire_many_owned(all).unwrap(),
        };
        let flight: Flight = Arc::new(Mutex::new(HashMap::from([(0, in_flight)])));
        let intake = Intake { broker, decided, refused, flight: Arc::clone(&flight), places, next_tag: 1 };
        let replies = Replies { decided: decided_here, refused: refused_here, flight };
        let mut reading = stepped(intake.run(tokio_stream::pending()));
        assert!(reading.poll().is_pending(), "it waits for a place");
        assert_eq!(budget.available_permits(), 0);
        drop(replies);
        assert!(reading.poll().is_ready(), "it waits for what only its own end gives back");
        drop(reading);
        assert_eq!(budget.available_permits(), limits::PRODUCE_KIBIBYTES_MAX);
    }

    /// A future that is looked at step by step.
    struct Stepped<F>(Pin<Box<F>>);

    fn stepped<F: Future<Output = ()>>(future: F) -> Stepped<F> {
        Stepped(Box::pin(future))
    }

    impl<F: Future<Output = ()>> Stepped<F> {
        fn poll(&mut self) -> Poll<()> {
            self.0.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()))
        }
    }
}
