//! Requests and answers: bodies that were let in, decoded behind the screen, and answers as frames.
//!
//! Produce and Fetch are written by hand, in [`crate::produce`] and [`crate::fetch`]. The other messages are the
//! `kafka-protocol` crate's own types.

use crate::api::Api;
use crate::fetch::FetchRequest;
use crate::produce::ProduceRequest;
use crate::request::Request;
use crate::screen::{Cost, ScreenError, Shape, screen};
use crate::shapes;
use crate::wire::{Output, WireError};
use bytes::Bytes;
use core::fmt;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable};

macro_rules! messages {
    ($($api:ident: $request:ident, $answer:ident, $shape:ident;)+) => {
        /// The body of a request, decoded: one variant for each API that can be served.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "named as the APIs, whose messages they hold")]
        pub enum Body {
            Produce(ProduceRequest),
            Fetch(FetchRequest),
            $($api(m::$request),)+
        }

        impl Body {
            /// Screens and decodes the body of a request that was let in. Texts and bytes are shared with the frame.
            ///
            /// # Errors
            /// [`DecodeError`]: close the connection.
            pub fn decode(request: &Request) -> Result<Self, DecodeError> {
                let (version, body) = (request.header.version, &request.body);
                match request.header.api {
                    Api::Produce => Ok(Self::Produce(ProduceRequest::decode(version, body)?)),
                    Api::Fetch => Ok(Self::Fetch(FetchRequest::decode(version, body)?)),
                    $(Api::$api => decode(Api::$api, &shapes::$shape, version, body).map(Self::$api),)+
                }
            }
        }

        /// The shape of an API's requests; `None` for Produce and Fetch, whose decoders need no screen.
        #[must_use]
        pub const fn shape(api: Api) -> Option<&'static Shape> {
            match api {
                Api::Produce | Api::Fetch => None,
                $(Api::$api => Some(&shapes::$shape),)+
            }
        }

        $(impl Answer for m::$answer {
            const API: Api = Api::$api;
        })+
    };
}

messages! {
    ListOffsets: ListOffsetsRequest, ListOffsetsResponse, LIST_OFFSETS;
    Metadata: MetadataRequest, MetadataResponse, METADATA;
    OffsetCommit: OffsetCommitRequest, OffsetCommitResponse, OFFSET_COMMIT;
    OffsetFetch: OffsetFetchRequest, OffsetFetchResponse, OFFSET_FETCH;
    FindCoordinator: FindCoordinatorRequest, FindCoordinatorResponse, FIND_COORDINATOR;
    JoinGroup: JoinGroupRequest, JoinGroupResponse, JOIN_GROUP;
    Heartbeat: HeartbeatRequest, HeartbeatResponse, HEARTBEAT;
    LeaveGroup: LeaveGroupRequest, LeaveGroupResponse, LEAVE_GROUP;
    SyncGroup: SyncGroupRequest, SyncGroupResponse, SYNC_GROUP;
    DescribeGroups: DescribeGroupsRequest, DescribeGroupsResponse, DESCRIBE_GROUPS;
    ListGroups: ListGroupsRequest, ListGroupsResponse, LIST_GROUPS;
    ApiVersions: ApiVersionsRequest, ApiVersionsResponse, API_VERSIONS;
    CreateTopics: CreateTopicsRequest, CreateTopicsResponse, CREATE_TOPICS;
    DeleteTopics: DeleteTopicsRequest, DeleteTopicsResponse, DELETE_TOPICS;
    DeleteRecords: DeleteRecordsRequest, DeleteRecordsResponse, DELETE_RECORDS;
    InitProducerId: InitProducerIdRequest, InitProducerIdResponse, INIT_PRODUCER_ID;
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OFFSET_FOR_LEADER_EPOCH;
    DescribeAcls: DescribeAclsRequest, DescribeAclsResponse, DESCRIBE_ACLS;
    CreateAcls: CreateAclsRequest, CreateAclsResponse, CREATE_ACLS;
    DeleteAcls: DeleteAclsRequest, DeleteAclsResponse, DELETE_ACLS;
    DescribeConfigs: DescribeConfigsRequest, DescribeConfigsResponse, DESCRIBE_CONFIGS;
    AlterConfigs: AlterConfigsRequest, AlterConfigsResponse, ALTER_CONFIGS;
    DescribeLogDirs: DescribeLogDirsRequest, DescribeLogDirsResponse, DESCRIBE_LOG_DIRS;
    CreatePartitions: CreatePartitionsRequest, CreatePartitionsResponse, CREATE_PARTITIONS;
    DeleteGroups: DeleteGroupsRequest, DeleteGroupsResponse, DELETE_GROUPS;
    IncrementalAlterConfigs:
        IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, INCREMENTAL_ALTER_CONFIGS;
    OffsetDelete: OffsetDeleteRequest, OffsetDeleteResponse, OFFSET_DELETE;
    DescribeCluster: DescribeClusterRequest, DescribeClusterResponse, DESCRIBE_CLUSTER;
    ConsumerGroupHeartbeat:
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, CONSUMER_GROUP_HEARTBEAT;
    ConsumerGroupDescribe:
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, CONSUMER_GROUP_DESCRIBE;
}

