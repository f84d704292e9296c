//! Broker processes on loopback: started, killed, stopped and continued by their id; always reaped.

use raftline_client::proto::api::NodeStatusReply;
use raftline_client::proto::ids::{GroupId, NodeId};
use raftline_client::{Client, ClientConfig, NewTopic};
use raftline_proto::entry::EntryHeader;
use raftline_proto::ids::Position;
use raftline_storage::{Log, RealDisk};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A cluster of broker processes. Dropped during a panic it leaves its folder, and says where.
pub struct Cluster {
    folder: Option<TempDir>,
    path: PathBuf,
    name: String,
    /// Where each node listens; node 1 first.
    pub addresses: Vec<String>,
    data_dirs: Vec<PathBuf>,
    children: Vec<Option<Child>>,
    arguments: Vec<String>,
}

impl Cluster {
    /// Starts `count` brokers and waits until they know each other.
    pub async fn start(count: u32) -> (Self, Client) {
        let mut cluster = Self::prepared(count, &[]);
        cluster.start_all();
        let client = cluster.client().await;
        (cluster, client)
    }

    /// The folders and addresses of `count` brokers that do not run yet.
    pub fn prepared(count: u32, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("raftline-e2e-").tempdir().expect("a temporary folder");
        let path = folder.path().to_owned();
        Self {
            name: path.file_name().expect("it has a name").to_string_lossy().into_owned(),
            folder: Some(folder),
            addresses: free_addresses(count),
            data_dirs: (1..=count).map(|node| path.join(format!("node-{node}"))).collect(),
            children: (0..count).map(|_| None).collect(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            path,
        }
    }

    /// Starts every broker that does not run.
    pub fn start_all(&mut self) {
        for node in self.nodes() {
            if self.children[place(node)].is_none() {
                self.start_node(node);
            }
        }
    }

    /// Starts one broker, on whatever its data directory holds.
    pub fn start_node(&mut self, node: u32) {
        let child = self.command(node, &self.name.clone()).spawn().expect("the broker starts");
        self.children[place(node)] = Some(child);
    }

    /// A broker of this node id and data directory that says it belongs to `cluster_name`; runs until it ends by
    /// itself. What it said is returned.
    pub fn run_as_member_of(&self, node: u32, cluster_name: &str) -> (ExitStatus, String) {
        let output = self
            .command(node, cluster_name)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .and_then(Child::wait_with_output)
            .expect("the broker runs");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status, said)
    }

