//! Brokers in this process, on ports that the system chooses, and clients that speak the raw API.
#![allow(dead_code, reason = "every test file uses its part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use raftline_broker::config::{self, Config, Invocation};
use raftline_broker::server::{self, ADDRESS_FILE, ServeError};
use raftline_broker::shutdown::Stop;
use raftline_proto::api::broker_client::BrokerClient;
use raftline_proto::api::{self, CreateTopicRequest, MetadataRequest, ProduceReply, ProduceRequest};
use raftline_proto::batch::{Builder, Codec};
use raftline_proto::time::Timestamp;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Nothing here takes long; a test that waits for this has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub type Client = BrokerClient<Channel>;

/// A broker that runs in this process.
pub struct Running {
    pub address: String,
    pub client: Client,
    stop: Stop,
    serving: JoinHandle<Result<(), ServeError>>,
}

/// The configuration that this command line gives.
pub fn configured(args: &[&str]) -> Config {
    let args = std::iter::once("raftlined").chain(args.iter().copied()).map(OsString::from);
    match config::parse(args).unwrap() {
        Invocation::Run(config) => *config,
        Invocation::Print(text) => panic!("printed {text}"),
    }
}

/// A lone node on a free port.
pub async fn lone(directory: &Path, more: &[&str]) -> Running {
    let data_dir = directory.to_str().unwrap();
    let args = [&["--dev", "--data-dir", data_dir, "--grpc", "127.0.0.1:0", "--kafka", "127.0.0.1:0"], more]
        .concat();
    Running::start(configured(&args)).await
}

impl Running {
    /// Starts a broker and waits until it listens.
    pub async fn start(config: Config) -> Self {
        let address_file = config.data_dir.join(ADDRESS_FILE);
        let stop = Stop::default();
        let mut serving = tokio::spawn(server::serve(config, stop.clone()));
        let listening = async {
            loop {
                match std::fs::read_to_string(&address_file) {
                    Ok(address) => return address.trim().to_owned(),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let address = tokio::select! {
            address = tokio::time::timeout(PATIENCE, listening) => address.expect("the broker starts"),
            ended = &mut serving => panic!("the broker ended: {ended:?}"),
        };
        let client = connect(&address).await;
        Self { address, client, stop, serving }
    }

    /// Stops it in good order.
    pub async fn stop(self) -> Result<(), ServeError> {
        self.stop.in_order.cancel();
        tokio::time::timeout(PATIENCE, self.serving).await.expect("the broker stops").unwrap()
    }
}

pub async fn connect(address: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect().await.unwrap();
    BrokerClient::new(channel).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
}

/// Makes a topic and waits until `client`'s broker knows a leader for each partition.
pub async fn create(client: &mut Client, name: &str, partitions: u32, configs: &[(&str, &str)]) {
    let configs: BTreeMap<String, String> =
        configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let request = CreateTopicRequest {
        name: name.to_owned(),
        partitions,
        replication: 0,
        configs,
        assignment: Vec::new(),
    };
    let reply = client.create_topic(request).await.unwrap().into_inner();
    assert_eq!(reply.error, None);
    assert_eq!(reply.partitions, partitions);
    leaders(client, name).await;
}

/// The leader of each partition, once all have one.
pub async fn leaders(client: &mut Client, topic: &str) -> Vec<u32> {
    let known = async {
        loop {
            let request = MetadataRequest { topics: vec![topic.to_owned()], auto_create: false };
            let mut reply = client.metadata(request).await.unwrap().into_inner();
            let topic = reply.topics.pop().unwrap();
            let leaders: Option<Vec<u32>> = topic.partitions.iter().map(|found| found.leader_node).collect();
            match leaders {
                Some(leaders) if topic.error.is_none() => return leaders,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, known).await.expect("every partition gets a leader")
}

/// A batch of these values, a millisecond apart from `timestamp` on.
pub fn batch(timestamp: i64, values: &[&str]) -> Bytes {
    let mut builder = Builder::new(Codec::None);
    for (value, at) in values.iter().zip(0..) {
        builder.push(Timestamp(timestamp + at), None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.build()
}

/// The values in a fetch reply at or above its `from_offset`.
pub fn values(reply: &api::FetchReply) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = reply.batches.clone();
    while !rest.is_empty() {
        let header = raftline_proto::batch::BatchHeader::decode(&rest).unwrap();
        let whole = rest.split_to(header.batch_bytes as usize);
        raftline_proto::batch::check_crc(&whole).unwrap();
        let records = &whole[raftline_proto::batch::HEADER_BYTES..];
        for record in raftline_proto::batch::record::Records::new(&header, records) {
            let record = record.unwrap();
            if record.offset.0 >= reply.from_offset {
                values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            }
        }
    }
    values
}

/// A produce stream.
pub struct Producing {
    pub requests: mpsc::Sender<ProduceRequest>,
    pub replies: tonic::Streaming<ProduceReply>,
}

impl Producing {
    pub async fn open(client: &mut Client) -> Self {
        let (requests, outgoing) = mpsc::channel(64);
        let replies = client.produce(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Self { requests, replies }
    }

    pub async fn send(&self, correlation_id: u64, topic: &str, partition: u32, batch: Bytes) {
        let topic = topic.to_owned();
        let request = ProduceRequest { correlation_id, topic, partition, batch, ..ProduceRequest::default() };
        self.requests.send(request).await.unwrap();
    }

    pub async fn reply(&mut self) -> ProduceReply {
        let reply = tokio::time::timeout(PATIENCE, self.replies.message()).await.expect("a reply comes");
        reply.unwrap().expect("the stream is open")
    }

    /// Sends one batch and waits for its offset.
    pub async fn produce(&mut self, topic: &str, partition: u32, batch: Bytes) -> u64 {
        self.send(1, topic, partition, batch).await;
        match self.reply().await.result.unwrap() {
            api::produce_reply::Result::Produced(produced) => produced.base_offset,
            api::produce_reply::Result::Error(error) => panic!("{}", error.message),
        }
    }

    /// Sends one batch and waits for its refusal.
    pub async fn refusal(&mut self, request: ProduceRequest) -> api::Error {
        self.requests.send(request).await.unwrap();
        match self.reply().await.result.unwrap() {
            api::produce_reply::Result::Produced(produced) => panic!("taken: {produced:?}"),
            api::produce_reply::Result::Error(error) => error,
        }
    }
}
