//! A cluster of broker processes for the end-to-end tests: free ports, a directory of its own, logs kept when a test
//! fails, and every process ended with the test, whatever happens.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use raftline_client::proto::api::{MetadataReply, PartitionInfo};
use raftline_client::proto::ids::NodeId;
use raftline_client::{Client, ClientConfig};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Brokers on this machine that form one cluster, numbered from 1.
pub struct Cluster {
    program: PathBuf,
    name: String,
    brokers: Vec<Broker>,
    /// Goes last; stays if the test fails.
    dir: Option<TempDir>,
}

/// One broker.
struct Broker {
    port: u16,
    data_dir: PathBuf,
    log: PathBuf,
    extra: Vec<String>,
    process: Option<Child>,
}

impl Cluster {
    /// Starts `count` brokers. `program` is this package's binary: `env!("CARGO_BIN_EXE_raftline-tests")`.
    #[must_use]
    pub fn start(program: &str, name: &str, count: usize) -> Self {
        let dir = TempDir::with_prefix(format!("raftline-{name}-")).expect("a temporary directory");
        let root = dir.path().to_owned();
        let mut cluster = Self::prepare(program, name, count, &root, &[]);
        cluster.dir = Some(dir);
        cluster.start_all();
        cluster
    }

    /// Brokers with their data below `root`, not started yet; `extra` is added to each one's command line.
    #[must_use]
    pub fn prepare(program: &str, name: &str, count: usize, root: &Path, extra: &[&str]) -> Self {
        let brokers = free_ports(count)
            .into_iter()
            .zip(1..)
            .map(|(port, node)| Broker {
                port,
                data_dir: root.join(format!("node-{node}")),
                log: root.join(format!("node-{node}.log")),
                extra: extra.iter().map(|&argument| argument.to_owned()).collect(),
                process: None,
            })
            .collect();
        Self { program: program.into(), name: name.to_owned(), brokers, dir: None }
    }

    /// Starts every broker that does not run.
    pub fn start_all(&mut self) {
        for node in self.nodes() {
            if self.broker(node).process.is_none() {
                self.start_broker(node);
            }
        }
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        (1..).take(self.brokers.len()).map(NodeId).collect()
    }

    /// Starts one broker.
    pub fn start_broker(&mut self, node: NodeId) {
        let cluster = self.name.clone();
        self.start_as(node, &cluster);
    }

    /// Starts one broker with more on its command line.
    pub fn start_with(&mut self, node: NodeId, more: &[&str]) {
        let cluster = self.name.clone();
        self.start_broker_as(node, &cluster, more);
    }

    /// Starts one broker as a member of the cluster of this name.
    pub fn start_as(&mut self, node: NodeId, cluster: &str) {
        self.start_broker_as(node, cluster, &[]);
    }

    fn start_broker_as(&mut self, node: NodeId, cluster: &str, more: &[&str]) {
        let peers: Vec<String> =
            self.nodes().iter().map(|peer| format!("{peer}={}", self.address(*peer))).collect();
        let mut command = Command::new(&self.program);
        let address = self.address(node);
        command.args(["broker", "--node-id", &node.to_string(), "--cluster", cluster, "--grpc", &address]);
        for peer in &peers {
            command.args(["--peer", peer]);
        }
        let broker = self.broker_mut(node);
        command.arg("--data-dir").arg(&broker.data_dir).args(&broker.extra).args(more);
        let log = File::options().create(true).append(true).open(&broker.log).expect("a log file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        command.env("RUST_BACKTRACE", "1");
        broker.process = Some(command.spawn().expect("the broker's program can be run"));
    }

    /// Kills a broker at once (`kill -9`) and waits until it is gone.
    pub fn kill(&mut self, node: NodeId) {
        if let Some(mut process) = self.broker_mut(node).process.take() {
            process.kill().expect("a process of ours can be killed");
            process.wait().expect("a process of ours can be waited for");
        }
    }

    /// Kills all brokers, the signals first, so that they die together.
    pub fn kill_all(&mut self) {
        for node in self.nodes() {
            self.signal(node, Signal::KILL);
        }
        for node in self.nodes() {
            self.kill(node);
        }
    }

    /// Asks a broker to stop (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self, node: NodeId) -> ExitStatus {
        self.signal(node, Signal::TERM);
        let mut process = self.broker_mut(node).process.take().expect("a running broker");
        process.wait().expect("a process of ours can be waited for")
    }

