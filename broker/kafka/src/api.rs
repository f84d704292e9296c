//! The APIs that can be served: one table, from which requests are read and ApiVersions is answered.

use crate::wire::Encoding;
use core::fmt;

/// One API of Kafka's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "Kafka's names, and the table below says the rest")]
pub enum Api {
    Produce,
    Fetch,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    FindCoordinator,
    JoinGroup,
    Heartbeat,
    LeaveGroup,
    SyncGroup,
    DescribeGroups,
    ListGroups,
    ApiVersions,
    CreateTopics,
    DeleteTopics,
    DeleteRecords,
    InitProducerId,
    OffsetForLeaderEpoch,
    DescribeAcls,
    CreateAcls,
    DeleteAcls,
    DescribeConfigs,
    AlterConfigs,
    DescribeLogDirs,
    CreatePartitions,
    DeleteGroups,
    IncrementalAlterConfigs,
    OffsetDelete,
    DescribeCluster,
    ConsumerGroupHeartbeat,
    ConsumerGroupDescribe,
}

/// What is known of an API.
struct Row {
    api: Api,
    key: i16,
    /// What is answered to ApiVersions as the lowest version, which may be refused all the same: clients infer a
    /// broker's age from it. librdkafka 2.0 stops compressing unless Produce begins at 0.
    advertised_min: i16,
    /// The lowest and the highest version that are decoded and encoded.
    first: i16,
    last: i16,
    /// The highest version that a broker should advertise: a coherent set, from which clients infer a broker's age.
    advised: i16,
    /// The first version with varint sizes and tagged fields; `None` if there is none.
    flexible_from: Option<i16>,
}

#[rustfmt::skip]
const TABLE: [Row; 32] = [
    row(Api::Produce,                  0,  (0, 3, 13), 13, Some(9)),
    row(Api::Fetch,                    1,  (4, 4, 18), 18, Some(12)),
    row(Api::ListOffsets,              2,  (1, 1, 10), 10, Some(6)),
    row(Api::Metadata,                 3,  (0, 0, 13), 13, Some(9)),
    row(Api::OffsetCommit,             8,  (2, 2, 9),   9, Some(8)),
    row(Api::OffsetFetch,              9,  (1, 1, 9),   9, Some(6)),
    row(Api::FindCoordinator,          10, (0, 0, 6),   6, Some(3)),
    row(Api::JoinGroup,                11, (0, 0, 9),   9, Some(6)),
    row(Api::Heartbeat,                12, (0, 0, 4),   4, Some(4)),
    row(Api::LeaveGroup,               13, (0, 0, 5),   5, Some(4)),
    row(Api::SyncGroup,                14, (0, 0, 5),   5, Some(4)),
    row(Api::DescribeGroups,           15, (0, 0, 6),   6, Some(5)),
    row(Api::ListGroups,               16, (0, 0, 5),   5, Some(3)),
    row(Api::ApiVersions,              18, (0, 0, 4),   4, Some(3)),
    row(Api::CreateTopics,             19, (2, 2, 7),   7, Some(5)),
    row(Api::DeleteTopics,             20, (1, 1, 6),   6, Some(4)),
    row(Api::DeleteRecords,            21, (0, 0, 2),   2, Some(2)),
    row(Api::InitProducerId,           22, (0, 0, 5),   5, Some(2)),
    row(Api::OffsetForLeaderEpoch,     23, (2, 2, 4),   4, Some(4)),
    row(Api::DescribeAcls,             29, (1, 1, 3),   3, Some(2)),
    row(Api::CreateAcls,               30, (1, 1, 3),   3, Some(2)),
    row(Api::DeleteAcls,               31, (1, 1, 3),   3, Some(2)),
    row(Api::DescribeConfigs,          32, (1, 1, 4),   4, Some(4)),
    row(Api::AlterConfigs,             33, (0, 0, 2),   2, Some(2)),
    row(Api::DescribeLogDirs,          35, (1, 1, 4),   4, Some(2)),
    row(Api::CreatePartitions,         37, (0, 0, 3),   3, Some(2)),
    row(Api::DeleteGroups,             42, (0, 0, 2),   2, Some(2)),
    row(Api::IncrementalAlterConfigs,  44, (0, 0, 1),   1, Some(1)),
    row(Api::OffsetDelete,             47, (0, 0, 0),   0, None),
    row(Api::DescribeCluster,          60, (0, 0, 2),   2, Some(0)),
    row(Api::ConsumerGroupHeartbeat,   68, (0, 0, 1),   1, Some(0)),
    row(Api::ConsumerGroupDescribe,    69, (0, 0, 1),   1, Some(0)),
];

