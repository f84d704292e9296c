//! Which partition a record goes to: Kafka's murmur2 for keys, so that clients of both kinds agree; by bytes in
//! turns without a key.

use crate::limits::STICKY_BYTES;
use raftline_proto::ids::PartitionIndex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The partition of a key, as Kafka's default partitioner has it.
///
/// # Panics
/// If `partitions` is 0: a topic has at least one.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: u32) -> PartitionIndex {
    assert!(partitions > 0, "a topic has at least one partition");
    PartitionIndex((murmur2(key) & 0x7fff_ffff) % partitions)
}

/// Murmur2 with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MULTIPLIER: u32 = 0x5bd1_e995;
    // Kafka's lengths are Java ints; a longer key cannot come from there.
    let length = u32::try_from(data.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        for (position, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * position);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// Takes turns over a topic's partitions for records without a key, staying with one until it has got
/// some bytes: few full batches instead of many small ones (KIP-794).
#[derive(Debug, Default)]
pub(crate) struct StickyTurns {
    current: AtomicU32,
    given_bytes: AtomicUsize,
}

impl StickyTurns {
    /// Starts with a partition of the caller's choice, so that many short-lived producers spread.
    pub(crate) fn starting_at(partition: u32) -> Self {
        Self { current: AtomicU32::new(partition), given_bytes: AtomicUsize::new(0) }
    }

    /// The partition for a record of `bytes`. `usable` says whether a partition has a leader; if none has, turns
    /// are taken over all of them.
    pub(crate) fn next(&self, bytes: usize, partitions: u32, usable: impl Fn(u32) -> bool) -> PartitionIndex {
        let current = self.current.load(Ordering::Relaxed) % partitions;
        let given_bytes = self.given_bytes.fetch_add(bytes, Ordering::Relaxed);
        if given_bytes < STICKY_BYTES && usable(current) {
            return PartitionIndex(current);
        }
        let following = (1..=partitions).map(|step| (current + step) % partitions);
        let next = following.clone().find(|partition| usable(*partition));
        let next = next.unwrap_or((current + 1) % partitions);
        self.current.store(next, Ordering::Relaxed);
        self.given_bytes.store(bytes, Ordering::Relaxed);
        PartitionIndex(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of Kafka's own UtilsTest.testMurmur2.
    #[test]
    fn murmur2_agrees_with_kafka() {
        let known: [(&[u8], i32); 7] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
            (b"", 275_646_681),
        ];
        for (key, expected) in known {
            assert_eq!(murmur2(key).cast_signed(), expected, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn keys_go_where_kafka_sends_them() {
        // toPositive(hash) % partitions, from the known hashes above.
        assert_eq!(partition_of_key(b"21", 10), PartitionIndex(1_173_551_340 % 10));
        assert_eq!(partition_of_key(b"abc", 3), PartitionIndex(479_470_107 % 3));
    }

    #[test]
    fn turns_stay_until_enough_bytes_then_move_on() {
        let turns = StickyTurns::default();
        let first = turns.next(STICKY_BYTES, 3, |_| true);
        let second = turns.next(1, 3, |_| true);
        let still = turns.next(STICKY_BYTES, 3, |_| true);
        let third = turns.next(1, 3, |_| true);
        assert_eq!([first.0, second.0, still.0, third.0], [0, 1, 1, 2]);
    }

    #[test]
    fn turns_pass_over_partitions_without_a_leader() {
        let turns = StickyTurns::default();
        assert_eq!(turns.next(1, 3, |partition| partition == 2), PartitionIndex(2));
        assert_eq!(turns.next(1, 3, |_| false), PartitionIndex(0), "all without: turns all the same");
    }
}
