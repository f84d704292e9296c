//! One connection: frames in, answers out in the order of their requests.
//!
//! Kafka's brokers serve one request of a connection at a time, and clients rely on it. Here produces may overlap, for
//! they are appended in their order and only wait side by side; any other request begins when those before it are
//! decided. While one is decided nothing more is taken from the socket than a buffer full, which also shows whether
//! the client is still there.

use super::sessions::ConnectionId;
use super::{Door, dispatch, metadata, produce};
use crate::limits;
use crate::wrong_door::{Caller, go_away};
use bytes::{Bytes, BytesMut};
use raftline_kafka::api::Api;
use raftline_kafka::api_versions;
use raftline_kafka::frame::Splitter;
use raftline_kafka::limits::{FRAME_BYTES_MAX, FRAME_RESERVE_BYTES_MIN};
use raftline_kafka::messages::Body;
use raftline_kafka::request::{self, HeaderError, Request};
use std::fmt;
use std::future::pending;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tonic::transport::server::Connected;

use crate::incoming::Connection;

/// What goes out: the pieces of one or no frame, sizes included.
pub(super) type Answer = Vec<Bytes>;

/// An answer that is decided later.
pub(super) type Later = Pin<Box<dyn Future<Output = Result<Answer, Close>> + Send>>;

/// Why a connection has to end. The client sees it closed, which Kafka's clients take for "try another broker".
#[derive(Debug)]
pub(super) enum Close {
    /// The client ended it, or the network did.
    Gone(io::Error),
    /// What it sent cannot be taken; the text says what.
    Refused(String),
    /// It does not speak Kafka's protocol, and that much was said.
    WrongDoor,
    /// A produce without acknowledgement failed: this is how its client hears of it.
    Unacknowledged(String),
    /// The process is stopping.
    Stopping,
}

impl Close {
    pub(super) fn refused(why: impl fmt::Display) -> Self {
        Self::Refused(why.to_string())
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: Option<SocketAddr>,
    /// Which of this process's connections it is.
    pub(super) connection: ConnectionId,
}

impl Peer {
    /// As Kafka shows it: a slash and the address.
    pub(super) fn host(&self) -> String {
        self.address.map_or_else(String::new, |address| format!("/{}", address.ip()))
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(door: Arc<Door>, connection: Connection) {
    let number = door.connections.fetch_add(1, Ordering::Relaxed);
    let peer = Peer { address: connection.connect_info().remote_addr(), connection: ConnectionId(number) };
    let (reader, writer) = tokio::io::split(connection);
    let (answers, queue) = mpsc::channel(limits::KAFKA_PIPELINE_MAX);
    let inbound = Inbound {
        door: Arc::clone(&door),
        peer: peer.clone(),
        reader,
        received: BytesMut::new(),
        answers,
        undecided: Arc::new(Semaphore::new(limits::KAFKA_PIPELINE_MAX)),
    };
    let mut written = tokio::spawn(write_answers(writer, queue));
    let ended = tokio::select! {
        ended = inbound.run() => (ended, written.await),
        () = door.stop.cancelled() => (Err(Close::Stopping), written.await),
        // What is asked from here on would not be answered: the client is not to wait for it.
        written = &mut written => (Ok(()), written),
    };
    let ended = match ended {
        (_, Ok(Err(close))) => Err(close),
        (ended, _) => ended,
    };
    match ended {
        Ok(()) | Err(Close::Stopping | Close::WrongDoor) => {}
        Err(Close::Gone(error)) => tracing::debug!(peer = ?peer.address, %error, "Kafka connection lost"),
        Err(Close::Refused(why)) => {
            if let Some(left_out) = door.closes.admit(door.broker.clock.monotonic()) {
                let left_out = (left_out > 0).then_some(left_out);
                tracing::warn!(peer = ?peer.address, %why, left_out, "Kafka connection closed");
            }
        }
        Err(Close::Unacknowledged(why)) => {
            if let Some(left_out) = door.closes.admit(door.broker.clock.monotonic()) {
                let left_out = (left_out > 0).then_some(left_out);
                let failed = "Kafka connection closed: a produce with acks=0 failed";
                tracing::info!(peer = ?peer.address, %why, left_out, "{failed}");
            }
        }
    }
}

/// The reading half.
struct Inbound {
    door: Arc<Door>,
    peer: Peer,
    reader: ReadHalf<Connection>,
    received: BytesMut,
    answers: mpsc::Sender<Later>,
    /// A permit for each answer that is not decided yet.
    undecided: Arc<Semaphore>,
}

impl Inbound {
    async fn run(mut self) -> Result<(), Close> {
        metadata::registered(&self.door).await;
        let splitter = Splitter::new(FRAME_BYTES_MAX);
        loop {
            let Some((frame, permit)) = self.frame(splitter).await? else { return Ok(()) };
            self.take(&frame, permit).await?;
        }
    }

    /// The next frame and the share of memory that it takes; `None` at the end.
    async fn frame(
        &mut self,
        splitter: Splitter,
    ) -> Result<Option<(Bytes, Option<OwnedSemaphorePermit>)>, Close> {
        if let Some(frame) = self.split(splitter).await? {
            return Ok(Some((frame, None)));
        }
        let mut permit = None;
        loop {
            let expected = announced(&self.received);
            let arrived = self.received.len();
            if permit.is_none() && expected > FRAME_RESERVE_BYTES_MIN && arrived >= FRAME_RESERVE_BYTES_MIN {
                // Before more is read than a small buffer: large requests wait for each other, not for memory. Not
                // earlier: who only announces one, and sends nothing, is to hold up nobody.
                let kibibytes = u32::try_from(expected.div_ceil(1024)).unwrap_or(u32::MAX);
                let share = Arc::clone(&self.door.frames).acquire_many_owned(kibibytes).await;
                permit = Some(share.map_err(|_| Close::Stopping)?);
            }
            let begun = !self.received.is_empty();
            let read = self.reader.read_buf(&mut self.received);
            let read = if begun {
                timeout(limits::KAFKA_FRAME_TIMEOUT, read).await.unwrap_or_else(|_| {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "a request was begun and not gone on with"))
                })
            } else {
                read.await
            };
            match read {
                Ok(0) if begun => return Err(Close::Gone(io::ErrorKind::UnexpectedEof.into())),
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(Close::Gone(error)),
            }
            if let Some(frame) = self.split(splitter).await? {
                return Ok(Some((frame, permit)));
            }
        }
    }

