//! What the coordinator decides. Any broker answers: it asks its own shard if it leads the coordinator group, and
//! else passes the request on to the broker that does.

use super::forward::Seat;
use super::{Broker, errors, metadata};
use crate::limits;
use crate::payload::OutReply;
use raftline_proto::api::broker_client::BrokerClient;
use raftline_proto::api::{
    AddPartitionsRequest, AdminReply, AlterTopicRequest, CreateTopicReply, CreateTopicRequest,
    DeleteTopicRequest, Error, ErrorCode, InitProducerReply, InitProducerRequest, Replicas,
};
use raftline_proto::ids::{GroupId, NodeId, TopicId};
use raftline_proto::limits::MESSAGE_BYTES_MAX;
use raftline_shard::config::TopicDefaults;
use raftline_shard::coordinator::plan::{Situation, plan};
use raftline_shard::types::{CoordinatorCommand, CoordinatorError, CoordinatorReply, Event, Reply};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// A request that the coordinator decides.
pub(crate) trait Decided: Clone + Send + Sized + 'static {
    /// Its answer.
    type Reply: Send;
    /// As the shard takes it.
    fn command(self, broker: &Broker) -> Result<CoordinatorCommand, Error>;
    /// The answer from the shard's.
    fn reply(decided: Result<CoordinatorReply, Error>) -> Self::Reply;
    /// The answer's error.
    fn error(reply: &Self::Reply) -> Option<&Error>;
    /// Passes it on.
    fn pass_on(
        client: BrokerClient<Channel>,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Reply>, Status>> + Send;
    /// The topic that will be there afterwards.
    fn makes_topic(&self) -> Option<&str> {
        None
    }
}

/// Has the request decided, here or where the coordinator's leader is.
pub(crate) async fn decide<R: Decided>(broker: &Broker, request: Request<R>) -> R::Reply {
    let passed_on = request.metadata().contains_key(PASSED_ON);
    let request = request.into_inner();
    let deadline = broker.clock.after(limits::FORWARD_TIMEOUT);
    loop {
        let reply = attempt(broker, request.clone(), passed_on).await;
        let elsewhere = R::error(&reply).is_some_and(|error| error.code() == ErrorCode::NotCoordinator);
        // Nothing was done: whoever leads by now is asked. A request that was passed on goes back instead.
        if elsewhere && !passed_on && broker.clock.monotonic() < deadline && !broker.stop.is_cancelled() {
            broker.forwarder.news().await;
            continue;
        }
        if let (None, Some(topic), false) = (R::error(&reply), request.makes_topic(), passed_on) {
            metadata::wait_for_topic(broker, topic).await;
        }
        return reply;
    }
}

/// Says what the coordinator would say, as far as this broker knows the cluster; changes nothing.
pub(crate) fn rehearse<R: Decided>(broker: &Broker, request: R) -> Result<(), Error> {
    let command = request.command(broker)?;
    let mut alive = broker.view.alive();
    alive.insert(broker.identity.node());
    let defaults =
        TopicDefaults { partitions: broker.default_partitions, replication: broker.default_replication };
    let conditions = broker.view.conditions();
    let situation =
        Situation { image: &broker.view.image(), alive: &alive, conditions: &conditions, defaults };
    plan(situation, &command).map(drop).map_err(|error| errors::coordinator(&error))
}

async fn attempt<R: Decided>(broker: &Broker, request: R, passed_on: bool) -> R::Reply {
    match broker.forwarder.leader(GroupId::COORDINATOR).await {
        Ok(Seat::Here) => R::reply(here(broker, request).await),
        Ok(Seat::There(node, _)) if passed_on => R::reply(Err(errors::not_coordinator(Some(node)))),
        Ok(Seat::There(node, channel)) => {
            let mut request = Request::new(request);
            request.metadata_mut().insert(PASSED_ON, MetadataValue::from_static("1"));
            request.set_timeout(limits::FORWARD_TIMEOUT);
            let client = BrokerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            match R::pass_on(client, request).await {
                Ok(reply) => reply.into_inner(),
                Err(status) => {
                    broker.forwarder.forget(node);
                    tracing::debug!(%node, %status, "the coordinator's leader did not answer");
                    R::reply(Err(errors::outcome_unknown()))
                }
            }
        }
        Err(error) => R::reply(Err(error)),
    }
}

