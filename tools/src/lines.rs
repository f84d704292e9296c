//! Lines as bytes: split on `\n` and nothing else, whatever they hold, up to a bound.

use bytes::{Bytes, BytesMut};
use std::io::{self, Read};

/// A line longer than this cannot be a record of any topic.
pub const LINE_BYTES_MAX: usize = raftline_client::proto::limits::BATCH_BYTES_MAX as usize;

/// Reads lines without their `\n`. A last line that has none is a line; nothing after the last `\n` is none.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    buffer: BytesMut,
    /// Bytes at the buffer's start that are known to hold no line's end.
    searched: usize,
    ended: bool,
}

impl<R: Read> Lines<R> {
    /// Lines of `source`, which needs no buffer of its own.
    pub fn new(source: R) -> Self {
        Self { source, buffer: BytesMut::new(), searched: 0, ended: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        const STEP: usize = 256 << 10;
        if self.buffer.len() > LINE_BYTES_MAX {
            let message =
                format!("a line is longer than {LINE_BYTES_MAX} bytes, the most that a record can have");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let held = self.buffer.len();
        self.buffer.resize(held + STEP, 0);
        let read = loop {
            match self.source.read(&mut self.buffer[held..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(self.searched + found + 1);
                line.truncate(self.searched + found);
                self.searched = 0;
                return Some(Ok(line.freeze()));
            }
            self.searched = self.buffer.len();
            if self.ended {
                self.searched = 0;
                return (!self.buffer.is_empty()).then(|| Ok(self.buffer.split().freeze()));
            }
            if let Err(error) = self.fill() {
                self.ended = true;
                self.buffer.clear();
                self.searched = 0;
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives `step` bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn check(input: &[u8], expected: &[&[u8]]) {
        for step in [1, 2, 3, 1000] {
            let lines: Vec<Bytes> =
                Lines::new(Slow(input, step)).map(|line| line.expect("readable")).collect();
            assert_eq!(lines, expected, "{input:?} in steps of {step}");
        }
    }

    #[test]
    fn only_newlines_split() {
        check(b"", &[]);
        check(b"\n", &[b""]);
        check(b"a\r\nb\n", &[b"a\r", b"b"]);
        check(b"a\n\nlast", &[b"a", b"", b"last"]);
        check(b"\xff\xfe\0\n\x0b\x0c\xe2\x80\xa8", &[b"\xff\xfe\0", b"\x0b\x0c\xe2\x80\xa8"]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::new(io::repeat(b'x'));
        assert!(lines.next().expect("an error").is_err());
        assert!(lines.next().is_none());
    }
}
