//! The outgoing connections to one peer: kept up, made anew when they break, and reported to the pulse.

use super::handshake::Remote;
use super::outbox::{Class, Lane};
use super::{Shared, convert};
use crate::clock::Clock;
use crate::limits;
use crate::pulse::{News, PulseLine};
use raftline_proto::ids::NodeId;
use raftline_proto::limits::MESSAGE_BYTES_MAX;
use raftline_proto::peer::peer_client::PeerClient;
use raftline_proto::peer::peer_frame::Frame;
use raftline_proto::peer::peer_verdict::Verdict;
use raftline_proto::peer::{Batch, Hello, PeerFrame, PeerVerdict, Refusal, RefusalReason};
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Keeps the connections to one peer.
pub(super) struct Dialler {
    shared: Arc<Shared>,
    peer: NodeId,
    address: String,
    pulse: PulseLine,
    clock: Clock,
    /// What the pulse was told last.
    told: Told,
    /// What was logged last, and how often it happened since.
    logged: (String, u32),
    reach: Reach,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Connected,
    Broken,
    ProcessGone,
}

/// Whether the peer was ever reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Nobody knows yet.
    Never,
    /// It was not, and the log says so.
    Missed,
    /// It was.
    Was,
}

/// Why there is no connection.
#[derive(Debug)]
enum Ended {
    /// Nobody was reached.
    NotReached {
        error: String,
        /// The host answered that nothing listens there.
        process_gone: bool,
    },
    /// The peer refuses this node.
    Refused(Refusal),
    /// This node refuses the peer.
    Unfit(String),
    /// It stood, and broke.
    Broke(String),
}

