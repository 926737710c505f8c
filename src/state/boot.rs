//! Which start of the machine this is. A mark remembers it: what was not on the disk when the machine stopped
//! may be gone.

use std::fs;

/// Where the system does not tell which start of the machine this is. All goes to the disk at once
/// there, since nobody can tell a machine that has stopped from one that ran on.
pub(super) const NO_BOOT: [u8; 16] = [0; 16];

/// Which start of the machine this is.
pub(super) fn boot() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits = text.trim().replace('-', "");
    let number = u128::from_str_radix(&digits, 16).unwrap_or_default();
    number.to_be_bytes()
}
