//! Who this data directory is (DESIGN D8, D11): one process at a time, one node of one cluster for ever, and the
//! disks of the peers as they were first met.
//!
//! The directory's incarnation is drawn when it is formatted. It goes with every vote and acknowledgement, so that
//! an emptied or swapped disk never speaks as the one it replaced. A peer's incarnation is trusted on first use and
//! on stable storage before anything that the peer says counts.

mod file;

use crate::ballast;
use file::Facts;
use parking_lot::Mutex;
use raftline_proto::ids::{BootId, ClusterId, Incarnation, NodeId};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A data directory that this process holds, and what it says of itself and the peers.
#[derive(Debug)]
pub struct Identity {
    directory: PathBuf,
    facts: Mutex<Facts>,
    /// `None` once released. The kernel lets go of the lock with the descriptor, however the process ends.
    lock: Mutex<Option<File>>,
    formatted: bool,
}

/// What came of meeting a peer's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// The disk that was known.
    Known,
    /// The first one under this node id: it is known from now on, on stable storage.
    First,
    /// Another disk than the one known.
    Other {
        /// The one known.
        known: Incarnation,
    },
    /// The disk that was known, as it was before: it has been started more often than it says, or another process has
    /// the same start.
    Older {
        /// How often it was started when it was met last.
        known: u64,
    },
}

