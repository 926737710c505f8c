//! The promise: a node says and takes at its control socket exactly what `docs/control.md` says, and no
//! client harms it, whatever the client sends and however little it reads.

#![cfg(feature = "shell")]

mod attach;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use attach::{Client, Lab, Node, await_that, text};
use kademlua::bencode::Value;
use kademlua::control::{Answer, Ask, Code, Filter, Look};
use kademlua::id::Id;
use kademlua::message::StoreMode;
use kademlua::net::door::{AttachError, AttachedNode, Role};
use kademlua::node::Peer;
use serde_json::{Value as Json, json};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn look(what: &str) -> Json {
    json!({"look": what})
}

fn ping(port: u16) -> Json {
    json!({"run": {"ping": {"peer": {"address": "127.0.0.1", "port": port}}}})
}

/// The address of a port where nobody is.
fn nobody() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[test]
fn a_node_greets_and_answers_many_requests_at_once() {
    let lab = Lab::new();
    let node = lab.node();
    let other = lab.node_via(&node);
    let mut client = Client::new(&lab.socket(node.port));
    let expected = json!({
        "kademlua": env!("CARGO_PKG_VERSION"), "protocol": 1, "role": "serve",
        "process": node.child.id(), "address": "127.0.0.1", "port": node.port, "id": node.id,
    });
    assert_eq!(client.greeting, expected);
    // The slow one first: the quick one does not wait for it.
    client.ask(&json!({"id": 7, "ask": ping(nobody())}));
    client.ask(&json!({"id": 8, "ask": ping(other.port)}));
    client.ask(&json!({"ask": look("node"), "id": 9}));
    let mut said: Vec<Json> = (0..3).map(|_| client.hear().unwrap()).collect();
    assert_eq!(said[2]["id"], 7, "{said:?}");
    assert_eq!(said[2]["problem"]["code"], "no_answer", "{said:?}");
    said.sort_by_key(|line| line["id"].as_u64());
    assert_eq!(said[1]["answer"]["who"]["port"], other.port, "{said:?}");
    assert_eq!(said[2]["answer"]["id"], node.id.as_str(), "{said:?}");
    assert_eq!(said[2]["answer"]["contacts"], 1, "{said:?}");
}

#[test]
fn what_is_asked_before_one_direction_closes_is_answered() {
    let lab = Lab::new();
    let node = lab.node();
    let mut client = Client::new(&lab.socket(node.port));
    client.ask(&json!({"id": 1, "ask": look("settings")}));
    client.ask(&json!({"id": 2, "ask": ping(nobody())}));
    client.output.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.hear().unwrap()["answer"][0]["name"], "k");
    assert_eq!(client.hear().unwrap()["problem"]["code"], "no_answer");
    assert_eq!(client.hear(), None);
}

#[test]
fn what_is_watched_comes_until_it_is_cancelled() {
    let lab = Lab::new();
    let node = lab.node();
    let other = lab.node_via(&node);
    let mut client = Client::new(&lab.socket(node.port));
    client.ask(&json!({"id": 1, "watch": {"rpc": "ping", "direction": "out"}}));
    assert_eq!(client.hear().unwrap(), json!({"id": 1, "answer": null}));
    client.ask(&json!({"id": 2, "ask": ping(other.port)}));
    let (first, second) = (client.hear().unwrap(), client.hear().unwrap());
    let (event, answer) = if first["id"] == 1 { (first, second) } else { (second, first) };
    assert_eq!(event["event"]["kind"], "request", "{event}");
    assert_eq!(event["event"]["peer"]["port"], other.port, "{event}");
    assert_eq!(answer["id"], 2);
    client.ask(&json!({"id": 1, "cancel": {}}));
    client.ask(&json!({"id": 3, "ask": ping(other.port)}));
    assert_eq!(client.hear().unwrap()["id"], 3);
    // The number is free again.
    client.ask(&json!({"id": 1, "ask": look("estimate")}));
    assert!(client.hear().unwrap()["answer"]["nodes"].is_number());
}

