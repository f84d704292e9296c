//! The writer of frames.

use super::{Encoding, SIZE_BYTES};
use crate::limits::TEXT_BYTES_MAX;
use bytes::{BufMut, Bytes, BytesMut};
use raftline_proto::ids::Offset;
use uuid::Uuid;

/// Writes to the end of a buffer.
#[derive(Debug)]
pub(crate) struct Output {
    bytes: BytesMut,
    encoding: Encoding,
}

impl Output {
    /// An empty frame, whose size is filled in when it is finished.
    pub(crate) fn frame(encoding: Encoding, bytes_hint: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(bytes_hint);
        bytes.put_i32(0);
        Self { bytes, encoding }
    }

    /// Goes on in another encoding: the header of an answer may differ from its body.
    pub(crate) const fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.put_i16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.bytes.put_slice(value.as_bytes());
    }

    pub(crate) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8(low_seven_bits(value) | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(low_seven_bits(value));
    }

    /// A text; one over the bound, such as an error that quotes too much, is cut before the character that does not
    /// fit.
    pub(crate) fn optional_text(&mut self, text: Option<&str>) {
        let text = text.map(|text| &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
        match self.encoding {
            Encoding::Flexible => self.compact_size(text.map(str::len)),
            Encoding::Fixed => {
                let size = text.map_or(-1, |text| i16::try_from(text.len()).expect("cut to 15 bits above"));
                self.bytes.put_i16(size);
            }
        }
        self.bytes.put_slice(text.unwrap_or_default().as_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.optional_text(Some(text));
    }

    /// A topic's name, or its id in the versions that have it.
    pub(crate) fn topic(&mut self, version: i16, ids_from: i16, name: &str, id: Uuid) {
        if version >= ids_from { self.uuid(id) } else { self.text(name) }
    }

    /// An offset, or -1 for none.
    pub(crate) fn offset(&mut self, offset: Option<Offset>) {
        self.i64(offset.map_or(-1, |offset| i64::try_from(offset.get()).expect("an offset fits 63 bits")));
    }

    /// How many elements or bytes follow.
    pub(crate) fn size(&mut self, size: Option<usize>) {
        match self.encoding {
            Encoding::Flexible => self.compact_size(size),
            Encoding::Fixed => {
                let size = size.map_or(-1, |size| i32::try_from(size).expect("an answer fits 31 bits"));
                self.bytes.put_i32(size);
            }
        }
    }

    /// No tagged fields, where the encoding has them.
    pub(crate) fn no_tags(&mut self) {
        if self.encoding == Encoding::Flexible {
            self.varint(0);
        }
    }

    /// The tagged fields that are there, in the order of their numbers; only where the encoding has them.
    pub(crate) fn tags(&mut self, tags: &[Option<(u32, Self)>]) {
        debug_assert_eq!(self.encoding, Encoding::Flexible, "tagged fields are a part of flexible versions");
        let present = tags.iter().flatten();
        self.varint(u32::try_from(present.clone().count()).expect("a handful"));
        for (tag, value) in present {
            self.varint(*tag);
            self.varint(u32::try_from(value.bytes.len()).expect("an answer fits 31 bits"));
            self.bytes.put_slice(&value.bytes);
        }
    }

    /// The value of a tagged field, apart from its frame.
    pub(crate) fn tag(write: impl FnOnce(&mut Self)) -> Self {
        let mut output = Self { bytes: BytesMut::new(), encoding: Encoding::Flexible };
        write(&mut output);
        output
    }

    /// The buffer itself, for the messages that the `kafka-protocol` crate encodes.
    pub(crate) const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// The whole frame; `apart_bytes` follow in pieces of their own.
    pub(crate) fn finish(mut self, apart_bytes: usize) -> Bytes {
        let size = self.bytes.len() - SIZE_BYTES + apart_bytes;
        let size = i32::try_from(size).expect("an answer fits 31 bits");
        self.bytes[..SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        self.bytes.freeze()
    }

    fn compact_size(&mut self, size: Option<usize>) {
        let raw = size.map_or(0, |size| u32::try_from(size).expect("an answer fits 31 bits") + 1);
        self.varint(raw);
    }
}

fn low_seven_bits(value: u32) -> u8 {
    u8::try_from(value & 0x7f).expect("seven bits fit a byte")
}
