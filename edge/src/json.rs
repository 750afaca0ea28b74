//! Messages as JSON, the way SPIRE's tools print them: field names as in the `.proto` files, fields that are
//! not set included, 64-bit numbers as strings.

use prost_reflect::{DynamicMessage, ReflectMessage, SerializeOptions};
use serde::Serialize;

/// A message can't be printed: its descriptor is not in this build.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// There is no such message.
    #[error("message `{0}` is not known")]
    Unknown(&'static str),
    /// The bytes are not of that message.
    #[error("message can't be read back")]
    Decode(#[from] prost::DecodeError),
    /// A value has no JSON form.
    #[error("message can't be printed")]
    Print(#[from] serde_json::Error),
}

/// Prints `message`, whose full protobuf name is `name`.
///
/// # Errors
///
/// The name is unknown, or not that of the message.
pub fn print(name: &'static str, message: &impl prost::Message) -> Result<serde_json::Value, JsonError> {
    let descriptor = proto::DESCRIPTORS
        .get_message_by_name(name)
        .ok_or(JsonError::Unknown(name))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    debug_assert_eq!(dynamic.descriptor().full_name(), name);
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(true);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// A value as indented JSON.
///
/// # Errors
///
/// The value has no JSON form.
pub fn pretty(value: &impl Serialize) -> Result<String, JsonError> {
    Ok(serde_json::to_string_pretty(value)?)
}

#[cfg(test)]
mod tests {
    use proto::spire::api::types::{Entry, Spiffeid};

    use super::*;

    #[test]
    fn prints_as_spire_does() {
        let entry = Entry {
            id: "e".into(),
            spiffe_id: Some(Spiffeid {
                trust_domain: "td".into(),
                path: "/a".into(),
            }),
            expires_at: 5,
            ..Entry::default()
        };
        let json = print("spire.api.types.Entry", &entry).unwrap();
        assert_eq!(json["spiffe_id"]["path"], "/a");
        assert_eq!(json["expires_at"], "5");
        assert_eq!(json["x509_svid_ttl"], 0);
        assert_eq!(json["federates_with"], serde_json::json!([]));
    }

    #[test]
    fn refuses_unknown_messages() {
        assert!(matches!(
            print("no.Such", &Entry::default()),
            Err(JsonError::Unknown("no.Such"))
        ));
    }
}
