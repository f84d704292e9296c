//! Consumer groups. Any broker answers: it asks its own coordinator if the group's partition of the internal topic is
//! led here, and else passes the request on to the broker that leads it.
//!
//! In reading order: this file (who is asked), `requests` (what is asked, and the answers), `listing` (all groups of
//! all brokers), `refusals`.

mod listing;
mod refusals;
mod requests;

use super::admin::{PASSED_ON, decide};
use super::metadata::wait_for_topic;
use super::{Broker, errors};
use crate::limits;
use raftline_proto::api::broker_client::BrokerClient;
use raftline_proto::api::{CreateTopicRequest, Error, ErrorCode};
use raftline_proto::ids::NodeId;
use raftline_proto::limits::MESSAGE_BYTES_MAX;
use raftline_shard::consumer_groups::limits::NAME_BYTES_MAX;
use raftline_shard::coordinator::internal::{GROUPS_TOPIC, groups_topic_configs};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub(super) use listing::list;

/// A request about one group.
pub(super) trait Grouped: Clone + Send + Sync + Sized + 'static {
    /// Its answer.
    type Reply: Send;
    /// Which group.
    fn group(&self) -> &str;
    /// Asks the coordinator on this node.
    fn ask(self, broker: &Broker, host: String) -> impl Future<Output = Result<Self::Reply, Error>> + Send;
    /// The answer where nothing was done.
    fn refused(error: Error) -> Self::Reply;
    /// The answer's error.
    fn error(reply: &Self::Reply) -> Option<&Error>;
    /// What is said while there never was any group; `None`: the request may make the first one.
    fn before_any_group(&self) -> Option<Self::Reply>;
    /// Passes it on.
    fn pass_on(
        client: BrokerClient<Channel>,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Reply>, Status>> + Send;
}

/// Where a request comes from.
struct Origin {
    /// Another broker passed it on: it is answered here or goes back.
    passed_on: bool,
    /// The client's host as Kafka shows it, for whoever describes the group.
    host: String,
}

/// Has the group's coordinator answer, here or where it is.
pub(super) async fn answer<R: Grouped>(broker: &Broker, request: Request<R>) -> R::Reply {
    let origin = Origin::of(&request);
    let request = request.into_inner();
    let size = request.group().len();
    if size == 0 || size > NAME_BYTES_MAX {
        let text = format!("a group's name has 1 to {NAME_BYTES_MAX} bytes, this one has {size}");
        return R::refused(errors::error(ErrorCode::InvalidRequest, text));
    }
    let deadline = broker.clock.after(limits::FORWARD_TIMEOUT);
    let mut hint = None;
    loop {
        let hinted = hint.is_some();
        let reply = attempt(broker, request.clone(), &origin, hint.take()).await;
        let elsewhere = R::error(&reply).filter(|error| error.code() == ErrorCode::NotCoordinator);
        let Some(elsewhere) = elsewhere else { return reply };
        if origin.passed_on || broker.clock.monotonic() >= deadline || broker.stop.is_cancelled() {
            return reply;
        }
        // A broker without a replica of the partition knows the leader from hearsay only: once, and then it waits,
        // so that two who each name the other are not asked in turn without end.
        hint = elsewhere.leader_node.map(NodeId).filter(|_| !hinted);
        if hint.is_none() {
            broker.forwarder.news().await;
        }
    }
}

async fn attempt<R: Grouped>(broker: &Broker, request: R, origin: &Origin, hint: Option<NodeId>) -> R::Reply {
    let mut partition = broker.groups.partition_of(request.group());
    if partition.is_none() && !origin.passed_on {
        if let Some(reply) = request.before_any_group() {
            return reply;
        }
        make_groups_topic(broker).await;
        partition = broker.groups.partition_of(request.group());
    }
    let leader = hint.or_else(|| partition.and_then(|partition| broker.groups.leader_of(&partition)));
    match leader {
        Some(node) if node == broker.identity.node() => {
            request.ask(broker, origin.host.clone()).await.unwrap_or_else(R::refused)
        }
        Some(node) if !origin.passed_on => pass_on(broker, request, origin, node).await,
        elsewhere => R::refused(refusals::not_here(request.group(), elsewhere)),
    }
}

async fn pass_on<R: Grouped>(broker: &Broker, request: R, origin: &Origin, node: NodeId) -> R::Reply {
    let channel = match broker.forwarder.connection(node).await {
        Ok(channel) => channel,
        Err(error) => return R::refused(error),
    };
    match R::pass_on(client(channel), passed_on(request, &origin.host)).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => {
            broker.forwarder.forget(node);
            tracing::debug!(%node, %status, "the group's coordinator did not answer");
            R::refused(errors::outcome_unknown())
        }
    }
}

fn client(channel: Channel) -> BrokerClient<Channel> {
    BrokerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn passed_on<R>(request: R, host: &str) -> Request<R> {
    let mut request = Request::new(request);
    request.metadata_mut().insert(PASSED_ON, MetadataValue::from_static("1"));
    if let Ok(host) = MetadataValue::try_from(host) {
        request.metadata_mut().insert(CLIENT_HOST, host);
    }
    request.set_timeout(limits::FORWARD_TIMEOUT);
    request
}

impl Origin {
    fn of<R>(request: &Request<R>) -> Self {
        let passed_on = request.metadata().contains_key(PASSED_ON);
        let told = request.metadata().get(CLIENT_HOST).and_then(|host| host.to_str().ok());
        let seen = request.remote_addr().map(|address| format!("/{}", address.ip()));
        let host = if passed_on { told.map(str::to_owned) } else { seen };
        Self { passed_on, host: host.unwrap_or_default() }
    }
}

/// Makes the internal topic. That another broker did meanwhile is just as good; any other failure shows in that the
/// topic is not there, and the client asks again.
pub(crate) async fn make_groups_topic(broker: &Broker) {
    let request = CreateTopicRequest {
        name: GROUPS_TOPIC.to_owned(),
        partitions: limits::GROUP_PARTITIONS,
        replication: 0,
        configs: groups_topic_configs().into_iter().collect(),
        assignment: Vec::new(),
    };
    let reply = decide(broker, Request::new(request)).await;
    if let Some(error) = reply.error {
        tracing::debug!(error = error.message, "the topic of the consumer groups was not made");
    }
    wait_for_topic(broker, GROUPS_TOPIC).await;
}

/// Beside [`PASSED_ON`]: the host that the client itself connected from.
const CLIENT_HOST: &str = "raftline-client-host";