/// An answer of one API.
pub trait Answer: Encodable {
    /// Whose answer it is.
    const API: Api;
}

/// The whole answer to a request of that version and number, to be sent as it is.
///
/// # Errors
/// [`EncodeError`] if the message sets a field that the version does not have and that may not be left out: a bug of
/// the dispatcher.
pub fn encode<A: Answer>(version: i16, correlation_id: i32, answer: &A) -> Result<Bytes, EncodeError> {
    let api = A::API;
    let mut output = Output::frame(api.answer_header_encoding(version), BYTES_HINT);
    output.i32(correlation_id);
    output.no_tags();
    answer.encode(output.buffer(), version).map_err(|error| EncodeError {
        api,
        version,
        reason: error.to_string(),
    })?;
    Ok(output.finish(0))
}

/// Walks over the body of a request without decoding it; what [`Body::decode`] does first. Produce and Fetch have no
/// screen, and cost nothing here: their decoders count as they go.
///
/// # Errors
/// What [`Body::decode`] would say.
pub fn cost(api: Api, version: i16, body: &Bytes) -> Result<Cost, DecodeError> {
    match shape(api) {
        Some(shape) => Ok(screen(shape, version, api.encoding(version), body)?),
        None => Ok(Cost::default()),
    }
}

fn decode<M: Decodable>(api: Api, shape: &Shape, version: i16, body: &Bytes) -> Result<M, DecodeError> {
    let cost = screen(shape, version, api.encoding(version), body)?;
    let refused = |reason| DecodeError::Refused { api, version, reason };
    let mut rest = body.slice(..cost.body_bytes);
    let message = M::decode(&mut rest, version).map_err(|error| refused(error.to_string()))?;
    if !rest.is_empty() {
        return Err(refused(format!("{} bytes were not decoded", rest.len())));
    }
    Ok(message)
}

/// Why a body cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Its sizes do not hold, or it is over a bound.
    Screen(ScreenError),
    /// It passed the screen, and its decoder refused it all the same. Never so, as long as the shape is the
    /// decoder's: an alarm is due.
    Refused {
        /// The API.
        api: Api,
        /// The version of the request.
        version: i16,
        /// What its decoder said.
        reason: String,
    },
    /// A Produce or Fetch request that is none.
    Malformed(WireError),
}

impl From<ScreenError> for DecodeError {
    fn from(error: ScreenError) -> Self {
        Self::Screen(error)
    }
}

impl From<WireError> for DecodeError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Screen(error) => write!(formatter, "malformed request: {error}"),
            Self::Refused { api, version, reason } => {
                write!(formatter, "malformed request: {api} version {version}: {reason}")
            }
            Self::Malformed(error) => write!(formatter, "malformed request: {error}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// An answer that its version has no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// The API.
    pub api: Api,
    /// The version of the answer.
    pub version: i16,
    /// What its encoder said.
    pub reason: String,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api, version, reason } = self;
        write!(formatter, "no answer to {api} version {version}: {reason}")
    }
}

impl core::error::Error for EncodeError {}

/// Most answers are small; others grow from here.
const BYTES_HINT: usize = 512;
