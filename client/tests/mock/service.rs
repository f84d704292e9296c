//! One broker of the mock.

use super::Shared;
use super::log::{Fault, error};
use raftline_proto::api::broker_server::Broker;
use raftline_proto::api::{self, *};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub struct Node {
    pub node: u32,
    pub shared: Arc<Shared>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Broker for Node {
    type ProduceStream = ReceiverStream<Result<ProduceReply, Status>>;
    type SubscribeStream = ReceiverStream<Result<FetchReply, Status>>;

    async fn produce(&self, request: Request<Streaming<ProduceRequest>>) -> Answer<Self::ProduceStream> {
        let (replies, receiver) = mpsc::channel(64);
        let (node, shared) = (self.node, self.shared.clone());
        tokio::spawn(async move {
            let mut requests = request.into_inner();
            while let Ok(Some(request)) = requests.message().await {
                if !answer(node, &shared, request, &replies).await {
                    let _ = replies.send(Err(Status::unavailable("the mock broke the stream"))).await;
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch(&self, _: Request<FetchRequest>) -> Answer<FetchReply> {
        Err(Status::unimplemented("the client subscribes"))
    }

    async fn subscribe(&self, request: Request<FetchRequest>) -> Answer<Self::SubscribeStream> {
        let (replies, receiver) = mpsc::channel(1);
        let (node, shared, request) = (self.node, self.shared.clone(), request.into_inner());
        tokio::spawn(async move {
            let mut next = None;
            loop {
                let changed = shared.changed.notified();
                let (reply, ended) = read(node, &shared, &request, &mut next);
                if let Some(reply) = reply
                    && (replies.send(Ok(reply)).await.is_err() || ended)
                {
                    return;
                }
                tokio::select! {
                    () = changed => {}
                    () = replies.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_offset(&self, request: Request<ListOffsetRequest>) -> Answer<ListOffsetReply> {
        let request = request.into_inner();
        let mut state = self.shared.state.lock();
        Ok(Response::new(match state.partition(self.node, &request.topic, request.partition) {
            Ok(partition) => {
                let end = matches!(request.at, Some(list_offset_request::At::End(_)));
                let offset = if end { partition.end } else { partition.start };
                ListOffsetReply { offset, error: None }
            }
            Err(error) => ListOffsetReply { offset: 0, error: Some(error) },
        }))
    }

    async fn metadata(&self, request: Request<MetadataRequest>) -> Answer<MetadataReply> {
        let request = request.into_inner();
        let mut state = self.shared.state.lock();
        state.metadata_requests += 1;
        let mut topics = Vec::new();
        for name in request.topics {
            if request.auto_create && !state.topics.contains_key(&name) && name != "!" {
                state.create(&name, 2, self.node);
            }
            topics.push(match state.topics.get(&name) {
                Some(partitions) => TopicInfo {
                    name,
                    id: "1".into(),
                    partitions: partitions
                        .iter()
                        .zip(0..)
                        .map(|(partition, index)| PartitionInfo {
                            partition: index,
                            leader_node: Some(partition.leader).filter(|leader| *leader != 0),
                            term: partition.term,
                            ..PartitionInfo::default()
                        })
                        .collect(),
                    ..TopicInfo::default()
                },
                None => TopicInfo {
                    name,
                    error: Some(error(api::ErrorCode::UnknownTopicOrPartition, "no such topic")),
                    ..TopicInfo::default()
                },
            });
        }
        let brokers = state.brokers.iter().map(|(node, address)| BrokerInfo {
            node: *node,
            grpc_address: address.clone(),
            ..BrokerInfo::default()
        });
        Ok(Response::new(MetadataReply {
            brokers: brokers.collect(),
            topics,
            coordinator_node: Some(1),
            answering_node: self.node,
            ..MetadataReply::default()
        }))
    }

    async fn init_producer(&self, _: Request<InitProducerRequest>) -> Answer<InitProducerReply> {
        let mut state = self.shared.state.lock();
        state.producers += 1;
        Ok(Response::new(InitProducerReply { producer_id: state.producers, ..InitProducerReply::default() }))
    }

    async fn create_topic(&self, request: Request<CreateTopicRequest>) -> Answer<CreateTopicReply> {
        let request = request.into_inner();
        if self.node != 1 {
            let error =
                api::Error { leader_node: Some(1), ..error(api::ErrorCode::NotCoordinator, "node 1") };
            return Ok(Response::new(CreateTopicReply { error: Some(error), ..CreateTopicReply::default() }));
        }
        let mut state = self.shared.state.lock();
        if state.topics.contains_key(&request.name) {
            let error = Some(error(api::ErrorCode::TopicExists, "it exists"));
            return Ok(Response::new(CreateTopicReply { error, ..CreateTopicReply::default() }));
        }
        state.create(&request.name, request.partitions, 1);
        Ok(Response::new(CreateTopicReply { partitions: request.partitions, ..CreateTopicReply::default() }))
    }

    async fn delete_topic(&self, _: Request<DeleteTopicRequest>) -> Answer<AdminReply> {
        Err(Status::invalid_argument("the mock deletes nothing"))
    }

    async fn alter_topic(&self, _: Request<AlterTopicRequest>) -> Answer<AdminReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn add_partitions(&self, _: Request<AddPartitionsRequest>) -> Answer<AdminReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn describe_topic(&self, _: Request<DescribeTopicRequest>) -> Answer<DescribeTopicReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn trust_clock(&self, _: Request<TrustClockRequest>) -> Answer<AdminReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn node_status(&self, _: Request<NodeStatusRequest>) -> Answer<NodeStatusReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn transfer(&self, _: Request<TransferRequest>) -> Answer<AdminReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn list_consumer_groups(
        &self,
        _: Request<ListConsumerGroupsRequest>,
    ) -> Answer<ListConsumerGroupsReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn describe_consumer_group(
        &self,
        _: Request<DescribeConsumerGroupRequest>,
    ) -> Answer<DescribeConsumerGroupReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn consumer_group_heartbeat(
        &self,
        _: Request<ConsumerGroupHeartbeatRequest>,
    ) -> Answer<ConsumerGroupHeartbeatReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn commit_offsets(&self, _: Request<CommitOffsetsRequest>) -> Answer<CommitOffsetsReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn fetch_offsets(&self, _: Request<FetchOffsetsRequest>) -> Answer<FetchOffsetsReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn delete_offsets(&self, _: Request<DeleteOffsetsRequest>) -> Answer<DeleteOffsetsReply> {
        Err(Status::unimplemented("not in the mock"))
    }

    async fn delete_consumer_group(&self, _: Request<DeleteConsumerGroupRequest>) -> Answer<AdminReply> {
        Err(Status::unimplemented("not in the mock"))
    }
}

/// Handles one produce request; false: the stream breaks.
async fn answer(
    node: u32,
    shared: &Arc<Shared>,
    request: ProduceRequest,
    replies: &mpsc::Sender<Result<ProduceReply, Status>>,
) -> bool {
    use produce_reply::Result as Outcome;
    let (fault, result) = {
        let mut state = shared.state.lock();
        state.produce_requests += 1;
        let fault = state.faults.pop_front().unwrap_or(Fault::None);
        let mut append = || {
            let partition = state.partition(node, &request.topic, request.partition)?;
            partition.append(&request.batch)
        };
        let refused = |code| Err(error(code, "ordered by the test"));
        let result = match fault {
            Fault::BreakBefore => return false,
            Fault::Refuse(code) => refused(code),
            Fault::AppendThen(code) => append().and(refused(code)),
            Fault::None | Fault::BreakAfter | Fault::Hold | Fault::Silent => append(),
        };
        (fault, result)
    };
    shared.changed.notify_waiters();
    let result = match result {
        Ok(produced) => Outcome::Produced(produced),
        Err(error) => Outcome::Error(error),
    };
    let reply = ProduceReply { correlation_id: request.correlation_id, result: Some(result) };
    match fault {
        Fault::BreakAfter => return false,
        Fault::Silent => return true,
        Fault::Hold => {
            let (shared, replies) = (shared.clone(), replies.clone());
            shared.state.lock().held += 1;
            tokio::spawn(async move {
                shared.release.notified().await;
                let _ = replies.send(Ok(reply)).await;
            });
        }
        Fault::None | Fault::Refuse(_) | Fault::AppendThen(_) | Fault::BreakBefore => {
            let _ = replies.send(Ok(reply)).await;
        }
    }
    true
}

/// What a subscription sends next, if anything, and whether that is the last.
fn read(
    node: u32,
    shared: &Shared,
    request: &FetchRequest,
    next: &mut Option<u64>,
) -> (Option<FetchReply>, bool) {
    use fetch_request::From;
    let mut state = shared.state.lock();
    let partition = match state.partition(node, &request.topic, request.partition) {
        Ok(partition) => partition,
        Err(error) => return (Some(FetchReply { error: Some(error), ..FetchReply::default() }), true),
    };
    let from = *next.get_or_insert(match request.from {
        Some(From::Offset(offset)) => offset,
        Some(From::End(_)) => partition.end,
        Some(From::Start(_) | From::TimestampMs(_)) | None => partition.start,
    });
    let range = (partition.start, partition.end);
    if from < range.0 || from > range.1 {
        let error = api::Error {
            start_offset: Some(range.0),
            high_watermark: Some(range.1),
            ..error(api::ErrorCode::OffsetOutOfRange, "not there")
        };
        return (Some(FetchReply { error: Some(error), ..FetchReply::default() }), true);
    }
    let batches = partition.read(from, usize::MAX);
    if batches.is_empty() {
        return (None, false);
    }
    *next = Some(partition.end);
    let (start_offset, high_watermark) = range;
    (Some(FetchReply { batches, start_offset, high_watermark, from_offset: from, error: None }), false)
}
