//! There is no authorizer, and whoever asks for ACLs is told so.

use crate::client::{Lone, text};
use crate::every_version::served;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{ApiKey, CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};

const SECURITY_DISABLED: i16 = 54;
const TOPIC: i8 = 2;
const LITERAL: i8 = 3;
const ANY: i8 = 1;
const READ: i8 = 3;
const ALLOW: i8 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_question_about_acls_is_answered_with_security_disabled() {
    let lone = Lone::start().await;
    let mut connection = lone.connect().await;
    let mut tried = 0;
    for version in served(&mut connection, ApiKey::DescribeAcls).await {
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(ANY)
            .with_pattern_type_filter(ANY)
            .with_operation(ANY)
            .with_permission_type(ANY);
        let answer = connection.ask(version, &request).await;
        assert_eq!((answer.error_code, answer.resources.len()), (SECURITY_DISABLED, 0), "version {version}");
        assert!(answer.error_message.is_some_and(|text| text.contains("no authorizer")));
        tried += 1;
    }
    for version in served(&mut connection, ApiKey::CreateAcls).await {
        let creation = AclCreation::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("t"))
            .with_resource_pattern_type(LITERAL)
            .with_principal(text("User:a"))
            .with_host(text("*"))
            .with_operation(READ)
            .with_permission_type(ALLOW);
        let request = CreateAclsRequest::default().with_creations(vec![creation; 2]);
        let answer = connection.ask(version, &request).await;
        assert_eq!(answer.results.len(), 2, "version {version}");
        assert!(answer.results.iter().all(|result| result.error_code == SECURITY_DISABLED));
        tried += 1;
    }
    for version in served(&mut connection, ApiKey::DeleteAcls).await {
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(TOPIC)
            .with_resource_name_filter(Some(text("t")))
            .with_pattern_type_filter(ANY)
            .with_operation(ANY)
            .with_permission_type(ANY);
        let request = DeleteAclsRequest::default().with_filters(vec![filter; 3]);
        let answer = connection.ask(version, &request).await;
        assert_eq!(answer.filter_results.len(), 3, "version {version}");
        assert!(answer.filter_results.iter().all(|result| result.error_code == SECURITY_DISABLED));
        tried += 1;
    }
    assert_eq!(tried, 9, "three versions of three APIs");
    lone.stop().await;
}