    /// The first whole frame of what was received. A size that no frame has may be another protocol's first word.
    async fn split(&mut self, splitter: Splitter) -> Result<Option<Bytes>, Close> {
        let first = self.received.first_chunk::<4>().copied().unwrap_or_default();
        match splitter.next(&mut self.received) {
            Ok(frame) => Ok(frame),
            Err(error) => {
                Err(self.wrong_door(Caller::of(&first)).await.unwrap_or_else(|| Close::refused(error)))
            }
        }
    }

    /// Tells the operator, and a gRPC client itself, that this is no door for it.
    async fn wrong_door(&mut self, caller: Caller) -> Option<Close> {
        let why = self.door.signposts.at_kafka(caller)?;
        self.door.signposts.warn_at_kafka(self.peer.address, &why);
        if caller == Caller::Grpc && self.answer_now(vec![go_away(&why).into()]).await.is_ok() {
            // The client closes when it has read that. Were it closed here, with bytes of the client's unread, the answer
            // might be lost on its way.
            self.received.clear();
            drop(timeout(limits::WRONG_DOOR_WAIT, watch(&mut self.reader, &mut self.received)).await);
        }
        Some(Close::WrongDoor)
    }

    /// Takes one request: produces go on in the background, others are decided before the next one is looked at.
    async fn take(&mut self, frame: &Bytes, memory: Option<OwnedSemaphorePermit>) -> Result<(), Close> {
        let request = match request::open(frame, dispatch::SERVED) {
            Ok(request) => request,
            Err(HeaderError::ApiVersions { correlation_id, .. }) => {
                let answer = api_versions::unsupported(correlation_id, dispatch::SERVED);
                return self.answer_now(vec![answer]).await;
            }
            Err(error) => return Err(Close::refused(error)),
        };
        let body = Body::decode(&request).map_err(Close::refused)?;
        if let Body::Produce(body) = body {
            let place = Arc::clone(&self.undecided).acquire_owned().await.map_err(|_| Close::Stopping)?;
            // All clients' batches on their way to a quorum share one budget, the native API's among them.
            let kibibytes = u32::try_from(frame.len().div_ceil(1024)).unwrap_or(u32::MAX).max(1);
            let bytes = Arc::clone(&self.door.broker.produce_budget).acquire_many_owned(kibibytes).await;
            let bytes = bytes.map_err(|_| Close::Stopping)?;
            let decided = produce::submit(&self.door, &request.header, body).await;
            let later = async move {
                let answer = decided.await;
                drop((place, bytes, memory));
                answer
            };
            return self.queue(Box::pin(later)).await;
        }
        // All earlier produces are decided once every permit is back.
        let all = u32::try_from(limits::KAFKA_PIPELINE_MAX).unwrap_or(u32::MAX);
        drop(self.undecided.acquire_many(all).await.map_err(|_| Close::Stopping)?);
        let answer = self.decide(&request, body).await?;
        drop(memory);
        self.answer_now(answer).await
    }

