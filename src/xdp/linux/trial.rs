//! The programs attached to nothing: single packets go in, verdicts and packets come out. For tests
//! and measurements; takes root as attaching does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Map, RingBuf};
use aya::programs::{
    ProgramError, ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, TestRunResult, Xdp,
};
use aya::sys::{Stats, enable_stats};

use super::hot::{HotValues, hot_of};
use super::loader::{enlist, load, load_once, program_of, put};
use super::mirror::Tables;
use super::shared::Shared;
use super::status::{now, sum_counters};
use crate::id::Id;
use crate::message::Contact;
use crate::node::Node;
use crate::time::Instant;
use crate::xdp::image::{Content, draw_seed, held_bits};
use crate::xdp::layout::{SEEN_MAX, Stranger, Way};
use crate::xdp::{Attachment, Counter, Error, Mode};

/// The loopback interface of every network namespace.
const LOOPBACK: u32 = 1;

/// Longest frame that comes out: a reply and its headers, with room to notice one that is too long.
const FRAME_MAX: usize = 4_096;

/// What tcx programs return, <linux/pkt_cls.h>: on to the next program, as if there were none.
const TCX_NEXT: u32 = u32::MAX;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;

/// And XDP programs, <linux/bpf.h>.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the node.
    Pass,
    /// It is sent back, or on, changed.
    Reply,
    /// It is gone.
    Drop,
}

/// Loaded programs.
pub struct Trial {
    ebpf: Ebpf,
    shared: Arc<Shared>,
    /// Locked, so that tables can change while packets run.
    mirrored: Mutex<Mirrored>,
    /// Where packets come in; `None`: at the loopback interface.
    ifindex: Option<u32>,
    /// The stations, the contacts' and the own, that ways to contacts name.
    stations: Option<[[u8; 6]; 2]>,
    seed: u64,
}

struct Mirrored {
    tables: Tables,
    /// The contacts that were mirrored last; the slot of each is its index.
    contacts: Vec<Contact>,
    hot: HotValues,
}

