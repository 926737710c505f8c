//! Asks from within the kernel, millions of times a second, and counts the replies.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aya::maps::{Array, PerCpuArray};
use aya::programs::xdp::XdpLink;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, Zeroable};

use super::lab::LinkEnd;
use crate::xdp::udp_frame;

/// Built by scripts/build-bpf.sh.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/bench.bpf.o"));

/// As in bpf/bench.h.
const QUESTION_MAX: usize = 128;
const GENERATE_EXTRA: usize = 16;

/// Headers in front of a message.
pub(super) const HEADERS: usize = 14 + 20 + 8;

/// Frames that the kernel makes in one go, and between two looks at the clock: starting takes it so
/// long that fewer would load nobody.
const BATCH: u32 = 64;
const BETWEEN_LOOKS: u32 = 262_144;

/// The port that the generator asks from; those of ordinary sockets are higher.
const PORT: u16 = 9_000;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct KernelQuestion {
    len: u32,
    at_target: u32,
    bytes: [u8; QUESTION_MAX],
}

/// What arrived at the client.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Replies {
    /// All datagrams; and the responses among them, with the bytes of their frames.
    pub(super) any: u64,
    pub(super) responses: u64,
    pub(super) bytes: u64,
}

pub(super) struct Generator {
    ebpf: Ebpf,
    server: SocketAddr,
    frame: Vec<u8>,
}

impl Generator {
    /// Loads the programs for a client and a server at that address.
    pub(super) fn load(client: &LinkEnd, server: SocketAddr) -> anyhow::Result<Generator> {
        let mut ebpf = EbpfLoader::new()
            .override_global("CLIENT_IFINDEX", &client.index()?, true)
            .override_global("SERVER_PORT", &server.port(), true)
            .override_global("CLIENT_PORT", &PORT, true)
            .load(OBJECT)?;
        for name in ["generate", "sink", "swap"] {
            program(&mut ebpf, name).load()?;
        }
        Ok(Generator { ebpf, server, frame: Vec::new() })
    }

    /// Attaches `sink` or `swap` to an interface, for as long as the returned link lives.
    pub(super) fn attach(&mut self, name: &str, end: &LinkEnd) -> anyhow::Result<XdpLink> {
        let program = program(&mut self.ebpf, name);
        let id = end.within(|| program.attach(&end.interface, XdpMode::Driver))?;
        let id = id.with_context(|| format!("cannot attach {name}"))?;
        Ok(program.take_link(id)?)
    }

    /// What to ask from now on: a message, whose rpc id and target are replaced, padded to a length.
    pub(super) fn ask(
        &mut self,
        client: SocketAddr,
        message: &[u8],
        target: Option<&[u8]>,
        len: usize,
    ) -> anyhow::Result<()> {
        let place = |target: &[u8]| message.windows(target.len()).position(|part| part == target);
        let mut message = message.to_vec();
        let at_target = target.and_then(place).map_or(0, |at| HEADERS + at);
        message.resize(len, 0);
        self.frame = udp_frame(SocketAddr::new(client.ip(), PORT), self.server, &message);
        // The checksum would differ for each target; UDP over IPv4 can do without.
        self.frame[HEADERS - 2..HEADERS].fill(0);
        let mut question = KernelQuestion::zeroed();
        let used = self.frame.len().min(QUESTION_MAX);
        question.bytes[..used].copy_from_slice(&self.frame[..used]);
        (question.len, question.at_target) = (used as u32, at_target as u32);
        let bytes: [u8; size_of::<KernelQuestion>()] = bytemuck::must_cast(question);
        let map = self.ebpf.map_mut("question").expect("the object has the map");
        Array::<_, [u8; size_of::<KernelQuestion>()]>::try_from(map)?.set(0, bytes, 0)?;
        self.frame.resize(self.frame.len() + GENERATE_EXTRA, 0);
        Ok(())
    }

    /// Asks for `time`, and returns what came and how long that really took.
    pub(super) fn run(
        &mut self,
        client: &LinkEnd,
        length: Duration,
    ) -> anyhow::Result<(Replies, Duration)> {
        let before = self.replies()?;
        let start = Instant::now();
        while start.elapsed() < length {
            let options = TestRunOptions {
                data_in: Some(&self.frame),
                repeat: BETWEEN_LOOKS,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::new()
            };
            let generate = program(&mut self.ebpf, "generate");
            // Where an interface is looked for depends on who runs it.
            client.within(|| generate.test_run(options))?.context("the generator fails")?;
        }
        let (after, took) = (self.replies()?, start.elapsed());
        ensure!(after.any > before.any, "the generator's requests bring nothing");
        let replies = Replies {
            any: after.any - before.any,
            responses: after.responses - before.responses,
            bytes: after.bytes - before.bytes,
        };
        Ok((replies, took))
    }

    fn replies(&self) -> anyhow::Result<Replies> {
        let map = self.ebpf.map("replies").expect("the object has the map");
        let mut sum = Replies::default();
        for of_one in PerCpuArray::<_, [u64; 3]>::try_from(map)?.get(&0, 0)?.iter() {
            let of_one: Replies = bytemuck::must_cast(*of_one);
            sum.any += of_one.any;
            sum.responses += of_one.responses;
            sum.bytes += of_one.bytes;
        }
        Ok(sum)
    }
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> &'e mut Xdp {
    let program = ebpf.program_mut(name).expect("the object has the program");
    program.try_into().expect("an XDP program")
}
