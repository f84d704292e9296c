//! Access control lists: there are none, as nothing is forbidden here. As Kafka's brokers without an authorizer do it, each
//! question about them is answered with 54, so that a tool that looks for them goes on without.

use super::text;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::kafka_protocol::messages::create_acls_response::AclCreationResult;
use raftline_kafka::kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use raftline_kafka::kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsResponse,
};
use raftline_kafka::kafka_protocol::protocol::StrBytes;

const CODE: i16 = ErrorCode::SecurityDisabled.code();

fn why() -> Option<StrBytes> {
    Some(text(
        "there is no authorizer: every client may do everything, and ACLs are neither kept nor looked at",
    ))
}

/// Answers DescribeAcls.
pub(super) fn describe() -> DescribeAclsResponse {
    DescribeAclsResponse::default().with_error_code(CODE).with_error_message(why())
}

/// Answers CreateAcls: a result for each that was to be made.
pub(super) fn create(request: &CreateAclsRequest) -> CreateAclsResponse {
    let result = AclCreationResult::default().with_error_code(CODE).with_error_message(why());
    CreateAclsResponse::default().with_results(vec![result; request.creations.len()])
}

/// Answers DeleteAcls: a result for each filter.
pub(super) fn delete(request: &DeleteAclsRequest) -> DeleteAclsResponse {
    let result = DeleteAclsFilterResult::default().with_error_code(CODE).with_error_message(why());
    DeleteAclsResponse::default().with_filter_results(vec![result; request.filters.len()])
}
