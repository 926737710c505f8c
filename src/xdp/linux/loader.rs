//! Loads and attaches the program of an interface, and takes nodes into it and out of it.
//!
//! Each step may be the last one, by `kill -9` too: a half-done step has no effect, and whoever comes
//! next takes it away.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData};
use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::sys::utsname::uname;
use nix::unistd::{getegid, geteuid};

use super::interface::{self, Interface, InterfaceKind};
use super::orphans::orphans;
use super::pins::{self, ABOUT, LINK, Lock, OF_INTERFACE, OF_NODE, Of, PROGRAM};
use super::status::{found, interface_of, is_attached_to};
use crate::xdp::image::draw_seed;
use crate::xdp::layout::{About, LAYOUT_VERSION};
use crate::xdp::{Attached, Attachment, Error, Mode, OverLimit, Owner, Pinning};

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

/// The maps of a node that the program reads, and where it finds them.
const BY_PORT: [(&str, &str); 3] =
    [("node", "node_by_port"), ("counters", "counters_by_port"), ("events", "events_by_port")];

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

/// Takes a node into the program of its interface, which is loaded and attached if it is not there, and
/// leaves the node's maps for its user.
///
/// # Errors
/// If something that it needs is missing, or the kernel refuses; nothing is left behind then.
pub fn attach(attachment: &Attachment) -> Result<Attached, Error> {
    NEEDED.require("the fast path", "5.18")?;
    let place = &attachment.place;
    let interfaces = interface::all()?;
    let interface = Interface::named(&interfaces, &attachment.interface)?;
    if interface.kind == InterfaceKind::Other {
        return Err(Error::NotEthernet(interface.name.clone()));
    }
    let caller = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() };
    let owner = attachment.owner.unwrap_or(caller);
    if !pins::is_bpffs(&place.bpffs) {
        return Err(Error::NoBpffs(place.bpffs.clone()));
    }
    if let Some(folder) = closed_to(owner, &place.bpffs) {
        return Err(Error::Closed { folder, uid: owner.uid });
    }
    let _lock = Lock::take(&place.bpffs)?;
    free(place, &interfaces)?;
    sweep(&place.bpffs)?;
    let attached = start_or_join(attachment, interface, &interfaces).and_then(|mut program| {
        let folder = leave_node(&mut program, place, owner)?;
        let Program { about, reason, joined, .. } = program;
        let mode = about.mode().expect("it was just written");
        let (ways, warning) = (ways(mode, interface), warning(mode, interface));
        Ok(Attached { mode, reason, ways, warning, joined, folder })
    });
    attached.inspect_err(|_| {
        // The first error is the one to report.
        let _ = release(place).and_then(|()| sweep(&place.bpffs));
    })
}

/// Makes room for a node: of one whose interface is gone, or that was left half done, nothing is of use.
fn free(place: &Pinning, interfaces: &[Interface]) -> Result<(), Error> {
    let folder = place.folder()?;
    if folder.join(ABOUT).exists() {
        let about = pins::about(&folder, place.port)?;
        if let Some(interface) = interface_of(&place.bpffs, &about, interfaces)? {
            let interface = interface.name.clone();
            return Err(Error::Attached { port: place.port, interface });
        }
    }
    release(place)
}

