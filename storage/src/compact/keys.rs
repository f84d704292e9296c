//! The last offset of each key, in bounded memory.
//!
//! Keys are told apart by 128 bits of hash, so that their sizes do not count: two SipHashes of 64 bits, keyed by chance
//! for each job. So nobody who chooses keys can find two that are taken for one, of which compaction would lose the
//! older. The keys of the hashes never reach the disk, and the outcome does not depend on them.
//!
//! Where the keys do not fit, the table holds a share of them: those with the lowest hashes. It gives up the upper half
//! of its share as often as it must.

use raftline_proto::ids::Offset;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Makes hashes of keys.
pub(crate) struct Hashes(RandomState, RandomState);

/// A key's hash; the first half says which share it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash(u64, u64);

impl Hashes {
    /// Keyed by chance.
    pub(crate) fn new() -> Self {
        Self(RandomState::new(), RandomState::new())
    }

    pub(crate) fn of(&self, key: &[u8]) -> Hash {
        Hash(self.0.hash_one(key), self.1.hash_one(key))
    }
}

/// The last offset of each key whose hash is in the share.
pub(crate) struct Keys {
    /// An open-addressed table, a power of two long. Invariant: a quarter is free.
    slots: Vec<Slot>,
    used: usize,
    bytes_max: u64,
    /// The share, by the first half of the hash, both ends in it.
    first: u64,
    last: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: Hash,
    /// `None` where the slot is free.
    offset: Option<Offset>,
}

const FREE: Slot = Slot { hash: Hash(0, 0), offset: None };

/// So many slots are there whatever the bound.
const SLOTS_MIN: usize = 8;

impl Keys {
    /// For the keys with hashes from `first` on, as many as fit.
    pub(crate) fn from(first: u64, bytes_max: u64) -> Self {
        Self { slots: vec![FREE; SLOTS_MIN], used: 0, bytes_max, first, last: u64::MAX }
    }

    /// The first hash beyond the share; `None` if there is none.
    pub(crate) fn next_share(&self) -> Option<u64> {
        self.last.checked_add(1)
    }

    /// Whether the table knows all there is to know of this key.
    pub(crate) fn covers(&self, hash: Hash) -> bool {
        (self.first..=self.last).contains(&hash.0)
    }

    /// Takes note of a record. They come in order of their offsets.
    pub(crate) fn note(&mut self, hash: Hash, offset: Offset) {
        if !self.covers(hash) {
            return;
        }
        let at = self.find(hash);
        if self.slots[at].offset.is_none() {
            if (self.used + 1) * 4 > self.slots.len() * 3 {
                self.make_room();
                return self.note(hash, offset);
            }
            self.used += 1;
        }
        self.slots[at] = Slot { hash, offset: Some(offset) };
    }

    /// The last offset noted of a key; `None` if there is none, or the key is not in the share.
    pub(crate) fn last_of(&self, hash: Hash) -> Option<Offset> {
        self.slots[self.find(hash)].offset
    }

    /// The slot of a key, or the free one where it belongs.
    fn find(&self, hash: Hash) -> usize {
        let mask = self.slots.len() - 1;
        // The second half, since the first ones of a share are alike.
        let mut at = usize::try_from(hash.1 & mask as u64).unwrap_or(0);
        while self.slots[at].offset.is_some() && self.slots[at].hash != hash {
            at = (at + 1) & mask;
        }
        at
    }

    fn make_room(&mut self) {
        let doubled = self.slots.len() * 2;
        // Both tables are there while one is made from the other, and it may have to be made anew at the same size.
        let bytes = (2 * doubled * size_of::<Slot>()) as u64;
        // A share of one hash cannot be halved; so many keys of equal halves do not exist.
        if bytes <= self.bytes_max || self.first == self.last {
            self.rebuild(doubled);
        } else {
            self.last = self.first + (self.last - self.first) / 2;
            self.rebuild(self.slots.len());
        }
    }

    fn rebuild(&mut self, count: usize) {
        let old = std::mem::replace(&mut self.slots, vec![FREE; count]);
        self.used = 0;
        for slot in old {
            if slot.offset.is_some() && self.covers(slot.hash) {
                let at = self.find(slot.hash);
                self.slots[at] = slot;
                self.used += 1;
            }
        }
    }
}

const _: () = assert!(SLOTS_MIN.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What [`Keys`] finds over all shares.
    fn all_shares(records: &[(u64, Offset)], bytes_max: u64) -> (BTreeMap<u64, Offset>, u32) {
        let hashes = Hashes::new();
        let mut found = BTreeMap::new();
        let mut rounds = 0;
        let mut share = Some(0);
        while let Some(first) = share {
            let mut keys = Keys::from(first, bytes_max);
            for (key, offset) in records {
                keys.note(hashes.of(&key.to_le_bytes()), *offset);
            }
            for (key, _) in records {
                let hash = hashes.of(&key.to_le_bytes());
                if keys.covers(hash) {
                    let offset = keys.last_of(hash).expect("it was noted");
                    assert!(found.insert(*key, offset).is_none_or(|before| before == offset));
                }
            }
            let bytes = (keys.slots.len() * size_of::<Slot>()) as u64;
            assert!(2 * bytes <= bytes_max.max(2 * (SLOTS_MIN * size_of::<Slot>()) as u64));
            rounds += 1;
            share = keys.next_share();
        }
        (found, rounds)
    }

    #[test]
    fn every_key_is_in_one_share_whatever_the_bound() {
        let records: Vec<(u64, Offset)> =
            (0..5000).map(|at| (at * at % 1777, Offset(3 * at + at % 2))).collect();
        let expected: BTreeMap<u64, Offset> = records.iter().copied().collect();
        for (bytes_max, at_least) in [(u64::MAX, 1), (100_000, 2), (10_000, 9), (0, 100)] {
            let (found, rounds) = all_shares(&records, bytes_max);
            assert_eq!(found, expected);
            assert!(rounds >= at_least && (rounds == 1) == (at_least == 1), "{rounds} at {bytes_max}");
        }
    }
}
