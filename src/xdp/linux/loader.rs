//! Loads and attaches the program, and takes it away.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use aya::maps::{Array, Map, PerCpuArray};
use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::sys::utsname::uname;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{getegid, geteuid};

use super::interface::{self, Interface, InterfaceKind};
use super::orphans::orphans;
use super::pins::{self, LINK, MAPS, PROGRAM};
use crate::xdp::image::draw_seed;
use crate::xdp::layout::{About, Heartbeat, LAYOUT_VERSION};
use crate::xdp::{Attached, Attachment, Counter, Error, Mode, OverLimit, Owner, Pinning, Status};

/// The programs, built by scripts/build-bpf.sh.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/fastpath.bpf.o"));

/// What the programs need: `bpf_xdp_store_bytes` is the newest.
const NEEDED: KernelVersion = KernelVersion(5, 18);

/// The first version with tcx.
const NEEDED_FOR_TCX: KernelVersion = KernelVersion(6, 6);

/// How long the kernel may take to let go of an interface.
const LETS_GO: Duration = Duration::from_secs(1);

const NANOS: u64 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct KernelVersion(u32, u32);

impl KernelVersion {
    fn running() -> (KernelVersion, String) {
        let Ok(system) = uname() else { return (KernelVersion(0, 0), "unknown".to_owned()) };
        let release = system.release().to_string_lossy().into_owned();
        let digits = |part: &str| part.bytes().take_while(u8::is_ascii_digit).count();
        let mut numbers = release.split('.').map(|part| part[..digits(part)].parse().unwrap_or(0));
        let version = KernelVersion(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        (version, release)
    }

    fn require(self, what: &'static str, needed: &'static str) -> Result<(), Error> {
        let (version, running) = KernelVersion::running();
        if version >= self { Ok(()) } else { Err(Error::Kernel { what, needed, running }) }
    }
}

/// Loads the program, attaches it, and leaves it for the node's user.
///
/// # Errors
/// If something that it needs is missing, or the kernel refuses; nothing is left behind then.
pub fn attach(attachment: &Attachment) -> Result<Attached, Error> {
    NEEDED.require("the fast path", "5.18")?;
    let interfaces = interface::all()?;
    let interface = Interface::named(&interfaces, &attachment.interface)?;
    if interface.kind == InterfaceKind::Other {
        return Err(Error::NotEthernet(interface.name.clone()));
    }
    let caller = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    let owner = attachment.owner.unwrap_or(caller);
    let folder = make_folder(&attachment.place, owner)?;
    let done = load(attachment)
        .and_then(|mut ebpf| attach_and_pin(attachment, interface, &interfaces, &mut ebpf, &folder))
        .and_then(|attached| give_to(&folder, owner).map(|()| attached));
    done.inspect_err(|_| remove(&attachment.place.bpffs, &folder))
}

fn make_folder(place: &Pinning, owner: Owner) -> Result<std::path::PathBuf, Error> {
    if !pins::is_bpffs(&place.bpffs) {
        return Err(Error::NoBpffs(place.bpffs.clone()));
    }
    if let Some(folder) = closed_to(owner, &place.bpffs) {
        return Err(Error::Closed { folder, uid: owner.uid });
    }
    let make = |folder: &Path| match fs::DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    let folder = place.folder()?;
    if folder.exists() {
        let about = pins::about(&folder, place.port)?;
        if let Some(there) = Interface::numbered(&interface::all()?, about.ifindex) {
            return Err(Error::Attached { port: place.port, interface: there.name.clone() });
        }
        // If its interface is gone, nothing of it is of use.
        remove(&place.bpffs, &folder);
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => Error::Permission("writing to the bpf file system"),
        _ => Error::failed("making a folder in the bpf file system", error),
    };
    make(&pins::all(&place.bpffs)).map_err(failed)?;
    // Another process may have been first.
    pins::check(&place.bpffs)?;
    make(&folder).map_err(failed)?;
    Ok(folder)
}

/// The first folder on the way that a user may not pass.
fn closed_to(owner: Owner, folder: &Path) -> Option<std::path::PathBuf> {
    let passes = |folder: &&Path| {
        let Ok(metadata) = fs::metadata(folder) else { return true };
        let bit = match (metadata.uid() == owner.uid, metadata.gid() == owner.gid) {
            (true, _) => 0o100,
            (_, true) => 0o010,
            _ => 0o001,
        };
        metadata.mode() & bit != 0
    };
    let way = folder.ancestors().filter(|folder| !folder.as_os_str().is_empty());
    if owner.uid == 0 {
        return None;
    }
    way.filter(|folder| !passes(folder)).last().map(Path::to_owned)
}

/// Loads the maps; the program follows once it is chosen.
pub(super) fn load(attachment: &Attachment) -> Result<Ebpf, Error> {
    let cost = |rate: u64| NANOS.checked_div(rate).unwrap_or(0);
    let (source_cost, total_cost) = (cost(attachment.source_rate), cost(attachment.total_rate));
    let drops = u32::from(attachment.over_limit == OverLimit::Drop);
    let seed = draw_seed()?;
    EbpfLoader::new()
        .override_global("PORT", &attachment.place.port, true)
        .override_global("SOURCE_COST_NS", &source_cost, true)
        .override_global("TOTAL_COST_NS", &total_cost, true)
        .override_global("OVER_LIMIT_DROPS", &drops, true)
        .override_global("SOURCE_SEED", &seed, true)
        .load(OBJECT)
        .map_err(|error| match permission(&error) {
            true => Error::Permission("loading a program into the kernel"),
            false => Error::failed("loading the maps into the kernel", error),
        })
}

/// Whether an error comes from a lack of privilege.
fn permission(error: &(dyn std::error::Error + 'static)) -> bool {
    cause(error).is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn attach_and_pin(
    attachment: &Attachment,
    interface: &Interface,
    all: &[Interface],
    ebpf: &mut Ebpf,
    folder: &Path,
) -> Result<Attached, Error> {
    // The node must not find a program before it can tell whose program it is.
    let (link, mode, reason) = match (attachment.mode, interface.kind) {
        (Some(mode), _) => (attach_as(mode, ebpf, interface, all)?, mode, "asked for".to_owned()),
        (None, InterfaceKind::Loopback | InterfaceKind::Veth) => {
            let reason = "there only tcx can make a packet longer";
            (attach_tcx(ebpf, interface)?, Mode::Tcx, reason.to_owned())
        }
        (None, _) => attach_to_card(ebpf, interface, all)?,
    };
    write_about(ebpf, attachment, interface, mode)?;
    let pinning = |error| Error::failed("leaving something in the bpf file system", error);
    for name in MAPS {
        let map = ebpf.map_mut(name).expect("the object has the map");
        map.pin(folder.join(name)).map_err(pinning)?;
    }
    let program = ebpf.program_mut(program_of(mode)).expect("the object has the program");
    program.pin(folder.join(PROGRAM)).map_err(pinning)?;
    link.pin(folder.join(LINK)).map_err(pinning)?;
    let deaf = mode == Mode::Native && interface.kind == InterfaceKind::Veth;
    let warning = deaf.then(|| {
        "the other end of a veth pair loses what native XDP sends unless it runs XDP or GRO; and \
         packets cannot always grow there, so replies longer than requests may be left to the node"
            .to_owned()
    });
    Ok(Attached { mode, reason, warning, folder: folder.to_owned() })
}

/// Native XDP where the driver can, else the best of the rest.
fn attach_to_card(
    ebpf: &mut Ebpf,
    interface: &Interface,
    all: &[Interface],
) -> Result<(FdLink, Mode, String), Error> {
    let native = attach_as(Mode::Native, ebpf, interface, all);
    let refusal = match native {
        Ok(link) => return Ok((link, Mode::Native, "its driver runs XDP".to_owned())),
        Err(error @ (Error::NoDriver(_) | Error::Failed { .. })) => error,
        Err(error) => return Err(error),
    };
    let reason = match refusal {
        Error::NoDriver(_) => "its driver runs no XDP".to_owned(),
        other => format!("native XDP was refused ({other})"),
    };
    if KernelVersion::running().0 >= NEEDED_FOR_TCX {
        return Ok((attach_tcx(ebpf, interface)?, Mode::Tcx, reason));
    }
    Ok((attach_as(Mode::Generic, ebpf, interface, all)?, Mode::Generic, reason))
}

fn attach_as(
    mode: Mode,
    ebpf: &mut Ebpf,
    interface: &Interface,
    all: &[Interface],
) -> Result<FdLink, Error> {
    match mode {
        Mode::Tcx => attach_tcx(ebpf, interface),
        Mode::Generic => attach_xdp(ebpf, interface, XdpMode::Skb),
        Mode::Native => {
            if let (InterfaceKind::Veth, Some(peer)) = (interface.kind, interface.deaf_peer(all)) {
                let (interface, peer) = (interface.name.clone(), peer.name.clone());
                return Err(Error::DeafPeer { interface, peer });
            }
            attach_xdp(ebpf, interface, XdpMode::Driver)
        }
    }
}

fn attach_xdp(ebpf: &mut Ebpf, interface: &Interface, mode: XdpMode) -> Result<FdLink, Error> {
    let program = ebpf.program_mut(program_of(Mode::Native)).expect("the object has the program");
    let program: &mut Xdp = program.try_into().expect("an XDP program");
    load_once(program.load())?;
    let refused = |error: ProgramError| match cause(&error).map(io::Error::kind) {
        Some(io::ErrorKind::ResourceBusy) => Error::Occupied(interface.name.clone()),
        Some(io::ErrorKind::Unsupported) => Error::NoDriver(interface.name.clone()),
        _ => Error::failed("attaching to the interface", error),
    };
    let id = program.attach(&interface.name, mode).map_err(refused)?;
    let link = program.take_link(id).map_err(refused)?;
    link.try_into().map_err(|error| Error::failed("attaching to the interface", error))
}

fn attach_tcx(ebpf: &mut Ebpf, interface: &Interface) -> Result<FdLink, Error> {
    NEEDED_FOR_TCX.require("tcx", "6.6")?;
    let program = ebpf.program_mut(program_of(Mode::Tcx)).expect("the object has the program");
    let program: &mut SchedClassifier = program.try_into().expect("a classifier");
    load_once(program.load())?;
    let refused = |error| Error::failed("attaching to the interface", error);
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(&interface.name, TcAttachType::Ingress, options)
        .map_err(refused)?;
    let link = program.take_link(id).map_err(refused)?;
    link.try_into().map_err(|error| Error::failed("attaching to the interface", error))
}

pub(super) fn program_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Native | Mode::Generic => "kademlua_xdp",
        Mode::Tcx => "kademlua_tcx",
    }
}

/// A program that was tried in another mode is loaded already.
pub(super) fn load_once(loaded: Result<(), ProgramError>) -> Result<(), Error> {
    match loaded {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(error) if permission(&error) => {
            Err(Error::Permission("loading a program into the kernel"))
        }
        Err(error) => Err(Error::failed("loading the program into the kernel", error)),
    }
}

fn write_about(
    ebpf: &mut Ebpf,
    attachment: &Attachment,
    interface: &Interface,
    mode: Mode,
) -> Result<(), Error> {
    let mut name = [0; 16];
    // The kernel's names have at most 15 bytes.
    let bytes = interface.name.as_bytes();
    name[..bytes.len()].copy_from_slice(bytes);
    let about = About {
        version: LAYOUT_VERSION,
        ifindex: interface.index,
        interface: name,
        port: attachment.place.port,
        mode: mode as u8,
        over_limit_drops: u8::from(attachment.over_limit == OverLimit::Drop),
        pad: 0,
        source_rate: attachment.source_rate,
        total_rate: attachment.total_rate,
    };
    let map = ebpf.map_mut("about").expect("the object has the map");
    let mut map = Array::<_, [u8; size_of::<About>()]>::try_from(map)
        .map_err(|error| Error::failed("opening a map", error))?;
    let bytes: [u8; size_of::<About>()] = bytemuck::must_cast(about);
    map.set(0, bytes, 0).map_err(|error| Error::failed("writing a map", error))
}

fn give_to(folder: &Path, owner: Owner) -> Result<(), Error> {
    let all = MAPS.iter().copied().chain([PROGRAM, LINK]).map(|name| folder.join(name));
    all.chain([folder.to_owned()])
        .try_for_each(|path| chown(path, Some(owner.uid), Some(owner.gid)))
        .map_err(|error| Error::failed("giving the maps to the node's user", error))
}

/// Takes a fast path away, and what belongs to it.
///
/// # Errors
/// If there is none, or the caller may not.
pub fn detach(place: &Pinning) -> Result<(), Error> {
    let folder = place.folder()?;
    match fs::metadata(&folder) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Error::Permission("reading the bpf file system"));
        }
        Err(_) if !pins::is_bpffs(&place.bpffs) => {
            return Err(Error::NoBpffs(place.bpffs.clone()));
        }
        Err(_) => return detach_orphans(place),
    }
    let about = pins::about(&folder, place.port);
    match fs::remove_file(folder.join(LINK)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Error::Permission("removing the link"));
        }
        _ => remove(&place.bpffs, &folder),
    }
    if folder.exists() {
        return Err(Error::Permission("removing the folder"));
    }
    // There is room for many at tcx.
    let is_xdp = |about: &About| Mode::ALL.get(usize::from(about.mode)) != Some(&Mode::Tcx);
    if let Some(about) = about.ok().filter(is_xdp) {
        wait_until_free(&pins::interface_of(&about));
    }
    Ok(())
}

