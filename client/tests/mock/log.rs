//! The cluster's state: topics, logs, producers' sequence numbers, ordered faults.

use bytes::Bytes;
use raftline_proto::api;
use raftline_proto::batch::{self, BatchView, stamped};
use raftline_proto::entry::ProducerBatch;
use raftline_proto::ids::{Offset, Term};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// What goes wrong with the next produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: this one is handled as it should be.
    None,
    /// Answered with this error; nothing is appended.
    Refuse(api::ErrorCode),
    /// Appended, but answered with this error.
    AppendThen(api::ErrorCode),
    /// The stream breaks before the batch is appended.
    BreakBefore,
    /// The batch is appended, then the stream breaks.
    BreakAfter,
    /// Appended, and answered once the test releases it.
    Hold,
    /// Appended, never answered.
    Silent,
}

#[derive(Default)]
pub struct State {
    pub brokers: BTreeMap<u32, String>,
    pub topics: BTreeMap<String, Vec<Partition>>,
    pub faults: VecDeque<Fault>,
    pub producers: u64,
    pub produce_requests: usize,
    pub metadata_requests: usize,
    /// Requests that wait for the test.
    pub held: usize,
    pub auto_create: bool,
}

#[derive(Default)]
pub struct Partition {
    pub leader: u32,
    pub term: u64,
    pub batches: Vec<Bytes>,
    pub start: u64,
    pub end: u64,
    producers: HashMap<u64, VecDeque<(ProducerBatch, u32, u64)>>,
}

impl State {
    pub fn create(&mut self, name: &str, partitions: u32, leader: u32) {
        let partition = || Partition { leader, term: 1, ..Partition::default() };
        self.topics.insert(name.to_owned(), (0..partitions).map(|_| partition()).collect());
    }

    pub fn partition(
        &mut self,
        node: u32,
        topic: &str,
        partition: u32,
    ) -> Result<&mut Partition, api::Error> {
        let unknown = error(api::ErrorCode::UnknownTopicOrPartition, "no such partition");
        let found = self.topics.get_mut(topic).and_then(|topic| topic.get_mut(partition as usize));
        let found = found.ok_or(unknown)?;
        if found.leader == node {
            return Ok(found);
        }
        let leader_node = Some(found.leader).filter(|leader| *leader != 0);
        Err(api::Error { leader_node, ..error(api::ErrorCode::NotLeader, "another node leads") })
    }
}

pub fn error(code: api::ErrorCode, message: &str) -> api::Error {
    api::Error { code: code.into(), message: message.into(), ..api::Error::default() }
}

impl Partition {
    /// Appends as a broker does: valid, in sequence, once.
    pub fn append(&mut self, bytes: &Bytes) -> Result<api::Produced, api::Error> {
        let info = batch::validate(bytes).map_err(|_| error(api::ErrorCode::CorruptBatch, "damaged"))?;
        if let Some(producer) = info.producer {
            let last = self.producers.entry(producer.id.get()).or_default();
            if let Some((_, _, offset)) = last.iter().find(|(batch, _, _)| *batch == producer) {
                let offset = *offset;
                return Ok(self.produced(offset, true));
            }
            if last
                .back()
                .is_some_and(|(batch, count, _)| batch.base_sequence + count != producer.base_sequence)
            {
                return Err(error(api::ErrorCode::OutOfOrderSequence, "a gap"));
            }
            last.push_back((producer, info.record_count, self.end));
            if last.len() > 5 {
                last.pop_front();
            }
        }
        let offset = self.end;
        self.batches.push(stamped(bytes, Offset(offset), Term(self.term)).concat().into());
        self.end += u64::from(info.record_count);
        Ok(self.produced(offset, false))
    }

    fn produced(&self, base_offset: u64, duplicate: bool) -> api::Produced {
        api::Produced { base_offset, term: self.term, durable_on: vec![self.leader], duplicate }
    }

    /// The batches from the one that holds `from` on, back to back, at most `count`.
    pub fn read(&self, from: u64, count: usize) -> Bytes {
        let mut bytes = Vec::new();
        let mut taken = 0;
        for batch in &self.batches {
            let header = batch::BatchHeader::decode(batch).expect("stored batches are valid");
            if header.next_offset().get() > from && taken < count {
                bytes.extend_from_slice(batch);
                taken += 1;
            }
        }
        bytes.into()
    }

    pub fn values(&self) -> Vec<String> {
        let mut values = Vec::new();
        for batch in &self.batches {
            let view = BatchView::open(batch).expect("stored batches are valid");
            for record in view.records() {
                let value = record.expect("stored batches are valid").value.unwrap_or_default();
                values.push(String::from_utf8_lossy(value).into_owned());
            }
        }
        values
    }
}
