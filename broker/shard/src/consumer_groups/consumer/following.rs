//! What the group reads, as topics come and go: by name, and by the expressions of its members.

use super::ConsumerGroup;
use crate::consumer_groups::expressions::{Catalog, Matches};
use crate::consumer_groups::log::Turn;
use crate::consumer_groups::record::ConsumerMemberValue;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::time::Monotonic;

/// What happened to topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer_groups) enum TopicsChange {
    /// Some were made, or grew.
    Came,
    /// Some are gone.
    Went,
}

/// How a group follows what its members' expressions match.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Expressions that count from the next heartbeat on: the topics named beside them come first, as in Kafka, whose
    /// clients may count on that.
    unresolved: BTreeSet<String>,
    /// New topics do not move the epoch again before this.
    rests_until: Option<Monotonic>,
    /// Topics came meanwhile.
    is_behind: bool,
}

impl Following {
    /// Looks at the topics at `at`, whatever has changed.
    pub fn look_again(&mut self, at: Monotonic) {
        self.rests_until = Some(at);
        self.is_behind = true;
    }

    /// When the group looks at topics that came while it rested.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.rests_until.filter(|_| self.is_behind)
    }
}

impl ConsumerGroup {
    /// If the group reads any topic that came, grew or went, it needs another target.
    ///
    /// A group with expressions then rests for two heartbeat intervals before it follows new topics again, as Kafka's do
    /// for ten seconds: a burst of them costs two rebalances, and every member hears of the first one alone or of none.
    pub fn topics_changed(&mut self, change: TopicsChange, catalog: &mut Catalog<'_>, turn: &mut Turn<'_>) {
        let rests = self.following.rests_until.is_some_and(|until| until > turn.now.monotonic);
        self.following.is_behind = rests && change == TopicsChange::Came && !self.is_empty();
        if self.following.is_behind || self.is_empty() {
            return;
        }
        let digest = self.topics_digest(catalog);
        if self.state.group.as_ref().is_some_and(|group| group.topics_digest == digest) {
            return;
        }
        let mut plan = Vec::new();
        self.move_epoch(catalog, turn.now.wall, &mut plan);
        turn.append(plan);
        if self.expressions().next().is_some() {
            let interval = turn.config.consumer_heartbeat_interval;
            self.following.rests_until = Some(turn.now.monotonic + 2 * interval);
        }
    }

    /// Whether topics came that the group will look at later.
    pub fn is_behind(&self) -> bool {
        self.following.is_behind
    }

    /// The regular expressions of its members.
    pub fn expressions(&self) -> impl Iterator<Item = &String> {
        self.state.members.values().filter_map(|member| member.subscribed_regex.as_ref())
    }

    /// What the members' expressions match, of those that count.
    pub(super) fn matches(&self, catalog: &mut Catalog<'_>) -> Matches {
        let expressions: BTreeSet<&String> = self.expressions().collect();
        let counting = expressions.into_iter().filter(|text| !self.following.unresolved.contains(*text));
        counting.map(|text| (text.clone(), catalog.matched(text))).collect()
    }

    /// From now on all expressions count. Whether any did not before.
    pub(super) fn resolve_expressions(&mut self) -> bool {
        !core::mem::take(&mut self.following.unresolved).is_empty()
    }

    /// An expression that nobody in the group has yet counts later than the topics named beside it.
    pub(super) fn note_unresolved(&mut self, member: &ConsumerMemberValue) {
        if let Some(text) = &member.subscribed_regex
            && !member.subscribed_topics.is_empty()
            && !self.expressions().any(|known| known == text)
        {
            self.following.unresolved.insert(text.clone());
        }
    }

    /// A digest of the topics subscribed to, as they are, and of the expressions that count (FNV-1a, 64 bits).
    ///
    /// The expressions are part of it for this case:
    /// 1. `a` reads `t`, `b` reads `u`, and now `a` also brings the expression `t|u`, which does not count yet.
    /// 2. The leader dies. The next one knows nothing of that, and gives `a` its part of `u` only if the digest moves;
    ///    but the topics are `t` and `u` before and after.
    pub(super) fn topics_digest(&self, catalog: &mut Catalog<'_>) -> u64 {
        let matches = self.matches(catalog);
        let mut subscribed: BTreeSet<&String> =
            self.state.members.values().flat_map(|member| &member.subscribed_topics).collect();
        subscribed.extend(matches.values().flat_map(|names| names.iter()));
        let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
        let mut take = |bytes: &[u8]| {
            for byte in bytes {
                digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for name in subscribed {
            if let Some(topic) = catalog.topics.get(name) {
                take(name.as_bytes());
                take(&[0xff]);
                take(&topic.id.to_le_bytes());
                take(&topic.partitions.to_le_bytes());
            }
        }
        for text in matches.keys() {
            take(&[0xfe]);
            take(text.as_bytes());
        }
        digest
    }
}
