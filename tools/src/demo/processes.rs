//! Broker processes in a temporary folder: started from this very executable, killed whatever happens.

use anyhow::{Context as _, bail};
use raftline_client::{Client, ClientConfig};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// A cluster of processes. Dropping it kills them and removes the folder.
pub struct Processes {
    folder: Option<TempDir>,
    path: PathBuf,
    cluster: String,
    addresses: Vec<String>,
    children: Vec<Option<Child>>,
}

/// Broker processes that run, for the panic hook: a panic may abort without dropping anything.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

impl Processes {
    /// Starts `count` brokers.
    ///
    /// # Errors
    /// The folder cannot be made, or a process cannot be started.
    pub fn start(count: u32) -> anyhow::Result<Self> {
        kill_on_panic();
        let folder = tempfile::Builder::new().prefix("raftline-demo-").tempdir();
        let folder = folder.context("cannot make a temporary folder")?;
        let path = folder.path().to_owned();
        let mut processes = Self {
            cluster: path.file_name().map_or("demo".into(), |name| name.to_string_lossy().into_owned()),
            folder: Some(folder),
            path,
            addresses: free_addresses(count)?,
            children: Vec::new(),
        };
        for node in 1..=count {
            let child = processes.spawn(node)?;
            processes.children.push(Some(child));
        }
        Ok(processes)
    }

    /// Where everything is.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// The brokers' gRPC addresses, node 1's first.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// A node's data directory.
    pub fn data_dir(&self, node: u32) -> PathBuf {
        self.path.join(format!("node-{node}"))
    }

    /// Ends a node as a crash would: `kill -9`.
    ///
    /// # Errors
    /// It is not running.
    pub fn kill(&mut self, node: u32) -> anyhow::Result<()> {
        let Some(mut child) = self.children[node as usize - 1].take() else {
            bail!("node {node} is not running")
        };
        end(&mut child);
        Ok(())
    }

    /// Starts a node again, on its old data.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn restart(&mut self, node: u32) -> anyhow::Result<()> {
        let child = self.spawn(node)?;
        self.children[node as usize - 1] = Some(child);
        Ok(())
    }

    /// Names a node that ended by itself, with the last lines of its log.
    ///
    /// # Errors
    /// If there is one.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        for (index, child) in self.children.iter_mut().enumerate() {
            let Some(child) = child else { continue };
            if let Some(status) = child.try_wait().context("cannot look after a broker process")? {
                let log = log_path(&self.path, index + 1);
                bail!("node {} ended by itself ({status}); its log ends with:\n{}", index + 1, tail(&log));
            }
        }
        Ok(())
    }

    /// A client, once all brokers are up and know each other.
    ///
    /// # Errors
    /// They do not come up.
    pub async fn client(&mut self) -> anyhow::Result<Client> {
        let config = ClientConfig { connect_timeout: Duration::from_millis(500), ..ClientConfig::default() };
        for _ in 0..START_ATTEMPTS {
            self.check_running()?;
            if let Ok(client) = Client::connect(self.addresses.clone(), config.clone()).await {
                let metadata = client.admin().cluster(vec!["!".into()]).await?;
                let alive = metadata.brokers.iter().filter(|broker| broker.alive).count();
                if alive == self.addresses.len() && metadata.coordinator_node.is_some() {
                    return Ok(client);
                }
            }
            tokio::time::sleep(START_POLL).await;
        }
        let log = tail(&log_path(&self.path, 1));
        bail!("the brokers did not form a cluster in time; the log of node 1 ends with:\n{log}")
    }

    /// Kills all processes and leaves the folder.
    pub fn keep(mut self) -> PathBuf {
        self.end_all();
        if let Some(folder) = self.folder.take() {
            let _ = folder.keep();
        }
        self.path.clone()
    }

    /// Kills all processes; the folder stays until this is dropped.
    pub fn end_all(&mut self) {
        for child in self.children.iter_mut().filter_map(Option::take).collect::<Vec<_>>().iter_mut() {
            end(child);
        }
    }

    fn spawn(&self, node: u32) -> anyhow::Result<Child> {
        let executable = std::env::current_exe().context("cannot find this executable")?;
        let log = log_path(&self.path, node as usize);
        let log =
            File::options().create(true).append(true).open(&log).context("cannot write a broker's log")?;
        let mut command = Command::new(executable);
        command.arg("broker");
        command.args(["--node-id", &node.to_string(), "--cluster", &self.cluster]);
        command.arg("--data-dir").arg(self.data_dir(node));
        command.args(["--grpc", &self.addresses[node as usize - 1]]);
        for (index, address) in self.addresses.iter().enumerate() {
            command.args(["--peer", &format!("{}={address}", index + 1)]);
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot write a broker's log")?)
            .stderr(log);
        // A group of its own: Ctrl-C in the terminal is for the demo, which then ends its brokers.
        command.process_group(0);
        let child = command.spawn().context("cannot start a broker process")?;
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(child.id());
        Ok(child)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// How often, and how many times, the cluster is looked at until it is up: about 30 s.
const START_POLL: Duration = Duration::from_millis(50);
const START_ATTEMPTS: usize = 600;

fn log_path(folder: &Path, node: usize) -> PathBuf {
    folder.join(format!("node-{node}.log"))
}

fn end(child: &mut Child) {
    // Errors mean that it has ended already.
    let _ = child.kill();
    let _ = child.wait();
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| *id != child.id());
}

/// The release profile aborts on panic, without dropping anything: the processes are ended by the hook then.
fn kill_on_panic() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            for id in RUNNING.try_lock().map(|running| running.clone()).unwrap_or_default() {
                let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
                if let Some(id) = id {
                    let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
                }
            }
            before(panic);
        }));
    });
}

/// Loopback addresses that are free now. All are held until the last is found, so that they differ.
fn free_addresses(count: u32) -> anyhow::Result<Vec<String>> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?);
    }
    let addresses = listeners.iter().map(|listener| listener.local_addr().map(|address| address.to_string()));
    addresses.collect::<Result<_, _>>().context("cannot find a free port")
}

/// The end of a log.
fn tail(path: &Path) -> String {
    const BYTES: u64 = 4096;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.is_empty() => "(nothing)".into(),
        Ok(text) => text,
        Err(error) => format!("({}: {error})", path.display()),
    }
}
