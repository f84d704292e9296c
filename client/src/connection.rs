//! Channels to brokers: one multiplexed HTTP/2 connection per broker and use, made when first needed and remade by
//! tonic whenever it breaks.

use crate::config::ClientConfig;
use crate::error::ConnectError;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, CONSUMER_WINDOW_BYTES, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
    STREAM_WINDOW_BYTES, SUBSCRIPTION_WINDOW_BYTES,
};
use parking_lot::Mutex;
use raftline_proto::api::broker_client::BrokerClient;
use raftline_proto::limits::MESSAGE_BYTES_MAX;
use std::collections::HashMap;
use tonic::transport::{Channel, Endpoint};

/// A broker's gRPC stub. Cheap to clone.
pub(crate) type Stub = BrokerClient<Channel>;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    /// Producing and asking: large windows, as acknowledgements and metadata never pile up.
    Requests,
    /// Subscriptions: small windows, as brokers push whatever the windows take, read or not.
    Subscriptions,
}

/// All connections of a client.
#[derive(Debug)]
pub(crate) struct Connections {
    connect_timeout: std::time::Duration,
    channels: Mutex<HashMap<(Use, String), Channel>>,
}

impl Connections {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self { connect_timeout: config.connect_timeout, channels: Mutex::default() }
    }

    /// The stub for `address` (`host:port`). Does not dial: the first call does.
    pub(crate) fn stub(&self, purpose: Use, address: &str) -> Result<Stub, ConnectError> {
        let mut channels = self.channels.lock();
        let key = (purpose, address.to_owned());
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.endpoint(purpose, address)?.connect_lazy();
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(BrokerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn endpoint(&self, purpose: Use, address: &str) -> Result<Endpoint, ConnectError> {
        let invalid = |reason: String| ConnectError::InvalidAddress { address: address.to_owned(), reason };
        let (host, port) = address.rsplit_once(':').ok_or_else(|| invalid("the port is missing".into()))?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(invalid("expected a host, a colon and a port number".into()));
        }
        let (stream_window, connection_window) = match purpose {
            Use::Requests => (STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES),
            Use::Subscriptions => (SUBSCRIPTION_WINDOW_BYTES, CONSUMER_WINDOW_BYTES),
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| invalid(error.to_string()))?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(false);
        Ok(endpoint)
    }
}

/// What a failed call says to a person: tonic's own words hide the cause one or two errors down.
pub(crate) fn describe_status(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text = said;
        }
        source = error.source();
    }
    if text.is_empty() { format!("the connection ended ({})", status.code()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_that_are_none_are_named() {
        let connections = Connections::new(&ClientConfig::default());
        for address in ["localhost", ":9192", "host:port", "host:70000", "ho st:1"] {
            let error = connections.stub(Use::Requests, address).expect_err(address);
            assert!(error.to_string().contains(address), "{error}");
        }
        assert!(connections.stub(Use::Requests, "127.0.0.1:9192").is_ok());
    }
}
