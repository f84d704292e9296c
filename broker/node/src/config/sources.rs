//! Where values come from: command line, environment, file, defaults, in this order of precedence.

use super::ConfigError;
use super::keys::{Arity, KEYS, Key};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(String),
    /// This file.
    File(PathBuf),
    /// `--dev`.
    Dev,
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => write!(formatter, "command line"),
            Self::Environment(variable) => write!(formatter, "environment {variable}"),
            Self::File(path) => write!(formatter, "file {}", path.display()),
            Self::Dev => write!(formatter, "default of --dev"),
            Self::Default => write!(formatter, "default"),
        }
    }
}

/// A key's raw value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// As written; several only for [`Arity::Many`].
    pub texts: Vec<String>,
    /// Who wrote it.
    pub origin: Origin,
}

/// Every key that has a value.
#[derive(Clone, Debug, Default)]
pub struct Values(BTreeMap<&'static str, Value>);

impl Values {
    /// The value of `name`, if it has one.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// One line a key: name, value, origin.
    pub fn listing(&self) -> String {
        let mut text = String::new();
        for key in KEYS {
            let (value, origin) = match self.0.get(key.name) {
                Some(value) => (value.texts.join(","), value.origin.to_string()),
                None => ("-".to_owned(), "not set".to_owned()),
            };
            text.push_str(&format!("{:<24} {value:<40} {origin}\n", key.name));
        }
        text
    }
}

/// The command line's grammar.
pub fn command(name: &'static str) -> Command {
    let mut command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Raftline's broker: a replicated log and message queue, one Raft group a partition")
        .after_help(
            "Every key can also be set as RAFTLINE_<KEY> in the environment or as <key> in the TOML file;\n\
             a flag wins over the environment, the environment over the file, the file over the default.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Read the same keys from this TOML file"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print every key, its value and where it came from, and exit"),
        );
    for key in KEYS {
        let mut help = key.help.to_owned();
        if let (Some(default), Arity::One) = (key.default, key.arity) {
            help.push_str(&format!(" [default: {default}]"));
        }
        let arg = Arg::new(key.name).long(key.name).help(help);
        command = command.arg(match key.arity {
            Arity::Switch => arg.action(ArgAction::SetTrue),
            Arity::One => arg.value_name(key.value).action(ArgAction::Set),
            Arity::Many => arg.value_name(key.value).action(ArgAction::Append),
        });
    }
    command
}

/// Merges what the sources say. `environment` looks a variable up; `RAFTLINE_CONFIG` names the file like `--config`.
pub fn gather(
    matches: &ArgMatches,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Values, ConfigError> {
    let mut values = Values::default();
    let file = matches.get_one::<String>("config").map(PathBuf::from);
    let file = file.or_else(|| environment("RAFTLINE_CONFIG").map(PathBuf::from));
    if let Some(file) = file {
        read_file(&file, &mut values)?;
    }
    for key in KEYS {
        if let Some(value) = from_environment(key, environment)? {
            values.0.insert(key.name, value);
        }
        if let Some(value) = from_flags(key, matches) {
            values.0.insert(key.name, value);
        }
    }
    let dev = values.get("dev").is_some_and(|value| value.texts == ["true"]);
    for key in KEYS {
        let (default, origin) = match key.dev_default {
            Some(default) if dev => (Some(default), Origin::Dev),
            _ => (key.default, Origin::Default),
        };
        if let Some(default) = default {
            let value = || Value { texts: vec![default.to_owned()], origin };
            values.0.entry(key.name).or_insert_with(value);
        }
    }
    Ok(values)
}

fn from_flags(key: &Key, matches: &ArgMatches) -> Option<Value> {
    if matches.value_source(key.name) != Some(ValueSource::CommandLine) {
        return None;
    }
    let texts = match key.arity {
        Arity::Switch => vec![matches.get_flag(key.name).to_string()],
        Arity::One | Arity::Many => matches.get_many::<String>(key.name)?.cloned().collect(),
    };
    Some(Value { texts, origin: Origin::Flag })
}

fn from_environment(
    key: &Key,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Value>, ConfigError> {
    let variable = key.variable();
    let Some(text) = environment(&variable) else { return Ok(None) };
    let origin = Origin::Environment(variable);
    let Ok(text) = text.into_string() else {
        return Err(ConfigError::Invalid {
            key: key.name,
            value: "(not UTF-8)".to_owned(),
            origin,
            expected: "plain text".to_owned(),
        });
    };
    let texts = match key.arity {
        Arity::Switch | Arity::One => vec![text],
        Arity::Many => text.split(',').map(|part| part.trim().to_owned()).collect(),
    };
    Ok(Some(Value { texts, origin }))
}

fn read_file(path: &Path, values: &mut Values) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    for (name, value) in table {
        let Some(key) = Key::find(&name) else {
            return Err(ConfigError::UnknownKey {
                nearest: Key::nearest(&name),
                name,
                path: path.to_owned(),
            });
        };
        let origin = Origin::File(path.to_owned());
        let texts = file_texts(key, &value).ok_or_else(|| ConfigError::Invalid {
            key: key.name,
            value: value.to_string(),
            origin: origin.clone(),
            expected: match key.arity {
                Arity::Switch => "true or false".to_owned(),
                Arity::One => "one text or number".to_owned(),
                Arity::Many => format!("a list of texts of the form {}", key.value),
            },
        })?;
        values.0.insert(key.name, Value { texts, origin });
    }
    Ok(())
}

fn file_texts(key: &Key, value: &toml::Value) -> Option<Vec<String>> {
    let scalar = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            None
        }
    };
    match (key.arity, value) {
        (Arity::Many, toml::Value::Array(items)) => items.iter().map(scalar).collect(),
        _ => Some(vec![scalar(value)?]),
    }
}
