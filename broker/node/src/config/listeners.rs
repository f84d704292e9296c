//! The Kafka listeners: `--kafka` says where they are bound, `--advertise-kafka` where clients reach them.
//!
//! Clients that came in by a listener are told of all brokers' addresses of that listener's name, as with Kafka's
//! `advertised.listeners`: so one name is for inside a network of containers, say, and another for outside.

use super::{ConfigError, Reader, host_port, is_wildcard};
use raftline_proto::limits::KAFKA_LISTENERS_MAX;
use raftline_proto::metadata::PLAINTEXT;
use std::collections::BTreeMap;

/// One listener for Kafka's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaListener {
    /// What it is called, in capitals, as Kafka compares such names. The same on all brokers.
    pub name: String,
    /// Where it is bound: `host:port`.
    pub bind: String,
    /// Where clients reach it; `None`: at the address it is bound to.
    pub advertise: Option<String>,
}

impl Reader<'_> {
    /// All listeners for Kafka's clients, in the order in which they were written.
    pub(super) fn kafka(&self) -> Result<Vec<KafkaListener>, ConfigError> {
        let mut listeners: Vec<KafkaListener> = Vec::new();
        for (name, bind) in self.named("kafka")? {
            let name = name.unwrap_or_else(|| PLAINTEXT.to_owned());
            if listeners.iter().any(|other| other.name == name || (other.bind == bind && !is_any_port(&bind)))
            {
                let expected = format!(
                    "every listener's name and every address once: {name}={bind} stands beside another of them"
                );
                return Err(self.invalid("kafka", &expected));
            }
            listeners.push(KafkaListener { name, bind, advertise: None });
        }
        if listeners.len() > KAFKA_LISTENERS_MAX {
            return Err(self.invalid("kafka", &format!("at most {KAFKA_LISTENERS_MAX} listeners")));
        }
        self.advertise_kafka(&mut listeners)?;
        if let Some(wild) = listeners.iter().find(|one| one.advertise.is_none() && is_wildcard(&one.bind)) {
            let expected = format!(
                "a certain address, or advertise-kafka {}=HOST:PORT beside it: clients cannot dial a wildcard address",
                wild.name
            );
            return Err(self.invalid("kafka", &expected));
        }
        Ok(listeners)
    }

    fn advertise_kafka(&self, listeners: &mut [KafkaListener]) -> Result<(), ConfigError> {
        const KEY: &str = "advertise-kafka";
        let mut told = BTreeMap::new();
        for (name, address) in self.named(KEY)? {
            if is_wildcard(&address) || is_any_port(&address) {
                return Err(
                    self.invalid(KEY, "HOST:PORT that clients can dial, such as broker1.example:9092")
                );
            }
            let name = match (name, &*listeners) {
                (Some(name), _) => name,
                (None, [only]) => only.name.clone(),
                (None, []) => return Err(self.invalid(KEY, "kafka beside it: there is no such listener")),
                (None, _) => {
                    return Err(
                        self.invalid(KEY, "NAME=HOST:PORT: there are several listeners to choose from")
                    );
                }
            };
            if told.insert(name.clone(), address).is_some() {
                return Err(self.invalid(KEY, &format!("one address for each listener: {name} has two")));
            }
        }
        for listener in &mut *listeners {
            listener.advertise = told.remove(&listener.name);
        }
        match told.into_keys().next() {
            None => Ok(()),
            Some(unknown) => {
                let names: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
                let expected = match names.as_slice() {
                    [] => "kafka beside it: there is no such listener".to_owned(),
                    names => {
                        format!("a listener that kafka names, which {unknown} is not: {}", names.join(", "))
                    }
                };
                Err(self.invalid(KEY, &expected))
            }
        }
    }

    /// The `[NAME=][SCHEME://]HOST:PORT` of a key, names in capitals.
    fn named(&self, key: &'static str) -> Result<Vec<(Option<String>, String)>, ConfigError> {
        let Some(value) = self.values.get(key) else { return Ok(Vec::new()) };
        let texts = value.texts.iter().flat_map(|text| text.split(','));
        texts.map(|text| named(text.trim()).map_err(|expected| self.invalid(key, &expected))).collect()
    }
}

/// One of them; else what was expected.
fn named(text: &str) -> Result<(Option<String>, String), String> {
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) => (Some(name.trim()), rest.trim()),
        None => (None, text),
    };
    let is_legal = |name: &str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (1..=64).contains(&name.len()) && name.chars().all(legal)
    };
    if name.is_some_and(|name| !is_legal(name)) {
        return Err("a listener's name of 1 to 64 letters, digits, dots, underscores or dashes".to_owned());
    }
    let address = match rest.split_once("://") {
        None => rest,
        Some((scheme, address)) if scheme.eq_ignore_ascii_case(PLAINTEXT) => address,
        Some((scheme, address)) => {
            return Err(match scheme.to_ascii_uppercase().as_str() {
                "SSL" | "SASL_PLAINTEXT" | "SASL_SSL" => format!(
                    "PLAINTEXT:// or no scheme: {scheme} is not served, there are no TLS and no authentication yet"
                ),
                _ => format!("NAME=HOST:PORT for a listener with a name, here {scheme}={address}"),
            });
        }
    };
    match host_port(address) {
        Some(address) => Ok((name.map(str::to_ascii_uppercase), address)),
        None => {
            Err("[NAME=][PLAINTEXT://]HOST:PORT, such as 127.0.0.1:9092 or INSIDE=10.0.0.1:9092".to_owned())
        }
    }
}

fn is_any_port(address: &str) -> bool {
    address.ends_with(":0")
}
