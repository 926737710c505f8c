//! The attached fast paths, and their counters.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use aya::maps::{Map, PerCpuArray};
use aya::programs::ProgramInfo;
use aya::programs::links::{FdLink, PinnedLink};
use nix::time::{ClockId, clock_gettime};

use super::interface::{self, Interface};
use super::pins::{self, ABOUT, LINK, Of, PROGRAM};
use super::shared::Shared;
use crate::xdp::layout::About;
use crate::xdp::{Counter, Error, Pinning, Status};

/// The nodes of this network namespace that have a fast path.
///
/// # Errors
/// If the bpf file system cannot be read.
pub fn found(bpffs: &Path) -> Result<Vec<Pinning>, Error> {
    let namespace = pins::namespace()?;
    let folders = pins::folders(bpffs)?.into_iter();
    let mut ports: Vec<u16> = folders
        .filter(|folder| folder.namespace == namespace && folder.is_whole())
        .filter_map(|folder| match folder.of {
            Of::Node(port) => Some(port),
            Of::Interface(_) => None,
        })
        .collect();
    ports.sort_unstable();
    Ok(ports.into_iter().map(|port| Pinning { bpffs: bpffs.to_owned(), port }).collect())
}

/// What a fast path is and has counted.
///
/// # Errors
/// If there is none, or its maps cannot be read.
pub fn status(place: &Pinning) -> Result<Status, Error> {
    let folder = place.folder()?;
    match fs::metadata(folder.join(ABOUT)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Error::Permission("reading the maps"));
        }
        Err(_) => return Err(Error::NotAttached(place.port)),
    }
    let about = pins::about(&folder, place.port)?;
    let heartbeat = Shared::open(&folder)?.heartbeat();
    let all = interface::all()?;
    let interface = interface_of(&place.bpffs, &about, &all)?.map(|found| found.name.clone());
    let was = about.interface();
    let there = pins::of_interface(&place.bpffs, pins::namespace()?, about.ifindex);
    // Those of the interface are not for the node's user.
    let strays = counters(&there, "strays").unwrap_or_default();
    let program = ProgramInfo::from_pin(there.join(PROGRAM)).ok();
    let mut counters = counters(&folder, "counters")?;
    counters.iter_mut().zip(strays).for_each(|(count, strays)| *count += strays);
    Ok(Status {
        port: place.port,
        is_gone: interface.is_none(),
        renamed_from: interface.as_ref().filter(|name| **name != was).map(|_| was.clone()),
        interface: interface.unwrap_or(was),
        mode: about.mode().ok_or(Error::Version(place.port))?,
        program_id: about.program,
        heartbeat: age(heartbeat.at),
        contacts: heartbeat.contacts.map(|count| count as usize),
        incomplete: heartbeat.incomplete != 0,
        cached: [heartbeat.hot as usize, heartbeat.hot_bytes as usize],
        rates: [about.source_rate, about.total_rate],
        counters,
        run: program.and_then(|program| {
            let runs = u32::try_from(program.run_count()).unwrap_or(u32::MAX);
            program.run_time().checked_div(runs)
        }),
    })
}

/// The interface at which the program is that serves a node; `None` if that is gone.
pub(super) fn interface_of<'a>(
    bpffs: &Path,
    about: &About,
    all: &'a [Interface],
) -> Result<Option<&'a Interface>, Error> {
    let there = pins::of_interface(bpffs, pins::namespace()?, about.ifindex);
    // What another network namespace or interface of the same number has left may be gone, or replaced.
    // Only the user who attached it may look at that.
    let is_another = pins::any_about(&there).is_ok_and(|now| now.program != about.program);
    let is_met = there.join(LINK).exists()
        && !is_another
        && is_attached_to(&there, about.ifindex) != Some(false);
    Ok(Interface::numbered(all, about.ifindex).filter(|_| is_met))
}

/// Whether the program of an interface is at the one of that number; the kernel takes it away with the
/// interface. `None` if the caller may not look.
pub(super) fn is_attached_to(there: &Path, index: u32) -> Option<bool> {
    let link: FdLink = PinnedLink::from_pin(there.join(LINK)).ok()?.into();
    let id = link.info().ok()?.id().to_string();
    // Of all descriptors of this process, since aya does not tell that of the link.
    let descriptors = fs::read_dir("/proc/self/fdinfo").ok()?;
    let texts = descriptors.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let field = |text: &str, name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
    };
    let mut of_link = texts.filter(|text| field(text, "link_id").as_ref() == Some(&id));
    let attached = of_link.find_map(|text| field(&text, "ifindex"))?;
    Some(attached == index.to_string())
}

/// Time since a sign of life; `None` without one.
fn age(at: u64) -> Option<Duration> {
    (at != 0).then(|| now().saturating_sub(Duration::from_nanos(at)))
}

/// Time since the node of a folder last gave a sign of life, if that can be read.
pub(super) fn heartbeat_of(folder: &Path) -> Option<Duration> {
    age(Shared::open(folder).ok()?.heartbeat().at)
}

fn counters(folder: &Path, name: &str) -> Result<[u64; Counter::ALL.len()], Error> {
    sum_counters(&Map::PerCpuArray(pins::map(folder, name)?))
}

/// What all processors have counted.
pub(super) fn sum_counters(map: &Map) -> Result<[u64; Counter::ALL.len()], Error> {
    let reading = |error| Error::failed("reading a map", error);
    let map = PerCpuArray::<_, [u64; Counter::ALL.len()]>::try_from(map).map_err(reading)?;
    let mut sums = [0; Counter::ALL.len()];
    for of_one in map.get(&0, 0).map_err(reading)?.iter() {
        sums.iter_mut().zip(of_one).for_each(|(sum, count)| *sum += count);
    }
    Ok(sums)
}

/// The clock of heartbeats.
pub(super) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
