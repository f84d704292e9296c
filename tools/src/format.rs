//! How `raftline consume -f` prints a record: kcat's format strings.

use crate::lines::LINE_BYTES_MAX;
use raftline_client::ConsumedRecord;
use serde_json::{Value, json};

/// A parsed format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Value,
    ValueLength,
    ValueLengthBinary,
    Key,
    KeyLength,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

/// What the help says of format strings.
pub const HELP: &str = "How a record is printed: %s value, %S its length (-1: none), %k key, %K its length, %t topic, \
%p partition, %o offset, %T timestamp in ms, %h headers as name=value,…, %R value length as 4 bytes (big-endian), \
%% a percent sign; \\n \\r \\t \\0 \\\\ and \\xHH as in C";

impl Format {
    /// Reads a format string.
    ///
    /// # Errors
    /// Names what is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.chars();
        while let Some(char) = rest.next() {
            match char {
                '%' => {
                    let part = match rest.next() {
                        Some('%') => {
                            literal.push(b'%');
                            continue;
                        }
                        Some(letter) => {
                            part_of(letter).ok_or_else(|| format!("`%{letter}` is not known. {HELP}"))?
                        }
                        None => return Err(format!("`%` at the end means nothing: write %%. {HELP}")),
                    };
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(part);
                }
                '\\' => literal.push(escaped(&mut rest)?),
                other => literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Appends the record to `out`.
    pub fn print(&self, record: &ConsumedRecord, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Part::ValueLength => number(out, length(record.value.as_deref())),
                Part::ValueLengthBinary => {
                    let length = i32::try_from(length(record.value.as_deref()));
                    let length = length.expect("a record is no longer than a batch");
                    out.extend_from_slice(&length.to_be_bytes());
                }
                Part::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Part::KeyLength => number(out, length(record.key.as_deref())),
                Part::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Part::Partition => number(out, i64::from(record.partition.get())),
                Part::Offset => out.extend_from_slice(record.offset.to_string().as_bytes()),
                Part::Timestamp => number(out, record.timestamp.get()),
                Part::Headers => headers(record, out),
            }
        }
    }
}

fn part_of(letter: char) -> Option<Part> {
    Some(match letter {
        's' => Part::Value,
        'S' => Part::ValueLength,
        'R' => Part::ValueLengthBinary,
        'k' => Part::Key,
        'K' => Part::KeyLength,
        't' => Part::Topic,
        'p' => Part::Partition,
        'o' => Part::Offset,
        'T' => Part::Timestamp,
        'h' => Part::Headers,
        _ => return None,
    })
}

fn escaped(rest: &mut std::str::Chars<'_>) -> Result<u8, String> {
    match rest.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = rest.by_ref().take(2).collect();
            let valid = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| valid);
            byte.ok_or_else(|| format!("`\\x{digits}` is no byte: write two hexadecimal digits. {HELP}"))
        }
        Some(other) => Err(format!("`\\{other}` is not known. {HELP}")),
        None => Err(format!("`\\` at the end means nothing: write \\\\. {HELP}")),
    }
}

const _: () = assert!(LINE_BYTES_MAX <= i32::MAX as usize, "a value's length fits %R");

fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).expect("a record is no longer than a batch"))
}

fn number(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(number.to_string().as_bytes());
}

fn headers(record: &ConsumedRecord, out: &mut Vec<u8>) {
    for (position, header) in record.headers.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(header.name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(header.value.as_deref().unwrap_or(b"NULL"));
    }
}

/// A record as one JSON document. Bytes that are no UTF-8 stand under `…_base64` instead, so that nothing is lost.
pub fn record_json(record: &ConsumedRecord) -> Value {
    let mut document = json!({
        "topic": &*record.topic,
        "partition": record.partition.get(),
        "offset": record.offset.get(),
        "timestamp": record.timestamp.get(),
    });
    put_bytes(&mut document, "key", record.key.as_deref());
    put_bytes(&mut document, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|header| {
        let mut document = json!({ "name": header.name });
        put_bytes(&mut document, "value", header.value.as_deref());
        document
    });
    document["headers"] = headers.collect();
    document
}

fn put_bytes(document: &mut Value, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => document[name] = Value::Null,
        Some(Ok(text)) => document[name] = text.into(),
        Some(Err(_)) => document[format!("{name}_base64")] = base64(bytes.unwrap_or_default()).into(),
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (position, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            if position <= group.len() {
                text.push(char::from(ALPHABET[(bits >> shift & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_client::Header;
    use raftline_client::proto::ids::{Offset, PartitionIndex};
    use raftline_client::proto::time::Timestamp;

    fn record() -> ConsumedRecord {
        let header =
            |name: &str, value: &'static [u8]| Header { name: name.into(), value: Some(value.into()) };
        ConsumedRecord {
            topic: "orders".into(),
            partition: PartitionIndex(2),
            offset: Offset(42),
            timestamp: Timestamp(1_700_000_000_000),
            key: None,
            value: Some(b"va\xfflue"[..].into()),
            headers: vec![header("a", b"1"), header("b", b"2")],
        }
    }

    fn check(format: &str, expected: &[u8]) {
        let mut out = Vec::new();
        Format::parse(format).expect(format).print(&record(), &mut out);
        assert_eq!(out, expected, "{format}");
    }

    #[test]
    fn formats_are_those_of_kcat() {
        check("%t [%p] at %o: %s\\n", b"orders [2] at 42: va\xfflue\n");
        check("%K %S %T %h", b"-1 6 1700000000000 a=1,b=2");
        check("100%%\\t\\x41\\0\\\\é%k|", "100%\tA\0\\é|".as_bytes());
        check("%R%s", b"\0\0\0\x06va\xfflue");
        check("", b"");
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (format, named) in
            [("%q", "%q"), ("a%", "%%"), ("\\y", "\\y"), ("\\x4", "\\x4"), ("\\x+1", "\\x+1")]
        {
            let error = Format::parse(format).expect_err(format);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn json_loses_no_byte() {
        let document = record_json(&record());
        assert_eq!(document["key"], Value::Null);
        assert_eq!(document["value_base64"], "dmH/bHVl");
        assert_eq!(document["headers"][1]["value"], "2");
        assert_eq!([base64(b""), base64(b"f"), base64(b"fo"), base64(b"foo")], ["", "Zg==", "Zm8=", "Zm9v"]);
    }
}