impl Dialler {
    pub(super) fn new(
        shared: Arc<Shared>,
        peer: NodeId,
        address: &str,
        pulse: PulseLine,
        clock: Clock,
    ) -> Self {
        let address = address.to_owned();
        let logged = (String::new(), 0);
        Self { shared, peer, address, pulse, clock, told: Told::Nothing, logged, reach: Reach::Never }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Duration::ZERO;
        let shared = Arc::clone(&self.shared);
        let heard = shared.heard.get(&self.peer).expect("every peer has a bell");
        loop {
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = heard.notified() => {}
            }
            let began = self.clock.monotonic();
            let ended = self.session().await;
            let lived = self.clock.monotonic().since(began);
            self.report(&ended);
            // A connection that stood a while is tried again at once: the answer tells whether the process is gone.
            backoff = match ended {
                Ended::Broke(_) if lived > limits::PEER_BACKOFF_MAX => Duration::ZERO,
                _ => (backoff * 2).clamp(limits::PEER_BACKOFF_MIN, limits::PEER_BACKOFF_MAX),
            };
        }
    }

    /// Connects, introduces itself, and returns when it is over.
    async fn session(&mut self) -> Ended {
        let connections = tokio::try_join!(self.connect(), self.connect());
        let (bulk, control) = match connections {
            Ok(connections) => connections,
            Err(ended) => return ended,
        };
        let links =
            tokio::try_join!(self.introduce(Class::Control, control), self.introduce(Class::Bulk, bulk));
        let (mut control, mut bulk) = match links {
            Ok(links) => links,
            Err(ended) => return ended,
        };
        if control.remote != bulk.remote {
            return Ended::Broke("the peer restarted between two handshakes".to_owned());
        }
        control.open(&self.shared, control.remote);
        bulk.open(&self.shared, bulk.remote);
        self.shared.let_in.store(true, Ordering::Release);
        self.shared.update(self.peer, |state| {
            state.connected = true;
            state.process_gone = false;
        });
        self.tell(Told::Connected);
        self.logged = (String::new(), 0);
        self.reach = Reach::Was;
        tracing::info!(
            peer = %self.peer, address = %self.address, incarnation = %control.remote.incarnation,
            boot = %control.remote.boot, "connected to peer"
        );
        tokio::select! {
            ended = control.over() => ended,
            ended = bulk.over() => ended,
        }
    }

    async fn connect(&self) -> Result<Channel, Ended> {
        let not_reached = |error: String, process_gone| Ended::NotReached { error, process_gone };
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))
            .map_err(|error| not_reached(error.to_string(), false))?
            .connect_timeout(limits::PEER_HANDSHAKE_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
            .max_frame_size(limits::HTTP2_FRAME_BYTES)
            .http2_keep_alive_interval(limits::PEER_PING_INTERVAL)
            .keep_alive_timeout(limits::PEER_PING_TIMEOUT)
            .keep_alive_while_idle(true);
        match timeout(limits::PEER_HANDSHAKE_TIMEOUT, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(not_reached(chain(&error), is_connection_refused(&error))),
            Err(_) => Err(not_reached("no answer in time".to_owned(), false)),
        }
    }

    /// Says hello on a new stream and waits for the verdict.
    async fn introduce(&self, class: Class, channel: Channel) -> Result<Link, Ended> {
        let lane = self.shared.lanes.get(&self.peer).expect("every peer has lanes").lane(class);
        let guard = LaneGuard { connection: lane.attach(), lane: Arc::clone(lane) };
        let remote = Arc::new(std::sync::OnceLock::new());
        let frames = Frames {
            hello: Some(self.shared.local.hello(self.peer)),
            shared: Arc::clone(&self.shared),
            lane: Arc::clone(lane),
            connection: guard.connection,
            remote: Arc::clone(&remote),
        };
        let mut client = PeerClient::new(channel).max_decoding_message_size(VERDICT_BYTES_MAX);
        let call = async {
            let response = match class {
                Class::Bulk => client.bulk(frames).await,
                Class::Control => client.control(frames).await,
            };
            let mut verdicts = response?.into_inner();
            let verdict = verdicts.message().await?;
            Ok::<_, Status>((verdicts, verdict))
        };
        let (verdicts, verdict) = match timeout(limits::PEER_HANDSHAKE_TIMEOUT, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(status)) => {
                return Err(Ended::NotReached { error: words(&status), process_gone: false });
            }
            Err(_) => {
                let error = "no answer to the handshake in time".to_owned();
                return Err(Ended::NotReached { error, process_gone: false });
            }
        };
        let welcome = match verdict.and_then(|verdict| verdict.verdict) {
            Some(Verdict::Welcome(welcome)) => welcome,
            Some(Verdict::Refusal(refusal)) => return Err(Ended::Refused(refusal)),
            None => {
                let error = "the handshake ended without a verdict".to_owned();
                return Err(Ended::NotReached { error, process_gone: false });
            }
        };
        let shared = Arc::clone(&self.shared);
        let peer = self.peer;
        // The first meeting is written to the disk.
        let judged = tokio::task::spawn_blocking(move || shared.local.judge_welcome(peer, &welcome)).await;
        let judged = judged.unwrap_or_else(|error| Err(error.to_string()));
        let met = judged.map_err(Ended::Unfit)?;
        Ok(Link { guard, verdicts, remote: met, frames_remote: remote, _channel: client })
    }

    /// Tells the shards, the log and the status page.
    fn report(&mut self, ended: &Ended) {
        let (text, told) = match ended {
            Ended::NotReached { error, process_gone: true } => (error.clone(), Told::ProcessGone),
            Ended::NotReached { error, process_gone: false } => (error.clone(), Told::Broken),
            Ended::Refused(refusal) => (refusal.message.clone(), Told::Broken),
            Ended::Unfit(message) => (message.clone(), Told::Broken),
            Ended::Broke(error) => (error.clone(), Told::Broken),
        };
        self.shared.update(self.peer, |state| {
            state.connected = false;
            state.last_error.clone_from(&text);
            // That the network is mute says nothing of the process.
            state.process_gone |= told == Told::ProcessGone;
        });
        self.tell(told);
        self.log(ended, text);
        if let Ended::Refused(refusal) = ended {
            let own_fault = matches!(
                refusal.reason(),
                RefusalReason::OtherCluster
                    | RefusalReason::SenderIncarnation
                    | RefusalReason::OldCopy
                    | RefusalReason::UnknownNode
            );
            if refusal.reason() == RefusalReason::OldCopy {
                let (shared, message) = (Arc::clone(&self.shared), refusal.message.clone());
                // On the disk: not for this thread.
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = shared.local.identity.note_refused(&message) {
                        tracing::error!(%error, "that this directory is an old copy could not be noted in it");
                    }
                });
            }
            if own_fault && !self.shared.let_in.load(Ordering::Acquire) {
                self.shared.refused.send_replace(Some(refusal.message.clone()));
            }
        }
    }

    /// The same line again only now and then.
    fn log(&mut self, ended: &Ended, text: String) {
        if self.logged.0 == text && self.logged.1 < LOG_EVERY {
            self.logged.1 += 1;
            return;
        }
        let (peer, address) = (self.peer, &self.address);
        match ended {
            // Once for as long as it lasts, whatever the reasons. Of one that was there the pulse says that it is down.
            Ended::NotReached { .. } if self.reach == Reach::Never => {
                tracing::warn!(%peer, %address, error = %text, "peer cannot be reached: it is tried again and again");
                self.reach = Reach::Missed;
            }
            Ended::NotReached { .. } => {
                tracing::debug!(%peer, %address, error = %text, "peer cannot be reached");
            }
            Ended::Refused(_) => tracing::error!(%peer, %address, reason = %text, "refused by peer"),
            Ended::Unfit(_) => tracing::error!(%peer, %address, reason = %text, "peer refused"),
            Ended::Broke(_) => tracing::info!(%peer, %address, error = %text, "connection to peer lost"),
        }
        self.logged = (text, 0);
    }

    fn tell(&mut self, told: Told) {
        // A process that is gone stays gone while nobody answers; that the network is mute is no news then.
        let news = match (self.told, told) {
            (_, Told::Connected) => true,
            (Told::Connected, _) | (_, Told::ProcessGone) => self.told != told,
            (_, Told::Nothing | Told::Broken) => false,
        };
        if !news {
            return;
        }
        self.told = told;
        let peer = self.peer;
        let at = self.clock.monotonic();
        self.pulse.tell(match told {
            Told::Connected => News::Connected { peer, at },
            Told::Nothing | Told::Broken => News::Disconnected { peer, at },
            Told::ProcessGone => News::Refused { peer },
        });
    }
}