/// The first folder on the way that a user may not pass.
fn closed_to(owner: Owner, folder: &Path) -> Option<PathBuf> {
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

/// Loads the maps; a program follows once it is known which. The maps of an interface are those that are
/// left in its folder, and are left there if they are not.
pub(super) fn load(attachment: &Attachment, there: Option<&Path>) -> Result<Ebpf, Error> {
    let cost = |rate: u64| NANOS.checked_div(rate).unwrap_or(0);
    let (source_cost, total_cost) = (cost(attachment.source_rate), cost(attachment.total_rate));
    let drops = u32::from(attachment.over_limit == OverLimit::Drop);
    let seed = draw_seed()?;
    let mut loader = EbpfLoader::new();
    loader
        .override_global("SOURCE_COST_NS", &source_cost, true)
        .override_global("TOTAL_COST_NS", &total_cost, true)
        .override_global("OVER_LIMIT_DROPS", &drops, true)
        .override_global("SOURCE_SEED", &seed, true);
    for (folder, name) in there.into_iter().flat_map(|there| OF_INTERFACE.map(|name| (there, name)))
    {
        loader.map_pin_path(name, folder.join(name));
    }
    loader.load(OBJECT).map_err(|error| match permission(&error) {
        true => Error::Permission("loading a program into the kernel"),
        false => Error::failed("loading the maps into the kernel", error),
    })
}

/// Whether an error comes from a lack of privilege.
fn permission(error: &(dyn std::error::Error + 'static)) -> bool {
    cause(error).is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The program of an interface, and new maps for a node.
struct Program {
    ebpf: Ebpf,
    about: About,
    /// Why it meets packets as it does.
    reason: String,
    /// It was there already.
    joined: bool,
}

fn start_or_join(
    attachment: &Attachment,
    interface: &Interface,
    all: &[Interface],
) -> Result<Program, Error> {
    let bpffs = &attachment.place.bpffs;
    let there = pins::of_interface(bpffs, pins::namespace()?, interface.index);
    if !there.join(LINK).exists() {
        return start(attachment, interface, all, &there);
    }
    // The number of a namespace or interface that is gone comes up again.
    if is_attached_to(&there, interface.index) == Some(false) {
        pins::remove(&there)?;
        return start(attachment, interface, all, &there);
    }
    join(attachment, interface, &there)
}

fn join(attachment: &Attachment, interface: &Interface, there: &Path) -> Result<Program, Error> {
    let name = || interface.name.clone();
    let about = pins::any_about(there)?;
    let mode = about.mode().filter(|_| about.version == LAYOUT_VERSION);
    let mode = mode.ok_or_else(|| Error::OtherVersion(name()))?;
    if attachment.mode.is_some_and(|asked| asked != mode) {
        return Err(Error::OtherMode { interface: name(), mode: mode.name() });
    }
    let asked = [attachment.source_rate, attachment.total_rate];
    let drops = about.over_limit_drops != 0;
    let rates = [about.source_rate, about.total_rate];
    if asked != rates || drops != (attachment.over_limit == OverLimit::Drop) {
        let over_limit = if drops { "drop" } else { "pass" };
        return Err(Error::OtherLimits { interface: name(), rates, over_limit });
    }
    let reason = "the program that is there serves this port too".to_owned();
    Ok(Program { ebpf: load(attachment, Some(there))?, about, reason, joined: true })
}

fn start(
    attachment: &Attachment,
    interface: &Interface,
    all: &[Interface],
    there: &Path,
) -> Result<Program, Error> {
    pins::make(there)?;
    let mut ebpf = load(attachment, Some(there))?;
    put(&mut ebpf, "strays", "counters_by_port", 0)?;
    let (link, mode, reason) = match (attachment.mode, interface.kind) {
        (Some(mode), _) => {
            (attach_as(mode, &mut ebpf, interface, all)?, mode, "asked for".to_owned())
        }
        (None, InterfaceKind::Loopback | InterfaceKind::Veth) => {
            let reason = "there only tcx can make a packet longer";
            (attach_tcx(&mut ebpf, interface)?, Mode::Tcx, reason.to_owned())
        }
        (None, _) => attach_to_card(&mut ebpf, interface, all)?,
    };
    let program = ebpf.program_mut(program_of(mode)).expect("the object has the program");
    let info = program.info().map_err(|error| Error::failed("asking about the program", error))?;
    let about = about(attachment, interface, mode, info.id());
    leave_about(&about, &there.join(ABOUT), None)?;
    program.pin(there.join(PROGRAM)).map_err(pinning)?;
    link.pin(there.join(LINK)).map_err(pinning)?;
    Ok(Program { ebpf, about, reason, joined: false })
}

fn pinning(error: impl std::error::Error) -> Error {
    Error::failed("leaving something in the bpf file system", error)
}

/// `bpf_fib_lookup` is not among them: it asks the tables that the node reads anyway, takes half as long as a
/// hop does, and wants an interface that forwards for everybody.
fn ways(mode: Mode, interface: &Interface) -> &'static str {
    match (mode, interface.kind) {
        (_, InterfaceKind::Loopback) => "routes go on by lo, which has no stations",
        (Mode::Tcx, _) => {
            "routes go on to the stations in the kernel's tables, which the node reads; where it knows none              yet, the kernel finds one (bpf_redirect_neigh)"
        }
        (Mode::Native | Mode::Generic, _) => {
            "routes go on to the stations in the kernel's tables, which the node reads; where it knows none              yet, they are left to the node, since XDP cannot ask for one"
        }
    }
}

fn warning(mode: Mode, interface: &Interface) -> Option<String> {
    (mode == Mode::Native && interface.kind == InterfaceKind::Veth).then(|| {
        "the other end of a veth pair loses what native XDP sends unless it runs XDP or GRO; and \
         packets cannot always grow there, so replies longer than requests may be left to the node"
            .to_owned()
    })
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

/// What the interface is about.
fn about(attachment: &Attachment, interface: &Interface, mode: Mode, program: u32) -> About {
    let mut name = [0; 16];
    // The kernel's names have at most 15 bytes.
    let bytes = interface.name.as_bytes();
    name[..bytes.len()].copy_from_slice(bytes);
    About {
        version: LAYOUT_VERSION,
        ifindex: interface.index,
        interface: name,
        port: 0,
        mode: mode as u8,
        over_limit_drops: u8::from(attachment.over_limit == OverLimit::Drop),
        program,
        source_rate: attachment.source_rate,
        total_rate: attachment.total_rate,
    }
}

/// Leaves it at that path, where it is from one moment to the next whole and its owner's.
fn leave_about(about: &About, path: &Path, owner: Option<Owner>) -> Result<(), Error> {
    let writing = |error| Error::failed("writing a map", error);
    let mut map = Array::<MapData, [u8; size_of::<About>()]>::create(1, 0).map_err(writing)?;
    let bytes: [u8; size_of::<About>()] = bytemuck::must_cast(*about);
    map.set(0, bytes, 0).map_err(writing)?;
    let unfinished = path.with_file_name("unfinished");
    map.pin(&unfinished).map_err(pinning)?;
    owner.map_or(Ok(()), |owner| give(&unfinished, owner))?;
    fs::rename(&unfinished, path).map_err(pinning)
}

/// Leaves the maps of a node for its user, and puts them where the program finds them.
fn leave_node(program: &mut Program, place: &Pinning, owner: Owner) -> Result<PathBuf, Error> {
    let folder = place.folder()?;
    pins::make(&folder)?;
    for name in OF_NODE {
        let map = program.ebpf.map(name).expect("the object has the map");
        map.pin(folder.join(name)).map_err(pinning)?;
        give(&folder.join(name), owner)?;
    }
    enlist(&mut program.ebpf, place.port)?;
    // The node must not find its maps before the program does.
    let about = About { port: place.port, ..program.about };
    leave_about(&about, &folder.join(ABOUT), Some(owner))?;
    give(&folder, owner)?;
    Ok(folder)
}

fn give(path: &Path, owner: Owner) -> Result<(), Error> {
    let given = chown(path, Some(owner.uid), Some(owner.gid));
    given.map_err(|error| Error::failed("giving the maps to the node's user", error))
}

/// Puts the maps of a node where the program finds them.
pub(super) fn enlist(ebpf: &mut Ebpf, port: u16) -> Result<(), Error> {
    BY_PORT.into_iter().try_for_each(|(inner, outer)| put(ebpf, inner, outer, port))
}

/// Puts one map at a port of another.
pub(super) fn put(ebpf: &mut Ebpf, inner: &str, outer: &str, port: u16) -> Result<(), Error> {
    let failed = |error| Error::failed("writing a map", error);
    let [Some(inner), Some(outer)] = ebpf.maps_disjoint_mut([inner, outer]) else {
        unreachable!("the object has the maps")
    };
    let (Map::Array(inner) | Map::PerCpuArray(inner) | Map::RingBuf(inner)) = inner else {
        unreachable!("no other map is put into one")
    };
    let mut outer = ArrayOfMaps::<_, MapData>::try_from(outer).map_err(failed)?;
    outer.set(u32::from(port), inner, 0).map_err(failed)
}

/// Takes the maps of a node out of where a program finds them.
fn delist(there: &Path, port: u16) -> Result<(), Error> {
    let failed = |error| Error::failed("writing a map", error);
    for (_, outer) in BY_PORT {
        // An entry is deleted from every kind of map by the same call, which aya has for this one.
        let outer = Map::HashMap(pins::map(there, outer)?);
        let mut outer = HashMap::<_, u32, u32>::try_from(outer).map_err(failed)?;
        match outer.remove(&u32::from(port)) {
            Err(error) if cause(&error).map(io::Error::kind) != Some(io::ErrorKind::NotFound) => {
                return Err(failed(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes a node out of the program of its interface, and the program away with the last one.
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
    let _lock = Lock::take(&place.bpffs)?;
    release(place)?;
    sweep(&place.bpffs)
}

/// Takes away all fast paths of the own network namespace, and the remains of namespaces that are gone.
/// Returns how many nodes that were.
///
/// # Errors
/// If the bpf file system cannot be read, or the caller may not.
pub fn detach_all(bpffs: &Path) -> Result<usize, Error> {
    let (places, orphans) = (found(bpffs)?, orphans(bpffs)?);
    if places.is_empty() && orphans.is_empty() {
        return Ok(0);
    }
    let _lock = Lock::take(bpffs)?;
    places.iter().try_for_each(release)?;
    orphans.iter().try_for_each(|orphan| pins::remove(&orphan.folder))?;
    sweep(bpffs)?;
    Ok(places.len() + orphans.len())
}

/// Removes what namespaces that are gone have left for the port.
fn detach_orphans(place: &Pinning) -> Result<(), Error> {
    let orphans = orphans(&place.bpffs)?;
    let of_port: Vec<_> = orphans.into_iter().filter(|orphan| orphan.port == place.port).collect();
    if of_port.is_empty() {
        return Err(Error::NotAttached(place.port));
    }
    let _lock = Lock::take(&place.bpffs)?;
    of_port.iter().try_for_each(|orphan| pins::remove(&orphan.folder))?;
    sweep(&place.bpffs)
}

/// Takes away the remains of a node, if there are any.
fn release(place: &Pinning) -> Result<(), Error> {
    let namespace = pins::namespace()?;
    for there in pins::folders(&place.bpffs)? {
        if there.namespace == namespace && matches!(there.of, Of::Interface(_)) {
            // One that a crash left has no maps.
            let _ = delist(&there.path, place.port);
        }
    }
    pins::remove(&place.folder()?)
}

/// Takes away what crashes have left, and programs that serve nobody any more.
fn sweep(bpffs: &Path) -> Result<(), Error> {
    let folders = pins::folders(bpffs)?;
    let served: Vec<(u64, u32, u32)> = folders
        .iter()
        .filter(|folder| matches!(folder.of, Of::Node(_)) && folder.is_whole())
        .filter_map(|folder| {
            let about = pins::any_about(&folder.path).ok()?;
            Some((folder.namespace, about.ifindex, about.program))
        })
        .collect();
    for folder in folders {
        let about = pins::any_about(&folder.path);
        match (folder.is_whole(), folder.of, about) {
            (false, ..) => pins::remove(&folder.path)?,
            (true, Of::Interface(index), Ok(about))
                if !served.contains(&(folder.namespace, index, about.program)) =>
            {
                pins::remove(&folder.path)?;
                // There is room for many at tcx.
                if about.mode() != Some(Mode::Tcx) && folder.namespace == pins::namespace()? {
                    wait_until_free(index);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The kernel lets go of an interface a moment after the last file is gone, in a worker of its own:
/// the next to attach would be told that a program is there already.
fn wait_until_free(index: u32) {
    let end = Instant::now() + LETS_GO;
    let is_taken = || {
        let all = interface::all().unwrap_or_default();
        Interface::numbered(&all, index).is_some_and(|interface| interface.has_xdp)
    };
    while is_taken() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
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