/// The versions are: advertised as the lowest, first served, last served.
const fn row(
    api: Api,
    key: i16,
    (advertised_min, first, last): (i16, i16, i16),
    advised: i16,
    flexible_from: Option<i16>,
) -> Row {
    Row { api, key, advertised_min, first, last, advised, flexible_from }
}

impl Api {
    /// Every API that can be served, in the order of their keys.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.api)
    }

    /// The API of that key, if it can be served.
    #[must_use]
    pub fn from_key(key: i16) -> Option<Self> {
        TABLE.binary_search_by_key(&key, |row| row.key).ok().map(|at| TABLE[at].api)
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn key(self) -> i16 {
        self.row().key
    }

    /// The lowest version that can be decoded.
    #[must_use]
    pub const fn first_version(self) -> i16 {
        self.row().first
    }

    /// The highest version that can be decoded.
    #[must_use]
    pub const fn last_version(self) -> i16 {
        self.row().last
    }

    /// Serving this API in every version that a broker should advertise.
    #[must_use]
    pub const fn advised(self) -> Serving {
        Serving { api: self, last: self.row().advised }
    }

    /// Serving this API in no version after `last`.
    ///
    /// # Panics
    /// If `last` is not one of the API's versions: a bug of the caller.
    #[must_use]
    pub const fn up_to(self, last: i16) -> Serving {
        let row = self.row();
        assert!(row.first <= last && last <= row.last, "only what can be decoded may be served");
        Serving { api: self, last }
    }

    /// How a body of that version is written, in both directions.
    #[must_use]
    pub const fn encoding(self, version: i16) -> Encoding {
        match self.row().flexible_from {
            Some(flexible_from) if version >= flexible_from => Encoding::Flexible,
            Some(_) | None => Encoding::Fixed,
        }
    }

    /// How the header of an answer of that version is written: as the body is, but for ApiVersions, whose answer
    /// has to be understood by clients that do not know yet what the broker speaks (KIP-511).
    #[must_use]
    pub const fn answer_header_encoding(self, version: i16) -> Encoding {
        match self {
            Self::ApiVersions => Encoding::Fixed,
            _ => self.encoding(version),
        }
    }

    const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }
}

impl fmt::Display for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// An API that a broker serves, and up to which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    api: Api,
    last: i16,
}

/// What a listener's dispatcher implements: what is advertised, and all that is let in.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    list: &'static [Serving],
}

impl Served {
    /// Serves what the list says. Fit for a constant, so that a wrong list does not compile.
    ///
    /// # Panics
    /// If an API stands there twice or out of the order of the keys, or ApiVersions is missing.
    #[must_use]
    pub const fn new(list: &'static [Serving]) -> Self {
        let mut at = 0;
        let mut handshake = false;
        while at < list.len() {
            assert!(
                at == 0 || list[at - 1].api.key() < list[at].api.key(),
                "in the order of their keys, once each"
            );
            handshake |= matches!(list[at].api, Api::ApiVersions);
            at += 1;
        }
        assert!(handshake, "every client begins with ApiVersions");
        Self { list }
    }

    /// What ApiVersions tells of each API.
    pub fn advertised(self) -> impl ExactSizeIterator<Item = Advertised> {
        self.list.iter().map(|serving| Advertised {
            key: serving.api.key(),
            min: serving.api.row().advertised_min,
            max: serving.last,
        })
    }

