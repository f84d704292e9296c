//! A whole broker: started in order, listeners last; stopped in order, leaderships first.

use crate::api::{self, Addresses, Broker, BrokerParts, BrokerService};
use crate::ballast;
use crate::clock::Clock;
use crate::config::{Config, KafkaListener};
use crate::engine::{Engine, EngineError, EngineOptions};
use crate::groups::GroupCoordinators;
use crate::identity::{Identity, IdentityError};
use crate::incoming::Incoming;
use crate::kafka;
use crate::leader_news;
use crate::limits;
use crate::peer::Peers;
use crate::shutdown::Stop;
use crate::view::NodeView;
use crate::wrong_door::Signposts;
use raftline_proto::api::broker_server::BrokerServer;
use raftline_proto::ids::{BootId, GroupId, Incarnation};
use raftline_proto::limits::MESSAGE_BYTES_MAX;
use raftline_proto::peer::peer_server::PeerServer;
use raftline_shard::config::{ShardConfig, Timings, TopicDefaults};
use raftline_storage::RealDisk;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// Why a broker did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory is not usable by this broker.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The threads did not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The listener's address is not to be had.
    #[error("cannot listen on {address}: {error}; choose another --grpc address, or stop who has it")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The Kafka listener's address is not to be had.
    #[error(
        "cannot listen for Kafka clients on {address}: {error}; choose another --kafka address, or stop who has it"
    )]
    ListenForKafka {
        /// The address.
        address: String,
        /// Why not.
        error: std::io::Error,
    },
    /// Nobody could ask this process to stop.
    #[error("this process may not handle signals: {0}")]
    Signals(std::io::Error),
    /// The cluster's metadata cannot be read here.
    #[error("this node's copy of the cluster's metadata (group 0) cannot be used: {reason}")]
    Coordinator {
        /// Why not.
        reason: String,
    },
    /// The cluster does not want this node.
    #[error("refused by the cluster: {0}")]
    Unwanted(String),
    /// The listener failed, or a file beside the data could not be written.
    #[error("{action}: {error}")]
    Io {
        /// What was under way.
        action: &'static str,
        /// What went wrong.
        error: std::io::Error,
    },
    /// tonic gave up.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Where clients reach a broker that serves them.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The gRPC listener.
    pub grpc: String,
    /// Each Kafka listener, with its name.
    pub kafka: Vec<(String, String)>,
}

/// Runs a broker until it is asked to stop.
///
/// # Errors
/// Why it did not start, or stopped unasked.
pub async fn serve(config: Config, asked: Stop) -> Result<(), ServeError> {
    serve_and_tell(config, asked, |_| {}).await
}

/// The same; tells once the cluster has formed and knows this broker.
///
/// # Errors
/// As [`serve`].
pub async fn serve_and_tell(
    mut config: Config,
    asked: Stop,
    ready: impl FnOnce(&Ready) + Send + 'static,
) -> Result<(), ServeError> {
    // The parents of what is made are synced up to the directory's own parent, which a relative path does not name.
    config.data_dir = std::path::absolute(&config.data_dir)
        .map_err(|error| io("resolve the data directory's path", error))?;
    let clock = Clock::start();
    let drawn = Incarnation(rand::random());
    let (node, copies) = (config.node, config.copies);
    let identity = Identity::claim_even(&config.data_dir, node, &config.cluster_name, drawn, copies)?;
    let identity = Arc::new(identity);
    let boot = BootId(rand::random());
    let peers = Peers::new(Arc::clone(&identity), boot, &config.peers);
    // Whoever reads it finds this process's address or none.
    drop(std::fs::remove_file(config.data_dir.join(ADDRESS_FILE)));
    remove_kafka_addresses(&config);

    let options = EngineOptions {
        disk: RealDisk::new(&config.data_dir)
            .map_err(|error| io("look at the data directory's disk", error))?,
        data_dir: config.data_dir.clone(),
        clock,
        shards: shard_configs(&config, &identity, boot),
        sync_lanes: limits::SYNC_LANES,
        promised: identity.shards(),
        reserve_bytes: config.disk_reserve_bytes,
    };
    let mut engine = Engine::start(options, |_| peers.outbox())?;
    // Before anybody hears of this node.
    let noted = identity.note_shards(engine.generations().to_vec());
    let ended = match noted {
        Ok(()) => {
            let own = Own { identity: &identity, boot, clock };
            run(&config, &asked, own, &peers, &mut engine, ready).await
        }
        Err(error) => Err(error.into()),
    };
    // However it ended: an engine that is left behind goes on writing into a directory that may be removed or belong
    // to another process by now.
    match tokio::task::spawn_blocking(move || engine.stop()).await {
        Ok(Ok(())) => tracing::info!("stopped"),
        Ok(Err(error)) => {
            tracing::warn!(%error, "stopped; the last flush failed, the next start looks longer")
        }
        Err(error) => tracing::error!(%error, "the engine did not stop cleanly"),
    }
    identity.release();
    ended
}

