//! The identity file: a line with format and checksum, then TOML that a person can read.
//!
//! ```text
//! raftline identity, format 2, crc 5f0a2b11
//! node = 1
//! incarnation = "00000000d15c0000"
//! cluster-name = "prod"
//! cluster-id = "…32 hex digits…"
//! starts = 12
//! shards = [12, 12]
//! inode = "1050626"
//! born = "1764590000.123456789"
//! [peers]
//! 2 = "000000000000beef"
//! [peer-starts]
//! 2 = "31 00000000c0ffee00"
//! ```
//!
//! `inode` and `born` are this very file's own: a copy of it has others. `shards` is, for each shard, the generation of its
//! state file when it was opened last. Format 1 had no `starts` and nothing of what follows it.
//!
//! The checksum is the CRC-32 of everything after the first line. The file is replaced whole: temporary file, sync,
//! rename, directory sync.

use super::{IdentityError, io_error};
use raftline_proto::ids::{BootId, ClusterId, Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) cluster_name: String,
    pub(super) cluster_id: Option<ClusterId>,
    pub(super) starts: u64,
    /// What a peer said when it refused this directory as an old copy.
    pub(super) refused: Option<String>,
    /// For each shard, the generation of its state file.
    pub(super) shards: Vec<u64>,
    pub(super) peers: BTreeMap<NodeId, Incarnation>,
    /// The last start of each peer, and its boot.
    pub(super) peer_starts: BTreeMap<NodeId, (u64, BootId)>,
}

/// Which file on which file system a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Birth {
    pub(super) inode: String,
    /// Empty where the file system does not tell.
    pub(super) born: String,
}

impl Birth {
    fn of(file: &File) -> io::Result<Self> {
        let facts = file.metadata()?;
        let since = facts.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = since.map(|since| format!("{}.{:09}", since.as_secs(), since.subsec_nanos()));
        Ok(Self { inode: facts.ino().to_string(), born: born.unwrap_or_default() })
    }

    /// Whether both are of one file, as far as can be told.
    fn is(&self, other: &Self) -> bool {
        let born = self.born.is_empty() || other.born.is_empty() || self.born == other.born;
        self.inode == other.inode && born
    }
}

/// A file that was read.
pub(super) struct Found {
    pub(super) facts: Facts,
    /// Whether it is not the file that was written, but a copy of that.
    pub(super) is_copy: bool,
}

impl Facts {
    pub(super) const fn new(node: NodeId, incarnation: Incarnation, cluster_name: String) -> Self {
        Self {
            node,
            incarnation,
            cluster_name,
            cluster_id: None,
            starts: 0,
            refused: None,
            shards: Vec::new(),
            peers: BTreeMap::new(),
            peer_starts: BTreeMap::new(),
        }
    }
}

/// Reads the directory's identity; `None` if it has none.
pub(super) fn read(directory: &Path) -> Result<Option<Found>, IdentityError> {
    let path = directory.join(NAME);
    let read = File::open(&path).and_then(|mut file| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok((bytes, Birth::of(&file)?))
    });
    let (bytes, birth) = match read {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path, error)),
    };
    match decode(&bytes) {
        Ok((facts, recorded)) => {
            let is_copy = recorded.is_some_and(|recorded| !recorded.is(&birth));
            Ok(Some(Found { facts, is_copy }))
        }
        Err(Flaw::Newer(found)) => Err(IdentityError::Newer { path, found, known: FORMAT }),
        Err(Flaw::Damaged(reason)) => Err(IdentityError::Damaged { path, reason }),
    }
}

/// Replaces the directory's identity; it is on stable storage when this returns.
pub(super) fn write(directory: &Path, facts: &Facts) -> Result<(), IdentityError> {
    let path = directory.join(NAME);
    let temporary = directory.join(format!("{NAME}.tmp"));
    let written = File::create(&temporary).and_then(|mut file| {
        // It keeps both when it is renamed.
        let birth = Birth::of(&file)?;
        file.write_all(&encode(facts, &birth))?;
        file.sync_all()
    });
    written.map_err(|error| io_error("write", &temporary, error))?;
    std::fs::rename(&temporary, &path).map_err(|error| io_error("rename", &temporary, error))?;
    // Without this a power cut may bring the old file back, and with it a peer's disk that was never met.
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| io_error("sync", directory, error))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Layout {
    node: u32,
    incarnation: String,
    cluster_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    #[serde(default)]
    starts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(default)]
    shards: Vec<u64>,
    #[serde(default)]
    inode: Option<String>,
    #[serde(default)]
    born: String,
    #[serde(default)]
    peers: BTreeMap<String, String>,
    #[serde(default)]
    peer_starts: BTreeMap<String, String>,
}

