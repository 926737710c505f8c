//! A node without a shell shares its machine with a hundred others, so it gives back what only its start
//! needed.

/// Lets go of the program's code. Linux maps 16 pages around each page that is touched, so that after a start
/// most of the program is resident: the command line, the Lua that never runs. Code that runs from now on
/// comes back from the page cache.
#[cfg(target_os = "linux")]
pub(super) fn give_back_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (start, length) in maps.lines().filter_map(code) {
        // If it fails the node stays larger, but works.
        let _ = give_back(start, length);
    }
}

/// On other systems the code stays.
#[cfg(not(target_os = "linux"))]
pub(super) fn give_back_code() {}

/// Where a line of `/proc/self/maps` puts code from a file, and how many bytes there are.
#[cfg(target_os = "linux")]
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, file) = (fields.next()?, fields.nth(3)?);
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16));
    let (start, end) = (start.ok()?, end.ok()?);
    let is_code = permissions == "r-xp" && file.starts_with('/');
    is_code.then(|| (start, end.saturating_sub(start)))
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the system asks for addresses")]
fn give_back(start: usize, length: usize) -> nix::Result<()> {
    use nix::sys::mman::{MmapAdvise, madvise};

    let start = std::ptr::with_exposed_provenance_mut(start);
    let start = std::ptr::NonNull::new(start).ok_or(nix::errno::Errno::EINVAL)?;
    // SAFETY: these pages are mapped from a file and cannot be written, so they hold what the file
    // holds: the next read or execution, in any thread, gets the same bytes from there.
    unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn code_of_files_is_told_from_all_else() {
        let line = "55d0c8a00000-55d0c8c00000 r-xp 00094000 fe:00 1234   /usr/bin/a program";
        assert_eq!(code(line), Some((0x55d0_c8a0_0000, 0x20_0000)));
        for other in [
            "55d0c8a00000-55d0c8c00000 r--p 00094000 fe:00 1234   /usr/bin/program",
            "55d0c8a00000-55d0c8c00000 rwxp 00094000 fe:00 1234   /usr/bin/program",
            "7ffd0a9f2000-7ffd0a9f4000 r-xp 00000000 00:00 0      [vdso]",
            "7f0000000000-7f0000021000 r-xp 00000000 00:00 0",
            "",
            "nonsense",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }
}