impl Trial {
    /// Loads both programs with the limits and the port of an attachment; its interface, mode and
    /// owner do not matter.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn load(attachment: &Attachment) -> Result<Trial, Error> {
        let mut ebpf = load(attachment, None)?;
        for mode in [Mode::Native, Mode::Tcx] {
            let program = ebpf.program_mut(program_of(mode)).expect("the object has the program");
            let loaded = match mode {
                Mode::Tcx => <&mut SchedClassifier>::try_from(program).map(SchedClassifier::load),
                _ => <&mut Xdp>::try_from(program).map(Xdp::load),
            };
            load_once(loaded.and_then(|loaded| loaded))?;
        }
        enlist(&mut ebpf, attachment.place.port)?;
        // Packets without a port could belong to no other node.
        put(&mut ebpf, "counters", "counters_by_port", 0)?;
        let [node, gate] =
            ["node", "gate"].map(|name| ebpf.take_map(name).expect("the object has the map"));
        let Map::Array(node) = node else { unreachable!("the object says so") };
        let shared = Arc::new(Shared::new(node)?);
        let tables = Tables::new(shared.clone(), gate)?;
        let seed = draw_seed()?;
        let hot = HotValues::new(shared.clone(), seed);
        Ok(Trial {
            ebpf,
            shared,
            mirrored: Mutex::new(Mirrored { tables, contacts: Vec::new(), hot }),
            ifindex: None,
            stations: None,
            seed,
        })
    }

    /// Mirrors the contacts that a node may name, for requests that come to these addresses.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn mirror(&self, node: &Node, locals: &[SocketAddr]) -> Result<(), Error> {
        self.shared.set_routes(&node.route_secrets(), node.own_address());
        self.shared.set_held(self.seed, &held_bits(node.store().keys(), self.seed));
        let contacts = node.table().good().map(|entry| entry.contact).collect();
        self.mirror_contacts(node.id(), node.policy().k, contacts, locals)
    }

    /// Answers with what the node keeps under a key from now on. Returns whether it can.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn cache(&self, node: &Node, key: &Id) -> Result<bool, Error> {
        self.uncache(key)?;
        let Some(hot) = hot_of(node, key) else { return Ok(false) };
        Ok(self.mirrored().hot.put(key, &hot).0)
    }

    /// No longer answers with what lies under a key.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn uncache(&self, key: &Id) -> Result<(), Error> {
        let mut mirrored = self.mirrored();
        mirrored.hot.forget(key);
        mirrored.tables.wait_for_packets()?;
        let emptied = mirrored.hot.take_emptied();
        mirrored.hot.on_rested(&emptied);
        Ok(())
    }

    /// Mirrors any contacts, even some that no routing table holds together.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn mirror_contacts(
        &self,
        own_id: Id,
        k: usize,
        contacts: Vec<Contact>,
        locals: &[SocketAddr],
    ) -> Result<(), Error> {
        let places = (0..SEEN_MAX as u16).cycle();
        let content = Content {
            own_id,
            k,
            locals: locals.iter().map(SocketAddr::ip).collect(),
            contacts: contacts.iter().copied().zip(places).collect(),
            seed: self.seed,
        };
        let [to, from] = self.stations.unwrap_or_default();
        let way = Way { ifindex: self.ifindex.unwrap_or(LOOPBACK), to, from };
        content.contacts.iter().for_each(|(_, slot)| self.shared.set_way(*slot, way));
        let mut mirrored = self.mirrored();
        mirrored.contacts = contacts;
        mirrored.tables.write(&content)
    }

    /// The mirrored contacts that were seen asking something.
    pub fn seen(&self) -> Vec<Contact> {
        let mirrored = self.mirrored();
        let seen = mirrored.contacts.iter().enumerate();
        seen.filter(|(slot, _)| self.shared.seen(*slot) != 0).map(|(_, contact)| *contact).collect()
    }

    /// The mirrored contacts that were handed a route.
    pub fn used(&self) -> Vec<Contact> {
        let mirrored = self.mirrored();
        let used = mirrored.contacts.iter().enumerate();
        used.filter(|(slot, _)| self.shared.used(*slot) != 0).map(|(_, contact)| *contact).collect()
    }

    /// The node's clock shows this now.
    pub fn set_clock(&self, now: Instant) {
        self.shared.set_clock(now);
    }

    /// Contacts that are mirrored from now on are behind this station, reached from the other one; without
    /// that the kernel is to find one.
    pub fn reach_through(&mut self, to: [u8; 6], from: [u8; 6]) {
        self.stations = Some([to, from]);
    }

    /// Takes out the strangers that the node would be told about.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn strangers(&mut self) -> Result<Vec<Contact>, Error> {
        let failed = |error| Error::failed("reading a map", error);
        let map = self.ebpf.map_mut("events").expect("the object has the map");
        let mut events = RingBuf::try_from(map).map_err(failed)?;
        let mut strangers = Vec::new();
        while let Some(event) = events.next() {
            strangers.push(bytemuck::pod_read_unaligned::<Stranger>(&event).contact());
        }
        Ok(strangers)
    }

    /// Stamps the heartbeat as if it came `age` ago; `None`: the node has left.
    pub fn beat(&mut self, age: Option<Duration>) {
        self.shared.beat(age.map_or(Duration::ZERO, |age| now() - age));
    }

    /// From now on packets come in at this interface of the caller's network namespace; by default
    /// they come in at the loopback interface.
    pub fn come_in_at(&mut self, ifindex: u32) {
        self.ifindex = Some(ifindex);
    }

    /// What becomes of a frame, and the frame afterwards.
    ///
    /// # Errors
    /// If the kernel does not run it.
    pub fn run(&self, mode: Mode, frame: &[u8]) -> Result<(Verdict, Vec<u8>), Error> {
        let mut out = vec![0; FRAME_MAX];
        let context = self.ifindex.map(|ifindex| context(mode, ifindex, frame.len()));
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: context.as_deref(),
            ..TestRunOptions::new()
        };
        let result = self.test_run(mode, options)?;
        out.truncate(result.data_size_out as usize);
        let verdict = match (mode, result.return_value) {
            (Mode::Tcx, TCX_NEXT) | (Mode::Native | Mode::Generic, XDP_PASS) => Verdict::Pass,
            (Mode::Tcx, TC_ACT_REDIRECT) | (Mode::Native | Mode::Generic, XDP_TX) => Verdict::Reply,
            (Mode::Tcx, TC_ACT_SHOT) | (Mode::Native | Mode::Generic, XDP_DROP) => Verdict::Drop,
            (_, other) => unreachable!("the programs return no {other}"),
        };
        Ok((verdict, out))
    }

    /// Time that a run takes by the kernel's own measure, the mean over the frames, each of which
    /// runs once a round: a program that answers changes its frame, so it cannot be repeated in the
    /// kernel. Reading the clock takes its share of it; a frame for another port shows how much.
    ///
    /// # Errors
    /// If the kernel does not run or measure it.
    pub fn time(&self, mode: Mode, frames: &[Vec<u8>], rounds: usize) -> Result<Duration, Error> {
        let measured = enable_stats(Stats::RunTime);
        let _measuring = measured.map_err(|error| Error::failed("measuring programs", error))?;
        let before = self.info(mode)?;
        for frame in frames.iter().cycle().take(rounds * frames.len()) {
            self.test_run(mode, TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() })?;
        }
        let after = self.info(mode)?;
        let runs = after.run_count() - before.run_count();
        let nanos = (after.run_time() - before.run_time()).as_nanos() as u64;
        Ok(Duration::from_nanos(nanos / runs.max(1)))
    }

    /// What was counted, in the order of [`Counter::ALL`].
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<[u64; Counter::ALL.len()], Error> {
        sum_counters(self.ebpf.map("counters").expect("the object has the map"))
    }

    fn mirrored(&self) -> MutexGuard<'_, Mirrored> {
        self.mirrored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn info(&self, mode: Mode) -> Result<ProgramInfo, Error> {
        let failed = |error| Error::failed("asking about the program", error);
        let program = self.ebpf.program(program_of(mode)).expect("the object has the program");
        program.info().map_err(failed)
    }

    fn test_run(&self, mode: Mode, options: TestRunOptions<'_>) -> Result<TestRunResult, Error> {
        let failed = |error: ProgramError| Error::failed("running the program", error);
        let program = self.ebpf.program(program_of(mode)).expect("the object has the program");
        match mode {
            Mode::Tcx => <&SchedClassifier>::try_from(program).map_err(failed)?.test_run(options),
            _ => <&Xdp>::try_from(program).map_err(failed)?.test_run(options),
        }
        .map_err(failed)
    }
}

/// What the kernel is told about a frame besides its bytes: `struct __sk_buff`, whose eleventh
/// number is the interface, or `struct xdp_md`, whose second is the frame's end and whose fourth is
/// the interface.
fn context(mode: Mode, ifindex: u32, frame_len: usize) -> Vec<u8> {
    let numbers = match mode {
        Mode::Tcx => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ifindex].to_vec(),
        Mode::Native | Mode::Generic => [0, frame_len as u32, 0, ifindex, 0, 0].to_vec(),
    };
    numbers.into_iter().flat_map(u32::to_ne_bytes).collect()
}