#[test]
fn an_rpc_is_offered_until_its_client_leaves() {
    let lab = Lab::new();
    let node = lab.node();
    let other = lab.node_via(&node);
    let mut server = Client::new(&lab.socket(node.port));
    let mut caller = Client::new(&lab.socket(other.port));
    let call = |args: Json| {
        let peer = json!({"address": "127.0.0.1", "port": node.port});
        json!({"run": {"call": {"peer": peer, "name": "greet", "args": args}}})
    };
    server.ask(&json!({"id": 5, "offer": "greet"}));
    assert_eq!(server.hear().unwrap(), json!({"id": 5, "answer": null}));
    // A second offer of the name is refused, here and to others.
    server.ask(&json!({"id": 6, "offer": "greet"}));
    assert_eq!(server.hear().unwrap()["problem"]["code"], "refused");
    for (values, expected) in [(json!(["hello", 7]), true), (Json::Null, false)] {
        caller.ask(&json!({"id": 1, "ask": call(json!(["you", [1, {"a": "b"}]]))}));
        let called = server.hear().unwrap();
        assert_eq!(called["id"], 5);
        assert_eq!(called["call"]["args"], json!(["you", [1, {"a": "b"}]]));
        assert_eq!(called["call"]["from"]["port"], other.port);
        let number = &called["call"]["call"];
        // Answers to calls that were never made are passed over.
        server.ask(&json!({"id": 5, "return": {"call": 999, "values": []}}));
        server.ask(&json!({"id": 5, "return": {"call": number, "values": values}}));
        let said = caller.hear().unwrap();
        match expected {
            true => assert_eq!(said["answer"], values),
            false => assert_eq!(said["problem"]["code"], "no_answer", "{said}"),
        }
    }
    // Taken back and offered anew in one breath, it is there.
    server.send(b"{\"id\":5,\"cancel\":{}}\n{\"id\":8,\"offer\":\"greet\"}\n");
    assert_eq!(server.hear().unwrap(), json!({"id": 8, "answer": null}));
    drop(server);
    await_that("the offer is withdrawn", || {
        let said = caller.answer(&call(json!([])));
        said["problem"]["message"].as_str().is_some_and(|text| text.contains("no such RPC"))
    });
}

#[test]
fn what_cannot_be_read_is_answered_and_harms_nobody() {
    let lab = Lab::new();
    let node = lab.node();
    let mut client = Client::new(&lab.socket(node.port));
    let deep = format!("{{\"id\":1,\"ask\":{}", "[".repeat(100_000));
    let nested = "[".repeat(110) + &"]".repeat(110);
    let nested = format!(
        "{{\"id\":1,\"ask\":{{\"run\":{{\"store\":{{\"key\":\"{}\",\"value\":{nested},\"mode\":\"add\"}}}}}}}}",
        node.id
    );
    let lines: [(&[u8], Json); 16] = [
        (b"hello", Json::Null),
        (b"\xff\xfe\x00", Json::Null),
        (b"{}", Json::Null),
        (b"[]", Json::Null),
        (b"\"id\"", Json::Null),
        (b"{\"id\":-1,\"ask\":{\"look\":\"node\"}}", Json::Null),
        (b"{\"id\":1e99,\"ask\":{\"look\":\"node\"}}", Json::Null),
        (deep.as_bytes(), Json::Null),
        (b"{\"id\":2}", json!(2)),
        (b"{\"id\":3,\"ask\":{\"look\":\"nothing\"}}", json!(3)),
        (b"{\"id\":4,\"ask\":{\"run\":{\"findnode\":{\"target\":\"x\"}}}}", json!(4)),
        (b"{\"id\":5,\"watch\":{\"rcp\":1}}", json!(5)),
        (b"{\"id\":6,\"offer\":7}", json!(6)),
        (b"{\"id\":7,\"ask\":{\"run\":{\"ping\":{\"peer\":{\"address\":\"0.0.0.0\",\"port\":0}}}}}", json!(7)),
        (b"{\"id\":8,\"return\":{\"call\":\"x\"}}", json!(8)),
        (nested.as_bytes(), json!(1)),
    ];
    for (line, id) in lines {
        client.send(line);
        client.send(b"\r\n\n");
        let said = client.hear().unwrap();
        assert_eq!(said["id"], id, "{}: {said}", text(line));
        assert_eq!(said["problem"]["code"], "bad_request", "{}: {said}", text(line));
    }
    // A line without a meaning is passed over.
    client.ask(&json!({"id": 99, "cancel": {}}));
    client.ask(&json!({"id": 99, "return": {"call": 1}}));
    // A number twice.
    client.ask(&json!({"id": 1, "ask": ping(nobody())}));
    client.ask(&json!({"id": 1, "ask": look("node")}));
    assert_eq!(client.hear().unwrap()["problem"]["code"], "bad_request");
    client.ask(&json!({"id": 1, "cancel": {}}));
    // A line without an end.
    let mut endless = Client::new(&lab.socket(node.port));
    for _ in 0..40 {
        // The node may have closed by then.
        let _ = std::io::Write::write_all(&mut endless.output, &[b'x'; 16 << 10]);
    }
    let said = endless.hear();
    assert!(said.is_none_or(|said| said["problem"]["code"] == "bad_request"));
    assert_eq!(endless.hear(), None);
    assert_eq!(client.answer(&look("node"))["answer"]["id"], node.id.as_str());
}

