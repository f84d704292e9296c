//! Telling the coordinator where this broker is, until it knows.

use super::forward::Seat;
use super::{Broker, admin};
use raftline_proto::api::ErrorCode;
use raftline_proto::ids::GroupId;
use raftline_proto::metadata::BrokerRecord;
use raftline_proto::peer::RegisterBrokerRequest;
use raftline_proto::peer::peer_client::PeerClient;
use raftline_proto::peer::register_broker_reply::Outcome;
use raftline_shard::types::CoordinatorCommand;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::transport::Channel;

/// Where clients reach this broker.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Of the gRPC listener: `host:port`.
    pub grpc: String,
    /// Of each Kafka listener, by its name.
    pub kafka: BTreeMap<String, String>,
}

/// Registers this broker at these addresses, and again should the cluster's metadata ever say otherwise. Returns only if
/// the cluster refuses it for good, with its words.
pub async fn register(broker: &Broker, addresses: &Addresses) -> String {
    let mut changes = broker.view.changes();
    loop {
        changes.borrow_and_update();
        if is_registered(broker, addresses) {
            // Pending for ever once the engine is gone: then the process is stopping.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            continue;
        }
        match attempt(broker, addresses).await {
            Outcome::Registered(_) => tracing::info!(
                grpc = addresses.grpc,
                kafka = ?addresses.kafka,
                "registered with the coordinator"
            ),
            Outcome::Refused(why) => return why,
            Outcome::Retry(why) => tracing::debug!(%why, "not registered yet"),
        }
        // The image follows the commit; a refusal needs a moment to become another answer.
        drop(tokio::time::timeout(RETRY_WAIT, wait_until(broker, addresses)).await);
    }
}

/// Waits until the cluster knows this broker at these addresses; for ever, if the process stops before.
pub async fn registered(broker: &Broker, addresses: &Addresses) {
    wait_until(broker, addresses).await;
    if !is_registered(broker, addresses) {
        std::future::pending::<()>().await;
    }
}

async fn wait_until(broker: &Broker, addresses: &Addresses) {
    let mut changes = broker.view.changes();
    while !is_registered(broker, addresses) && changes.changed().await.is_ok() {}
}

fn is_registered(broker: &Broker, addresses: &Addresses) -> bool {
    let image = broker.view.image();
    image.brokers.get(&broker.identity.node()).is_some_and(|record| {
        record.incarnation == broker.identity.incarnation()
            && record.grpc_address == addresses.grpc
            && record.kafka == addresses.kafka
    })
}

async fn attempt(broker: &Broker, addresses: &Addresses) -> Outcome {
    match broker.forwarder.leader(GroupId::COORDINATOR).await {
        Ok(Seat::Here) => here(broker, addresses).await,
        Ok(Seat::There(node, channel)) => {
            let asked = there(broker, channel, addresses).await;
            asked.unwrap_or_else(|status| {
                broker.forwarder.forget(node);
                Outcome::Retry(status.message().to_owned())
            })
        }
        Err(error) => Outcome::Retry(error.message),
    }
}

async fn here(broker: &Broker, addresses: &Addresses) -> Outcome {
    let command = CoordinatorCommand::RegisterBroker(BrokerRecord {
        node: broker.identity.node(),
        incarnation: broker.identity.incarnation(),
        grpc_address: addresses.grpc.clone(),
        kafka: addresses.kafka.clone(),
    });
    match admin::decide_here(broker, command).await {
        Ok(_) => Outcome::Registered(raftline_proto::peer::Registered {}),
        Err(error) => match error.code() {
            ErrorCode::NotCoordinator | ErrorCode::TimedOut | ErrorCode::Busy | ErrorCode::Stopping => {
                Outcome::Retry(error.message)
            }
            _ => Outcome::Refused(error.message),
        },
    }
}

async fn there(broker: &Broker, channel: Channel, addresses: &Addresses) -> Result<Outcome, tonic::Status> {
    let mut request = tonic::Request::new(RegisterBrokerRequest {
        cluster_name: broker.identity.cluster_name(),
        node: broker.identity.node().0,
        incarnation: broker.identity.incarnation().0,
        grpc_address: addresses.grpc.clone(),
        kafka_listeners: addresses.kafka.clone(),
    });
    request.set_timeout(REGISTER_TIMEOUT);
    let reply = PeerClient::new(channel).register_broker(request).await?.into_inner();
    Ok(reply.outcome.unwrap_or_else(|| Outcome::Retry("an empty answer".to_owned())))
}

const RETRY_WAIT: Duration = Duration::from_millis(300);

const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
