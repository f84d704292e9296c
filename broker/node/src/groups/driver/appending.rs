//! What a coordinator writes: one append at a time.

use super::{Driver, Halt};
use crate::handle::ReplySink;
use crate::limits;
use crate::payload::{OutReply, Payload};
use raftline_proto::batch::{self, Builder, Codec};
use raftline_shard::consumer_groups::codec::KeyValue;
use raftline_shard::consumer_groups::limits::APPEND_BYTES;
use raftline_shard::consumer_groups::record::GroupRecord;
use raftline_shard::consumer_groups::types::Output;
use raftline_shard::coordinator::internal::GROUPS_TOPIC;
use raftline_shard::image::MetadataImage;
use raftline_shard::types::{Durability, Event, ProduceError, Reply};
use tokio::sync::oneshot;

/// An append that is under way.
pub(super) struct Appending {
    records: Vec<GroupRecord>,
    /// It only writes anew what the log has in an earlier version's layout.
    moves: bool,
    reply: oneshot::Receiver<OutReply>,
}

/// What became of an append.
pub(super) enum Appended {
    Done,
    /// Surely not made: there is no room, or too much is waiting.
    Refused(String),
}

impl Driver {
    /// What writes anew what the log has in an earlier version's layout. All of it is appended before anything else: each batch
    /// leaves the state as it is, as long as nothing came in between.
    pub(super) fn plan_move(&mut self) {
        let keys = std::mem::take(&mut self.earlier);
        if keys.is_empty() {
            return;
        }
        let image = self.view.image();
        self.moving = self.groups.moved(&keys, &|topic| topic_id(&image, topic)).into();
        tracing::info!(
            partition = self.view.place_of(self.group),
            records = keys.len(),
            "writing group records of an earlier version anew, as Kafka writes them"
        );
    }

    /// Answers, and appends as far as that is possible now.
    pub(super) fn perform(&mut self, mut outputs: Vec<Output>) {
        loop {
            self.answer(&mut outputs);
            for output in outputs.drain(..) {
                if let Output::Append { records } = output {
                    self.queued.push_back(records);
                }
            }
            match self.append_queued() {
                Ok(()) => return,
                Err(why) => self.refused(&why, &mut outputs),
            }
        }
    }

    /// What was appended is committed.
    pub(super) fn appended(&mut self, appending: &Appending, outputs: &mut Vec<Output>) {
        if std::mem::take(&mut self.is_refused) {
            let (partition, term) = (self.view.place_of(self.group), self.term);
            tracing::info!(partition, %term, "the group coordinator can write again");
        }
        if appending.moves {
            self.moving.pop_front();
        }
        for record in &appending.records {
            self.groups.apply(self.clock.now(), record, outputs);
        }
    }

    /// Nothing was appended. What is queued was planned on it: it goes, too.
    pub(super) fn refused(&mut self, why: &str, outputs: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.is_refused, true) {
            let (partition, term) = (self.view.place_of(self.group), self.term);
            tracing::warn!(
                partition, %term, why,
                "the group coordinator cannot write: commits and changes of groups are refused, retriable, until it can"
            );
        }
        self.queued.clear();
        self.groups.refused(self.clock.now(), outputs);
    }

    /// Begins the next append, if none is under way: of all that is queued, as far as it is one batch of a moderate size.
    fn append_queued(&mut self) -> Result<(), String> {
        if self.appending.is_some() {
            return Ok(());
        }
        // Where that is refused, it is tried again with whatever comes next.
        if let Some(batch) = self.moving.front().filter(|_| !self.is_refused || !self.queued.is_empty()) {
            let reply = self.append(batch.clone())?;
            self.appending = Some(Appending { records: Vec::new(), moves: true, reply });
            return Ok(());
        }
        let image = self.view.image();
        let (mut records, mut encoded, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = self.queued.front() {
            let next: Vec<KeyValue> =
                next.iter().map(|record| record.encode(&|topic| topic_id(&image, topic))).collect();
            bytes +=
                next.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>();
            if !encoded.is_empty() && bytes > APPEND_BYTES {
                break;
            }
            encoded.extend(next);
            records.extend(self.queued.pop_front().into_iter().flatten());
        }
        if !records.is_empty() {
            let reply = self.append(encoded)?;
            self.appending = Some(Appending { records, moves: false, reply });
        }
        Ok(())
    }

    /// Hands one batch to the shard, or says why not.
    fn append(
        &self,
        records: impl IntoIterator<Item = KeyValue>,
    ) -> Result<oneshot::Receiver<OutReply>, String> {
        let mut builder = Builder::new(Codec::None);
        let now = self.clock.now().wall;
        for (key, value) in records {
            builder
                .push(now, Some(&key), value.as_deref(), &[])
                .map_err(|error| format!("a record of {GROUPS_TOPIC}: {error}"))?;
        }
        let bytes = builder.build();
        let checked = batch::validate(&bytes).map_err(|error| error.to_string())?;
        let (sender, reply) = oneshot::channel();
        let (group, in_term) = (self.group, Some(self.term));
        let deadline = self.clock.after(limits::PRODUCE_TIMEOUT);
        let event = |request| Event::Produce {
            request,
            group,
            in_term,
            batch: checked,
            payload: Payload::Batch(bytes),
            durability: Durability::Quorum,
            deadline,
        };
        self.shards.request(ReplySink::One(sender), event).map(|_| reply).map_err(|busy| busy.to_string())
    }
}

fn topic_id(image: &MetadataImage, name: &str) -> Option<u128> {
    image.topic_ids.get(name).map(|id| id.0)
}

/// The append that is under way, once it is known what became of it.
///
/// # Errors
/// If it is not, or nothing can be appended any more.
pub(super) async fn acknowledged(appending: &mut Option<Appending>) -> Result<(Appending, Appended), Halt> {
    let Some(under_way) = appending.as_mut() else { return std::future::pending().await };
    let reply = (&mut under_way.reply).await;
    let Some(done) = appending.take() else { return std::future::pending().await };
    let error = match reply {
        Ok(OutReply::Shard(Reply::Produced(Ok(_)))) => return Ok((done, Appended::Done)),
        Ok(OutReply::Shard(Reply::Produced(Err(error)))) => error,
        Ok(other) => return Err(Halt::Append(format!("{other:?}"))),
        Err(_) => return Err(Halt::Deposed),
    };
    match error {
        ProduceError::DiskFull { free_bytes, reserve_bytes } => Ok((
            done,
            Appended::Refused(format!(
                "the disk is full: {free_bytes} bytes are free, {reserve_bytes} are to stay free"
            )),
        )),
        ProduceError::Busy => Ok((done, Appended::Refused("too much is waiting".to_owned()))),
        ProduceError::TooLarge { batch_bytes, bytes_max } => {
            let why = format!("a batch of {batch_bytes} bytes, {GROUPS_TOPIC} takes {bytes_max}");
            Ok((done, Appended::Refused(why)))
        }
        ProduceError::UnknownGroup
        | ProduceError::NotLeader { .. }
        | ProduceError::LeadershipLost { .. }
        | ProduceError::TimedOut
        | ProduceError::OutOfOrderSequence { .. }
        | ProduceError::ProducerFenced { .. }
        | ProduceError::Stopping => Err(Halt::Append(format!("{error:?}"))),
    }
}