#[test]
fn what_one_client_has_under_way_and_how_many_there_are_is_bounded() {
    let lab = Lab::new();
    let node = lab.node();
    let socket = lab.socket(node.port);
    let mut client = Client::new(&socket);
    for id in 0..65 {
        client.ask(&json!({"id": id, "watch": {"rpc": "none"}}));
    }
    for _ in 0..65 {
        let said = client.hear().unwrap();
        let expected = if said["id"] == 64 { json!("busy") } else { Json::Null };
        assert_eq!(said["problem"]["code"], expected, "{said}");
    }
    let mut others: Vec<_> = (1..16).map(|_| Client::new(&socket)).collect();
    assert!(others.iter().all(|other| other.greeting["protocol"] == 1));
    let mut refused = Client::new(&socket);
    assert_eq!(refused.greeting["problem"]["code"], "busy");
    assert_eq!(refused.hear(), None);
    assert!(matches!(
        AttachedNode::connect(&socket),
        Err(AttachError::Refused(problem)) if problem.code == Code::Busy
    ));
    // A client that leaves makes room.
    others.truncate(14);
    await_that("a place is free", || AttachedNode::connect(&socket).is_ok());
}

/// Sends questions with long answers until the node takes no more.
fn stuff(client: &mut Client) {
    client.output.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let line = "{\"id\":1,\"ask\":{\"look\":\"settings\"}}\n".repeat(1_000);
    for _ in 0..100 {
        if std::io::Write::write_all(&mut client.output, line.as_bytes()).is_err() {
            return;
        }
    }
    panic!("the node goes on reading what it cannot answer");
}

#[test]
fn a_client_that_never_reads_is_dropped_and_costs_little() {
    let lab = Lab::new();
    let node = lab.node();
    let socket = lab.socket(node.port);
    let mut other = Client::new(&socket);
    other.answer(&look("settings"));
    let before = node.kilobytes();
    let mut silent: Vec<_> = (0..4).map(|_| Client::new(&socket)).collect();
    for client in &mut silent {
        client.ask(&json!({"id": 2, "watch": {}}));
        stuff(client);
    }
    let after = node.kilobytes();
    assert!(after < before + 8_000, "from {before} to {after} kB");
    // Others are served meanwhile.
    assert_eq!(other.answer(&look("node"))["answer"]["id"], node.id.as_str());
    // Longer than the node waits. The bytes that it had written are there, and then nothing comes.
    std::thread::sleep(Duration::from_secs(12));
    for client in &mut silent {
        let ended = std::io::Read::read_to_end(&mut client.output, &mut Vec::new());
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(
            matches!(&ended, Ok(read) if *read < 1 << 20)
                || ended.is_err_and(|error| reset(&error))
        );
    }
}

#[test]
fn a_capture_and_the_last_packets_end_with_the_client_that_wanted_them() {
    let lab = Lab::new();
    let node = lab.node();
    let file = lab.0.join("node.pcap");
    let mut client = Client::new(&lab.socket(node.port));
    let begin = json!({"capture": {"begin": {"file": file.to_str().unwrap()}}});
    assert_eq!(client.answer(&begin)["answer"]["running"], true);
    let packets = json!({"look": {"packets": {}}});
    assert_eq!(client.answer(&packets)["answer"], json!([]));
    client.answer(&ping(nobody()));
    assert!(!client.answer(&packets)["answer"].as_array().unwrap().is_empty());
    let mut other = Client::new(&lab.socket(node.port));
    drop(client);
    let status = json!({"capture": {"status": {}}});
    await_that("the capture ends", || other.answer(&status)["answer"]["running"] == false);
    assert_eq!(other.answer(&packets)["answer"], json!([]), "the ring was given up");
}

