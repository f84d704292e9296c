//! Fetch sessions (KIP-227): what a consumer fetches again and again is remembered here, so that it says only what
//! changes, and is told only of partitions where something did.
//!
//! In reading order: this file (which session a request belongs to), `cache` (which sessions there are, and who has to
//! go), `session` (what one remembers).
//!
//! As in Kafka, a session is no promise: it may be gone at any time, and its consumer begins another one. So it holds
//! nothing but the requests' own words, its size is bounded, and so is that of all together.

mod cache;
mod session;
#[cfg(test)]
mod tests;

use cache::Cache;
use parking_lot::Mutex;
use raftline_kafka::error::ErrorCode;
use raftline_kafka::fetch::{FetchPartition, FetchPartitionAnswer, FetchRequest};
use raftline_kafka::kafka_protocol::protocol::StrBytes;
use raftline_kafka::uuid::Uuid;
use raftline_proto::time::Monotonic;
use session::Session;

/// The sessions of all connections.
#[derive(Default)]
pub(super) struct Sessions {
    cache: Mutex<Cache>,
}

/// A connection, for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionId(pub(super) u64);

/// A topic as a request names it: by name, or from version 13 on by id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TopicKey {
    /// The name; in a session a copy, which keeps no frame in memory.
    Name(StrBytes),
    Id(Uuid),
}

/// What a request says of topics. A session keeps to one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Names,
    Ids,
}

/// One partition that is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) topic: TopicKey,
    pub(super) partition: FetchPartition,
}

/// What was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) topic: TopicKey,
    pub(super) asked: FetchPartition,
    pub(super) answer: FetchPartitionAnswer,
}

/// What a request is to its session, between [`Sessions::begin`] and [`Sessions::finish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has none, and wants none.
    Alone,
    /// It would begin one.
    First { connection: ConnectionId, naming: Naming },
    /// It goes on with one.
    Next { id: i32, epoch: i32 },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) error: ErrorCode,
    /// The session to go on with; 0 for none.
    pub(super) session_id: i32,
    /// All partitions, or of a session that goes on those where something changed.
    pub(super) partitions: Vec<Found>,
}

impl Sessions {
    /// What a request wants to be fetched, in its order: of a session that goes on, all of it.
    ///
    /// # Errors
    /// Why the session cannot go on; its consumer begins another one.
    pub(super) fn begin(
        &self,
        now: Monotonic,
        connection: ConnectionId,
        version: i16,
        request: &FetchRequest,
    ) -> Result<(Turn, Vec<Wanted>), ErrorCode> {
        let naming = if version >= TOPIC_IDS_FROM { Naming::Ids } else { Naming::Names };
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch != FIRST_EPOCH && epoch != NO_EPOCH {
            return self.next(now, naming, request);
        }
        if id != NO_SESSION {
            // It closes its session, or begins another one in its place.
            self.cache.lock().remove(id);
        }
        let turn = if epoch == FIRST_EPOCH { Turn::First { connection, naming } } else { Turn::Alone };
        Ok((turn, wanted(request, naming)))
    }

    fn next(
        &self,
        now: Monotonic,
        naming: Naming,
        request: &FetchRequest,
    ) -> Result<(Turn, Vec<Wanted>), ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let mut cache = self.cache.lock();
        let session = cache.get(id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch() != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.naming() != naming {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for topic in &request.topics {
            let key = TopicKey::of(naming, &topic.name, topic.id).detached();
            for partition in &topic.partitions {
                session.want(&key, *partition);
                if session.is_too_large() {
                    // Its consumer begins another one, and gets none.
                    cache.remove(id);
                    return Err(ErrorCode::FetchSessionIdNotFound);
                }
            }
        }
        for topic in &request.forgotten {
            let key = TopicKey::of(naming, &topic.name, topic.id);
            for partition in &topic.partitions {
                session.forget(&key, *partition);
            }
        }
        if session.is_empty() {
            cache.remove(id);
            return Ok((Turn::Alone, Vec::new()));
        }
        session.advance();
        let wanted = session.wanted();
        // All together may have grown over their bound; then this one is gone.
        cache
            .used(now, id)
            .then_some((Turn::Next { id, epoch }, wanted))
            .ok_or(ErrorCode::FetchSessionIdNotFound)
    }

    /// What is answered of what was found, which is then remembered.
    pub(super) fn finish(&self, now: Monotonic, turn: Turn, mut found: Vec<Found>) -> Told {
        let told = |error, session_id, partitions| Told { error, session_id, partitions };
        match turn {
            Turn::Alone => told(ErrorCode::None, NO_SESSION, found),
            Turn::First { connection, naming } => {
                let mut session = Session::new(connection, naming, now);
                for found in &found {
                    if session.is_too_large() {
                        break;
                    }
                    session.want(&found.topic.detached(), found.asked);
                }
                for found in &found {
                    session.tell(found);
                }
                let id = self.cache.lock().insert(now, session, rand::random);
                told(ErrorCode::None, id.unwrap_or(NO_SESSION), found)
            }
            Turn::Next { id, epoch } => {
                let mut cache = self.cache.lock();
                let Some(session) = cache.get(id) else {
                    // It had to go meanwhile. What was found is true all the same.
                    return told(ErrorCode::None, NO_SESSION, found);
                };
                if !session.is_at_turn(epoch) {
                    return told(ErrorCode::InvalidFetchSessionEpoch, id, Vec::new());
                }
                found.retain(|found| session.tell(found));
                told(ErrorCode::None, id, found)
            }
        }
    }
}

impl TopicKey {
    fn of(naming: Naming, name: &StrBytes, id: Uuid) -> Self {
        match naming {
            Naming::Names => Self::Name(name.clone()),
            Naming::Ids => Self::Id(id),
        }
    }

    /// The same, apart from the frame that it came in.
    fn detached(&self) -> Self {
        match self {
            Self::Name(name) => Self::Name(StrBytes::from_string(name.to_string())),
            Self::Id(id) => Self::Id(*id),
        }
    }

    /// The bytes that it takes beside its own size.
    fn bytes(&self) -> usize {
        match self {
            Self::Name(name) => name.len(),
            Self::Id(_) => 0,
        }
    }
}

fn wanted(request: &FetchRequest, naming: Naming) -> Vec<Wanted> {
    let each = request.topics.iter().flat_map(|topic| {
        let key = TopicKey::of(naming, &topic.name, topic.id);
        topic.partitions.iter().map(move |partition| Wanted { topic: key.clone(), partition: *partition })
    });
    each.collect()
}

/// The session id of a request or an answer without one.
const NO_SESSION: i32 = 0;
/// A request that begins a session.
const FIRST_EPOCH: i32 = 0;
/// A request that is in none, or ends one.
const NO_EPOCH: i32 = -1;
/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 13;
