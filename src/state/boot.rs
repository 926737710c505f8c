//! Which start of the machine this is. The mark remembers it: after another start, whatever was not on the
//! disk when the machine stopped may be gone.

use std::fs;

/// For systems that do not tell which start of the machine this is. There everything goes to the
/// disk at once, since nobody can tell a machine that has stopped from one that ran on.
pub(super) const NO_BOOT: [u8; 16] = [0; 16];

/// Which start of the machine this is.
pub(super) fn boot() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits = text.trim().replace('-', "");
    let number = u128::from_str_radix(&digits, 16).unwrap_or_default();
    number.to_be_bytes()
}
