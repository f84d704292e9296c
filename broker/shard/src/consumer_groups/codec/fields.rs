//! Kafka's types of fields, as its records of groups are made of them.

use super::RecordError;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::cursor::{CursorError, Reader, Writer};

pub(super) type Read<T> = Result<T, RecordError>;

pub(super) fn int16(reader: &mut Reader<'_>) -> Read<i16> {
    Ok(reader.array().map(i16::from_be_bytes)?)
}

pub(super) fn int32(reader: &mut Reader<'_>) -> Read<i32> {
    Ok(reader.array().map(i32::from_be_bytes)?)
}

pub(super) fn int64(reader: &mut Reader<'_>) -> Read<i64> {
    Ok(reader.array().map(i64::from_be_bytes)?)
}

pub(super) fn uuid(reader: &mut Reader<'_>) -> Read<u128> {
    Ok(reader.array().map(u128::from_be_bytes)?)
}

/// A span that a client said, in ms.
pub(super) fn millis(reader: &mut Reader<'_>) -> Read<u32> {
    let found = int32(reader)?;
    u32::try_from(found).map_err(|_| RecordError::Number { found })
}

/// An unsigned varint. Its bytes are those of the signed one whose zigzag form it is.
fn unsigned(reader: &mut Reader<'_>) -> Read<u32> {
    let signed = reader.varint()?;
    Ok(((signed << 1) ^ (signed >> 31)).cast_unsigned())
}

pub(super) fn text(reader: &mut Reader<'_>) -> Read<String> {
    let size = i32::from(int16(reader)?);
    text_of(reader, size)
}

pub(super) fn optional_text(reader: &mut Reader<'_>) -> Read<Option<String>> {
    match i32::from(int16(reader)?) {
        -1 => Ok(None),
        size => text_of(reader, size).map(Some),
    }
}

pub(super) fn byte_string(reader: &mut Reader<'_>, max: usize) -> Read<Vec<u8>> {
    let size = int32(reader)?;
    Ok(counted(reader, size, max, 1).and_then(|size| Ok(reader.bytes(size)?))?.to_owned())
}

