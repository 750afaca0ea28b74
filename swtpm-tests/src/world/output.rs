//! What commands print.

use std::process::Output;

use serde_json::Value;

/// What a command printed, which has to have succeeded.
pub(super) fn checked(output: Output) -> Output {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    output
}

/// What a command printed as JSON.
pub(super) fn read_json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A JSON string.
pub(super) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