/// Who this process is, and its clock.
#[derive(Clone, Copy)]
struct Own<'a> {
    identity: &'a Arc<Identity>,
    boot: BootId,
    clock: Clock,
}

/// Serves until asked to stop, then hands over and closes what was opened here; the engine is the caller's to stop.
async fn run(
    config: &Config,
    asked: &Stop,
    own: Own<'_>,
    peers: &Peers,
    engine: &mut Engine,
    ready: impl FnOnce(&Ready) + Send + 'static,
) -> Result<(), ServeError> {
    let Own { identity, boot, clock } = own;
    let address_file = config.data_dir.join(ADDRESS_FILE);
    let view = Arc::clone(engine.view());
    let stop = CancellationToken::new();
    let _stopped_in_any_case = stop.clone().drop_guard();
    let mut tasks = JoinSet::new();
    tokio::select! {
        open = recovered(&view) => open?,
        () = asked.in_order.cancelled() => {}
    }

    let listener = TcpListener::bind(&config.grpc)
        .await
        .map_err(|error| ServeError::Listen { address: config.grpc.clone(), error })?;
    let bound = listener.local_addr().map_err(|error| io("ask the listener for its address", error))?;
    let advertised = config.advertise_grpc.clone().unwrap_or_else(|| advertised(config, bound));
    let groups = Arc::new(GroupCoordinators::new(
        engine.shards().clone(),
        Arc::clone(&view),
        clock,
        config.groups.clone(),
        stop.clone(),
    ));
    tasks.spawn(Arc::clone(&groups).follow_leaderships());
    let broker = Arc::new(Broker::new(BrokerParts {
        shards: engine.shards().clone(),
        view: Arc::clone(&view),
        clock,
        identity: Arc::clone(identity),
        peers: peers.clone(),
        auto_create_topics: config.auto_create_topics,
        default_replication: config.default_replication,
        default_partitions: config.default_partitions,
        default_segment_bytes: config.default_segment_bytes,
        reserve_bytes: engine.reserve_bytes(),
        pulse: engine.pulse().clone(),
        groups: Arc::clone(&groups),
        stop: stop.clone(),
    }));
    let kafka = listen_for_kafka(config).await?;
    let kafka_addresses: Vec<(String, String)> =
        kafka.iter().map(|one| (one.name.clone(), one.advertised.clone())).collect();
    let signposts = Arc::new(Signposts::new(clock, advertised.clone(), &kafka_addresses));
    let incoming = Incoming::new(listener, limits::CONNECTIONS_MAX).for_grpc_only(Arc::clone(&signposts));
    let mut server = tokio::spawn(grpc(incoming, &broker, peers, engine, clock, &stop));
    let session = config.timings.broker_session;
    let mut kafka_server =
        tokio::spawn(kafka::serve(kafka, Arc::clone(&broker), groups, session, signposts, stop.clone()));
    tasks.spawn(leader_news::tell(Arc::clone(&view), identity.node(), peers.outbox()));
    // Only now: a peer that hears this node dials back at once.
    peers.dial(engine.pulse(), clock, &stop, &mut tasks);
    write_address(&address_file, bound)?;
    if let Err(error) = ballast::keep(&config.data_dir) {
        tracing::warn!(%error, "no room is kept for the next start: make some, else a full disk refuses it");
    }
    log_start(config, identity, boot, bound, &advertised, engine.reserve_bytes());
    let told = Ready { grpc: advertised.clone(), kafka: kafka_addresses.clone() };
    let addresses = Addresses { grpc: advertised, kafka: kafka_addresses.into_iter().collect() };
    let (registered, wanted) = (Arc::clone(&broker), addresses.clone());
    tasks.spawn(async move {
        api::registered(&registered, &wanted).await;
        ready(&told);
    });

    let ended = tokio::select! {
        () = asked.in_order.cancelled() => Ok(()),
        message = peers.unwanted() => Err(ServeError::Unwanted(message)),
        message = api::register(&broker, &addresses) => Err(ServeError::Unwanted(message)),
        error = learn_cluster(identity, &view) => Err(error.into()),
        served = &mut server => Err(match served {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) => io("serve", std::io::Error::other("the listener ended")),
            Err(error) => io("serve", std::io::Error::other(error)),
        }),
    };
    drop(std::fs::remove_file(&address_file));
    if ended.is_ok() {
        tracing::info!("stopping: handing leadership over");
        let handed_over = tokio::select! {
            handed_over = engine.drain(config.timings.drain + limits::DRAIN_SLACK) => handed_over,
            () = asked.at_once.cancelled() => false,
        };
        tracing::info!(handed_over, "closing connections");
    }
    stop.cancel();
    if !server.is_finished() && tokio::time::timeout(limits::CLOSE_TIMEOUT, &mut server).await.is_err() {
        server.abort();
    }
    if tokio::time::timeout(limits::CLOSE_TIMEOUT, &mut kafka_server).await.is_err() {
        kafka_server.abort();
    }
    remove_kafka_addresses(config);
    tasks.shutdown().await;
    ended
}

