//! Which topic names are legal: Kafka's rule, so that names are file names, metric names and path segments too.

use raftline_proto::limits::TOPIC_NAME_BYTES_MAX;

/// Checks a topic name.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_topic_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("a topic name has at least one character");
    }
    if name == "." || name == ".." {
        return Err("\".\" and \"..\" are not topic names");
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return Err("a topic name has at most 249 characters");
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(legal) {
        return Err("a topic name is made of the characters a-z, A-Z, 0-9, '.', '_' and '-' only");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_topic_name;

    #[test]
    fn legal_names() {
        for name in ["a", "orders", "Orders.v2_x-1", "...", "-", &"x".repeat(249)] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn illegal_names() {
        for name in ["", ".", "..", "a/b", "/", "a b", "ä", "a\\b", "a\0", "a\n", "a:b", &"x".repeat(250)] {
            assert!(check_topic_name(name).is_err(), "{name:?}");
        }
    }
}