/// What becomes of a directory whose identity file is not the one that was written, but a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// It is refused: the node may have acknowledged more since the copy was made.
    Refused,
    /// It is taken, once: the operator says that nothing has run on the original since.
    Taken,
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another process has it.
    #[error(
        "the data directory {} is in use by {holder}: stop that process, or give this broker a --data-dir of its own",
        directory.display()
    )]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// It belongs to another node.
    #[error(
        "the data directory {} belongs to node {found}, but this broker is configured as node {configured}: \
         give each node its own directory (--data-dir), or correct --node-id",
        directory.display()
    )]
    OtherNode {
        /// The directory.
        directory: PathBuf,
        /// Its node.
        found: NodeId,
        /// The configured one.
        configured: NodeId,
    },
    /// It belongs to another cluster.
    #[error(
        "the data directory {} belongs to cluster `{found}`, but this broker is configured for cluster \
         `{configured}`: correct --cluster, or give this cluster a --data-dir of its own",
        directory.display()
    )]
    OtherClusterName {
        /// The directory.
        directory: PathBuf,
        /// Its cluster.
        found: String,
        /// The configured one.
        configured: String,
    },
    /// The cluster met under the same name is another one.
    #[error(
        "this node's data is of cluster {known}, but the coordinator's log says {found}: a directory or a backup of \
         another cluster was mixed in; stop, and put the right data directory back"
    )]
    OtherCluster {
        /// The id on disk.
        known: ClusterId,
        /// The id met.
        found: ClusterId,
    },
    /// There is data, but nothing that says whose.
    #[error(
        "the data directory {} has data (`{entry}`) but no identity file: put `{file}` back from where the data \
         came from and start once with --adopt-copy; for a new broker choose an empty directory",
        directory.display(),
        file = file::NAME
    )]
    Missing {
        /// The directory.
        directory: PathBuf,
        /// Something in it.
        entry: String,
    },
    /// The identity file is not what was written.
    #[error(
        "the identity file {} is damaged ({reason}): put a copy back that was made since the broker's last \
         start, and start once with --adopt-copy. Without one this node cannot take part any more, and nothing replaces it \
         yet",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was written by a newer Raftline.
    #[error("the identity file {} has format {found}, this version knows up to {known}: run a newer Raftline", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// It was copied.
    #[error(
        "the data directory {} is a copy: its identity file is not the one that was written here. What the node has \
         acknowledged since the copy was made is not in it: put the original back. If the broker was stopped when the copy was made, and \
         the original was never started since, start once with --adopt-copy",
        directory.display()
    )]
    Copied {
        /// The directory.
        directory: PathBuf,
    },
    /// A peer has refused it as an old copy. Started often enough, it would pass for a new one.
    #[error(
        "the data directory {} was refused by a peer, and is not started again: {message}",
        directory.display()
    )]
    OldCopy {
        /// The directory.
        directory: PathBuf,
        /// What the peer said.
        message: String,
    },
    /// The broker is stopping and has let go of the directory.
    #[error("the broker is stopping")]
    Released,
    /// The disk refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl Identity {
    /// Takes the directory for this process, formatting it if it is empty or not there. `drawn` becomes the
    /// incarnation of a directory that is formatted; it must be random.
    ///
    /// # Errors
    /// See [`IdentityError`]; nothing in the directory was changed but its lock file.
    pub fn claim(
        directory: &Path,
        node: NodeId,
        cluster_name: &str,
        drawn: Incarnation,
    ) -> Result<Self, IdentityError> {
        Self::claim_even(directory, node, cluster_name, drawn, Copies::Refused)
    }

    /// As [`Identity::claim`], and says what becomes of a copy.
    ///
    /// # Errors
    /// As [`Identity::claim`].
    pub fn claim_even(
        directory: &Path,
        node: NodeId,
        cluster_name: &str,
        drawn: Incarnation,
        copies: Copies,
    ) -> Result<Self, IdentityError> {
        std::fs::create_dir_all(directory).map_err(|error| io_error("create", directory, error))?;
        let lock = lock(directory)?;
        ballast::drop_if_tight(directory).map_err(|error| io_error("make room in", directory, error))?;
        let (mut facts, is_copy, formatted) = match file::read(directory)? {
            Some(found) => (found.facts, found.is_copy, false),
            None => {
                refuse_foreign_data(directory)?;
                (Facts::new(node, drawn, cluster_name.to_owned()), false, true)
            }
        };
        if facts.node != node {
            let directory = directory.to_owned();
            return Err(IdentityError::OtherNode { directory, found: facts.node, configured: node });
        }
        if facts.cluster_name != cluster_name {
            return Err(IdentityError::OtherClusterName {
                directory: directory.to_owned(),
                found: facts.cluster_name,
                configured: cluster_name.to_owned(),
            });
        }
        if is_copy && copies == Copies::Refused {
            return Err(IdentityError::Copied { directory: directory.to_owned() });
        }
        if let Some(message) = facts.refused {
            return Err(IdentityError::OldCopy { directory: directory.to_owned(), message });
        }
        // Before it says anything: no two processes have the same start.
        facts.starts += 1;
        file::write(directory, &facts)?;
        let directory = directory.to_owned();
        Ok(Self { directory, facts: Mutex::new(facts), lock: Mutex::new(Some(lock)), formatted })
    }

    /// Lets another process have the directory. Nothing is written any more; what still holds this identity (a
    /// connection that did not end in time) may only read it.
    pub fn release(&self) {
        self.lock.lock().take();
    }

    /// Whether this process has formatted the directory.
    #[must_use]
    pub const fn formatted(&self) -> bool {
        self.formatted
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The node that it belongs to.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.facts.lock().node
    }

    /// The disk's own name.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.facts.lock().incarnation
    }

    /// How often the directory was started, this time included.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.facts.lock().starts
    }

    /// What the directory must hold: for each shard, the generation of its state file when it was opened last. Empty if
    /// none was opened yet, or by a version that did not take note.
    #[must_use]
    pub fn shards(&self) -> Vec<u64> {
        self.facts.lock().shards.clone()
    }

    /// The state files are open: takes note of their generations, on stable storage when this returns.
    ///
    /// # Errors
    /// An I/O error if it could not be written.
    pub fn note_shards(&self, generations: Vec<u64>) -> Result<(), IdentityError> {
        let mut facts = self.facts.lock();
        self.replace(&mut facts, |facts| facts.shards = generations)
    }

    /// A peer has refused this directory as an old copy: no process starts on it any more, once this returns.
    ///
    /// # Errors
    /// An I/O error if it could not be written.
    pub fn note_refused(&self, message: &str) -> Result<(), IdentityError> {
        let mut facts = self.facts.lock();
        self.replace(&mut facts, |facts| facts.refused = Some(message.to_owned()))
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster_name(&self) -> String {
        self.facts.lock().cluster_name.clone()
    }

    /// The cluster's id, once known.
    #[must_use]
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.facts.lock().cluster_id
    }

    /// The disk known for a peer.
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<Incarnation> {
        self.facts.lock().peers.get(&node).copied()
    }

    /// Keeps the cluster's id, on stable storage when this returns. Blocks on the disk the first time.
    ///
    /// # Errors
    /// [`IdentityError::OtherCluster`] if another one is known; an I/O error if it could not be written.
    pub fn learn_cluster(&self, id: ClusterId) -> Result<(), IdentityError> {
        let mut facts = self.facts.lock();
        match facts.cluster_id {
            Some(known) if known == id => Ok(()),
            Some(known) => Err(IdentityError::OtherCluster { known, found: id }),
            None => self.replace(&mut facts, |facts| facts.cluster_id = Some(id)),
        }
    }

    /// Compares a peer's disk and start with those known, and keeps them if there are none or they are newer: on stable
    /// storage when this returns. Blocks on the disk then.
    ///
    /// # Errors
    /// An I/O error if it could not be written: then the peer is not known.
    pub fn meet(
        &self,
        peer: NodeId,
        incarnation: Incarnation,
        (starts, boot): (u64, BootId),
    ) -> Result<Meeting, IdentityError> {
        let mut facts = self.facts.lock();
        let known = facts.peers.get(&peer).copied();
        if let Some(known) = known.filter(|known| *known != incarnation) {
            return Ok(Meeting::Other { known });
        }
        let last = facts.peer_starts.get(&peer).copied();
        if let Some((last_starts, last_boot)) = last
            && (starts < last_starts || (starts == last_starts && boot != last_boot))
        {
            return Ok(Meeting::Older { known: last_starts });
        }
        if known.is_none() || last != Some((starts, boot)) {
            self.replace(&mut facts, |facts| {
                facts.peers.insert(peer, incarnation);
                facts.peer_starts.insert(peer, (starts, boot));
            })?;
        }
        Ok(if known.is_none() { Meeting::First } else { Meeting::Known })
    }

    /// Memory follows the disk: what could not be written is not believed.
    fn replace(&self, facts: &mut Facts, change: impl FnOnce(&mut Facts)) -> Result<(), IdentityError> {
        let lock = self.lock.lock();
        if lock.is_none() {
            return Err(IdentityError::Released);
        }
        let mut changed = facts.clone();
        change(&mut changed);
        file::write(&self.directory, &changed)?;
        *facts = changed;
        Ok(())
    }
}