    /// Decides a request; ends early if the client goes away meanwhile.
    async fn decide(&mut self, request: &Request, body: Body) -> Result<Answer, Close> {
        let door = Arc::clone(&self.door);
        let peer = self.peer.clone();
        let deciding = dispatch::decide(&door, &peer, request, body);
        tokio::select! {
            decided = deciding => decided,
            gone = watch(&mut self.reader, &mut self.received), if request.header.api != Api::CreateTopics => {
                Err(Close::Gone(gone))
            }
        }
    }

    async fn answer_now(&mut self, answer: Answer) -> Result<(), Close> {
        self.queue(Box::pin(async move { Ok(answer) })).await
    }

    async fn queue(&mut self, later: Later) -> Result<(), Close> {
        let gone = |_| Close::Gone(io::ErrorKind::BrokenPipe.into());
        self.answers.send(later).await.map_err(gone)
    }
}

/// The size of the frame that `received` begins with, as far as it is there; 0 if it is not.
fn announced(received: &BytesMut) -> usize {
    let size = received.first_chunk::<4>().map_or(0, |size| i32::from_be_bytes(*size));
    usize::try_from(size).unwrap_or(0)
}

/// Reads ahead, a little, to see whether the client is still there. Returns when it is not.
async fn watch(reader: &mut ReadHalf<Connection>, received: &mut BytesMut) -> io::Error {
    while received.len() < FRAME_RESERVE_BYTES_MIN {
        received.reserve(FRAME_RESERVE_BYTES_MIN - received.len());
        match reader.read_buf(received).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
    pending().await
}

/// The writing half: waits for each answer in turn. Ends when the reading half has, and all is out.
async fn write_answers(
    mut writer: WriteHalf<Connection>,
    mut queue: mpsc::Receiver<Later>,
) -> Result<(), Close> {
    while let Some(later) = queue.recv().await {
        let answer = later.await?;
        let written = timeout(limits::KAFKA_WRITE_TIMEOUT, write_all(&mut writer, answer)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Close::Gone(error)),
            Err(_) => {
                let why = "the client does not read its answers";
                return Err(Close::Gone(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
        }
    }
    // Whatever goes wrong now concerns nobody any more.
    drop(writer.shutdown().await);
    Ok(())
}

/// Writes all pieces, many at a time, without copying them.
async fn write_all(writer: &mut WriteHalf<Connection>, mut pieces: Answer) -> io::Result<()> {
    let (mut first, mut skip) = (0, 0);
    pieces.retain(|piece| !piece.is_empty());
    while first < pieces.len() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&pieces[first..]) {
            *slice = IoSlice::new(if count == 0 { &piece[skip..] } else { piece });
            count += 1;
        }
        let mut written = writer.write_vectored(&slices[..count]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let left = pieces[first].len() - skip;
            if written < left {
                skip += written;
                break;
            }
            written -= left;
            first += 1;
            skip = 0;
        }
    }
    writer.flush().await
}

/// Pieces given to the socket at once.
const SLICES_MAX: usize = 64;
