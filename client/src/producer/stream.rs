//! One produce stream to one broker: requests go in, replies come out as events of the sender.

use super::lane::StreamId;
use super::sender::Event;
use crate::connection::{Stub, describe_status};
use raftline_proto::api::ProduceRequest;
use raftline_proto::ids::NodeId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Opens the stream and reads replies until it ends. Requests may be given once [`Event::StreamUp`] is out: a broker
/// that cannot be reached has certainly not got any.
///
/// The channel of requests has no bound of its own: the producer's bytes in flight bound what can be in it.
pub(crate) async fn run(
    mut stub: Stub,
    node: NodeId,
    id: StreamId,
    requests: mpsc::UnboundedReceiver<ProduceRequest>,
    events: mpsc::UnboundedSender<Event>,
) {
    let reason = match stub.produce(UnboundedReceiverStream::new(requests)).await {
        Err(status) => describe_status(&status),
        Ok(response) => {
            // The sender may be gone: then nobody waits for replies either.
            let _ = events.send(Event::StreamUp { node, id });
            let mut replies = response.into_inner();
            loop {
                match replies.message().await {
                    Ok(Some(reply)) => {
                        if events.send(Event::Reply(reply)).is_err() {
                            return;
                        }
                    }
                    Ok(None) => break "the broker ended the stream".to_owned(),
                    Err(status) => break describe_status(&status),
                }
            }
        }
    };
    let _ = events.send(Event::StreamDown { node, id, reason });
}