/// Binds the Kafka listeners.
async fn listen_for_kafka(config: &Config) -> Result<Vec<kafka::Listener>, ServeError> {
    let mut listeners = Vec::new();
    for KafkaListener { name, bind, advertise } in &config.kafka {
        let socket = TcpListener::bind(bind)
            .await
            .map_err(|error| ServeError::ListenForKafka { address: bind.clone(), error })?;
        let bound =
            socket.local_addr().map_err(|error| io("ask the Kafka listener for its address", error))?;
        let advertised = match (advertise, bind.rsplit_once(':')) {
            (Some(told), _) => told.clone(),
            (None, Some((host, _))) => format!("{host}:{}", bound.port()),
            (None, None) => bound.to_string(),
        };
        for file in kafka_address_files(config, name) {
            write_address(&file, bound)?;
        }
        tracing::info!(listener = name, kafka = %bound, advertised, "listening for Kafka clients");
        listeners.push(kafka::Listener { name: name.clone(), socket, advertised });
    }
    Ok(listeners)
}

/// Where the address of a Kafka listener is left for scripts: that of the first one always at the same place, where there
/// are several each at one with its name.
fn kafka_address_files(config: &Config, name: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if config.kafka.first().is_some_and(|first| first.name == name) {
        files.push(config.data_dir.join(KAFKA_ADDRESS_FILE));
    }
    if config.kafka.len() > 1 {
        files.push(config.data_dir.join(format!("kafka-{}.addr", name.to_ascii_lowercase())));
    }
    files
}

fn remove_kafka_addresses(config: &Config) {
    for listener in &config.kafka {
        for file in kafka_address_files(config, &listener.name) {
            drop(std::fs::remove_file(file));
        }
    }
}

fn grpc(
    incoming: Incoming,
    broker: &Arc<Broker>,
    peers: &Peers,
    engine: &Engine,
    clock: Clock,
    stop: &CancellationToken,
) -> impl Future<Output = Result<(), tonic::transport::Error>> + use<> {
    let broker = BrokerServer::new(BrokerService(Arc::clone(broker)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let peers = PeerServer::new(peers.service(
        engine.shards().clone(),
        engine.pulse().clone(),
        Arc::clone(engine.view()),
        clock,
        stop.clone(),
    ))
    .max_decoding_message_size(MESSAGE_BYTES_MAX);
    Server::builder()
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::HTTP2_FRAME_BYTES)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(limits::SERVER_PING_INTERVAL))
        .http2_keepalive_timeout(Some(limits::SERVER_PING_TIMEOUT))
        .add_service(broker)
        .add_service(peers)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned())
}