    /// The API of that key, if it is served in that version.
    ///
    /// # Errors
    /// [`NotServed`] says which of both it is not.
    pub fn find(self, key: i16, version: i16) -> Result<Api, NotServed> {
        let serving = self.list.iter().find(|serving| serving.api.key() == key);
        let serving = serving.ok_or(NotServed::Api { key, version })?;
        let (api, first, last) = (serving.api, serving.api.row().first, serving.last);
        if first <= version && version <= last {
            Ok(api)
        } else {
            Err(NotServed::Version { api, version, first, last })
        }
    }
}

/// One line of the answer to ApiVersions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// The API's number.
    pub key: i16,
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

/// Why a request is not let in. Kafka closes the connection, but for a version of ApiVersions that is too new:
/// [`crate::api_versions::unsupported`] answers that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotServed {
    /// No such API.
    Api {
        /// Its number.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// Another version than those served.
    Version {
        /// The API.
        api: Api,
        /// The version asked for.
        version: i16,
        /// The lowest that is served.
        first: i16,
        /// The highest that is served.
        last: i16,
    },
}

impl fmt::Display for NotServed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api { key, version } => {
                write!(formatter, "API {key} (version {version}) is not served: ask ApiVersions for what is")
            }
            Self::Version { api, version, first, last } => {
                write!(formatter, "{api} version {version} is not served: {first} to {last} are")
            }
        }
    }
}

impl core::error::Error for NotServed {}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ApiKey;

    fn theirs(api: Api) -> ApiKey {
        ApiKey::try_from(api.key()).expect("a key of Kafka's")
    }

    #[test]
    fn the_table_is_in_order_and_holds_kafkas_names() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.api as usize, at, "the enum and the table have one order");
            assert_eq!(Api::from_key(row.key), Some(row.api));
            assert_eq!(row.api.to_string(), format!("{:?}", theirs(row.api)));
            assert!(row.advertised_min <= row.first && row.first <= row.advised && row.advised <= row.last);
        }
        assert!(TABLE.is_sorted_by_key(|row| row.key), "looked up by halves");
        assert_eq!(Api::from_key(4), None, "nothing that is between brokers");
    }

    #[test]
    fn versions_and_headers_are_those_of_the_messages() {
        for api in Api::all() {
            let range = theirs(api).valid_versions();
            assert!(range.min <= api.first_version() && api.last_version() <= range.max, "{api}: {range}");
            for version in api.first_version()..=api.last_version() {
                let request = theirs(api).request_header_version(version);
                let answer = theirs(api).response_header_version(version);
                assert_eq!(api.encoding(version) == Encoding::Flexible, request == 2, "{api} {version}");
                assert_eq!(api.answer_header_encoding(version) == Encoding::Flexible, answer == 1);
            }
        }
    }

    #[test]
    fn old_clients_are_shown_the_versions_that_they_look_for() {
        for api in [
            Api::Produce,
            Api::JoinGroup,
            Api::SyncGroup,
            Api::Heartbeat,
            Api::FindCoordinator,
            Api::LeaveGroup,
            Api::InitProducerId,
        ] {
            assert_eq!(api.row().advertised_min, 0, "{api}");
        }
        assert!(Api::OffsetForLeaderEpoch.row().advertised_min <= 2);
        assert!(Api::ConsumerGroupHeartbeat.last_version() >= 1);
    }

    #[test]
    fn only_what_is_served_is_let_in() {
        const SERVED: Served =
            Served::new(&[Api::Produce.advised(), Api::Fetch.up_to(11), Api::ApiVersions.advised()]);
        assert_eq!(SERVED.find(1, 11), Ok(Api::Fetch));
        let refused = NotServed::Version { api: Api::Fetch, version: 12, first: 4, last: 11 };
        assert_eq!(SERVED.find(1, 12), Err(refused));
        assert_eq!(SERVED.find(3, 1), Err(NotServed::Api { key: 3, version: 1 }));
        let shown: Vec<_> = SERVED.advertised().map(|line| (line.key, line.min, line.max)).collect();
        assert_eq!(shown, [(0, 0, 13), (1, 4, 11), (18, 0, 4)]);
        assert!(SERVED.find(0, 2).is_err(), "advertised and refused");
    }
}
