//! The identity file: a line with format and checksum, then TOML that a person can read.
//!
//! ```text
//! raftline identity, format 1, crc 5f0a2b11
//! node = 1
//! incarnation = "00000000d15c0000"
//! cluster-name = "prod"
//! cluster-id = "…32 hex digits…"
//! [peers]
//! 2 = "000000000000beef"
//! ```
//!
//! The checksum is the CRC-32 of everything after the first line. The file is replaced whole: temporary file, sync,
//! rename, directory sync.

use super::{IdentityError, io_error};
use raftline_proto::ids::{ClusterId, Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) cluster_name: String,
    pub(super) cluster_id: Option<ClusterId>,
    pub(super) peers: BTreeMap<NodeId, Incarnation>,
}

impl Facts {
    pub(super) const fn new(node: NodeId, incarnation: Incarnation, cluster_name: String) -> Self {
        Self { node, incarnation, cluster_name, cluster_id: None, peers: BTreeMap::new() }
    }
}

/// Reads the directory's identity; `None` if it has none.
pub(super) fn read(directory: &Path) -> Result<Option<Facts>, IdentityError> {
    let path = directory.join(NAME);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path, error)),
    };
    match decode(&bytes) {
        Ok(facts) => Ok(Some(facts)),
        Err(Flaw::Newer(found)) => Err(IdentityError::Newer { path, found, known: FORMAT }),
        Err(Flaw::Damaged(reason)) => Err(IdentityError::Damaged { path, reason }),
    }
}

/// Replaces the directory's identity; it is on stable storage when this returns.
pub(super) fn write(directory: &Path, facts: &Facts) -> Result<(), IdentityError> {
    let path = directory.join(NAME);
    let temporary = directory.join(format!("{NAME}.tmp"));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(&encode(facts))?;
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
    peers: BTreeMap<String, String>,
}

enum Flaw {
    Newer(u32),
    Damaged(String),
}

fn encode(facts: &Facts) -> Vec<u8> {
    let peers = facts.peers.iter().map(|(node, incarnation)| (node.to_string(), incarnation.to_string()));
    let layout = Layout {
        node: facts.node.0,
        incarnation: facts.incarnation.to_string(),
        cluster_name: facts.cluster_name.clone(),
        cluster_id: facts.cluster_id.map(|id| id.to_string()),
        peers: peers.collect(),
    };
    let body = toml::to_string(&layout).expect("texts and numbers are always TOML");
    format!("{MAGIC}{FORMAT}, crc {:08x}\n{body}", crc32fast::hash(body.as_bytes())).into_bytes()
}

fn decode(bytes: &[u8]) -> Result<Facts, Flaw> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("not text"))?;
    let (head, body) = text.split_once('\n').ok_or_else(|| damaged("cut short"))?;
    let rest = head.strip_prefix(MAGIC).ok_or_else(|| damaged("not an identity file"))?;
    let (format, crc) = rest.split_once(", crc ").ok_or_else(|| damaged("no checksum"))?;
    let format: u32 = format.parse().map_err(|_| damaged("no format number"))?;
    if format > FORMAT {
        return Err(Flaw::Newer(format));
    }
    let computed = format!("{:08x}", crc32fast::hash(body.as_bytes()));
    if format != FORMAT || crc != computed {
        return Err(Flaw::Damaged(format!("checksum {crc} stored, {computed} computed")));
    }
    let layout: Layout = toml::from_str(body).map_err(|error| Flaw::Damaged(error.to_string()))?;
    let peers = layout.peers.iter().map(|(node, incarnation)| {
        let node: u32 = node.parse().map_err(|_| damaged("a peer's node id is no number"))?;
        Ok((NodeId(node), hexadecimal(incarnation)?))
    });
    let cluster_id = match layout.cluster_id {
        Some(text) => Some(ClusterId(
            u128::from_str_radix(&text, 16).map_err(|_| damaged("the cluster id is not hexadecimal"))?,
        )),
        None => None,
    };
    Ok(Facts {
        node: NodeId(layout.node),
        incarnation: hexadecimal(&layout.incarnation)?,
        cluster_name: layout.cluster_name,
        cluster_id,
        peers: peers.collect::<Result<_, Flaw>>()?,
    })
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

/// The newest format that this version writes and reads.
const FORMAT: u32 = 1;
