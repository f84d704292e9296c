//! Frames: what stands between two sizes on a connection.

use crate::limits::FRAME_RESERVE_BYTES_MIN;
use crate::wire::SIZE_BYTES;
use bytes::{Buf, Bytes, BytesMut};
use core::fmt;

/// Takes frames off the front of what a connection has received.
///
/// Memory follows what has arrived, never what was announced: room is made for as much again as is there, and at
/// least for [`FRAME_RESERVE_BYTES_MIN`]. So a peer that announces 100 MiB and sends nothing costs 64 KiB.
#[derive(Clone, Copy, Debug)]
pub struct Splitter {
    bytes_max: u32,
}

impl Splitter {
    /// Takes frames of up to `bytes_max` bytes, their sizes aside: [`crate::limits::FRAME_BYTES_MAX`], unless
    /// configured to less.
    #[must_use]
    pub const fn new(bytes_max: u32) -> Self {
        Self { bytes_max }
    }

    /// The next frame without its size, sharing the buffer's memory; `None` until all of it has arrived. After
    /// `None` there is room for more at the end of `received`.
    ///
    /// # Errors
    /// [`FrameError`] if no frame has such a size. Nothing after it can be made sense of: close the connection.
    pub fn next(self, received: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(size) = received.first_chunk::<SIZE_BYTES>() else {
            received.reserve(FRAME_RESERVE_BYTES_MIN);
            return Ok(None);
        };
        let found = i32::from_be_bytes(*size);
        let size = u32::try_from(found).ok().filter(|size| *size <= self.bytes_max);
        let size = size.ok_or(FrameError { found, max: self.bytes_max })? as usize;
        let arrived = received.len() - SIZE_BYTES;
        if arrived < size {
            received.reserve((size - arrived).min(arrived.max(FRAME_RESERVE_BYTES_MIN)));
            return Ok(None);
        }
        received.advance(SIZE_BYTES);
        Ok(Some(received.split_to(size).freeze()))
    }
}

/// A size that no frame may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// The size, in bytes.
    pub found: i32,
    /// The bound.
    pub max: u32,
}

impl fmt::Display for FrameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, max } = self;
        write!(formatter, "a request of {found} bytes: 0 to {max} are taken (is this a Kafka client?)")
    }
}

impl core::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_whatever_the_pieces() {
        let sent: &[u8] = &[0, 0, 0, 3, b'a', b'b', b'c', 0, 0, 0, 0, 0, 0, 0, 1, b'd'];
        for piece_bytes in 1..=sent.len() {
            let mut received = BytesMut::new();
            let mut frames = Vec::new();
            for piece in sent.chunks(piece_bytes) {
                received.extend_from_slice(piece);
                while let Some(frame) = Splitter::new(3).next(&mut received).expect("sizes are right") {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"abc"[..], b"", b"d"], "in pieces of {piece_bytes}");
            assert!(received.is_empty());
        }
    }

    #[test]
    fn a_size_out_of_bounds_is_refused_with_both_numbers() {
        for found in [-1, i32::MIN, 101, i32::MAX] {
            let mut received = BytesMut::from(&found.to_be_bytes()[..]);
            assert_eq!(Splitter::new(100).next(&mut received), Err(FrameError { found, max: 100 }));
        }
    }

    #[test]
    fn memory_follows_what_has_arrived() {
        let mut received = BytesMut::from(&(100_i32 << 20).to_be_bytes()[..]);
        for arrived in [0, 1 << 10, 1 << 18, 1 << 20] {
            received.resize(SIZE_BYTES + arrived, 0);
            assert_eq!(Splitter::new(100 << 20).next(&mut received), Ok(None));
            // A buffer that has to grow doubles by itself.
            let bound = 2 * (2 * arrived.max(FRAME_RESERVE_BYTES_MIN) + SIZE_BYTES);
            assert!(received.capacity() <= bound, "{} for {arrived}", received.capacity());
            assert!(received.capacity() > received.len());
        }
    }
}
