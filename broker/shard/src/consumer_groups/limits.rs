//! What the group coordinator may be configured to do, and the bounds of its tables. Whatever would pass a bound is
//! refused with the Kafka error that the bound names.

use core::time::Duration;

/// What an operator may set. Each field names Kafka's config of the same meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsConfig {
    /// `group.max.size`: members of one group; at most [`MEMBERS_MAX`]. Beyond: `GROUP_MAX_SIZE_REACHED`.
    pub members_max: usize,
    /// `group.min.session.timeout.ms`. Below: `INVALID_SESSION_TIMEOUT`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`. Above: `INVALID_SESSION_TIMEOUT`.
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members before its first generation.
    pub initial_rebalance_delay: Duration,
    /// `offset.metadata.max.bytes`. Longer: `OFFSET_METADATA_TOO_LARGE`.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`: how long an empty group's offsets are kept.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_check_interval: Duration,
    /// `offsets.commit.timeout.ms`: an answer that waits longer for its records' commit is `COORDINATOR_NOT_AVAILABLE`.
    pub commit_timeout: Duration,
    /// `group.consumer.session.timeout.ms`, of the new protocol (KIP-848).
    pub consumer_session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`, told to members of the new protocol.
    pub consumer_heartbeat_interval: Duration,
    /// `group.consumer.migration.policy`: which way a group with members may change its protocol.
    pub migration: MigrationPolicy,
}

/// Which way a group may change its protocol while it has members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Neither.
    Disabled,
    /// From the classic protocol to the new one: when a consumer of the new one joins.
    Upgrade,
    /// From the new protocol to the classic one: when the last consumer of the new one goes, and others stay.
    Downgrade,
    /// Both.
    Bidirectional,
}

impl MigrationPolicy {
    /// All, with Kafka's words for them.
    pub const ALL: [(&'static str, Self); 4] = [
        ("bidirectional", Self::Bidirectional),
        ("upgrade", Self::Upgrade),
        ("downgrade", Self::Downgrade),
        ("disabled", Self::Disabled),
    ];

    /// Whether a classic group may become one of the new protocol.
    #[must_use]
    pub const fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// Whether a group of the new protocol may become a classic one.
    #[must_use]
    pub const fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }

    /// Kafka's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Bidirectional => "bidirectional",
        }
    }
}

impl Default for GroupsConfig {
    fn default() -> Self {
        Self {
            members_max: 1_000,
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::from_secs(3),
            offset_metadata_bytes_max: 4_096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_check_interval: Duration::from_secs(10 * 60),
            commit_timeout: Duration::from_secs(5),
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            migration: MigrationPolicy::Bidirectional,
        }
    }
}

/// Groups of one coordinator partition. Beyond: `GROUP_MAX_SIZE_REACHED` to a member, `INVALID_COMMIT_OFFSET_SIZE` to
/// a commit without one.
pub const GROUPS_MAX: usize = 20_000;

/// Members of one group, whatever is configured.
pub const MEMBERS_MAX: usize = 4_096;

/// Member ids of one group given out (error 79) and not yet used. Beyond: `GROUP_MAX_SIZE_REACHED`.
pub const PENDING_MEMBERS_MAX: usize = MEMBERS_MAX;

/// A group, member, instance or client id, a host, the name of a protocol. Longer: `INVALID_REQUEST`, of a group's id
/// `INVALID_GROUP_ID`.
pub const NAME_BYTES_MAX: usize = 1_024;

/// A member id made here: a client's id or instance id, a dash and 36 digits.
pub const MEMBER_ID_BYTES_MAX: usize = NAME_BYTES_MAX + 37;

/// Protocols that one member offers. Beyond: `INVALID_REQUEST`.
pub const PROTOCOLS_MAX: usize = 32;

/// What one member says in all its protocols. Beyond: `INVALID_REQUEST`.
pub const MEMBER_BYTES_MAX: usize = 1 << 20;

/// What all members of a classic group say, and what is assigned to them: each at most this, so that the group's
/// record fits an entry. Beyond: `GROUP_MAX_SIZE_REACHED` to who joins, `UNKNOWN_SERVER_ERROR` to who assigns.
pub const GROUP_BYTES_MAX: usize = 4 << 20;

/// Topics and partitions named by one commit, fetch or delete of offsets. Beyond: `INVALID_REQUEST`.
pub const REQUEST_PARTITIONS_MAX: usize = 10_000;

/// Partitions of which one group has an offset. Beyond: `INVALID_COMMIT_OFFSET_SIZE`.
pub const GROUP_OFFSETS_MAX: usize = 100_000;

/// A committed offset's text, whatever is configured.
pub const OFFSET_METADATA_BYTES_MAX: usize = 32_767;

/// Members named by one LeaveGroup. Beyond: `INVALID_REQUEST`.
pub const LEAVING_MAX: usize = MEMBERS_MAX;

/// Topics that one member of the new protocol subscribes to. Beyond: `INVALID_REQUEST`.
pub const SUBSCRIBED_TOPICS_MAX: usize = 2_000;

/// Topics that the expression of a member of the new protocol counts for; of more that it matches, the first ones by
/// name count.
pub const MATCHED_TOPICS_MAX: usize = 10_000;

/// Topics that a member of the new protocol may own partitions of. Beyond: `INVALID_REQUEST`.
pub const ASSIGNED_TOPICS_MAX: usize = SUBSCRIBED_TOPICS_MAX + MATCHED_TOPICS_MAX;

/// A regular expression's text. Longer: `INVALID_REGULAR_EXPRESSION`.
pub const EXPRESSION_BYTES_MAX: usize = 2_048;

/// How deep a regular expression's parts may lie within each other. Deeper: `INVALID_REGULAR_EXPRESSION`.
pub const EXPRESSION_NESTING_MAX: u32 = 100;

/// What a regular expression's automaton takes. More: `INVALID_REGULAR_EXPRESSION`.
pub const EXPRESSION_AUTOMATON_BYTES_MAX: usize = 1 << 20;

/// Different regular expressions of all groups. Beyond: `GROUP_MAX_SIZE_REACHED` to who brings another one.
pub const EXPRESSIONS_MAX: usize = 1_000;

/// The automata of all groups' expressions. Beyond: `GROUP_MAX_SIZE_REACHED` to who brings another one. The names that
/// they match are kept in what is left of it.
pub const EXPRESSIONS_BYTES_MAX: usize = 16 << 20;

/// Partitions of one topic that a member of the new protocol may own. Beyond: `INVALID_REQUEST`.
pub const ASSIGNED_PARTITIONS_MAX: usize = 200_000;

/// Answers that wait for a commit. Beyond: `COORDINATOR_LOAD_IN_PROGRESS`, which clients retry.
pub const WITHHELD_MAX: usize = 65_536;

/// Many records that need not be committed together are appended in batches of about this size.
pub const APPEND_BYTES: usize = 256 << 10;

/// Records of one append that expiry makes; more expires at the next tick.
pub const EXPIRED_RECORDS_MAX: usize = 1_000;

/// After an append was refused, what is due in its group all the same (a session that ended, a change of topics) is tried
/// again then.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// How long the JoinGroup of a member without a session may wait: what the client sends anew after that counts as a
/// new member (Kafka's `NewMemberJoinTimeoutMs`).
pub const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The longest a rebalance may be asked to take; more is cut to this.
pub const REBALANCE_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

const _: () = assert!(
    2 * GROUP_BYTES_MAX + (1 << 20) < raftline_proto::limits::ENTRY_PAYLOAD_BYTES_MAX as usize,
    "a group's record fits an entry"
);
const _: () = assert!(MEMBER_BYTES_MAX <= GROUP_BYTES_MAX);
const _: () =
    assert!(4 * EXPRESSION_AUTOMATON_BYTES_MAX <= EXPRESSIONS_BYTES_MAX, "a few of the largest fit");