enum Flaw {
    Newer(u32),
    Damaged(String),
}

fn encode(facts: &Facts, birth: &Birth) -> Vec<u8> {
    let peer_starts = facts
        .peer_starts
        .iter()
        .map(|(node, (starts, boot))| (node.to_string(), format!("{starts} {:016x}", boot.0)));
    let peers = facts.peers.iter().map(|(node, incarnation)| (node.to_string(), incarnation.to_string()));
    let layout = Layout {
        node: facts.node.0,
        incarnation: facts.incarnation.to_string(),
        cluster_name: facts.cluster_name.clone(),
        cluster_id: facts.cluster_id.map(|id| id.to_string()),
        starts: facts.starts,
        refused: facts.refused.clone(),
        shards: facts.shards.clone(),
        inode: Some(birth.inode.clone()),
        born: birth.born.clone(),
        peers: peers.collect(),
        peer_starts: peer_starts.collect(),
    };
    let body = toml::to_string(&layout).expect("texts and numbers are always TOML");
    format!("{MAGIC}{FORMAT}, crc {:08x}\n{body}", crc32fast::hash(body.as_bytes())).into_bytes()
}

/// The facts, and which file they were written into: not told by format 1.
fn decode(bytes: &[u8]) -> Result<(Facts, Option<Birth>), Flaw> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("not text"))?;
    let (head, body) = text.split_once('\n').ok_or_else(|| damaged("cut short"))?;
    let rest = head.strip_prefix(MAGIC).ok_or_else(|| damaged("not an identity file"))?;
    let (format, crc) = rest.split_once(", crc ").ok_or_else(|| damaged("no checksum"))?;
    let format: u32 = format.parse().map_err(|_| damaged("no format number"))?;
    if format > FORMAT {
        return Err(Flaw::Newer(format));
    }
    let computed = format!("{:08x}", crc32fast::hash(body.as_bytes()));
    if format == 0 || crc != computed {
        return Err(Flaw::Damaged(format!("checksum {crc} stored, {computed} computed")));
    }
    let layout: Layout = toml::from_str(body).map_err(|error| Flaw::Damaged(error.to_string()))?;
    let peers = layout.peers.iter().map(|(node, incarnation)| {
        let node: u32 = node.parse().map_err(|_| damaged("a peer's node id is no number"))?;
        Ok((NodeId(node), hexadecimal(incarnation)?))
    });
    let peer_starts = layout.peer_starts.iter().map(|(node, last)| {
        let node: u32 = node.parse().map_err(|_| damaged("a peer's node id is no number"))?;
        let (starts, boot) = last.split_once(' ').ok_or_else(|| damaged("a peer's start has no boot id"))?;
        let starts = starts.parse().map_err(|_| damaged("a peer's start is no number"))?;
        let boot = u64::from_str_radix(boot, 16).map_err(|_| damaged("a boot id is not hexadecimal"))?;
        Ok((NodeId(node), (starts, BootId(boot))))
    });
    let cluster_id = match layout.cluster_id {
        Some(text) => Some(ClusterId(
            u128::from_str_radix(&text, 16).map_err(|_| damaged("the cluster id is not hexadecimal"))?,
        )),
        None => None,
    };
    let birth = layout.inode.map(|inode| Birth { inode, born: layout.born });
    let facts = Facts {
        node: NodeId(layout.node),
        incarnation: hexadecimal(&layout.incarnation)?,
        cluster_name: layout.cluster_name,
        cluster_id,
        starts: layout.starts,
        refused: layout.refused,
        shards: layout.shards,
        peers: peers.collect::<Result<_, Flaw>>()?,
        peer_starts: peer_starts.collect::<Result<_, Flaw>>()?,
    };
    Ok((facts, birth))
}

fn hexadecimal(text: &str) -> Result<Incarnation, Flaw> {
    u64::from_str_radix(text, 16).map(Incarnation).map_err(|_| damaged("an incarnation is not hexadecimal"))
}

fn damaged(reason: &str) -> Flaw {
    Flaw::Damaged(reason.to_owned())
}

/// The file's name in the data directory.
pub(super) const NAME: &str = "identity";

const MAGIC: &str = "raftline identity, format ";

/// The format that this version writes. Those before it are read.
const FORMAT: u32 = 2;
