//! Ids and coordinates as newtypes, with only the arithmetic that means something.
//!
//! `index` says which entry, `offset` which record, `position` which byte. They never mix:
//! `Index + u64` is an `Index`, `Index + Offset` does not compile.

use core::fmt;

/// Declares a `u64` coordinate that can be advanced by a count and compared with its own kind.
macro_rules! coordinate {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The first value.
            pub const ZERO: Self = Self(0);

            /// The value as a plain integer, for byte layouts and display.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// One further on.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// One back; `None` at zero.
            #[must_use]
            pub const fn previous(self) -> Option<Self> {
                match self.0.checked_sub(1) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// The distance from `earlier` up to here; zero if `earlier` is not earlier.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }

            /// The sum, or `None` where it would pass `u64::MAX` (hostile input).
            #[must_use]
            pub const fn checked_add(self, count: u64) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }
        }

        impl core::ops::Add<u64> for $name {
            type Output = Self;
            fn add(self, count: u64) -> Self {
                Self(self.0 + count)
            }
        }

        impl core::ops::AddAssign<u64> for $name {
            fn add_assign(&mut self, count: u64) {
                self.0 += count;
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }
    };
}

coordinate! {
    /// A leadership period (Raft §5.1); on the Kafka wire the "leader epoch". Zero is before any election.
    Term
}
coordinate! {
    /// The position of an *entry* in a group's log, from 1. Zero is "before the first".
    Index
}
coordinate! {
    /// The position of a *record* in a partition, from 0: what clients see.
    Offset
}
coordinate! {
    /// Where bytes lie in a log. Only grows, even across truncation, so a position never names two contents.
    Position
}

impl Term {
    /// The term as Kafka's 32-bit leader epoch. Terms are bounded by [`crate::limits::TERM_MAX`].
    #[must_use]
    pub fn leader_epoch(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }
}

/// Declares an opaque name: comparable, printable, without arithmetic.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The name as a plain integer, for byte layouts.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, $format, self.0)
            }
        }
    };
}

name! {
    /// A broker's configured number, from 1. Stays with the machine; the [`Incarnation`] stays with the disk.
    NodeId, u32, "{}"
}
name! {
    /// Made once when a data directory is formatted: tells a disk from the one it replaced.
    Incarnation, u64, "{:016x}"
}
name! {
    /// Made once when a cluster's first metadata entry is committed.
    ClusterId, u128, "{:032x}"
}
name! {
    /// One Raft group. 0 is the coordinator; the coordinator gives out the others, never twice.
    GroupId, u64, "{}"
}
name! {
    /// A topic's name for ever; a topic made again under an old name gets a new id.
    TopicId, u128, "{:032x}"
}
name! {
    /// A partition's number within its topic, from 0.
    PartitionIndex, u32, "{}"
}
name! {
    /// One process start of a node: changes with every restart, so that a restart is never missed.
    BootId, u64, "{:016x}"
}
name! {
    /// An idempotent producer (KIP-98). Cluster-unique, from 0.
    ProducerId, u64, "{}"
}

impl GroupId {
    /// The group that holds the cluster's metadata.
    pub const COORDINATOR: Self = Self(0);
}

/// Names an entry for ever: no other entry of the group has the same pair (Raft §5.3, Log Matching).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term of the leader that created the entry. Compared first, as Raft's "up-to-date" check wants (§5.4.1).
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
}

impl EntryId {
    /// Before the first entry of every log.
    pub const ZERO: Self = Self { term: Term::ZERO, index: Index::ZERO };

    /// Names the entry at `index` created in `term`.
    #[must_use]
    pub const fn new(term: Term, index: Index) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.term, self.index)
    }
}

/// What must survive a crash before this replica speaks (Raft figure 2, "persistent state"), with the commit
/// index as a hint: a restart may start from it, correctness never needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term this replica has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}

/// Which replicas hold a copy, and which of them vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Vote and count towards a commit. Sorted, without repeats, at most [`crate::limits::VOTERS_MAX`].
    pub voters: alloc::vec::Vec<NodeId>,
    /// Hold a copy, but neither vote nor count. Sorted, disjoint from `voters`.
    pub learners: alloc::vec::Vec<NodeId>,
}

impl Membership {
    /// A membership of voters alone; sorts and removes repeats.
    #[must_use]
    pub fn of_voters(mut voters: alloc::vec::Vec<NodeId>) -> Self {
        voters.sort_unstable();
        voters.dedup();
        Self { voters, learners: alloc::vec::Vec::new() }
    }

    /// Whether `node` votes.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok()
    }

    /// Whether `node` holds a copy.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.binary_search(&node).is_ok()
    }

    /// How many voters make a majority.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// All replicas, voters first.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(self.learners.iter()).copied()
    }
}
