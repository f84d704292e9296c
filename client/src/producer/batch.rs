//! Batches in the making, and closed ones that get their producer's stamp when they are first sent.

use crate::config::Compression;
use crate::record::Record;
use bytes::Bytes;
use raftline_proto::api;
use raftline_proto::batch::{BatchView, Builder, HEADER_BYTES, Header};
use raftline_proto::entry::ProducerBatch;
use raftline_proto::ids::ProducerId;
use raftline_proto::limits::BATCH_RECORDS_MAX;
use raftline_proto::time::Timestamp;

/// An idempotent producer's name (KIP-98), as a broker gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: ProducerId,
    pub(crate) epoch: u16,
}

impl Identity {
    pub(crate) fn of(reply: &api::InitProducerReply) -> Result<Self, String> {
        if let Some(error) = &reply.error {
            return Err(error.message.clone());
        }
        let epoch = u16::try_from(reply.producer_epoch)
            .map_err(|_| format!("producer epoch {} is out of range", reply.producer_epoch))?;
        Ok(Self { id: ProducerId(reply.producer_id), epoch })
    }
}

/// The most that a record adds to a batch.
pub(crate) fn record_bytes_max(record: &Record) -> usize {
    with_headers(record, |headers| {
        Builder::record_bytes_max(record.key.as_deref(), record.value.as_deref(), headers)
    })
}

/// A batch that holds this one record and nothing else.
pub(crate) fn single_batch_bytes(record_bytes: usize) -> usize {
    HEADER_BYTES + record_bytes
}

/// Takes records until somebody closes it.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    builder: Builder,
    compression: Compression,
}

impl OpenBatch {
    pub(crate) fn new(compression: Compression) -> Self {
        Self { builder: Builder::new(compression), compression }
    }

    /// Whether a record of at most `record_bytes` fits within `batch_bytes`. The first one always does.
    pub(crate) fn fits(&self, record_bytes: usize, batch_bytes: usize) -> bool {
        self.builder.is_empty()
            || self.builder.batch_bytes() + record_bytes <= batch_bytes
                && self.builder.record_count() < BATCH_RECORDS_MAX
    }

    /// Adds a record and tells its place in the batch; `None` if it can be in no batch.
    pub(crate) fn push(&mut self, record: &Record, timestamp: Timestamp) -> Option<u32> {
        let index = self.builder.record_count();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let pushed = with_headers(record, |headers| self.builder.push(timestamp, key, value, headers));
        pushed.ok().map(|()| index)
    }

    pub(crate) fn close(self) -> Sealed {
        Sealed {
            record_count: self.builder.record_count(),
            gathered: Some(self.builder),
            bytes: Bytes::new(),
            compression: self.compression,
            identity: None,
        }
    }
}

fn with_headers<T>(record: &Record, use_them: impl FnOnce(&[Header<'_>]) -> T) -> T {
    if record.headers.is_empty() {
        return use_them(&[]);
    }
    let headers = record.headers.iter();
    let headers =
        headers.map(|header| Header { name: header.name.as_bytes(), value: header.value.as_deref() });
    use_them(&headers.collect::<Vec<_>>())
}

/// A closed batch. It is packed and summed when it is first sent, with the stamp it has by then.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Until it is first sent.
    gathered: Option<Builder>,
    /// From then on.
    bytes: Bytes,
    compression: Compression,
    record_count: u32,
    identity: Option<Identity>,
}

impl Sealed {
    pub(crate) fn record_count(&self) -> u32 {
        self.record_count
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    pub(crate) fn is_stamped(&self) -> bool {
        self.identity.is_some()
    }

    /// The batch gets a new stamp before it is sent again.
    pub(crate) fn unstamp(&mut self) {
        self.identity = None;
    }

    /// Names the producer and the first record's number. If it had another stamp the bytes are made anew, as the
    /// stamp is under the checksum.
    pub(crate) fn stamp(&mut self, identity: Identity, base_sequence: u32) {
        let gathered = self.gathered.take();
        let mut builder = gathered.unwrap_or_else(|| regathered(&self.bytes, self.compression));
        builder.set_producer(ProducerBatch { id: identity.id, epoch: identity.epoch, base_sequence });
        self.identity = Some(identity);
        self.bytes = builder.build();
    }

    /// The bytes for the wire.
    pub(crate) fn bytes(&mut self) -> Bytes {
        if let Some(builder) = self.gathered.take() {
            self.bytes = builder.build();
        }
        self.bytes.clone()
    }
}

/// The records of a batch that this client built, in a builder again.
fn regathered(bytes: &Bytes, compression: Compression) -> Builder {
    let view = BatchView::open(bytes).expect("this client built the batch");
    let mut builder = Builder::new(compression);
    for record in view.records() {
        let record = record.expect("this client built the batch");
        let headers: Vec<Header<'_>> = record.headers.collect();
        let pushed = builder.push(record.timestamp, record.key, record.value, &headers);
        pushed.expect("the same records fitted before");
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_stamp_keeps_the_records() {
        let mut open = OpenBatch::new(Compression::Lz4);
        for number in 0..50_i64 {
            let record = Record::to("t").key(format!("k{number}")).value(vec![7; 100]).header("h", "v");
            let index = open.push(&record, Timestamp(1_000 + number)).expect("fits");
            assert_eq!(i64::from(index), number);
        }
        let mut sealed = open.close();
        let identity = |id| Identity { id: ProducerId(id), epoch: 0 };
        sealed.stamp(identity(1), 10);
        let first = BatchView::open(&sealed.bytes()).expect("valid");
        sealed.unstamp();
        sealed.stamp(identity(2), 0);
        let second = BatchView::open(&sealed.bytes()).expect("valid");
        assert_eq!(second.header().producer.expect("stamped").id, ProducerId(2));
        let records = |view: &BatchView| -> Vec<_> {
            let records = view.records().map(|record| record.expect("readable"));
            records.map(|record| (record.timestamp, record.key.map(<[u8]>::to_vec))).collect()
        };
        assert_eq!(records(&first), records(&second));
        assert_eq!(records(&first).len(), 50);
    }
}