pub(super) fn list<T>(
    reader: &mut Reader<'_>,
    max: usize,
    item_bytes_min: usize,
    read: impl FnMut(&mut Reader<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    let count = int32(reader)?;
    items(reader, count, max, item_bytes_min, read)
}

pub(super) fn compact_text(reader: &mut Reader<'_>) -> Read<String> {
    let size = compact_size(reader)?;
    text_of(reader, size)
}

pub(super) fn optional_compact_text(reader: &mut Reader<'_>) -> Read<Option<String>> {
    match compact_size(reader)? {
        -1 => Ok(None),
        size => text_of(reader, size).map(Some),
    }
}

pub(super) fn compact_bytes(reader: &mut Reader<'_>, max: usize) -> Read<Vec<u8>> {
    let size = compact_size(reader)?;
    Ok(counted(reader, size, max, 1).and_then(|size| Ok(reader.bytes(size)?))?.to_owned())
}

pub(super) fn compact_list<T>(
    reader: &mut Reader<'_>,
    max: usize,
    item_bytes_min: usize,
    read: impl FnMut(&mut Reader<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    let count = compact_size(reader)?;
    items(reader, count, max, item_bytes_min, read)
}

/// The tagged fields at the end of a structure. `known` reads one as a whole, or says `false` of one that it does not know.
pub(super) fn tagged_fields<'a>(
    reader: &mut Reader<'a>,
    mut known: impl FnMut(u32, &mut Reader<'a>) -> Read<bool>,
) -> Read<()> {
    // Each is a number and a size at least, so that no count makes this long.
    for _ in 0..unsigned(reader)? {
        let (tag, size) = (unsigned(reader)?, unsigned(reader)?);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let mut field = Reader::new(reader.bytes(size)?);
        if known(tag, &mut field)? {
            field.finish()?;
        }
    }
    Ok(())
}

/// The end of a structure of which no tagged field is known.
pub(super) fn no_tagged_fields(reader: &mut Reader<'_>) -> Read<()> {
    tagged_fields(reader, |_, _| Ok(false))
}

/// Compact sizes are one more than they say; -1 is "nothing there".
fn compact_size(reader: &mut Reader<'_>) -> Read<i32> {
    let raw = unsigned(reader)?;
    Ok(raw.wrapping_sub(1).cast_signed())
}

fn text_of(reader: &mut Reader<'_>, size: i32) -> Read<String> {
    let size = counted(reader, size, TEXT_BYTES_MAX, 1)?;
    let bytes = reader.bytes(size)?;
    Ok(core::str::from_utf8(bytes).map(String::from).map_err(|_| CursorError::Text)?)
}

fn items<T>(
    reader: &mut Reader<'_>,
    count: i32,
    max: usize,
    item_bytes_min: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    let count = counted(reader, count, max, item_bytes_min)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(read(reader)?);
    }
    Ok(items)
}

/// A count that is safe to allocate by: so many items can really be there.
fn counted(reader: &Reader<'_>, found: i32, max: usize, item_bytes_min: usize) -> Read<usize> {
    let count = usize::try_from(found).map_err(|_| RecordError::Number { found })?;
    if count > max {
        return Err(CursorError::Count { found: count as u64, max: max as u64 }.into());
    }
    let (needed, available) = (count.saturating_mul(item_bytes_min) as u64, reader.remaining() as u64);
    if needed > available {
        return Err(CursorError::Truncated { needed, available }.into());
    }
    Ok(count)
}

pub(super) fn put_int16(writer: &mut Writer, value: i16) {
    writer.bytes(&value.to_be_bytes());
}

pub(super) fn put_int32(writer: &mut Writer, value: i32) {
    writer.bytes(&value.to_be_bytes());
}

pub(super) fn put_int64(writer: &mut Writer, value: i64) {
    writer.bytes(&value.to_be_bytes());
}

pub(super) fn put_uuid(writer: &mut Writer, value: u128) {
    writer.bytes(&value.to_be_bytes());
}

/// A span in ms; none that a client may say is longer than an `i32` can.
pub(super) fn put_millis(writer: &mut Writer, value: u32) {
    put_int32(writer, i32::try_from(value).unwrap_or(i32::MAX));
}

fn put_unsigned(writer: &mut Writer, value: u32) {
    writer.varint((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
}

pub(super) fn put_text(writer: &mut Writer, text: &str) {
    put_int16(writer, i16::try_from(text.len()).expect("texts are bounded where they come in"));
    writer.bytes(text.as_bytes());
}

pub(super) fn put_optional_text(writer: &mut Writer, text: Option<&String>) {
    match text {
        Some(text) => put_text(writer, text),
        None => put_int16(writer, -1),
    }
}

pub(super) fn put_bytes(writer: &mut Writer, bytes: &[u8]) {
    put_count(writer, bytes.len());
    writer.bytes(bytes);
}

pub(super) fn put_count(writer: &mut Writer, count: usize) {
    put_int32(writer, i32::try_from(count).expect("lists are bounded where they come in"));
}

pub(super) fn put_compact_text(writer: &mut Writer, text: &str) {
    put_compact_bytes(writer, text.as_bytes());
}

pub(super) fn put_optional_compact_text(writer: &mut Writer, text: Option<&String>) {
    match text {
        Some(text) => put_compact_text(writer, text),
        None => put_unsigned(writer, 0),
    }
}

pub(super) fn put_compact_bytes(writer: &mut Writer, bytes: &[u8]) {
    put_compact_count(writer, bytes.len());
    writer.bytes(bytes);
}

pub(super) fn put_compact_count(writer: &mut Writer, count: usize) {
    put_unsigned(writer, u32::try_from(count + 1).expect("lists are bounded where they come in"));
}

/// The tagged fields of a structure, by their numbers.
pub(super) fn put_tagged_fields(writer: &mut Writer, fields: &[(u32, Writer)]) {
    put_unsigned(writer, u32::try_from(fields.len()).expect("a few"));
    for (tag, field) in fields {
        put_unsigned(writer, *tag);
        put_unsigned(writer, u32::try_from(field.len()).expect("lists are bounded where they come in"));
        writer.bytes(&field.clone().into_bytes());
    }
}

/// What a size of 16 bits can say.
const TEXT_BYTES_MAX: usize = i16::MAX as usize;
