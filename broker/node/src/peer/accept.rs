//! The incoming connections: handshake, then batches, checked and handed to the shards.

use super::Shared;
use super::convert::{self, Cost, Inbound};
use super::handshake::Remote;
use super::outbox::Class;
use crate::clock::Clock;
use crate::handle::Shards;
use crate::limits;
use crate::payload::{OutReply, Payload};
use crate::pulse::{News, PulseLine};
use crate::view::NodeView;
use parking_lot::Mutex;
use raftline_proto::ids::{Incarnation, NodeId};
use raftline_proto::metadata::BrokerRecord;
use raftline_proto::peer::peer_frame::Frame;
use raftline_proto::peer::peer_server::Peer;
use raftline_proto::peer::peer_verdict::Verdict;
use raftline_proto::peer::register_broker_reply::Outcome;
use raftline_proto::peer::{
    Batch, Hello, PeerFrame, PeerVerdict, Refusal, RefusalReason, RegisterBrokerReply, RegisterBrokerRequest,
    Registered,
};
use raftline_shard::types::{CoordinatorCommand, CoordinatorError, Event, Reply};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// The service of `peer.proto`.
#[derive(Clone)]
pub struct PeerService {
    shared: Arc<Shared>,
    shards: Shards,
    pulse: PulseLine,
    view: Arc<NodeView>,
    clock: Clock,
    stop: CancellationToken,
    /// The stream in use for each peer and class: a new one ends the old one, whose peer has given it up.
    streams: Arc<Mutex<BTreeMap<(NodeId, Class), CancellationToken>>>,
    /// What the last refused caller was told, and how often since it was logged.
    refused: Arc<Mutex<Repeated>>,
}

type Verdicts = ReceiverStream<Result<PeerVerdict, Status>>;

impl PeerService {
    pub(super) fn new(
        shared: Arc<Shared>,
        shards: Shards,
        pulse: PulseLine,
        view: Arc<NodeView>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        Self { shared, shards, pulse, view, clock, stop, streams: Arc::default(), refused: Arc::default() }
    }

    async fn serve(
        &self,
        class: Class,
        request: Request<Streaming<PeerFrame>>,
    ) -> Result<Response<Verdicts>, Status> {
        let address = request.remote_addr();
        let mut frames = request.into_inner();
        let hello = match timeout(limits::PEER_HANDSHAKE_TIMEOUT, frames.message()).await {
            Ok(Ok(Some(PeerFrame { frame: Some(Frame::Hello(hello)) }))) => hello,
            Ok(Ok(_)) => {
                return Err(Status::invalid_argument("the first frame of a peer's stream is a hello"));
            }
            Ok(Err(status)) => return Err(status),
            Err(_) => return Err(Status::deadline_exceeded("no hello in time")),
        };
        let (sender, verdicts) = mpsc::channel(2);
        match self.judge(hello).await? {
            Ok(remote) => {
                let welcome = Verdict::Welcome(self.shared.local.welcome());
                drop(sender.try_send(Ok(PeerVerdict { verdict: Some(welcome) })));
                let ends = self.replace(remote.node, class);
                if let Some(bell) = self.shared.heard.get(&remote.node) {
                    bell.notify_one();
                }
                let stream = Inflow { service: self.clone(), remote, class, frames, verdicts: sender };
                tokio::spawn(stream.run(ends));
            }
            Err(refusal) => {
                self.log_refusal(address, &refusal);
                drop(sender.try_send(Ok(PeerVerdict { verdict: Some(Verdict::Refusal(refusal)) })));
            }
        }
        Ok(Response::new(ReceiverStream::new(verdicts)))
    }

    /// A refused peer dials twice a second, for ever: the same words are logged again only now and then.
    fn log_refusal(&self, address: Option<SocketAddr>, refusal: &Refusal) {
        if !self.refused.lock().is_news(&refusal.message) {
            return;
        }
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        tracing::error!(%address, reason = %refusal.message, "peer's connection refused");
    }