    /// Halts a broker (SIGSTOP) as if its machine hung.
    pub fn pause(&self, node: NodeId) {
        self.signal(node, Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self, node: NodeId) {
        self.signal(node, Signal::CONT);
    }

    /// How a broker ended, if it has.
    pub fn exit_status(&mut self, node: NodeId) -> Option<ExitStatus> {
        self.broker_mut(node).process.as_mut()?.try_wait().expect("a process of ours can be asked after")
    }

    /// The id of a broker's process; `None` if it does not run.
    #[must_use]
    pub fn process_id(&self, node: NodeId) -> Option<u32> {
        self.broker(node).process.as_ref().map(Child::id)
    }

    /// Where clients reach a broker.
    #[must_use]
    pub fn address(&self, node: NodeId) -> String {
        format!("127.0.0.1:{}", self.broker(node).port)
    }

    /// Where clients reach the cluster.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.nodes().into_iter().map(|node| self.address(node)).collect()
    }

    /// A broker's directory.
    #[must_use]
    pub fn data_dir(&self, node: NodeId) -> &Path {
        &self.broker(node).data_dir
    }

    /// What a broker has logged so far.
    #[must_use]
    pub fn log(&self, node: NodeId) -> String {
        std::fs::read_to_string(&self.broker(node).log).unwrap_or_default()
    }

    /// A client of the cluster, once a broker answers.
    pub async fn client(&self) -> Client {
        let config = ClientConfig { connect_timeout: PATIENCE, ..ClientConfig::default() };
        match Client::connect(self.addresses(), config).await {
            Ok(client) => client,
            Err(error) => panic!("no client: {error}"),
        }
    }

    /// Waits until all of these brokers are registered and alive, and each partition of `topics` has a live leader.
    pub async fn wait_until_ready(&self, client: &Client, topics: &[&str]) -> MetadataReply {
        let wanted: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
        wait_for("a cluster that is ready", async || {
            let metadata = client.admin().cluster(wanted.clone()).await.ok()?;
            let alive = metadata.brokers.iter().filter(|broker| broker.alive).count();
            let leads = |partition: &PartitionInfo| {
                let alive = |node| metadata.brokers.iter().any(|broker| broker.node == node && broker.alive);
                partition.leader_node.is_some_and(alive)
            };
            let found = wanted.iter().all(|name| metadata.topics.iter().any(|topic| topic.name == *name));
            let led = metadata.topics.iter().flat_map(|topic| &topic.partitions).all(leads);
            (alive == self.brokers.len() && found && led).then_some(metadata)
        })
        .await
    }

    /// Waits until a partition has a leader that `accept` likes.
    pub async fn wait_for_leader(
        &self,
        client: &Client,
        topic: &str,
        partition: u32,
        accept: impl Fn(NodeId) -> bool,
    ) -> NodeId {
        wait_for("a leader", async || {
            let metadata = client.admin().cluster(vec![topic.to_owned()]).await.ok()?;
            let topic = metadata.topics.into_iter().find(|found| found.name == topic)?;
            let found = topic.partitions.into_iter().find(|found| found.partition == partition)?;
            found.leader_node.map(NodeId).filter(|leader| accept(*leader))
        })
        .await
    }

    fn signal(&self, node: NodeId, signal: Signal) {
        let Some(process) = &self.broker(node).process else { return };
        let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id {
            // One that has ended by itself is found out by whoever waits for it.
            let _ = kill_process(id, signal);
        }
    }

    fn broker(&self, node: NodeId) -> &Broker {
        &self.brokers[node.0 as usize - 1]
    }

    fn broker_mut(&mut self, node: NodeId) -> &mut Broker {
        &mut self.brokers[node.0 as usize - 1]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for broker in &mut self.brokers {
            if let Some(mut process) = broker.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("the brokers' logs and data are kept in {}", dir.keep().display());
        }
    }
}

/// How long anything may take before a test gives up. Generous: a busy machine is not a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
///
/// # Panics
/// If there is none for [`PATIENCE`].
pub async fn wait_for<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answered = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    match answered.await {
        Ok(answer) => answer,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Ports that nothing listened on a moment ago, all different.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: io::Result<Vec<TcpListener>> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let listeners = listeners.expect("the system has free ports");
    listeners.iter().map(|listener| listener.local_addr().expect("a bound address").port()).collect()
}
