//! Which sessions there are. A new one finds a slot, or takes that of one that rests, or of a smaller one that has
//! been there for a while, or gets none: its consumer says all each time.

use super::ConnectionId;
use super::session::Session;
use crate::limits::{
    KAFKA_SESSION_REST, KAFKA_SESSIONS_BYTES_MAX, KAFKA_SESSIONS_MAX, KAFKA_SESSIONS_PER_CONNECTION_MAX,
};
use raftline_proto::time::Monotonic;
use std::collections::{BTreeSet, HashMap};

/// The sessions by id, with what has to be known to choose the next to go.
#[derive(Default)]
pub(super) struct Cache {
    slots: HashMap<i32, Slot>,
    /// Invariant: each session once, by when it was used last.
    by_use: BTreeSet<(Monotonic, i32)>,
    /// By size, those that have been there for long enough to be displaced by a larger one.
    displaceable: BTreeSet<(usize, i32)>,
    /// Invariant: the sessions that each connection began, the oldest first; none without any.
    by_connection: HashMap<ConnectionId, Vec<i32>>,
    /// Invariant: what all slots count for.
    bytes: usize,
}

struct Slot {
    session: Session,
    used: Monotonic,
    /// What it counts for: its size when it was used last.
    bytes: usize,
}

impl Cache {
    /// The session of that id. After it has changed in size, [`Cache::used`] has to be told.
    pub(super) fn get(&mut self, id: i32) -> Option<&mut Session> {
        self.slots.get_mut(&id).map(|slot| &mut slot.session)
    }

    /// A session was used; it may be larger now. Returns whether it may stay.
    pub(super) fn used(&mut self, now: Monotonic, id: i32) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        let bytes = slot.session.bytes();
        self.by_use.remove(&(slot.used, id));
        self.displaceable.remove(&(slot.bytes, id));
        self.bytes = self.bytes - slot.bytes + bytes;
        (slot.used, slot.bytes) = (now, bytes);
        self.by_use.insert((now, id));
        if is_over(slot.session.created, now) {
            self.displaceable.insert((bytes, id));
        }
        let fits = self.bytes <= KAFKA_SESSIONS_BYTES_MAX;
        if !fits {
            self.remove(id);
        }
        fits
    }

    /// Takes a new session in, under an id of `draw`'s; `None` if there is no room.
    pub(super) fn insert(
        &mut self,
        now: Monotonic,
        session: Session,
        mut draw: impl FnMut() -> i32,
    ) -> Option<i32> {
        let (bytes, connection) = (session.bytes(), session.connection());
        if session.is_empty() || session.is_too_large() {
            return None;
        }
        let own = self.by_connection.get(&connection);
        if let Some(oldest) = own.filter(|own| own.len() >= KAFKA_SESSIONS_PER_CONNECTION_MAX) {
            self.remove(oldest[0]);
        }
        while self.slots.len() >= KAFKA_SESSIONS_MAX || self.bytes + bytes > KAFKA_SESSIONS_BYTES_MAX {
            let goes = self.next_to_go(now, bytes)?;
            self.remove(goes);
        }
        let id = loop {
            // Positive: 0 says that there is none.
            let id = draw() & i32::MAX;
            if id != 0 && !self.slots.contains_key(&id) {
                break id;
            }
        };
        self.by_use.insert((now, id));
        self.by_connection.entry(connection).or_default().push(id);
        self.bytes += bytes;
        self.slots.insert(id, Slot { session, used: now, bytes });
        Some(id)
    }

    /// Closes a session, if it is there.
    pub(super) fn remove(&mut self, id: i32) {
        let Some(slot) = self.slots.remove(&id) else { return };
        self.by_use.remove(&(slot.used, id));
        self.displaceable.remove(&(slot.bytes, id));
        self.bytes -= slot.bytes;
        let connection = slot.session.connection();
        if let Some(own) = self.by_connection.get_mut(&connection) {
            own.retain(|other| *other != id);
            if own.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
    }

    /// Who makes room for a new session of that size: one that rests, else the smallest if it is smaller.
    fn next_to_go(&self, now: Monotonic, bytes: usize) -> Option<i32> {
        if let Some((used, id)) = self.by_use.first()
            && is_over(*used, now)
        {
            return Some(*id);
        }
        self.displaceable.first().filter(|(smallest, _)| *smallest < bytes).map(|(_, id)| *id)
    }

    /// The sessions there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let count = self.slots.len();
        assert_eq!(self.by_use.len(), count);
        assert!(self.displaceable.len() <= count);
        assert_eq!(self.by_connection.values().map(Vec::len).sum::<usize>(), count);
        assert!(self.by_connection.values().all(|own| !own.is_empty()));
        assert_eq!(self.slots.values().map(|slot| slot.bytes).sum::<usize>(), self.bytes);
        count
    }
}

/// Whether that moment is so long ago that a session may have to go.
fn is_over(moment: Monotonic, now: Monotonic) -> bool {
    now > moment + KAFKA_SESSION_REST
}
