//! What a partition knows of its idempotent producers, as it stands in the log: the body of
//! [`Command::Producers`](crate::command::Command::Producers).
//!
//! ```text
//! u32 count, and for each producer, ascending by id
//!   u64 id, u16 epoch, u8 count of batches (1 to 5), and for each batch, ascending by index
//!     u64 term, u64 index, u64 base offset, i64 max timestamp, u32 base sequence, u32 last sequence
//! ```

use crate::cursor::{Reader, Writer};
use crate::ids::{EntryId, Index, Offset, ProducerId, Term};
use crate::limits::{BATCHES_REMEMBERED, ENTRY_PAYLOAD_BYTES_MAX, PRODUCERS_MAX};
use crate::payload::PayloadError;
use crate::time::Timestamp;
use alloc::vec::Vec;

/// One idempotent producer's past (KIP-98).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Which producer.
    pub id: ProducerId,
    /// Its latest epoch, of which all its batches are.
    pub epoch: u16,
    /// Its last batches, oldest first. Invariant: 1 to [`BATCHES_REMEMBERED`], ascending by index.
    pub batches: Vec<RememberedBatch>,
}

/// Where a batch of an idempotent producer is, and how a retry of it is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedBatch {
    /// The entry that held it when it was appended. It may be gone from the log.
    pub entry: EntryId,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The greatest time of its records.
    pub max_timestamp: Timestamp,
    /// The sequence of its first record. Invariant: at most [`SEQUENCE_MAX`].
    pub base_sequence: u32,
    /// The sequence of its last record. Invariant: at most [`SEQUENCE_MAX`].
    pub last_sequence: u32,
}

/// Sequences wrap from here to 0, as Kafka's clients have it.
pub const SEQUENCE_MAX: u32 = i32::MAX.cast_unsigned();

/// Writes producers. The caller keeps to the bounds and the order: else the decoder refuses it.
///
/// # Panics
/// If there are more than [`PRODUCERS_MAX`], or more than [`BATCHES_REMEMBERED`] batches of one.
pub(crate) fn encode(writer: &mut Writer, producers: &[ProducerState]) {
    assert!(producers.len() <= PRODUCERS_MAX, "{} producers are over the bound", producers.len());
    writer.u32(u32::try_from(producers.len()).expect("the bound fits 32 bits"));
    for producer in producers {
        let count = producer.batches.len();
        assert!(count <= BATCHES_REMEMBERED, "{count} batches of a producer are over the bound");
        writer.u64(producer.id.0);
        writer.u16(producer.epoch);
        writer.u8(u8::try_from(count).expect("the bound fits a byte"));
        for batch in &producer.batches {
            writer.u64(batch.entry.term.0);
            writer.u64(batch.entry.index.0);
            writer.u64(batch.base_offset.0);
            writer.u64(batch.max_timestamp.get().cast_unsigned());
            writer.u32(batch.base_sequence);
            writer.u32(batch.last_sequence);
        }
    }
}

/// Reads producers.
///
/// # Errors
/// Says what is malformed, over a bound or out of order.
pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Vec<ProducerState>, PayloadError> {
    let count = reader.count(PRODUCERS_MAX, PRODUCER_BYTES_MIN)?;
    let mut producers: Vec<ProducerState> = Vec::with_capacity(count);
    for _ in 0..count {
        let producer = decode_one(reader)?;
        if producers.last().is_some_and(|last| last.id >= producer.id) {
            return Err(PayloadError::Order { what: "producers" });
        }
        producers.push(producer);
    }
    Ok(producers)
}

fn decode_one(reader: &mut Reader<'_>) -> Result<ProducerState, PayloadError> {
    let (id, epoch) = (ProducerId(reader.u64()?), reader.u16()?);
    let count = usize::from(reader.u8()?);
    if count == 0 {
        return Err(PayloadError::NoBatches { producer: id });
    }
    if count > BATCHES_REMEMBERED {
        let (found, max) = (count as u64, BATCHES_REMEMBERED as u64);
        return Err(PayloadError::Limit { what: "batches of a producer", found, max });
    }
    let mut batches: Vec<RememberedBatch> = Vec::with_capacity(count);
    for _ in 0..count {
        let batch = RememberedBatch {
            entry: EntryId::new(Term(reader.u64()?), Index(reader.u64()?)),
            base_offset: Offset(reader.u64()?),
            max_timestamp: Timestamp(reader.u64()?.cast_signed()),
            base_sequence: reader.u32()?,
            last_sequence: reader.u32()?,
        };
        if batches.last().is_some_and(|last| last.entry.index >= batch.entry.index) {
            return Err(PayloadError::Order { what: "batches of a producer" });
        }
        let greatest = batch.base_sequence.max(batch.last_sequence);
        if greatest > SEQUENCE_MAX {
            let (found, max) = (u64::from(greatest), u64::from(SEQUENCE_MAX));
            return Err(PayloadError::Limit { what: "as a sequence", found, max });
        }
        batches.push(batch);
    }
    Ok(ProducerState { id, epoch, batches })
}

const BATCH_BYTES: usize = 40;
/// A producer with one batch.
const PRODUCER_BYTES_MIN: usize = 11 + BATCH_BYTES;
const PRODUCER_BYTES_MAX: usize = 11 + BATCHES_REMEMBERED * BATCH_BYTES;

const _: () = assert!(BATCHES_REMEMBERED <= u8::MAX as usize);
const _: () = assert!(16 + PRODUCERS_MAX * PRODUCER_BYTES_MAX <= ENTRY_PAYLOAD_BYTES_MAX as usize);