async fn here<R: Decided>(broker: &Broker, request: R) -> Result<CoordinatorReply, Error> {
    let command = request.command(broker)?;
    if let CoordinatorCommand::CreateTopic { replication: Some(replication), .. } = command {
        wait_for_brokers(broker, replication).await;
    }
    let changes_topics = !matches!(command, CoordinatorCommand::AllocateProducerId);
    let decided = decide_here(broker, command).await?;
    if changes_topics {
        // What is answered is true whichever broker is asked next. The change is in this broker's image by now.
        broker.view.applied_everywhere(broker.view.image().applied, limits::APPLIED_WAIT).await;
    }
    Ok(decided)
}

/// While a cluster starts, its brokers register one after the other: a topic for all of them that is created in that
/// moment waits for them, rather than be refused. Not longer than a while, and not for more than there can be.
async fn wait_for_brokers(broker: &Broker, wanted: u32) {
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    if wanted > broker.peers.states().len() + 1 {
        return;
    }
    let mut changes = broker.view.changes();
    let registered =
        async { while broker.view.image().brokers.len() < wanted && changes.changed().await.is_ok() {} };
    // Whoever is registered by then has to do; the coordinator says if that is not enough.
    drop(tokio::time::timeout(limits::REGISTRATION_WAIT, registered).await);
}

/// Asks this node's own coordinator replica.
pub(super) async fn decide_here(
    broker: &Broker,
    command: CoordinatorCommand,
) -> Result<CoordinatorReply, Error> {
    let deadline = broker.clock.after(limits::COORDINATE_TIMEOUT);
    let event = |request| Event::Coordinate { request, command, deadline };
    match broker.shards.ask(event).await.map_err(|_| errors::busy())? {
        OutReply::Shard(Reply::Coordinated(Ok(reply))) => Ok(reply),
        OutReply::Shard(Reply::Coordinated(Err(CoordinatorError::NotLeader { leader }))) => {
            Err(errors::not_coordinator(leader))
        }
        OutReply::Shard(Reply::Coordinated(Err(error))) => Err(errors::coordinator(&error)),
        other => Err(errors::unexpected(&other)),
    }
}

impl Decided for CreateTopicRequest {
    type Reply = CreateTopicReply;

    fn command(self, broker: &Broker) -> Result<CoordinatorCommand, Error> {
        let mut configs = self.configs;
        if let Some(bytes) = broker.default_segment_bytes {
            configs.entry(SEGMENT_BYTES.to_owned()).or_insert_with(|| bytes.to_string());
        }
        Ok(CoordinatorCommand::CreateTopic {
            assignment: assignment(self.assignment),
            id: TopicId(rand::random()),
            name: self.name,
            partitions: (self.partitions != 0).then_some(self.partitions),
            // Said here, so that a default never shrinks to the brokers that happen to be registered by now.
            replication: Some(if self.replication == 0 {
                broker.default_replication
            } else {
                self.replication
            }),
            configs,
        })
    }

    fn reply(decided: Result<CoordinatorReply, Error>) -> CreateTopicReply {
        match decided {
            Ok(CoordinatorReply::TopicCreated { id, partitions }) => {
                CreateTopicReply { id: id.to_string(), partitions, error: None }
            }
            Ok(other) => {
                CreateTopicReply { error: Some(errors::unexpected(&other)), ..CreateTopicReply::default() }
            }
            Err(error) => CreateTopicReply { error: Some(error), ..CreateTopicReply::default() },
        }
    }

    fn error(reply: &CreateTopicReply) -> Option<&Error> {
        reply.error.as_ref()
    }