    async fn judge(&self, hello: Hello) -> Result<Result<Remote, Refusal>, Status> {
        let shared = Arc::clone(&self.shared);
        // The first meeting is written to the disk.
        let judged = tokio::task::spawn_blocking(move || shared.local.judge(&hello)).await;
        judged.map_err(|error| Status::internal(error.to_string()))
    }

    /// Ends the earlier stream of the peer and class.
    fn replace(&self, node: NodeId, class: Class) -> CancellationToken {
        let token = self.stop.child_token();
        if let Some(old) = self.streams.lock().insert((node, class), token.clone()) {
            old.cancel();
        }
        token
    }

    async fn register(&self, request: RegisterBrokerRequest) -> Outcome {
        let ours = self.shared.local.identity.cluster_name();
        if request.cluster_name != ours {
            let node = request.node;
            return Outcome::Refused(format!(
                "node {node} is of cluster `{}`, this broker of cluster `{ours}`",
                request.cluster_name.escape_default()
            ));
        }
        let deadline = self.clock.after(REGISTER_TIMEOUT);
        let asked = self.shards.ask(|id| Event::Coordinate {
            request: id,
            command: CoordinatorCommand::RegisterBroker(BrokerRecord {
                node: NodeId(request.node),
                incarnation: Incarnation(request.incarnation),
                grpc_address: request.grpc_address,
                kafka: request.kafka_listeners,
            }),
            deadline,
        });
        match asked.await {
            Ok(OutReply::Shard(Reply::Coordinated(Ok(_)))) => Outcome::Registered(Registered {}),
            Ok(OutReply::Shard(Reply::Coordinated(Err(error)))) => match error {
                CoordinatorError::NotLeader { .. }
                | CoordinatorError::OutcomeUnknown
                | CoordinatorError::Busy => Outcome::Retry(format!("{error:?}")),
                error => Outcome::Refused(crate::api::errors::coordinator(&error).message),
            },
            Ok(other) => Outcome::Retry(format!("unexpected answer {other:?}")),
            Err(busy) => Outcome::Retry(busy.to_string()),
        }
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type BulkStream = Verdicts;
    type ControlStream = Verdicts;

    async fn bulk(&self, request: Request<Streaming<PeerFrame>>) -> Result<Response<Verdicts>, Status> {
        self.serve(Class::Bulk, request).await
    }

    async fn control(&self, request: Request<Streaming<PeerFrame>>) -> Result<Response<Verdicts>, Status> {
        self.serve(Class::Control, request).await
    }

    async fn register_broker(
        &self,
        request: Request<RegisterBrokerRequest>,
    ) -> Result<Response<RegisterBrokerReply>, Status> {
        let outcome = self.register(request.into_inner()).await;
        Ok(Response::new(RegisterBrokerReply { outcome: Some(outcome) }))
    }
}

/// One stream that was let in.
struct Inflow {
    service: PeerService,
    remote: Remote,
    class: Class,
    frames: Streaming<PeerFrame>,
    verdicts: mpsc::Sender<Result<PeerVerdict, Status>>,
}

impl Inflow {
    async fn run(mut self, ends: CancellationToken) {
        let peer = self.remote.node;
        let outcome = tokio::select! {
            () = ends.cancelled() => Ok(()),
            () = self.verdicts.closed() => Ok(()),
            outcome = receive(&self.service, self.remote, &mut self.frames) => outcome,
        };
        if let Err(why) = outcome {
            let local = &self.service.shared.local;
            let message = format!(
                "node {} of cluster `{}` closes the connection from node {peer}: {why}",
                local.identity.node(),
                local.identity.cluster_name()
            );
            tracing::error!(%peer, class = ?self.class, reason = %why, "malformed message from peer");
            let refusal = Refusal { reason: RefusalReason::Malformed.into(), message };
            drop(self.verdicts.try_send(Ok(PeerVerdict { verdict: Some(Verdict::Refusal(refusal)) })));
        }
    }
}

/// Reads batches until the stream ends or the peer breaks the rules, which is the error.
async fn receive(
    service: &PeerService,
    remote: Remote,
    frames: &mut Streaming<PeerFrame>,
) -> Result<(), String> {
    let mut dropped = Repeated::default();
    loop {
        let batch = match frames.message().await {
            Ok(Some(PeerFrame { frame: Some(Frame::Batch(batch)) })) => batch,
            Ok(Some(_)) => return Err("a frame that is no batch".to_owned()),
            Ok(None) => return Ok(()),
            // A message over the bound or not of the schema; a lost connection looks the same and nobody hears us.
            Err(status) if is_transport(&status) => return Ok(()),
            Err(status) => return Err(status.message().to_owned()),
        };
        check_incarnations(service, remote, &batch)?;
        for message in batch.messages {
            let inbound = match convert::decode(message) {
                Ok(inbound) => inbound,
                Err(malformed) => match malformed.cost() {
                    Cost::Connection => return Err(malformed.to_string()),
                    Cost::Message => {
                        let reason = malformed.to_string();
                        if dropped.is_news(&reason) {
                            tracing::warn!(peer = %remote.node, %reason, "a message from a peer was dropped");
                        }
                        continue;
                    }
                    Cost::Replica(group) => {
                        let reason =
                            format!("node {} sent what this node cannot keep: {malformed}", remote.node);
                        if dropped.is_news(&reason) {
                            tracing::error!(
                                partition = service.view.place_of(group),
                                %reason,
                                "replica closed"
                            );
                        }
                        service.view.set_failed(group, reason.clone());
                        if service.shards.submit_when_room(Event::Failed { group, reason }).await.is_err() {
                            return Ok(());
                        }
                        continue;
                    }
                },
            };
            let event = match inbound {
                Inbound::Leads { group, news } => {
                    service.view.heard_of_leader(group, news, remote.node);
                    continue;
                }
                Inbound::Applied { index } => {
                    service.view.heard_of_applied(remote.node, index);
                    continue;
                }
                Inbound::Closed { groups } => {
                    service.view.heard_of_closed(remote.node, groups);
                    continue;
                }
                Inbound::Alive { boot, sign } => {
                    let at = service.clock.now();
                    service.pulse.tell(News::Sign { from: remote.node, boot, sign, at });
                    continue;
                }
                Inbound::Raft { group, message, entries, payload } => Event::Peer {
                    from: remote.node,
                    group,
                    message,
                    entries,
                    payload: payload.map(Payload::Entries),
                },
            };
            if service.shards.submit_when_room(event).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// What is said again and again is logged now and then.
#[derive(Default)]
struct Repeated {
    last: String,
    since: u32,
}

impl Repeated {
    fn is_news(&mut self, text: &str) -> bool {
        if self.last == text && self.since < LOG_EVERY {
            self.since += 1;
            return false;
        }
        *self = Self { last: text.to_owned(), since: 0 };
        true
    }
}

/// Votes and acknowledgements count between the two disks of the handshake only.
fn check_incarnations(service: &PeerService, remote: Remote, batch: &Batch) -> Result<(), String> {
    let ours = service.shared.local.identity.incarnation();
    let pair = (Incarnation(batch.from_incarnation), Incarnation(batch.to_incarnation));
    if pair == (remote.incarnation, ours) {
        return Ok(());
    }
    let (from, to) = pair;
    let met = remote.incarnation;
    Err(format!("a batch from disk {from} to disk {to} on a connection from disk {met} to disk {ours}"))
}

fn is_transport(status: &Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown | tonic::Code::Internal
    ) && std::error::Error::source(status).is_some()
}

/// A refusal that repeats is logged again after this many times: half a minute of a peer's dialling.
const LOG_EVERY: u32 = 60;

/// How long a registration waits for its commit.
const REGISTER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
