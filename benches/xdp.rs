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

    use kademlua::bencode::Value;
    use kademlua::config::Config;
    use kademlua::id::Id;
    use kademlua::message::{
        Contact, FindValue, Request, Route, RouteFlags, RouteKind, StoreMode, TransactionId,
    };
    use kademlua::node::Node;
    use kademlua::store::{Deposit, Party, RowId, Standing};
    use kademlua::time::Instant;
    use kademlua::wire::{Body, Dialect, Header, Message, emit, parse};
    use kademlua::xdp::{
        Attachment, CONTACTS_MAX, Error, Mode, Pinning, Trial, Verdict, udp_frame,
    };
    use nix::time::{ClockId, clock_gettime};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const PORT: u16 = 8_001;

    /// The contacts from which lookups are answered, and those of a mirror that is written.
    const CONTACTS: u16 = 200;
    const MIRRORED: u16 = 256;

    /// Contacts that routes are handed to: as many as fit.
    const ROUTED_AMONG: u16 = CONTACTS_MAX as u16;

    /// Values that are cached.
    const VALUES: u8 = 64;

    const BUCKET_SIZE: u16 = 20;
    const SAMPLES: usize = 21;

    pub(super) fn run() -> Result<(), Error> {
        // `cargo test --benches` only checks that it runs.
        let thorough = std::env::args().any(|argument| argument == "--bench");
        let mut trial = Trial::load(&attachment())?;
        for (family, local) in [("IPv4", "10.0.0.1"), ("IPv6", "fd00::1")] {
            let local: IpAddr = local.parse().expect("an address");
            let mut node = self::node(CONTACTS, local);
            for number in 0..VALUES {
                keep(&mut node, local, number);
                assert!(trial.cache(&node, &value_key(number))?, "there is room");
            }
            trial.mirror(&node, &[(local, PORT).into()])?;
            trial.set_clock(Instant::ZERO);
            for mode in [Mode::Native, Mode::Tcx] {
                println!("{}, {family}:", if mode == Mode::Tcx { "tcx" } else { "XDP" });
                measure_programs(&mut trial, mode, local, thorough)?;
            }
            let mut node = self::node(ROUTED_AMONG, local);
            node.add_own_address((local, PORT).into());
            trial.mirror(&node, &[(local, PORT).into()])?;
            for mode in [Mode::Native, Mode::Tcx] {
                println!("routes, {}, {family}:", if mode == Mode::Tcx { "tcx" } else { "XDP" });
                measure_routes(&mut trial, mode, local, thorough)?;
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
            ("findvalue", PORT, Verdict::Reply, |target| {
                // One of those that are cached.
                let number = target.as_bytes()[0] % VALUES;
                Request::FindValue(FindValue::new(value_key(number), 6))
            }),
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

    /// Each step of a route's way that the kernel does, and what it costs to leave one to the node.
    fn measure_routes(
        trial: &mut Trial,
        mode: Mode,
        local: IpAddr,
        thorough: bool,
    ) -> Result<(), Error> {
        let samples = if thorough { SAMPLES } else { 1 };
        let to = (local, PORT).into();
        // Other keys in each mode, and so other tickets.
        let mut rng = ChaCha8Rng::seed_from_u64(3 + mode as u64);
        let own = Id::of_name("8001");
        // Nearer to the node than to who hands it on, with contacts between; and nearest to the node.
        let between: Vec<Id> = (0..1_024).map(|n| own.random_at(1 + n % 16, &mut rng)).collect();
        let nearest: Vec<Id> = (0..1_024).map(|n| own.random_at(40 + n % 16, &mut rng)).collect();
        let far = own.random_at(0, &mut rng);
        for (name, from, keys, expected) in [
            ("entry", Id::ZERO, &between, Verdict::Reply),
            ("middle hop", far, &between, Verdict::Reply),
            ("nearest, up", far, &nearest, Verdict::Pass),
        ] {
            let frames: Vec<_> = keys.iter().map(|key| route_frame(to, from, *key)).collect();
            let time = |trial: &mut Trial| {
                set_clocks(trial, 0);
                trial.time(mode, &frames, 1)
            };
            report(name, (0..samples).map(|_| time(trial)).collect::<Result<_, _>>()?);
            assert_eq!(trial.run(mode, &frames[0])?.0, expected, "{name}");
        }
        let mut times = Vec::new();
        for number in 1..=samples {
            // Each answer to a route of its own: a ticket is worth two.
            set_clocks(trial, number as u64);
            let mut answers = Vec::new();
            for key in between.iter().take(256) {
                let (_, out) = trial.run(mode, &route_frame(to, Id::ZERO, *key))?;
                answers.push(answer_frame(to, &out));
            }
            times.push(trial.time(mode, &answers, 1)?);
            assert_eq!(trial.run(mode, &answers[0])?.0, Verdict::Reply, "relay");
        }
        report("relay", times);
        Ok(())
    }

    /// Later than a ticket of an earlier turn counts.
    fn set_clocks(trial: &mut Trial, turn: u64) {
        trial.beat(Some(Duration::ZERO));
        trial.set_clock(Instant::ZERO + kademlua::time::Duration::from_secs(1_000 + 8 * turn));
    }

    fn report(name: &str, mut times: Vec<Duration>) {
        times.sort();
        let [least, median] = [times[0], times[times.len() / 2]].map(|time| time.as_nanos());
        println!("  {name:14} {median:>7} ns, at best {least} ns");
    }

    fn route_frame(to: SocketAddr, from: Id, key: Id) -> Vec<u8> {
        let route = Route {
            flags: RouteFlags::default(),
            hops_left: 16,
            skip: 0,
            kind: RouteKind::FindValue,
            key,
            answer_to: Route::NOWHERE,
            budget: 1_000,
            client: Route::NOWHERE,
            stamp: 0,
            seal: [0; 8],
            payload: &[],
            rest: &[0; 381],
        };
        let transaction = TransactionId::new(*key.as_bytes().first_chunk::<8>().expect("20 bytes"));
        let mut message = Vec::new();
        let header = Header { dialect: Dialect::V1, from, transaction, asker: None };
        emit(&mut message, &header, Message::Route(&route));
        udp_frame((neighbour(to.ip()), 9_000).into(), to, &message)
    }

    /// The answer to a route that was let in.
    fn answer_frame(to: SocketAddr, handed: &[u8]) -> Vec<u8> {
        let headers = if to.is_ipv4() { 42 } else { 62 };
        let envelope = parse(&handed[headers..]).expect("a message");
        let (Body::Route(route), from) = (envelope.body, Id::of_name("holder")) else {
            panic!("a route")
        };
        let answer = Route { payload: b"ldee", rest: &[], ..route.read().expect("a route") };
        let header =
            Header { dialect: Dialect::V1, from, transaction: envelope.transaction, asker: None };
        let mut message = Vec::new();
        emit(&mut message, &header, Message::Routed(&answer));
        udp_frame((neighbour(to.ip()), 9_001).into(), to, &message)
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

    fn value_key(number: u8) -> Id {
        Id::of_name([number])
    }

    /// Keeps a value of a hundred bytes.
    fn keep(node: &mut Node, local: IpAddr, number: u8) {
        let publisher =
            Contact { id: Id::of_name("publisher"), address: (neighbour(local), 9).into() };
        let publisher = Party::Node(publisher);
        let deposit = Deposit {
            key: value_key(number),
            value: Value::bytes([number; 96]),
            mode: StoreMode::Add,
            publisher,
            depositor: publisher,
            standing: Standing::Published,
            age: kademlua::time::Duration::ZERO,
        };
        let row = RowId(u64::from(number) + 1);
        node.restore(Instant::ZERO, row, deposit).expect("the store has room");
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
            asker: None,
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
