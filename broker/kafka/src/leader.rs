//! Who leads a partition, told with the error that says "not I" (KIP-951): saves the client a Metadata request.

use crate::wire::Output;
use kafka_protocol::protocol::StrBytes;

/// A partition's leader, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its node id.
    pub id: i32,
    /// Its term, on the wire the leader epoch; it never goes backwards.
    pub epoch: i32,
}

/// Where a broker is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Its node id.
    pub id: i32,
    /// The host that its Kafka listener advertises.
    pub host: StrBytes,
    /// The port that it advertises.
    pub port: i32,
    /// The rack that it stands in, if configured.
    pub rack: Option<StrBytes>,
}

impl Leader {
    /// As the value of a tagged field.
    pub(crate) fn encode(self) -> Output {
        Output::tag(|output| {
            output.i32(self.id);
            output.i32(self.epoch);
            output.no_tags();
        })
    }
}

impl NodeEndpoint {
    /// As the value of a tagged field.
    pub(crate) fn encode_all(endpoints: &[Self]) -> Output {
        Output::tag(|output| {
            output.size(Some(endpoints.len()));
            for endpoint in endpoints {
                output.i32(endpoint.id);
                output.text(&endpoint.host);
                output.i32(endpoint.port);
                output.optional_text(endpoint.rack.as_deref());
                output.no_tags();
            }
        })
    }
}