/// Waits until this node's own copy of the metadata is open; the partitions follow from it.
async fn recovered(view: &NodeView) -> Result<(), ServeError> {
    let mut changes = view.changes();
    loop {
        changes.borrow_and_update();
        if let Some(reason) = view.failure(GroupId::COORDINATOR) {
            return Err(ServeError::Coordinator { reason });
        }
        if view.leader(GroupId::COORDINATOR).is_some() || changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Keeps the cluster's id beside the node's own as soon as it is known; returns only if another one was known.
async fn learn_cluster(identity: &Arc<Identity>, view: &NodeView) -> IdentityError {
    let mut changes = view.changes();
    loop {
        changes.borrow_and_update();
        if let Some((id, _)) = view.image().cluster {
            let identity = Arc::clone(identity);
            let known = identity.cluster_id().is_some();
            let learnt = tokio::task::spawn_blocking(move || identity.learn_cluster(id)).await;
            match learnt {
                Ok(Ok(())) if !known => tracing::info!(cluster_id = %id, "joined the cluster"),
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(error) => tracing::error!(%error, "the cluster's id could not be noted"),
            }
            std::future::pending::<()>().await;
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn shard_configs(config: &Config, identity: &Identity, boot: BootId) -> Vec<ShardConfig> {
    let cluster_id_seed = rand::random();
    let shard = |shard| ShardConfig {
        shard,
        shards: config.shards,
        node: config.node,
        incarnation: identity.incarnation(),
        boot,
        peers: config.peers.keys().copied().collect(),
        cluster_name: config.cluster_name.clone(),
        cluster_id_seed,
        seed: rand::random(),
        timings: Timings {
            alive_interval: config.timings.alive_interval,
            alive_lapse: config.timings.alive_lapse,
            election_min: config.timings.election_timeout_min,
            election_max: config.timings.election_timeout_max,
            resend: config.timings.resend,
            retention_interval: config.timings.cleanup,
            drain_limit: config.timings.drain,
            ..Timings::default()
        },
        in_flight_bytes_max: raftline_shard::limits::IN_FLIGHT_BYTES_MAX,
        defaults: TopicDefaults {
            partitions: config.default_partitions,
            replication: config.default_replication,
        },
    };
    (0..config.shards).map(shard).collect()
}

/// How others reach the listener where nothing else is said: as the peers know this node, with the real port.
fn advertised(config: &Config, bound: SocketAddr) -> String {
    let port_given = !config.grpc.ends_with(":0");
    match config.peers.get(&config.node) {
        Some(address) if port_given => address.clone(),
        _ => match config.grpc.rsplit_once(':') {
            Some((host, _)) => format!("{host}:{}", bound.port()),
            None => bound.to_string(),
        },
    }
}

/// Leaves the listener's address beside the data, for scripts that let the system choose the port. Whole or not
/// there: written aside and renamed.
fn write_address(path: &Path, bound: SocketAddr) -> Result<(), ServeError> {
    let aside = path.with_extension("tmp");
    std::fs::write(&aside, format!("{bound}\n"))
        .and_then(|()| std::fs::rename(&aside, path))
        .map_err(|error| io("write the listener's address beside the data", error))
}

fn log_start(
    config: &Config,
    identity: &Identity,
    boot: BootId,
    bound: SocketAddr,
    advertised: &str,
    reserve_bytes: u64,
) {
    let peers: Vec<String> = config.peers.iter().map(|(node, address)| format!("{node}={address}")).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %config.node,
        cluster = %config.cluster_name,
        cluster_id = identity.cluster_id().map(|id| id.to_string()),
        incarnation = %identity.incarnation(),
        boot = %boot,
        data_dir = %config.data_dir.display(),
        formatted = identity.formatted(),
        grpc = %bound,
        advertised,
        peers = peers.join(","),
        shards = config.shards,
        reserve_bytes,
        pid = std::process::id(),
        "broker started"
    );
}

const fn io(action: &'static str, error: std::io::Error) -> ServeError {
    ServeError::Io { action, error }
}

/// In the data directory, while the listener is open: its address.
pub const ADDRESS_FILE: &str = "grpc.addr";

/// Beside it: the address of the first Kafka listener, if there is one; of several each has a file `kafka-NAME.addr`, too.
pub const KAFKA_ADDRESS_FILE: &str = "kafka.addr";
