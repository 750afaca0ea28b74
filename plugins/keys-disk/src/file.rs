//! The key file: JSON, `{"version":1,"keys":{"<id>":"<PKCS#8 in base64>"}}`, mode 0600.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use plugin_api::{KeyError, SoftwareKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const VERSION: u32 = 1;

#[derive(Deserialize, Serialize)]
struct KeyFile {
    version: u32,
    keys: BTreeMap<String, Zeroizing<String>>,
}

/// Reads the file; none holds no keys.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Arc<SoftwareKey>>, KeyError> {
    let text = match fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(failed(path, source)),
    };
    check_permissions(path)?;
    parse(&text).map_err(|reason| KeyError::Damaged {
        path: path.display().to_string(),
        reason,
    })
}

/// Reads what such a file holds; the error says what is wrong with it.
pub(super) fn parse(text: &[u8]) -> Result<BTreeMap<String, Arc<SoftwareKey>>, String> {
    let file: KeyFile = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("it has version {}, expected {VERSION}", file.version));
    }
    let decode = |(id, encoded): (String, Zeroizing<String>)| {
        let pkcs8 = BASE64_STANDARD.decode(encoded.as_bytes()).map(Zeroizing::new);
        let key = pkcs8.ok().and_then(|pkcs8| SoftwareKey::from_pkcs8(&pkcs8).ok());
        let key = key.ok_or_else(|| format!("key `{id}` can't be read"))?;
        Ok((id, Arc::new(key)))
    };
    file.keys.into_iter().map(decode).collect()
}

/// Replaces the file. It is durable on return.
pub(super) fn write(path: &Path, keys: &BTreeMap<String, Arc<SoftwareKey>>) -> Result<(), KeyError> {
    let encode = |key: &SoftwareKey| Zeroizing::new(BASE64_STANDARD.encode(key.to_pkcs8()));
    let keys = keys.iter().map(|(id, key)| (id.clone(), encode(key))).collect();
    let text = serde_json::to_vec(&KeyFile {
        version: VERSION,
        keys,
    })
    .map(Zeroizing::new);
    let text = text.map_err(|error| failed(path, error.into()))?;
    replace(path, &text).map_err(|source| failed(path, source))
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // Temporary files are made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

fn check_permissions(path: &Path) -> Result<(), KeyError> {
    let mode = fs::metadata(path)
        .map_err(|source| failed(path, source))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(KeyError::Permissions {
        path: path.display().to_string(),
        mode,
    })
}

fn failed(path: &Path, source: io::Error) -> KeyError {
    KeyError::File {
        path: path.display().to_string(),
        source,
    }
}
