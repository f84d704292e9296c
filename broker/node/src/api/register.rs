//! Telling the coordinator where this broker is, until it knows.

use super::forward::Seat;
use super::{Broker, admin};
use raftline_proto::api::ErrorCode;
use raftline_proto::ids::GroupId;
use raftline_proto::peer::RegisterBrokerRequest;
use raftline_proto::peer::peer_client::PeerClient;
use raftline_proto::peer::register_broker_reply::Outcome;
use raftline_shard::types::CoordinatorCommand;
use std::time::Duration;
use tonic::transport::Channel;

/// Registers this broker at `address`, and again should the cluster's metadata ever say otherwise. Returns only if
/// the cluster refuses it for good, with its words.
pub async fn register(broker: &Broker, address: &str) -> String {
    let mut changes = broker.view.changes();
    loop {
        changes.borrow_and_update();
        if is_registered(broker, address) {
            // Pending for ever once the engine is gone: then the process is stopping.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            continue;
        }
        match attempt(broker, address).await {
            Outcome::Registered(_) => tracing::info!(%address, "registered with the coordinator"),
            Outcome::Refused(why) => return why,
            Outcome::Retry(why) => tracing::debug!(%why, "not registered yet"),
        }
        // The image follows the commit; a refusal needs a moment to become another answer.
        drop(tokio::time::timeout(RETRY_WAIT, wait_until(broker, address)).await);
    }
}

async fn wait_until(broker: &Broker, address: &str) {
    let mut changes = broker.view.changes();
    while !is_registered(broker, address) && changes.changed().await.is_ok() {}
}

fn is_registered(broker: &Broker, address: &str) -> bool {
    let image = broker.view.image();
    image.brokers.get(&broker.identity.node()).is_some_and(|record| {
        record.incarnation == broker.identity.incarnation() && record.grpc_address == address
    })
}

async fn attempt(broker: &Broker, address: &str) -> Outcome {
    match broker.forwarder.leader(GroupId::COORDINATOR).await {
        Ok(Seat::Here) => here(broker, address).await,
        Ok(Seat::There(node, channel)) => {
            let asked = there(broker, channel, address).await;
            asked.unwrap_or_else(|status| {
                broker.forwarder.forget(node);
                Outcome::Retry(status.message().to_owned())
            })
        }
        Err(error) => Outcome::Retry(error.message),
    }
}

async fn here(broker: &Broker, address: &str) -> Outcome {
    let command = CoordinatorCommand::RegisterBroker {
        node: broker.identity.node(),
        incarnation: broker.identity.incarnation(),
        grpc_address: address.to_owned(),
    };
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

async fn there(broker: &Broker, channel: Channel, address: &str) -> Result<Outcome, tonic::Status> {
    let mut request = tonic::Request::new(RegisterBrokerRequest {
        cluster_name: broker.identity.cluster_name(),
        node: broker.identity.node().0,
        incarnation: broker.identity.incarnation().0,
        grpc_address: address.to_owned(),
    });
    request.set_timeout(REGISTER_TIMEOUT);
    let reply = PeerClient::new(channel).register_broker(request).await?.into_inner();
    Ok(reply.outcome.unwrap_or_else(|| Outcome::Retry("an empty answer".to_owned())))
}

const RETRY_WAIT: Duration = Duration::from_millis(300);

const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