/// One welcomed connection.
struct Link {
    guard: LaneGuard,
    verdicts: Streaming<PeerVerdict>,
    remote: Remote,
    frames_remote: Arc<std::sync::OnceLock<Remote>>,
    _channel: PeerClient<Channel>,
}

impl Link {
    /// Lets messages flow: from now on the other side's disk is known.
    fn open(&self, shared: &Shared, remote: Remote) {
        debug_assert!(shared.lanes.contains_key(&remote.node));
        let _ = self.frames_remote.set(remote);
        self.guard.lane.open(self.guard.connection);
    }

    /// Waits for the end.
    async fn over(&mut self) -> Ended {
        match self.verdicts.message().await {
            Ok(Some(PeerVerdict { verdict: Some(Verdict::Refusal(refusal)) })) => Ended::Refused(refusal),
            Ok(Some(_)) => Ended::Broke("a second verdict on one connection".to_owned()),
            Ok(None) => Ended::Broke("closed by the peer".to_owned()),
            Err(status) => Ended::Broke(words(&status)),
        }
    }
}

/// Closes the lane however the session ends.
struct LaneGuard {
    lane: Arc<Lane>,
    connection: u64,
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.lane.close(self.connection);
    }
}

/// What a connection sends: the hello, then batches out of its lane.
struct Frames {
    hello: Option<Hello>,
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    connection: u64,
    /// Set before the lane opens.
    remote: Arc<std::sync::OnceLock<Remote>>,
}

impl Stream for Frames {
    type Item = PeerFrame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PeerFrame>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(PeerFrame { frame: Some(Frame::Hello(hello)) }));
        }
        let Some(messages) = ready!(self.lane.poll_batch(self.connection, context)) else {
            return Poll::Ready(None);
        };
        let Some(remote) = self.remote.get() else { return Poll::Ready(None) };
        let local = &self.shared.local;
        let messages = messages.into_iter().map(|message| convert::encode(message, local.boot));
        let batch = Batch {
            from_incarnation: local.identity.incarnation().0,
            to_incarnation: remote.incarnation.0,
            messages: messages.collect(),
        };
        Poll::Ready(Some(PeerFrame { frame: Some(Frame::Batch(batch)) }))
    }
}

/// A status without the debug form of its cause that its own display adds.
fn words(status: &Status) -> String {
    caused(status.message().to_owned(), status.source())
}

/// The message with everything that caused it.
fn chain(error: &(dyn Error + 'static)) -> String {
    caused(error.to_string(), error.source())
}

fn caused(mut text: String, mut source: Option<&(dyn Error + 'static)>) -> String {
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Whether the host answered that nothing listens at the address: the process is gone, not the network.
fn is_connection_refused(error: &(dyn Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = cause.source();
    }
    false
}

/// A line that repeats is logged again after this many times: half a minute at the longest back-off.
const LOG_EVERY: u32 = 30;

/// A verdict is a few fields and one text.
const VERDICT_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(VERDICT_BYTES_MAX < MESSAGE_BYTES_MAX);