    fn command(&self, node: u32, cluster_name: &str) -> Command {
        let log = File::options().create(true).append(true).open(self.log_path(node)).expect("a log file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_raftline-tests-broker"));
        command.args(["--node-id", &node.to_string(), "--cluster", cluster_name]);
        command.arg("--data-dir").arg(self.data_dir(node));
        command.args(["--grpc", &self.addresses[place(node)]]);
        for (index, address) in self.addresses.iter().enumerate() {
            command.args(["--peer", &format!("{}={address}", index + 1)]);
        }
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        command
    }

    /// All node numbers.
    pub fn nodes(&self) -> std::ops::RangeInclusive<u32> {
        1..=u32::try_from(self.addresses.len()).expect("few nodes")
    }

    /// A node's data directory.
    pub fn data_dir(&self, node: u32) -> PathBuf {
        self.data_dirs[place(node)].clone()
    }

    /// Puts a node's data directory elsewhere. It must not run.
    pub fn set_data_dir(&mut self, node: u32, path: PathBuf) {
        assert!(self.children[place(node)].is_none(), "node {node} runs");
        self.data_dirs[place(node)] = path;
    }

    fn log_path(&self, node: u32) -> PathBuf {
        self.path.join(format!("node-{node}.log"))
    }

    /// What a node has logged so far.
    pub fn log(&self, node: u32) -> String {
        std::fs::read_to_string(self.log_path(node)).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: u32) {
        let mut child = self.children[place(node)].take().expect("the node runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// `kill -9` of all at once: all signals leave before any is waited for.
    pub fn kill_all(&mut self) {
        let mut children: Vec<Child> = self.children.iter_mut().filter_map(Option::take).collect();
        for child in &mut children {
            child.kill().expect("it can be killed");
        }
        for child in &mut children {
            child.wait().expect("it ends");
        }
    }

    /// SIGTERM to all, then waits for them: a clean stop, exit code 0.
    pub fn stop_all(&mut self) {
        for node in self.nodes() {
            if self.children[place(node)].is_some() {
                self.signal(node, rustix::process::Signal::TERM);
            }
        }
        for node in self.nodes() {
            if let Some(mut child) = self.children[place(node)].take() {
                let status = child.wait().expect("it ends");
                assert!(status.success(), "node {node} did not stop cleanly: {status}\n{}", self.log(node));
            }
        }
    }

    /// Sends a signal to a node's process.
    pub fn signal(&self, node: u32, signal: rustix::process::Signal) {
        let child = self.children[place(node)].as_ref().expect("the node runs");
        let id =
            i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(id, signal).expect("it can be signalled");
    }

    /// A client, once every broker hears every other and the coordinator is led.
    pub async fn client(&mut self) -> Client {
        let config = ClientConfig { connect_timeout: Duration::from_millis(500), ..ClientConfig::default() };
        let mut client = None;
        for _ in 0..ATTEMPTS {
            self.check_running();
            if client.is_none() {
                client = Client::connect(self.addresses.clone(), config.clone()).await.ok();
            }
            if let Some(client) = &client
                && let Ok(metadata) = client.admin().cluster(vec!["!".into()]).await
                && metadata.coordinator_node.is_some()
                && metadata.brokers.iter().filter(|broker| broker.alive).count() == self.addresses.len()
            {
                return client.clone();
            }
            pause().await;
        }
        panic!("the brokers did not form a cluster; node 1 said:\n{}", self.log(1));
    }

    /// Names a broker that ended by itself, with what it said.
    pub fn check_running(&mut self) {
        for node in self.nodes() {
            if let Some(child) = &mut self.children[place(node)]
                && let Some(status) = child.try_wait().expect("a child can be asked")
            {
                panic!("node {node} ended by itself ({status}):\n{}", self.log(node));
            }
        }
    }

    /// Waits until every broker holds and knows everything of the topics' partitions: equal high watermarks, equal
    /// commit and last index, all durable.
    pub async fn wait_equal(&mut self, client: &Client) {
        let mut seen = String::new();
        for _ in 0..ATTEMPTS {
            self.check_running();
            let mut states: BTreeMap<u64, Vec<_>> = BTreeMap::new();
            let mut whole = true;
            for node in self.nodes() {
                match client.admin().node_status(NodeId(node)).await {
                    Ok(NodeStatusReply { replicas, .. }) => {
                        for replica in replicas {
                            whole &= replica.commit_index == replica.last_index;
                            whole &= replica.durable_index == replica.last_index;
                            let state = (replica.last_index, replica.commit_index, replica.high_watermark);
                            states.entry(replica.group).or_default().push(state);
                        }
                    }
                    Err(error) => {
                        whole = false;
                        seen = error.to_string();
                    }
                }
            }
            let count = self.addresses.len();
            whole &= states
                .values()
                .all(|nodes| nodes.len() == count && nodes.windows(2).all(|two| two[0] == two[1]));
            if whole && !states.is_empty() {
                return;
            }
            if !states.is_empty() {
                seen = format!("{states:?}");
            }
            pause().await;
        }
        panic!("the replicas did not become equal: {seen}");
    }

    /// The leader of a partition, once one is known.
    pub async fn leader(&self, client: &Client, topic: &str, partition: u32) -> u32 {
        for _ in 0..ATTEMPTS {
            if let Ok(metadata) = client.admin().cluster(vec![topic.to_owned()]).await
                && let Some(found) = metadata.topics.iter().find(|found| found.name == topic)
                && let Some(found) = found.partitions.iter().find(|found| found.partition == partition)
                && let Some(leader) = found.leader_node
            {
                return leader;
            }
            pause().await;
        }
        panic!("no leader of {topic}/{partition}");
    }

    /// Every entry of every group in a stopped node's directory, byte for byte.
    pub fn entries(&self, node: u32) -> BTreeMap<GroupId, Vec<(EntryHeader, Vec<u8>)>> {
        let groups = self.data_dir(node).join("groups");
        let disk = RealDisk::new(&self.data_dir(node)).expect("the data directory");
        let mut entries = BTreeMap::new();
        for folder in
            std::fs::read_dir(&groups).expect("the groups' folder").map(|folder| folder.expect("listed"))
        {
            let Some(number) = folder.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let group = GroupId(number);
            let log =
                Log::inspect(disk.clone(), &folder.path(), group, Position::ZERO).expect("the log is whole");
            let first = log.start().0.index.next();
            let all =
                log.replay(first).map(|entry| entry.map(|(header, payload)| (header, payload.to_vec())));
            entries.insert(group, all.collect::<Result<_, _>>().expect("every entry can be read"));
        }
        entries
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().filter_map(Option::as_mut) {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("the brokers' folders and logs are kept in {}", folder.keep().display());
        }
    }
}

/// Makes a topic with three replicas of each partition.
pub async fn create_topic(client: &Client, name: &str, partitions: u32) {
    let topic = NewTopic { name: name.into(), partitions, replication: 3, ..Default::default() };
    client.admin().create_topic(&topic).await.expect("the topic is made");
}

/// Where the real log files are, if they are on this machine.
pub fn loghub() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/loghub");
    let folder = std::env::var_os("RAFTLINE_LOGHUB").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Lets time pass between two looks at a condition.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Looks at a condition this often before giving up: about 60 s.
pub const ATTEMPTS: usize = 1200;

fn place(node: u32) -> usize {
    node as usize - 1
}

/// Loopback addresses that are free now; all are held until the last is found, so that they differ.
fn free_addresses(count: u32) -> Vec<String> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("it is bound").to_string()).collect()
}