#[test]
fn the_client_of_the_library_asks_as_one_asks_ones_own_node() {
    let lab = Lab::new();
    let node = lab.node();
    let other = lab.node_via(&node);
    let attached = AttachedNode::connect(&lab.socket(node.port)).unwrap();
    assert_eq!(attached.greeting().role, Role::Serve);
    assert_eq!(attached.process(), Some(node.child.id()));
    let there = AttachedNode::connect(&lab.socket(other.port)).unwrap();
    runtime().block_on(async {
        let peer = Peer::from(std::net::SocketAddr::from(([127, 0, 0, 1], node.port)));
        let mut calls = attached.register(b"greet").await.unwrap();
        let answering = tokio::spawn(async move {
            let call = calls.recv().await.unwrap();
            assert_eq!(call.name, b"greet");
            let args = call.args.clone();
            call.answer(args);
            calls
        });
        let args = vec![Value::bytes(b"\xff\x00"), Value::integer(5)];
        let call = kademlua::control::Command::Call {
            peer,
            name: b"greet"[..].into(),
            args: args.clone(),
        };
        assert_eq!(there.ask(Ask::Run(call.clone())).await.unwrap(), Answer::Returned(args));
        // Taken back, it is gone.
        drop(answering.await.unwrap());
        attached.ask(Ask::Look(Look::Node)).await.unwrap();
        let problem = there.ask(Ask::Run(call)).await.unwrap_err();
        assert!(problem.message.contains("no such RPC"), "{problem}");

        let mut watch =
            attached.readings(Filter { n: Some(1), ..Filter::default() }).await.unwrap();
        let store = kademlua::control::Command::Store {
            key: Id::of_name("key"),
            value: Value::bytes("value"),
            mode: StoreMode::Add,
        };
        let Answer::Stored(stored) = attached.ask(Ask::Run(store)).await.unwrap() else { panic!() };
        assert!(stored.report.kept_here);
        assert!(watch.next().await.unwrap().size.is_some());
        assert_eq!(watch.losses().count(), 0);
        // A lonely node's views, too.
        for look in
            [Look::Node, Look::Contacts, Look::Routing, Look::Lookups, Look::Estimate, Look::Xdp]
        {
            attached.ask(Ask::Look(look)).await.unwrap();
        }
        drop(node);
        while watch.next().await.is_some() {}
        let problem = attached.ask(Ask::Look(Look::Node)).await.unwrap_err();
        assert_eq!(problem.code, Code::Gone);
        assert!(attached.is_closed());
    });
}

#[test]
fn the_folder_and_the_socket_are_the_users_alone() {
    let lab = Lab::new();
    let node = lab.node();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&lab.sockets()), 0o700);
    assert_eq!(mode(&lab.socket(node.port)), 0o600);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    // Even open to all, the door still knows who knocks.
    for (path, mode) in
        [(lab.0.clone(), 0o755), (lab.sockets(), 0o755), (lab.socket(node.port), 0o666)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let knock = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nprint(s.recv(9))";
    let mut stranger = Command::new("python3");
    stranger.args(["-c", knock]).arg(lab.socket(node.port)).uid(12_345).gid(12_345);
    match stranger.stdin(Stdio::null()).output() {
        Ok(output) => assert_eq!(text(&output.stdout), "b''\n", "{}", text(&output.stderr)),
        Err(error) => eprintln!("skipped: {error}"),
    }
    // And the next node closes the folder that was opened.
    let _next = lab.node();
    assert_eq!(mode(&lab.sockets()), 0o700);
}

#[test]
fn what_a_killed_node_leaves_is_taken_away() {
    let lab = Lab::new();
    let mut node = lab.node();
    let port = node.port.to_string();
    node.kill();
    assert_eq!(lab.names(), [format!("{port}.sock")], "left behind");
    let mut again = lab.node_with(&[&port, "--bootstrap", "1"]);
    assert_eq!(lab.names(), [format!("{port}.sock")]);
    assert_eq!(Client::new(&lab.socket(again.port)).greeting["process"], again.child.id());
    again.kill();
    assert!(matches!(AttachedNode::connect(&lab.socket(again.port)), Err(AttachError::Gone(_))));
}