/// Removes what namespaces that are gone have left for the port.
fn detach_orphans(place: &Pinning) -> Result<(), Error> {
    let orphans = orphans(&place.bpffs)?;
    let of_port: Vec<_> = orphans.into_iter().filter(|orphan| orphan.port == place.port).collect();
    if of_port.is_empty() {
        return Err(Error::NotAttached(place.port));
    }
    for orphan in of_port {
        remove(&place.bpffs, &orphan.folder);
        if orphan.folder.exists() {
            return Err(Error::Permission("removing the folder"));
        }
    }
    Ok(())
}

/// The kernel lets go of an interface a moment after the last file is gone, in a worker of its own:
/// attaching again at once would fail because a program is there already.
fn wait_until_free(name: &str) {
    let end = Instant::now() + LETS_GO;
    let is_taken = || {
        let all = interface::all().unwrap_or_default();
        Interface::named(&all, name).is_ok_and(|interface| interface.has_xdp)
    };
    while is_taken() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn remove(bpffs: &Path, folder: &Path) {
    // Missing files need not be removed; the last fast path of all removes the common folder.
    for name in [LINK, PROGRAM].into_iter().chain(MAPS) {
        let _ = fs::remove_file(folder.join(name));
    }
    let _ = fs::remove_dir(folder);
    let _ = fs::remove_dir(pins::all(bpffs));
}

/// The fast paths of this network namespace.
///
/// # Errors
/// If the bpf file system cannot be read.
pub fn found(bpffs: &Path) -> Result<Vec<Pinning>, Error> {
    let place = |port| Pinning { bpffs: bpffs.to_owned(), port };
    let is_own = |folder: &Path, port| place(port).folder().is_ok_and(|own| own == folder);
    let mut ports: Vec<u16> = pins::folders(bpffs)?
        .into_iter()
        .filter(|(_, port, folder)| is_own(folder, *port))
        .map(|(_, port, _)| port)
        .collect();
    ports.sort_unstable();
    Ok(ports.into_iter().map(place).collect())
}

/// What a fast path is and has counted.
///
/// # Errors
/// If there is none, or its maps cannot be read.
pub fn status(place: &Pinning) -> Result<Status, Error> {
    let folder = place.folder()?;
    match fs::metadata(folder.join("about")) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Error::Permission("reading the maps"));
        }
        Err(_) => return Err(Error::NotAttached(place.port)),
    }
    let about = pins::about(&folder, place.port)?;
    let heartbeat = heartbeat(&folder)?;
    let all = interface::all()?;
    let interface = Interface::numbered(&all, about.ifindex);
    let program = ProgramInfo::from_pin(folder.join(PROGRAM))
        .map_err(|error| Error::failed("opening the program", error))?;
    Ok(Status {
        port: place.port,
        interface: interface
            .map_or_else(|| pins::interface_of(&about), |interface| interface.name.clone()),
        is_gone: interface.is_none(),
        mode: *Mode::ALL.get(usize::from(about.mode)).ok_or(Error::Version(place.port))?,
        program_id: program.id(),
        heartbeat: age(&heartbeat),
        contacts: heartbeat.contacts.map(|count| count as usize),
        incomplete: heartbeat.incomplete != 0,
        rates: [about.source_rate, about.total_rate],
        counters: counters(&folder)?,
        run: program.run_time().checked_div(u32::try_from(program.run_count()).unwrap_or(u32::MAX)),
    })
}

fn heartbeat(folder: &Path) -> Result<Heartbeat, Error> {
    let bytes = pins::single::<{ size_of::<Heartbeat>() }>(folder, "heartbeat")?.get(&0, 0);
    let bytes = bytes.map_err(|error| Error::failed("reading a map", error))?;
    Ok(bytemuck::must_cast(bytes))
}

/// Time since a sign of life; `None` without one.
fn age(heartbeat: &Heartbeat) -> Option<Duration> {
    (heartbeat.at != 0).then(|| now().saturating_sub(Duration::from_nanos(heartbeat.at)))
}

/// Time since the node of the fast path in a folder last gave a sign of life, if that can be read.
pub(super) fn heartbeat_of(folder: &Path) -> Option<Duration> {
    age(&heartbeat(folder).ok()?)
}

fn counters(folder: &Path) -> Result<[u64; Counter::ALL.len()], Error> {
    sum_counters(&Map::PerCpuArray(pins::map(folder, "counters")?))
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

fn cause<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e io::Error> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}
