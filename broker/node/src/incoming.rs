//! The listener's connections: bounded, counted, and refused in words where there is no room (FAULTS P11).

use crate::limits;
use crate::wrong_door::{Caller, HTTP2_PREFACE, Signposts};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Accepts connections for as long as it is asked to. Never ends and never fails: what goes wrong with one
/// connection, or for lack of descriptors, is waited out.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// After a failure that comes back at once if one tries at once.
    pause: Option<Pin<Box<Sleep>>>,
    /// Connections refused since one was last taken.
    refused: u64,
    /// Where gRPC alone is spoken: for those that speak something else.
    grpc_only: Option<Arc<Signposts>>,
}

impl Incoming {
    /// Connections of this listener, at most `connections_max` at a time.
    #[must_use]
    pub fn new(listener: TcpListener, connections_max: usize) -> Self {
        Self::sharing(listener, Arc::new(Semaphore::new(connections_max)))
    }

    /// Connections of this listener, as many at a time as there are places, which other listeners may share.
    #[must_use]
    pub fn sharing(listener: TcpListener, places: Arc<Semaphore>) -> Self {
        Self { listener, places, pause: None, refused: 0, grpc_only: None }
    }

    /// Ends connections that do not begin as gRPC's do, and tells the operator who came.
    #[must_use]
    pub fn for_grpc_only(self, signposts: Arc<Signposts>) -> Self {
        Self { grpc_only: Some(signposts), ..self }
    }

    /// A connection beyond the bound is closed at once: whoever dials it sees that, instead of waiting unheard.
    fn admit(&mut self, stream: TcpStream) -> Option<Connection> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            if self.refused.is_multiple_of(LOG_EVERY) {
                let from = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
                tracing::warn!(from, refused = self.refused + 1, "too many connections: new ones are closed");
            }
            self.refused += 1;
            return None;
        };
        self.refused = 0;
        // Replies are written whole; holding back their last packet would only add latency.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let preface = self.grpc_only.clone().map(|signposts| Preface { signposts, seen: 0 });
        Some(Connection { stream, _place: place, preface })
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) => {
                    if let Some(connection) = self.admit(stream) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted at the moment (descriptor limit?)");
                    self.pause = Some(Box::pin(tokio::time::sleep(limits::ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// Whether the error tells of the connection that was to be accepted, and not of this process.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
    )
}

/// A connection that holds its place until it is closed.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
    /// What is still to be seen of how a gRPC connection begins.
    preface: Option<Preface>,
}

/// The beginning of a gRPC connection, as it arrives.
#[derive(Debug)]
struct Preface {
    signposts: Arc<Signposts>,
    /// How many of its bytes have arrived.
    seen: usize,
}

impl Preface {
    /// Looks at what has arrived; whether the preface is complete.
    fn check(&mut self, arrived: &[u8], stream: &TcpStream) -> io::Result<bool> {
        let rest = &HTTP2_PREFACE[self.seen..];
        let (expected, found) =
            (&rest[..rest.len().min(arrived.len())], &arrived[..rest.len().min(arrived.len())]);
        if expected != found {
            // Nothing else begins with the preface's first bytes, so that those at hand tell who it is.
            let caller = if self.seen == 0 { Caller::of(arrived) } else { Caller::Unknown };
            let why = self.signposts.at_grpc(caller);
            self.signposts.warn_at_grpc(stream.peer_addr().ok(), &why);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.seen += found.len();
        Ok(self.seen == HTTP2_PREFACE.len())
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let Connection { stream, preface, .. } = &mut *self;
        if let Some(expected) = preface
            && expected.check(&into.filled()[before..], stream)?
        {
            *preface = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// One line for this many refusals.
const LOG_EVERY: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio_stream::StreamExt;

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_a_place_is_given_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = Incoming::new(listener, 1);
        let _first = TcpStream::connect(address).await.unwrap();
        let taken = incoming.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        let closed = tokio::select! {
            closed = second.read(&mut byte) => closed,
            _ = incoming.next() => panic!("no place was free"),
        };
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        drop(taken);
        let _third = TcpStream::connect(address).await.unwrap();
        incoming.next().await.unwrap().unwrap();
    }
}