/// Takes the directory's lock and leaves this process's id in the lock file for whoever is refused.
fn lock(directory: &Path) -> Result<File, IdentityError> {
    let path = directory.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| io_error("open", &path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // The name is a courtesy: without it the refusal stands all the same.
            drop(file.read_to_string(&mut holder));
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                process => format!("process {process}"),
            };
            return Err(IdentityError::Locked { directory: directory.to_owned(), holder });
        }
        Err(error) => return Err(io_error("lock", &path, error.into())),
    }
    match file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
        // There is room for that later, perhaps; the lock holds without.
        Err(error) if error.kind() != std::io::ErrorKind::StorageFull => Err(io_error("write", &path, error)),
        Ok(()) | Err(_) => Ok(file),
    }
}

/// A directory with a broker's data but without identity was tampered with: formatting it would make its replicas
/// speak under a new name.
fn refuse_foreign_data(directory: &Path) -> Result<(), IdentityError> {
    let entries = std::fs::read_dir(directory).map_err(|error| io_error("list", directory, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| io_error("list", directory, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "groups" || name.starts_with("shard-") {
            return Err(IdentityError::Missing { directory: directory.to_owned(), entry: name });
        }
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path, error: io::Error) -> IdentityError {
    IdentityError::Io { action, path: path.to_owned(), error }
}

const LOCK: &str = "lock";

#[cfg(test)]
mod tests;
