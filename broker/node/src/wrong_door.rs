//! Clients that came to the wrong port: they are told so where their protocol can say it, and the operator in any case.

use crate::clock::Clock;
use crate::limits;
use crate::log_limit::LogLimit;
use std::net::SocketAddr;

/// Which door is where, for whoever took the wrong one.
#[derive(Debug)]
pub struct Signposts {
    clock: Clock,
    /// Where gRPC is spoken, as clients should dial it.
    grpc: String,
    /// Where Kafka's protocol is: `NAME host:port` of each listener; empty if it is spoken nowhere.
    kafka: String,
    /// For lines that clients cause at the gRPC port.
    grpc_lines: LogLimit,
    /// The same at the Kafka ports.
    kafka_lines: LogLimit,
}

/// Who came, going by the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// It opens HTTP/2: `raftline`, or another client of the native API.
    Grpc,
    /// It sends the size of a Kafka request.
    Kafka,
    /// It wants TLS.
    Tls,
    /// It speaks HTTP/1: a browser, curl.
    Http,
    /// None of these.
    Unknown,
}

/// How an HTTP/2 connection begins, and so a gRPC one.
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Caller {
    /// Who begins so. Four bytes are enough, and fewer may be.
    #[must_use]
    pub fn of(first: &[u8]) -> Self {
        match first {
            [b'P', b'R', b'I', ..] => Self::Grpc,
            // No request of Kafka's is over 16 MiB when a client opens a connection.
            [0, ..] => Self::Kafka,
            [0x16, 0x03, ..] => Self::Tls,
            [b'G', b'E', b'T', ..] | [b'P', b'O', b'S', ..] | [b'H', b'E', b'A', ..] => Self::Http,
            _ => Self::Unknown,
        }
    }
}

impl Signposts {
    /// The doors of a broker.
    #[must_use]
    pub fn new(clock: Clock, grpc: String, kafka: &[(String, String)]) -> Self {
        let kafka: Vec<String> = kafka.iter().map(|(name, address)| format!("{address} ({name})")).collect();
        let lines = || LogLimit::once_in(limits::WRONG_DOOR_LINE_EVERY);
        Self { clock, grpc, kafka: kafka.join(", "), grpc_lines: lines(), kafka_lines: lines() }
    }

    /// What is wrong with calling the gRPC port so.
    #[must_use]
    pub fn at_grpc(&self, caller: Caller) -> String {
        let Self { grpc, kafka, .. } = self;
        match caller {
            Caller::Kafka if kafka.is_empty() => format!(
                "a Kafka client came to the gRPC port {grpc}, and there is none for Kafka: start the broker with --kafka"
            ),
            Caller::Kafka => format!("a Kafka client came to the gRPC port {grpc}: Kafka's is {kafka}"),
            Caller::Tls => {
                format!("a client wants TLS at the gRPC port {grpc}: TLS is not served, use plain text")
            }
            Caller::Http => {
                format!("a client speaks HTTP/1 at the gRPC port {grpc}, where gRPC alone is spoken")
            }
            Caller::Grpc | Caller::Unknown => format!("a client does not speak gRPC at the gRPC port {grpc}"),
        }
    }

    /// What is wrong with calling a Kafka port so; `None` if nobody can tell.
    #[must_use]
    pub fn at_kafka(&self, caller: Caller) -> Option<String> {
        let Self { grpc, kafka, .. } = self;
        match caller {
            Caller::Grpc => Some(format!("a gRPC client came to Kafka's port {kafka}: gRPC's is {grpc}")),
            Caller::Tls => {
                Some(format!("a client wants TLS at Kafka's port {kafka}: TLS is not served, use PLAINTEXT"))
            }
            Caller::Http => Some(format!(
                "a client speaks HTTP at Kafka's port {kafka}, where Kafka's protocol is spoken"
            )),
            Caller::Kafka | Caller::Unknown => None,
        }
    }

    /// Tells the operator who came to the gRPC port, but not of each of many.
    pub fn warn_at_grpc(&self, from: Option<SocketAddr>, why: &str) {
        self.warn(&self.grpc_lines, from, why);
    }

    /// The same of a Kafka port.
    pub fn warn_at_kafka(&self, from: Option<SocketAddr>, why: &str) {
        self.warn(&self.kafka_lines, from, why);
    }

    fn warn(&self, lines: &LogLimit, from: Option<SocketAddr>, why: &str) {
        if let Some(left_out) = lines.admit(self.clock.monotonic()) {
            let left_out = (left_out > 0).then_some(left_out);
            tracing::warn!(peer = ?from, left_out, "{why}");
        }
    }
}

/// The last words to a gRPC client at another protocol's port, in its own: settings, and that the connection goes away
/// because of this.
#[must_use]
pub fn go_away(why: &str) -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const GO_AWAY: u8 = 7;
    const PROTOCOL_ERROR: u32 = 1;
    let why = why.as_bytes();
    let mut bytes = frame_header(0, SETTINGS);
    bytes.extend(frame_header(8 + why.len(), GO_AWAY));
    // No stream was looked at.
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(PROTOCOL_ERROR.to_be_bytes());
    bytes.extend(why);
    bytes
}

/// RFC 9113, 4.1: a size of three bytes, a kind, no flags, no stream.
fn frame_header(size: usize, kind: u8) -> Vec<u8> {
    let [_, size @ ..] = u32::try_from(size).unwrap_or(0).to_be_bytes();
    [&size[..], &[kind, 0], &[0; 4]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_known_by_their_first_bytes() {
        assert_eq!(Caller::of(HTTP2_PREFACE), Caller::Grpc);
        assert_eq!(Caller::of(&[0, 0, 0, 38, 0, 18]), Caller::Kafka);
        assert_eq!(Caller::of(&[0x16, 0x03, 0x01, 0x02]), Caller::Tls);
        assert_eq!(Caller::of(b"GET / HTTP/1.1"), Caller::Http);
        assert_eq!(Caller::of(b"SSH-2.0"), Caller::Unknown);
    }

    #[test]
    fn both_ports_are_named() {
        let kafka = [("PLAINTEXT".to_owned(), "b:9092".to_owned())];
        let posts = Signposts::new(Clock::start(), "a:9192".to_owned(), &kafka);
        for text in [Some(posts.at_grpc(Caller::Kafka)), posts.at_kafka(Caller::Grpc)] {
            let text = text.expect("wrong");
            assert!(text.contains("a:9192") && text.contains("b:9092"), "{text}");
        }
        let posts = Signposts::new(Clock::start(), "a:9192".to_owned(), &[]);
        assert!(posts.at_grpc(Caller::Kafka).contains("--kafka"));
        assert_eq!(posts.at_kafka(Caller::Unknown), None);
    }
}
