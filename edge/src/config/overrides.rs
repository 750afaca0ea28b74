//! `--set table.key=value`.

use toml::{Table, Value};

use super::{ConfigError, error::shown};

/// Puts each override in its place.
pub(super) fn apply(table: &mut Table, set: &[String]) -> Result<(), ConfigError> {
    for assignment in set {
        let malformed = || ConfigError::Override {
            assignment: shown(assignment).into(),
        };
        let (path, value) = assignment.split_once('=').ok_or_else(malformed)?;
        let keys: Vec<&str> = path.trim().split('.').collect();
        if keys.iter().any(|key| key.is_empty()) {
            return Err(malformed());
        }
        put(table, &keys, parse_value(value)).ok_or_else(malformed)?;
    }
    Ok(())
}

/// A TOML value where it reads as one, else the text as it stands: quotes are a nuisance in a shell.
fn parse_value(text: &str) -> Value {
    let parsed: Option<Table> = toml::from_str(&format!("value = {text}")).ok();
    parsed
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.into()))
}

fn put(table: &mut Table, keys: &[&str], value: Value) -> Option<()> {
    match keys {
        [] => None,
        [key] => {
            table.insert((*key).into(), value);
            Some(())
        }
        [key, rest @ ..] => {
            let inner = table
                .entry((*key).to_owned())
                .or_insert_with(|| Value::Table(Table::new()));
            put(inner.as_table_mut()?, rest, value)
        }
    }
}
