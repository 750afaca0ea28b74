//! Scripts of conversations between hosts and a server.

use fuzz::targets::sessions::STEP;

use super::seed;

pub(crate) fn write() {
    // What: 0 a new connection, 1 a first message, 2 it is delivered, 3 and 4 the same of an answer, 5 to 9 those of a session,
    // 10 a whole attestation, 13 a round, 15 a file is measured, 16 a PCR extended, 17 a boot, 18 the TPM is odd, 19 a policy,
    // 20 another log, 21 another list, 22 a violation, 23 a reconnection.
    let healthy = [
        [10, 0, 0, 0],
        [13, 0, 0, 0],
        [15, 0, 1, 2],
        [13, 0, 0, 0],
        [22, 0, 2, 0],
        [13, 0, 0, 1],
    ];
    let tampered = [
        [10, 0, 0, 0],
        [10, 1, 1, 0],
        [16, 0, 4, 0],
        [13, 0, 0, 0],
        [23, 0, 2, 0],
        [13, 1, 0, 0],
    ];
    let crossed = [
        [1, 0, 0, 0],
        [2, 0, 0, 0],
        [3, 1, 0, 0],
        [4, 0, 0, 0],
        [10, 0, 1, 0],
        [5, 1, 2, 0],
        [6, 2, 0, 0],
        [7, 1, 0, 0],
        [8, 1, 1, 0],
        [9, 1, 0, 0],
    ];
    let held = [
        [19, 0, 1, 0],
        [10, 0, 0, 0],
        [10, 1, 1, 0],
        [19, 0, 2, 0],
        [13, 0, 0, 0],
        [17, 1, 0, 0],
        [10, 1, 1, 0],
        [18, 1, 3, 0],
        [23, 1, 2, 0],
    ];
    let script = |name: &str, steps: &[[u8; STEP]]| seed("tpm_sessions", name, steps.as_flattened());
    script("healthy", &healthy);
    script("tampered", &tampered);
    script("crossed", &crossed);
    script("held", &held);
}
