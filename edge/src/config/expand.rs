//! `$NAME` and `${NAME}` in a configuration file.

use std::path::Path;

use super::ConfigError;

/// Replaces variables by what `value` has for them. `$$` stands for a dollar sign. `path` is for the error alone.
///
/// # Errors
///
/// A variable has no value.
pub fn expand(
    path: &Path,
    text: &str,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ConfigError> {
    let mut lines = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let missing = |name: &str| ConfigError::Variable {
            path: path.into(),
            line: index + 1,
            name: name.into(),
        };
        let value = |name: &str| value(name).ok_or_else(|| missing(name));
        lines.push(expand_line(line, &value)?);
    }
    Ok(lines.join("\n"))
}

fn expand_line(
    line: &str,
    value: &dyn Fn(&str) -> Result<String, ConfigError>,
) -> Result<String, ConfigError> {
    let mut expanded = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(literal) = after.strip_prefix('$') {
            expanded.push('$');
            rest = literal;
            continue;
        }
        let (name, remainder) = name(after);
        if name.is_empty() {
            expanded.push('$');
        } else {
            expanded.push_str(&value(name)?);
        }
        rest = remainder;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Splits off a variable's name: in braces, or as far as letters, digits and underscores go.
fn name(text: &str) -> (&str, &str) {
    if let Some((name, rest)) = text.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
        return (name, rest);
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}
