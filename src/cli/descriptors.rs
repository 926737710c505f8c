//! Whether there are enough file descriptors: without them one part or another of a node fails, with
//! a message that tells nobody what to do.

use std::fs::File;

use anyhow::{Context as _, bail};

/// The most that a node and its shell have open at once, with some to spare: sockets, a state,
/// descriptors to wait with, and files of programs.
const NEEDED: usize = 32;

/// Opens as many as are needed for a moment.
///
/// # Errors
/// If the system does not let us.
pub(super) fn check() -> anyhow::Result<()> {
    let mut open = Vec::with_capacity(NEEDED);
    for got in 0..NEEDED {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(error) if is_scarcity(&error) => bail!(
                "a node and its shell need {NEEDED} file descriptors, and the system has {got} for \
                 them ({error}); allow more: ulimit -n 1024"
            ),
            Err(error) => return Err(error).context("/dev/null"),
        }
    }
    Ok(())
}

/// Whether this process or all of them have too many open.
fn is_scarcity(error: &std::io::Error) -> bool {
    use nix::errno::Errno;
    let scarcities = [Errno::EMFILE, Errno::ENFILE].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|number| scarcities.contains(&number))
}