#[test]
fn a_node_that_ends_takes_its_socket_along() {
    let lab = Lab::new();
    let mut node = lab.node();
    let mut client = Client::new(&lab.socket(node.port));
    client.ask(&json!({"id": 1, "watch": {}}));
    assert_eq!(client.hear().unwrap()["id"], 1);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(node.child.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert!(node.child.wait().unwrap().success());
    assert_eq!(lab.names(), Vec::<String>::new());
    while client.hear().is_some() {}
}

#[test]
fn two_nodes_of_one_port_have_a_socket_each() {
    let lab = Lab::new();
    let first = lab.node();
    let port = first.port.to_string();
    let second = lab.node_with(&[&port, "--bind", "127.0.0.2", "--bootstrap", "1"]);
    assert_eq!(lab.names(), [format!("{port}-127.0.0.2.sock"), format!("{port}.sock")]);
    let socket = lab.sockets().join(format!("{port}-127.0.0.2.sock"));
    assert_eq!(Client::new(&socket).greeting["process"], second.child.id());
    assert_eq!(Client::new(&lab.socket(first.port)).greeting["process"], first.child.id());
}

fn has_no_socket(lab: &Lab, node: &Node) {
    assert!(!lab.socket(node.port).exists());
}

#[test]
fn no_socket_where_none_is_wanted() {
    let lab = Lab::new();
    has_no_socket(&lab, &lab.node_with(&["0", "--bootstrap", "1", "--no-control"]));
    let file = lab.0.join("node.lua");
    fs::write(&file, "control = false").unwrap();
    let config = file.to_str().unwrap();
    has_no_socket(&lab, &lab.node_with(&["0", "--bootstrap", "1", "--config", config]));
    assert!(!lab.sockets().exists());
}

#[test]
fn a_node_without_a_place_for_its_socket_runs_and_says_so() {
    for make in [
        |lab: &Lab| fs::write(lab.sockets(), "").unwrap(),
        |lab: &Lab| {
            fs::create_dir(lab.sockets()).unwrap();
            std::os::unix::fs::chown(lab.sockets(), Some(12_345), None).unwrap();
        },
    ] {
        let lab = Lab::new();
        if nix::unistd::geteuid().is_root() || !lab.0.exists() {
            make(&lab);
        } else {
            fs::write(lab.sockets(), "").unwrap();
        }
        let output = lab.run(&["0", "--bootstrap", "1", "-e", "node().contacts"]);
        assert_eq!(text(&output.stdout), "0\n");
        assert!(
            text(&output.stderr).contains("nobody can attach to this node: "),
            "{}",
            text(&output.stderr)
        );
    }
}

/// The words that stand in the page for things that differ.
fn filled_in(example: &str, lab: &Lab, node: &Node) -> String {
    let peer = json!({"address": "127.0.0.1", "port": node.port}).to_string();
    let file = json!(lab.0.join("page.pcap").to_str().unwrap()).to_string();
    let example = example.replace("PEER", &peer).replace("FILTER", "{}").replace("FILE", &file);
    let example = example.replace("ID", &format!("\"{}\"", node.id)).replace("VALUE", "[1]");
    example.replace("NAME", "\"nothing\"").replace("[…]", "[]")
}

#[test]
fn all_that_the_page_says_can_be_asked_is_understood() {
    let lab = Lab::new();
    let node = lab.node();
    let other = lab.node_via(&node);
    let page = include_str!("../docs/control.md");
    let mut client = Client::new(&lab.socket(node.port));
    let (mut asked, mut requests) = (0, 0);
    for line in page.lines().filter(|line| line.starts_with("| `{")) {
        let cell = line.trim_start_matches("| ").split(" | ").next().unwrap();
        for example in cell.split('`').skip(1).step_by(2).filter(|text| !text.contains("\"id\"")) {
            asked += 1;
            let ask = serde_json::from_str(&filled_in(example, &lab, &other)).expect(example);
            let said = client.answer(&ask);
            let fine = said.get("answer").is_some() || said["problem"]["code"] == "no_answer";
            assert!(fine, "{example}: {said}");
        }
    }
    for line in page.lines().filter_map(|line| line.strip_prefix("> ")) {
        requests += 1;
        client.send(format!("{line}\n").as_bytes());
        let said = client.answer(&look("estimate"));
        assert!(said["answer"]["nodes"].is_number(), "{line}: {said}");
    }
    assert!(asked >= 19 && requests >= 6, "{asked} and {requests}");
    let greeting = page.lines().find_map(|line| line.strip_prefix("< ")).unwrap();
    let greeting: Json = serde_json::from_str(greeting).unwrap();
    let names = |of: &Json| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&greeting), names(&client.greeting));
}

#[test]
fn the_example_in_python_asks_and_watches() {
    let lab = Lab::new();
    let node = lab.node();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/control.py");
    let mut python = Command::new("python3");
    python.arg(example).arg(node.port.to_string()).env("XDG_RUNTIME_DIR", &lab.0);
    match python.stdin(Stdio::null()).output() {
        Ok(output) => {
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert!(output.status.success(), "{out}{err}");
            assert!(
                out.contains(&node.id) && out.contains("ping") && out.contains("found: value"),
                "{out}{err}"
            );
        }
        Err(error) => {
            assert!(std::env::var_os("KADEMLUA_FORBID_SKIPS").is_none(), "python3 is missing");
            eprintln!("skipped: {error}");
        }
    }
}
