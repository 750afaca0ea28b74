//! What any process on the host may send to a local socket, and what the kernel says of it.

use edge::local::Authorities;

/// A connection's preface: without it nothing is followed.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// However the bytes are cut into pieces, the same ones are replaced.
pub fn authorities(bytes: &[u8]) {
    let mut whole = [PREFACE, bytes].concat();
    let mut pieces = whole.clone();
    Authorities::new().rewrite(&mut whole);
    let mut following = Authorities::new();
    pieces.chunks_mut(3).for_each(|piece| following.rewrite(piece));
    assert_eq!(whole, pieces);
}

/// The text of `/proc/<pid>/status`: each group is a number that stands there, on one line.
pub fn proc_status(bytes: &[u8]) {
    let Ok(status) = str::from_utf8(bytes) else {
        return;
    };
    let Some(gids) = workload_unix::supplementary_gids(status) else {
        return;
    };
    let longest = status.lines().map(str::len).max().unwrap_or_default();
    assert!(gids.len() <= longest && status.contains("Groups:"));
}
