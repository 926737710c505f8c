//! The cost of one packet in the kernel, and of the mirror in the node.
//!
//! ```sh
//! sudo cargo bench --bench xdp
//! ```
//! The programs are attached to nothing: the kernel runs each on single packets and keeps the time
//! itself. That includes reading the clock, some 25 ns, and a packet of somebody else takes no
//! longer. `kademlua bench --xdp` measures rates between two interfaces.

#[cfg(fast_path)]
fn main() {
    if let Err(error) = fast_path::run() {
        println!("skipped: {error}");
        assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "nothing may be skipped");
    }
}

#[cfg(not(fast_path))]
fn main() {
    println!("skipped: {}", kademlua::xdp::Error::Unsupported);
}

#[cfg(fast_path)]
mod fast_path {
    use std::net::{IpAddr, SocketAddr};
    use std::time::Duration;

    use kademlua::config::Config;
    use kademlua::id::Id;
    use kademlua::message::{Contact, Request, TransactionId};
    use kademlua::node::Node;
    use kademlua::time::Instant;
    use kademlua::wire::{Dialect, Header, emit};
    use kademlua::xdp::{Attachment, Error, Mode, Pinning, Trial, Verdict, udp_frame};
    use nix::time::{ClockId, clock_gettime};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const PORT: u16 = 8_001;

    /// The contacts from which lookups are answered, and those of a mirror that is written.
    const CONTACTS: u16 = 200;
    const MIRRORED: u16 = 256;

    const BUCKET_SIZE: u16 = 20;
    const SAMPLES: usize = 21;

    pub(super) fn run() -> Result<(), Error> {
        // `cargo test --benches` only checks that it runs.
        let thorough = std::env::args().any(|argument| argument == "--bench");
        let mut trial = Trial::load(&attachment())?;
        for (family, local) in [("IPv4", "10.0.0.1"), ("IPv6", "fd00::1")] {
            let local: IpAddr = local.parse().expect("an address");
            trial.mirror(&node(CONTACTS, local), &[(local, PORT).into()])?;
            for mode in [Mode::Native, Mode::Tcx] {
                println!("{}, {family}:", if mode == Mode::Tcx { "tcx" } else { "XDP" });
                measure_programs(&mut trial, mode, local, thorough)?;
            }
        }
        measure_mirror(&mut trial, thorough)
    }

    fn measure_programs(
        trial: &mut Trial,
        mode: Mode,
        local: IpAddr,
        thorough: bool,
    ) -> Result<(), Error> {
        let rounds = if thorough { 20 } else { 1 };
        for (name, port, expected, request) in [
            (
                "another port",
                PORT + 1,
                Verdict::Pass,
                (|_| Request::Ping) as fn(Id) -> Request<'static>,
            ),
            ("ping", PORT, Verdict::Reply, |_| Request::Ping),
            ("findnode", PORT, Verdict::Reply, |target| Request::FindNode { target }),
        ] {
            let frames = frames((local, port).into(), request);
            let mut samples = [Duration::ZERO; SAMPLES];
            for sample in &mut samples {
                trial.beat(Some(Duration::ZERO));
                *sample = trial.time(mode, &frames, rounds)?;
            }
            for frame in &frames {
                assert_eq!(trial.run(mode, frame)?.0, expected, "{name}");
            }
            samples.sort();
            let [least, median] = [samples[0], samples[SAMPLES / 2]].map(|time| time.as_nanos());
            println!("  {name:14} {median:>7} ns, at best {least} ns");
        }
        Ok(())
    }

    /// Making the table and handing it over, both families; waiting for the kernel costs no CPU.
    fn measure_mirror(trial: &mut Trial, thorough: bool) -> Result<(), Error> {
        let local = IpAddr::from([10, 0, 0, 1]);
        let node = node(MIRRORED, local);
        let mut samples = vec![Duration::ZERO; if thorough { 101 } else { 1 }];
        for sample in &mut samples {
            let start = cpu_time();
            trial.mirror(&node, &[(local, PORT).into()])?;
            *sample = cpu_time() - start;
        }
        samples.sort();
        let [least, median] = [samples[0], samples[samples.len() / 2]];
        println!("mirror of {MIRRORED} contacts: {median:.1?} of CPU, at best {least:.1?}");
        Ok(())
    }

    /// The CPU time that this thread has used, in the program and in the kernel.
    fn cpu_time() -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the clock is there").into()
    }

    fn attachment() -> Attachment {
        Attachment::new(Pinning { bpffs: Default::default(), port: PORT }, "")
    }

    /// A node whose first buckets are full, as they are in a large network.
    fn node(contacts: u16, local: IpAddr) -> Node {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let id = Id::of_name("8001");
        let mut node = Node::new(Instant::ZERO, id, Config::default(), [1; 32]);
        for number in 0..contacts {
            let id = node.id().random_at(u32::from(number / BUCKET_SIZE), &mut rng);
            let contact = Contact { id, address: (neighbour(local), 10_000 + number).into() };
            assert!(node.introduce(Instant::ZERO, contact));
        }
        node
    }

    fn neighbour(local: IpAddr) -> IpAddr {
        match local {
            IpAddr::V4(_) => [10, 0, 0, 2].into(),
            IpAddr::V6(_) => [0xfd00, 0, 0, 0, 0, 0, 0, 2].into(),
        }
    }

    /// Requests with targets all over the space.
    fn frames(to: SocketAddr, request: fn(Id) -> Request<'static>) -> Vec<Vec<u8>> {
        let header = Header {
            dialect: Dialect::V1,
            from: Id::of_name("asker"),
            transaction: TransactionId::new([7; 8]),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let frame = |_| {
            let mut message = Vec::new();
            emit(&mut message, &header, &request(Id::random(&mut rng)));
            udp_frame((neighbour(to.ip()), 9_000).into(), to, &message)
        };
        (0..1_024).map(frame).collect()
    }
}
