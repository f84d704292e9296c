//! What is served, and who decides it.

use super::connection::{Answer, Close, Peer};
use super::{
    Door, acls, commits, configs, consumers, deletion, fetch, groups, log_dirs, metadata, offsets, topics,
};
use raftline_kafka::api::{Api, Served};
use raftline_kafka::api_versions;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::messages::{self, Body};
use raftline_kafka::request::{Header, Request};

/// Everything that is advertised, and nothing else is let in.
pub(super) const SERVED: Served = Served::new(&[
    Api::Produce.advised(),
    Api::Fetch.advised(),
    Api::ListOffsets.advised(),
    Api::Metadata.advised(),
    Api::OffsetCommit.advised(),
    Api::OffsetFetch.advised(),
    Api::FindCoordinator.advised(),
    Api::JoinGroup.advised(),
    Api::Heartbeat.advised(),
    Api::LeaveGroup.advised(),
    Api::SyncGroup.advised(),
    Api::DescribeGroups.advised(),
    Api::ListGroups.advised(),
    Api::ApiVersions.advised(),
    Api::CreateTopics.advised(),
    Api::DeleteTopics.advised(),
    Api::DeleteRecords.advised(),
    Api::InitProducerId.advised(),
    Api::OffsetForLeaderEpoch.advised(),
    Api::DescribeAcls.advised(),
    Api::CreateAcls.advised(),
    Api::DeleteAcls.advised(),
    Api::DescribeConfigs.advised(),
    Api::AlterConfigs.advised(),
    Api::DescribeLogDirs.advised(),
    Api::CreatePartitions.advised(),
    Api::DeleteGroups.advised(),
    Api::IncrementalAlterConfigs.advised(),
    Api::OffsetDelete.advised(),
    Api::DescribeCluster.advised(),
    Api::ConsumerGroupHeartbeat.advised(),
    Api::ConsumerGroupDescribe.advised(),
]);

/// Decides any request but Produce.
pub(super) async fn decide(door: &Door, peer: &Peer, request: &Request, body: Body) -> Result<Answer, Close> {
    let header = &request.header;
    tracing::trace!(
        peer = ?peer.address,
        client = header.client_id.as_deref(),
        api = %header.api,
        version = header.version,
        correlation = header.correlation_id,
        "Kafka request"
    );
    match body {
        Body::ApiVersions(body) => {
            let error = api_versions::check(header.version, &body);
            Ok(vec![api_versions::answer(header.version, header.correlation_id, error, SERVED)])
        }
        Body::Fetch(body) => fetch::decide(door, peer, header, body).await,
        Body::Metadata(body) => encode(header, &metadata::metadata(door, header.version, body).await),
        Body::DescribeCluster(body) => encode(header, &metadata::describe_cluster(door, &body)),
        Body::ListOffsets(body) => encode(header, &offsets::list(door, header.version, body).await),
        Body::OffsetForLeaderEpoch(body) => encode(header, &offsets::of_leader_epochs(door, body).await),
        Body::InitProducerId(body) => encode(header, &topics::init_producer(door, peer, header, &body).await),
        Body::CreateTopics(body) => encode(header, &topics::create(door, body).await),
        Body::DeleteTopics(body) => encode(header, &topics::delete(door, header.version, body).await),
        Body::DeleteRecords(body) => encode(header, &deletion::delete(door, body).await),
        Body::CreatePartitions(body) => encode(header, &topics::add_partitions(door, body).await),
        Body::DescribeAcls(_) => encode(header, &acls::describe()),
        Body::CreateAcls(body) => encode(header, &acls::create(&body)),
        Body::DeleteAcls(body) => encode(header, &acls::delete(&body)),
        Body::DescribeConfigs(body) => encode(header, &configs::describe(door, body)),
        Body::AlterConfigs(body) => encode(header, &configs::alter(door, body).await),
        Body::IncrementalAlterConfigs(body) => encode(header, &configs::alter_some(door, body).await),
        Body::DescribeLogDirs(body) => encode(header, &log_dirs::describe(door, body).await),
        Body::FindCoordinator(body) => encode(header, &groups::find(door, peer, header, body).await),
        Body::JoinGroup(body) => encode(header, &groups::join(door, peer, header, body).await),
        Body::SyncGroup(body) => encode(header, &groups::sync(door, header.version, body).await),
        Body::Heartbeat(body) => encode(header, &groups::heartbeat(door, body).await),
        Body::LeaveGroup(body) => encode(header, &groups::leave(door, header.version, body).await),
        Body::DescribeGroups(body) => encode(header, &groups::describe(door, header.version, body).await),
        Body::ListGroups(body) => encode(header, &groups::list(door, header.version, body).await),
        Body::DeleteGroups(body) => encode(header, &groups::delete(door, body).await),
        Body::OffsetCommit(body) => encode(header, &commits::commit(door, body).await),
        Body::OffsetFetch(body) => encode(header, &commits::fetch(door, header.version, body).await),
        Body::OffsetDelete(body) => encode(header, &commits::delete(door, body).await),
        Body::ConsumerGroupHeartbeat(body) => {
            encode(header, &consumers::heartbeat(door, peer, header, body).await)
        }
        Body::ConsumerGroupDescribe(body) => {
            encode(header, &consumers::describe(door, header.version, body).await)
        }
        // Not in the list above, and so never let in.
        other => Err(Close::refused(format_args!("{} is not served: {other:?}", header.api))),
    }
}

/// One frame of an answer that the crate encodes.
pub(super) fn encode<A: messages::Answer>(header: &Header, answer: &A) -> Result<Answer, Close> {
    let frame = messages::encode(header.version, header.correlation_id, answer);
    frame.map(|frame| vec![frame]).map_err(Close::refused)
}

/// What clients with a transactional id are told.
pub(super) const NO_TRANSACTIONS: &str = "transactions are not served yet: produce without transactional.id";

/// The code of no error.
pub(super) const OK: i16 = ErrorCode::None.code();