    async fn pass_on(
        mut client: BrokerClient<Channel>,
        request: Request<Self>,
    ) -> Result<Response<CreateTopicReply>, Status> {
        client.create_topic(request).await
    }

    fn makes_topic(&self) -> Option<&str> {
        Some(&self.name)
    }
}

impl Decided for InitProducerRequest {
    type Reply = InitProducerReply;

    fn command(self, _broker: &Broker) -> Result<CoordinatorCommand, Error> {
        Ok(CoordinatorCommand::AllocateProducerId)
    }

    fn reply(decided: Result<CoordinatorReply, Error>) -> InitProducerReply {
        match decided {
            Ok(CoordinatorReply::ProducerId(id)) => {
                InitProducerReply { producer_id: id.0, producer_epoch: 0, error: None }
            }
            Ok(other) => {
                InitProducerReply { error: Some(errors::unexpected(&other)), ..InitProducerReply::default() }
            }
            Err(error) => InitProducerReply { error: Some(error), ..InitProducerReply::default() },
        }
    }

    fn error(reply: &InitProducerReply) -> Option<&Error> {
        reply.error.as_ref()
    }

    async fn pass_on(
        mut client: BrokerClient<Channel>,
        request: Request<Self>,
    ) -> Result<Response<InitProducerReply>, Status> {
        client.init_producer(request).await
    }
}

/// A request whose answer is done or an error.
macro_rules! administrative {
    ($request:ty, $call:ident, $command:expr) => {
        impl Decided for $request {
            type Reply = AdminReply;

            fn command(self, _broker: &Broker) -> Result<CoordinatorCommand, Error> {
                let command: fn(Self) -> Result<CoordinatorCommand, Error> = $command;
                command(self)
            }

            fn reply(decided: Result<CoordinatorReply, Error>) -> AdminReply {
                AdminReply { error: decided.err() }
            }

            fn error(reply: &AdminReply) -> Option<&Error> {
                reply.error.as_ref()
            }

            async fn pass_on(
                mut client: BrokerClient<Channel>,
                request: Request<Self>,
            ) -> Result<Response<AdminReply>, Status> {
                client.$call(request).await
            }
        }
    };
}

administrative!(DeleteTopicRequest, delete_topic, |request| {
    let id = match request.id.as_str() {
        "" => None,
        id => Some(topic_id(id)?),
    };
    Ok(CoordinatorCommand::DeleteTopic { name: request.name, id })
});

fn assignment(replicas: Vec<Replicas>) -> Vec<Vec<NodeId>> {
    replicas.into_iter().map(|replicas| replicas.nodes.into_iter().map(NodeId).collect()).collect()
}

/// A topic's id as metadata tells it.
fn topic_id(id: &str) -> Result<TopicId, Error> {
    let parsed = u128::from_str_radix(id, 16);
    parsed.map(TopicId).map_err(|_| {
        let text = format!("`{id}` is no topic id: they are 32 hexadecimal digits");
        errors::error(ErrorCode::InvalidRequest, text)
    })
}

administrative!(AddPartitionsRequest, add_partitions, |request| {
    let assignment = assignment(request.assignment);
    Ok(CoordinatorCommand::AddPartitions { name: request.name, total: request.total, assignment })
});

administrative!(AlterTopicRequest, alter_topic, |request| {
    let mut configs: std::collections::BTreeMap<String, Option<String>> =
        request.set.into_iter().map(|(name, value)| (name, Some(value))).collect();
    for name in request.reset {
        if configs.contains_key(&name) {
            let text = format!("config `{}` is both set and reset: choose one", errors::shown(&name));
            return Err(errors::error(ErrorCode::InvalidRequest, text));
        }
        configs.insert(name, None);
    }
    Ok(CoordinatorCommand::AlterTopic { name: request.name, configs })
});

/// Marks a request that another broker passed on: it is decided here or goes back, so that two brokers that each
/// think that the other leads do not play ball.
pub(super) const PASSED_ON: &str = "raftline-passed-on";

const SEGMENT_BYTES: &str = "segment.bytes";
