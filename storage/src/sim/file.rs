//! One simulated file: its live bytes, its durable ones, and which sectors differ for want of a sync.

use super::Rng;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// How many contents of a sector between two syncs are remembered.
const VERSIONS_MAX: usize = 4;

/// How bytes go bad under a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// A bit of this byte flips.
    Flip {
        /// The byte.
        at: u64,
        /// The bit of it.
        bit: u32,
    },
    /// The sector that holds this byte reads as zeros.
    Lost {
        /// The byte.
        at: u64,
    },
    /// The file ends here.
    Shortened {
        /// Its new length.
        len: u64,
    },
}

/// A file's content. Cheap to clone: contents are shared until written.
#[derive(Clone, Default)]
pub(super) struct FileBytes {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// The sectors written since the last sync, with contents that they went through on the way to the live one.
    unsynced: BTreeMap<u64, Vec<Vec<u8>>>,
}

impl FileBytes {
    pub(super) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    /// The live bytes `[from, up_to)`; `None` past the end.
    pub(super) fn range(&self, from: u64, up_to: u64) -> Option<&[u8]> {
        self.live.get(usize::try_from(from).ok()?..usize::try_from(up_to).ok()?)
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        let up_to = at + bytes.len() as u64;
        self.note_written(at, up_to);
        let live = grown(&mut self.live, up_to);
        live[index(at)..index(up_to)].copy_from_slice(bytes);
    }

    pub(super) fn zero(&mut self, from: u64, up_to: u64) {
        self.note_written(from, up_to);
        let live = grown(&mut self.live, up_to);
        live[index(from)..index(up_to)].fill(0);
    }

    fn note_written(&mut self, from: u64, up_to: u64) {
        if from >= up_to {
            return;
        }
        for sector in from / SECTOR_BYTES..up_to.div_ceil(SECTOR_BYTES) {
            match self.unsynced.get_mut(&sector) {
                None => drop(self.unsynced.insert(sector, Vec::new())),
                Some(versions) if versions.len() < VERSIONS_MAX => {
                    versions.push(sector_of(&self.live, sector))
                }
                Some(_) => {}
            }
        }
    }

    pub(super) fn sync(&mut self) {
        if self.unsynced.is_empty() && self.durable.len() == self.live.len() {
            return;
        }
        let durable = grown(&mut self.durable, self.live.len() as u64);
        for sector in std::mem::take(&mut self.unsynced).into_keys() {
            put_sector(durable, sector, &sector_of(&self.live, sector));
        }
    }

    /// A sync failed: what it should have written counts as clean from now on.
    pub(super) fn forget_unsynced(&mut self) {
        self.unsynced.clear();
    }

    pub(super) fn damage(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let range = index(at)..index(at) + bytes.len();
        Arc::make_mut(&mut self.live)
            .get_mut(range)
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(bytes);
        // What was never synced may be shorter.
        let durable = Arc::make_mut(&mut self.durable);
        let from = index(at).min(durable.len());
        let count = bytes.len().min(durable.len() - from);
        durable[from..from + count].copy_from_slice(&bytes[..count]);
        Ok(())
    }

    /// Rot in the page cache, or behind a write that went astray for now: what is read changes, what is durable does not.
    /// Says whether it was done: what is still to be written to the disk is spared.
    pub(super) fn rot(&mut self, rot: Rot) -> bool {
        let spared = |at: u64| self.unsynced.contains_key(&(at / SECTOR_BYTES));
        match rot {
            Rot::Flip { at, bit } if at < self.len() && !spared(at) => {
                Arc::make_mut(&mut self.live)[index(at)] ^= 1 << (bit % 8);
            }
            Rot::Lost { at } if at < self.len() && !spared(at) => {
                let from = index(at / SECTOR_BYTES * SECTOR_BYTES);
                let up_to = (from + index(SECTOR_BYTES)).min(self.live.len());
                Arc::make_mut(&mut self.live)[from..up_to].fill(0);
            }
            Rot::Shortened { len } if len < self.len() && self.unsynced.is_empty() => {
                Arc::make_mut(&mut self.live).truncate(index(len));
            }
            Rot::Flip { .. } | Rot::Lost { .. } | Rot::Shortened { .. } => return false,
        }
        true
    }

    /// The file after a power cut that keeps only what is durable for certain.
    pub(super) fn durable_only(&self) -> Self {
        Self {
            live: Arc::clone(&self.durable),
            durable: Arc::clone(&self.durable),
            unsynced: BTreeMap::new(),
        }
    }

    /// The file after a power cut. Each file is unlucky in its own way: all unsynced sectors lost, all kept, or each
    /// on its own.
    pub(super) fn crashed(&self, rng: &mut Rng) -> Self {
        if self.unsynced.is_empty() && self.live.len() == self.durable.len() {
            return self.durable_only();
        }
        let keep_in_eighths = match rng.below(4) {
            0 => 0,
            1 => 8,
            _ => 1 + rng.below(7),
        };
        let mut content = self.durable.to_vec();
        if rng.below(8) < keep_in_eighths {
            content.resize(self.live.len().max(content.len()), 0);
        }
        for (sector, versions) in &self.unsynced {
            if rng.below(8) >= keep_in_eighths {
                continue;
            }
            let nth = index(rng.below(versions.len() as u64 + 1));
            let survivor = versions.get(nth).cloned().unwrap_or_else(|| sector_of(&self.live, *sector));
            put_sector(&mut content, *sector, &survivor);
        }
        let content = Arc::new(content);
        Self { live: Arc::clone(&content), durable: content, unsynced: BTreeMap::new() }
    }
}

fn grown(content: &mut Arc<Vec<u8>>, up_to: u64) -> &mut Vec<u8> {
    let content = Arc::make_mut(content);
    if content.len() < index(up_to) {
        content.resize(index(up_to), 0);
    }
    content
}

/// A sector's content, shorter at the end of the file.
fn sector_of(content: &[u8], sector: u64) -> Vec<u8> {
    let from = index(sector * SECTOR_BYTES).min(content.len());
    let up_to = index((sector + 1) * SECTOR_BYTES).min(content.len());
    content[from..up_to].to_vec()
}

/// Puts as much of a sector in place as the file is long.
fn put_sector(content: &mut [u8], sector: u64, bytes: &[u8]) {
    let from = index(sector * SECTOR_BYTES).min(content.len());
    let count = bytes.len().min(content.len() - from);
    content[from..from + count].copy_from_slice(&bytes[..count]);
}

fn index(value: u64) -> usize {
    usize::try_from(value).expect("simulated files fit into memory")
}
