//! The lessons: what they take and say, what they leave behind, and how a class is graded.

#![cfg(feature = "shell")]

mod shell;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rexpect::session::{PtySession, spawn_command};
use shell::{assert_golden, kademlua, sim, texts};

const LESSONS: u32 = 10;

/// An empty folder for a test.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("lessons").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A prompt whose state is in that folder. It is so wide that it breaks no text, whose paths may be long.
fn prompt(state: &Path) -> PtySession {
    let mut command = kademlua();
    command.env("TERM", "dumb").env("COLUMNS", "1000").env("XDG_STATE_HOME", state);
    command.stdin(Stdio::inherit()).arg("sim");
    spawn_command(command, Some(30_000)).unwrap()
}

/// Types each line and waits for its answer.
fn talk(session: &mut PtySession, lines: &[(&str, &str)]) {
    for (line, reply) in lines {
        session.send_line(line).unwrap();
        session.exp_string(reply).unwrap_or_else(|error| panic!("{line}: {reply}: {error}"));
    }
}

fn leave(mut session: PtySession) {
    session.send_control('d').unwrap();
    session.exp_eof().unwrap();
}

/// Standard output and standard error of `kademlua sim -e`, with more lessons from a folder.
fn with_lessons(folder: &Path, chunk: &str) -> (String, String) {
    let mut command = kademlua();
    texts(&command.env("KADEMLUA_LESSONS", folder).args(["sim", "-e", chunk]).output().unwrap())
}

/// The lines typed in a lesson, and the steps that a replay passes.
fn replayed(lesson: &str, seed: u32, typed: &[&str]) -> String {
    let typed: Vec<_> = typed.iter().map(|chunk| format!("[==[{chunk}]==]")).collect();
    let typed = typed.join(", ");
    sim(&[
        "-e",
        &format!(
            "local r = lesson.replay{{lesson = '{lesson}', seed = {seed}, typed = {{{typed}}}}}
            return table.concat(r.passed, ' ')"
        ),
    ])
}

const LESSON_1: [&str; 4] = [
    "sha1(\"apple\")",
    "xor(sha1(\"apple\"), sha1(\"plum\"))",
    "5",
    "best = 1 for i = 2, 5 do if xor(key, n:node(i).id) < xor(key, n:node(best).id) then best = i end end return best",
];

/// A lesson of a teacher's own.
const SUMS: &str =
    "return {title = 'Mine', steps = {{tell = 'Sums.', task = '1 + 1?', hint = 'Two.',
    check = function(l, x) return x == 2 or 'No.' end, answer = '2', wrong = {{'3', 'No.'}}}}}";

#[test]
fn every_lesson_takes_right_answers_and_no_wrong_ones() {
    let (mut steps, mut copied) = (0, 0);
    for number in 1..=LESSONS {
        let chunk = format!(
            "local t = lesson.test({number}) assert(t.steps > 2 and t.wrong >= 2 * t.steps)
            assert(n == nil and key == nil and mob == nil) print(t.steps, t.copied) print(t.text)"
        );
        let out = sim(&["-e", &chunk]);
        let (counts, text) = out.split_once('\n').unwrap();
        let counts: Vec<u32> = counts.split('\t').map(|count| count.parse().unwrap()).collect();
        steps += counts[0];
        copied += counts[1];
        let wide: Vec<_> = text.lines().filter(|line| !line.starts_with("> ")).collect();
        assert!(wide.iter().all(|line| line.chars().count() <= 120), "{text}");
        assert_golden(&format!("lesson-{number}.txt"), text);
    }
    assert!(3 * copied <= steps, "{copied} of {steps} tasks contain their own answer");
}

#[test]
fn help_of_traces_and_all_drawings_are_used() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let typed: String = (1..=LESSONS)
        .map(|number| fs::read_to_string(golden.join(format!("lesson-{number}.txt"))).unwrap())
        .collect();
    for call in ["help(trace)", ".tree(", ".ring(", "explain(", ".estimate()", "return hist("] {
        assert!(typed.lines().any(|line| line.starts_with("> ") && line.contains(call)), "{call}");
    }
}

#[test]
fn another_seed_makes_other_answers() {
    let texts = "lesson.test(8, 3).text, lesson.test(8, 3).text, lesson.test(8, 4).text";
    let out = sim(&["-e", &format!("local a, b, c = {texts} return a == b, a == c")]);
    assert_eq!(out, "true\nfalse\n");
}

#[test]
fn a_teacher_adds_a_lesson_by_a_file() {
    let folder = folder("teacher");
    let lesson = SUMS;
    fs::write(folder.join("mine.lua"), lesson).unwrap();
    let run = |chunk: &str| with_lessons(&folder, chunk);
    assert!(run("lesson()").0.contains(" 11  Mine"));
    assert_eq!(run("lesson.test(11).steps").0, "1\n");
    fs::write(folder.join("mine.lua"), lesson.replace("'3', 'No.'", "'2', 'No.'")).unwrap();
    assert!(run("lesson.test(11)").1.contains("lesson 11, step 1: 2: expected 'No.' to be said"));
    fs::write(folder.join("mine.lua"), "return {title = 'x'}").unwrap();
    assert!(run("lesson()").1.contains("a lesson is a file that returns a table with title"));
}

/// A teacher's file may be wrong in any way, and a learner may call anything.
#[test]
fn errors_name_no_line_of_our_own() {
    let folder = folder("errors");
    let step =
        "tell = 'a', task = 'b', hint = 'c', answer = '1', check = function() return true end";
    for (file, said) in [
        ("return {", "mine.lua:1:"),
        ("error('broken')", "mine.lua:1: broken"),
        ("return 5", "a lesson is a file that returns a table"),
        ("return {title = 'x', steps = {5}}", "step 1: expected tell, task and check"),
        ("return {title = 'x', network = {nodes = 'x'}, steps = {{STEP}}}", "nodes: expected"),
        (
            "return {title = 'x', start = function(l) l.y.z = 1 end, steps = {{STEP}}}",
            "mine.lua:1:",
        ),
        (
            "return {title = 'x', steps = {{STEP, enter = function(l) l.y.z = 1 end}}}",
            "mine.lua:1:",
        ),
        (
            "return {title = 'x', steps = {{STEP, check = function(l) l.y.z = 1 end}}}",
            "mine.lua:1:",
        ),
        (
            "return {title = 'x', steps = {{STEP, praise = function(l) l.y.z = 1 end}}}",
            "mine.lua:1:",
        ),
        ("return {title = 'x', steps = {{STEP, task = function(l) l.y.z = 1 end}}}", "mine.lua:1:"),
        ("return {title = 'x', steps = {{STEP, tell = {}}}}", "expected"),
        ("return {title = 'x', steps = {{STEP, answer = '1 +'}}}", "cannot compile 1 +"),
        ("return {title = 'x', steps = {{STEP, hint = {}}}}", "there is no hint"),
    ] {
        fs::write(folder.join("mine.lua"), file.replace("STEP", step)).unwrap();
        let (out, err) = with_lessons(&folder, "lesson.test(11)");
        assert!(err.contains(said), "{file}: {out}{err}");
        assert!(!err.contains("(kademlua") && !err.contains("lesson.lua"), "{file}: {err}");
    }
    for chunk in [
        "lesson(99)",
        "lesson({})",
        "lesson(1.5)",
        "lesson('x')",
        "lesson(1, 'x')",
        "lesson(1, -1)",
        "hint()",
        "lesson.again()",
        "lesson.next()",
        "lesson.reset()",
        "lesson.quit()",
        "lesson.test()",
        "lesson.test('x')",
        "lesson.replay()",
        "lesson.replay{typed = {}}",
        "lesson.replay{lesson = 1, seed = {}, typed = {1}}",
        "lesson.replay{lesson = '1-ids.lua', seed = 'x', typed = {1}}",
        "_ENV.n = 1 lesson(1) lesson.x()",
    ] {
        let output = kademlua().args(["sim", "-e", chunk]).output().unwrap();
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{chunk}: {out}");
        assert!(
            err.starts_with("kademlua: line:1: ") || err.starts_with("kademlua: -e:1: "),
            "{chunk}: {err}"
        );
        assert!(!err.contains("(kademlua") && !err.contains("lesson.lua"), "{chunk}: {err}");
    }
    let error = "lesson: expected the number of a lesson from 1 to 10, got 99";
    let output = kademlua().args(["sim", "-e", "lesson(99)"]).output().unwrap();
    assert!(texts(&output).1.contains(error));
}

#[test]
fn a_lesson_goes_on_as_one_types() {
    let mut session = prompt(Path::new("/dev/null"));
    talk(
        &mut session,
        &[
            ("lesson()", "  9  Reading a trace"),
            ("lesson(1)", "[1/4] Make one"),
            ("1 + 1", "2"),
            ("sha1('pears')", "of another name"),
            ("x.y.z = 1", "The lesson waits; hint() helps."),
            ("hint()", "with the quotation marks"),
            ("sha1('apple')", "[2/4] How far"),
            ("hint()", "hint() again says more"),
            ("hint()", "xor(sha1(\"apple\"), sha1(\"plum\"))"),
            ("lesson.next()", "[3/4] Look at"),
            ("lesson.again()", "[3/4] Look at"),
            ("2", "Another number"),
            ("lesson.reset()", "[3/4] Look at"),
            ("lesson.quit()", "The lesson is over"),
            ("#n:alive() + #key", "25"),
        ],
    );
    leave(session);
}

/// A learner who plays in between is not talked to all the time, and not left alone for ever.
#[test]
fn what_has_nothing_to_do_with_the_task_is_let_be() {
    let mut session = prompt(Path::new("/dev/null"));
    talk(&mut session, &[("lesson(1)", "[1/4]"), ("'fi' .. 'rst'", "no id")]);
    for _ in 0..2 {
        session.send_line("2 * 1001").unwrap();
        let said = session.exp_string("2002").unwrap() + &session.exp_string(" > ").unwrap();
        assert!(!said.contains("lesson"), "{said}");
    }
    talk(&mut session, &[("2 * 1001", "Play as long as you like")]);
    leave(session);
}

/// Whatever a learner does to the network, the way back is short.
#[test]
fn no_learner_is_trapped() {
    let mut session = prompt(Path::new("/dev/null"));
    talk(
        &mut session,
        &[
            ("lesson(7)", "[1/4]"),
            ("n:kill(1)", "n:spoof comes first"),
            ("n:spoof(1, sha1('mallory'))", "lesson.reset() puts everything back"),
            ("lesson.next()", "[2/4] Surround"),
            ("lesson.next()", "[3/4] Kill the mob"),
            ("n:findvalue(1, key)", "20 of them are still there"),
            ("n:kill(0.9)", "lesson.reset()"),
            ("lesson.reset()", "[3/4] Kill the mob"),
            ("n:kill(mob)", "Let node 1 look"),
            ("n:findvalue(1, key)", "[4/4] Let node 2"),
            ("lesson(2)", "[1/4]"),
            ("lesson.next()", "[2/4] How many"),
            ("n:kill(1)", ""),
            ("5", "Something that this step needs is gone"),
            ("lesson.reset()", "[2/4] How many"),
            ("20", "not how many"),
        ],
    );
    leave(session);
}

#[test]
fn praise_is_true_of_what_was_typed() {
    let held = "local b = n:node(200).routing().buckets return #b, #b[1].contacts, #b[#b].contacts";
    let out = sim(&["-e", &format!("n = net{{nodes = 200, seed = 2}} {held}")]);
    let held: Vec<&str> = out.lines().collect();
    let small = sim(&["-e", "#net{nodes = 200, seed = 9, k = 5}:node(1).contacts()"]);
    let mut session = prompt(Path::new("/dev/null"));
    let praise = format!("Node 200 sorts its contacts into {} buckets", held[0]);
    talk(
        &mut session,
        &[
            ("lesson(2)", "[1/4]"),
            ("n:node(200).tree()", &praise),
            ("lesson.next()", "[3/4]"),
            ("lesson.next()", "[4/4]"),
            ("m = net{nodes = 200, seed = 9, k = 5}", "a name now"),
            ("m:node(1):tree()", &format!("Right: {} contacts", small.trim())),
        ],
    );
    leave(session);
}

/// A right answer that the lesson does not see.
#[test]
fn values_that_are_not_shown_get_a_word() {
    let mut session = prompt(Path::new("/dev/null"));
    talk(
        &mut session,
        &[
            ("lesson(1)", "[1/4]"),
            ("id = sha1('apple')", "has a name now"),
            ("print(tohex(sha1('apple')))", "without print"),
            ("local id = sha1('apple')", "gone with its line"),
            ("id", "[2/4]"),
        ],
    );
    leave(session);
}

#[test]
fn network_and_key_stay_and_what_was_there_before_is_kept() {
    let mut session = prompt(Path::new("/dev/null"));
    talk(
        &mut session,
        &[("n = 'mi' .. 'ne'", ""), ("lesson(1)", "Your own n is lesson.before.n now")],
    );
    for answer in LESSON_1 {
        talk(&mut session, &[(answer, "Right")]);
    }
    talk(
        &mut session,
        &[
            ("lesson.before.n", "\"mine\""),
            ("#n:alive() + #key", "25"),
            ("lesson(2)", "[1/4]"),
            ("lesson.before.n", "\"mine\""),
            ("#n:alive()", "200"),
        ],
    );
    leave(session);
}

#[test]
fn results_are_kept_and_damage_costs_nothing_else() {
    let state = folder("results");
    let file = state.join("kademlua/lessons.jsonl");
    let mut session = prompt(&state);
    talk(
        &mut session,
        &[("lesson('results')", "1  Ids and distance                 -"), ("lesson(1)", "[1/4]")],
    );
    for answer in &LESSON_1[..2] {
        talk(&mut session, &[(answer, "Right")]);
    }
    talk(&mut session, &[("lesson('results')", "2 of 4")]);
    leave(session);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let kept = fs::read_to_string(&file).unwrap();
    assert_eq!(kept.lines().count(), 2, "{kept}");
    fs::write(&file, format!("{kept}\u{0}broken {{\n{}", &kept[..20])).unwrap();
    let mut session = prompt(&state);
    talk(
        &mut session,
        &[
            ("lesson('results')", "line 3 is no result"),
            ("lesson('results')", "2 of 4"),
            ("lesson(1)", "[1/4]"),
            ("sha1('apple')", "[2/4]"),
        ],
    );
    leave(session);
    let now = fs::read_to_string(&file).unwrap();
    assert!(now.starts_with(&kept) && now.contains("broken"), "{now}");
    assert!(now.lines().last().unwrap().ends_with(r#""typed":["sha1('apple')"]}"#), "{now}");

    fs::remove_file(&file).unwrap();
    symlink("/dev/null", &file).unwrap();
    let mut session = prompt(&state);
    talk(
        &mut session,
        &[
            ("lesson('results')", "is a link"),
            ("lesson(1)", "[1/4]"),
            ("sha1('apple')", "Results are not kept"),
        ],
    );
    leave(session);
}

/// A made-up result is no answer, neither at the prompt nor in a file.
#[test]
fn answers_cannot_be_made_up() {
    assert_eq!(replayed("1-ids.lua", 7, &LESSON_1), "\"1 2 3 4\"\n");
    for typed in [
        &["sha1 = function() return 'x' end", "'x'"][..],
        &["sha1 = function() return ('x'):rep(20) end", "('x'):rep(20)"],
        &["string.format = function() return true end", "7", "sha1('x')"],
        &["lesson.replay = nil", "print = nil", "return 'apple'"],
        &["lesson(2)", "sha1('apple')"],
        &["lesson.next()", "lesson.next()", "lesson.next()", "lesson.next()"],
    ] {
        assert_eq!(replayed("1-ids.lua", 7, typed), "\"\"\n", "{typed:?}");
    }
    // A check makes its words with methods of strings.
    let formatted = ["string.format = function() return true end", "'f'"];
    assert_eq!(replayed("8-sizes.lua", 9, &formatted), "\"\"\n");
    // Nor does one step count for several, although its praise trips over the returned value.
    let broken = "r = n:findvalue(n:random(), key) r.ms = nil return r";
    let typed = ["lesson.next()", "lesson.next()", broken, broken, broken, broken];
    assert_eq!(replayed("6-churn.lua", 6, &typed), "\"3\"\n");
    let stored = "n:add(1, key, 'hello')";
    for typed in [
        &["{stored = {1}, target = tohex(key)}"][..],
        &["setmetatable({target = tohex(key), refused = {}}, getmetatable(n:add(2, key, 'x')))"],
        &[
            "getmetatable(n).__index.holders = function() return {1} end",
            "getmetatable(n).__index.add(n, 1, key, 'x')",
        ],
    ] {
        assert_eq!(replayed("5-storing.lua", 5, typed), "\"\"\n", "{typed:?}");
    }
    for (lie, passed) in
        [("getmetatable(n).__index.holders = function() return {1} end", "1"), ("x = 1", "1 2")]
    {
        let typed = [stored, lie, if passed == "1" { "#n:holders(key)" } else { "20" }];
        assert_eq!(replayed("5-storing.lua", 5, &typed), format!("\"{passed}\"\n"), "{lie}");
    }
}

/// Whatever a learner does on the way is done again.
#[test]
fn what_was_typed_replays_as_it_went() {
    let state = folder("replays");
    let mut session = prompt(&state);
    talk(
        &mut session,
        &[
            ("lesson(7, 21)", "[1/4]"),
            ("luck = math.random(1000)", ""),
            ("hint()", "says more"),
            ("x.y.z = 1", "The lesson waits"),
            ("sha1(", ""),
            ("'mallory')", "1beef78"),
            ("n:spoof(1, _)", "on its way"),
            ("n:run(5 + luck / 1000) return false", "[2/4]"),
            ("mob = n:join(20)", "beside key"),
            ("lesson.reset()", "[2/4]"),
            ("x = = 1", "unexpected symbol"),
            ("mob = n:join(20, key, 20)", "[3/4]"),
            ("lesson.next()", "[4/4]"),
            (
                "for i = 1, 60 do last = n:add(2, sha1('é' .. i), luck) end return last",
                "refused to take",
            ),
        ],
    );
    leave(session);
    let class = folder("replayed");
    fs::copy(state.join("kademlua/lessons.jsonl"), class.join("ann.jsonl")).unwrap();
    let (status, out, err) = grade(&class, true);
    let row: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &*err), (Some(0), ""));
    assert_eq!(row["passed"], serde_json::json!([1, 2, 4]), "{out}");
    assert_eq!((&row["seed"], &row["reason"]), (&21.into(), &serde_json::Value::Null), "{out}");
}

/// A line of a file of results.
fn record(lesson: &str, seed: u32, passed: &[u32], typed: &[&str]) -> String {
    let line = serde_json::json!({ "lesson": lesson, "seed": seed, "steps": 4, "passed": passed, "typed": typed });
    format!("{line}\n")
}

fn grade(folder: &Path, json: bool) -> (Option<i32>, String, String) {
    let mut command = kademlua();
    command.args(["sim", "--grade"]).arg(folder);
    if json {
        command.arg("--json");
    }
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    (output.status.code(), out, err)
}

#[test]
fn a_class_is_graded_by_replay() {
    let class = folder("class");
    let all = record("1-ids.lua", 7, &[1, 2, 3, 4], &LESSON_1);
    fs::write(class.join("ada.jsonl"), record("1-ids.lua", 7, &[1], &LESSON_1[..1]) + &all)
        .unwrap();
    fs::write(class.join("bob.jsonl"), record("1-ids.lua", 7, &[1, 2, 3, 4], &["4"])).unwrap();
    fs::create_dir(class.join("cleo")).unwrap();
    fs::write(class.join("cleo/lessons.jsonl"), record("1-ids.lua", 9, &[1], &["sha1('apple')"]))
        .unwrap();
    let (status, out, err) = grade(&class, false);
    assert_eq!((status, &*err), (Some(0), ""));
    assert_golden("grade.txt", &out);
    // With a lesson of the teacher's own.
    fs::write(folder("own").join("sums.lua"), SUMS).unwrap();
    fs::write(class.join("dan.jsonl"), record("sums.lua", 1, &[1], &["2"])).unwrap();
    let mut command = kademlua();
    let own = class.with_file_name("own");
    let (out, _) = texts(
        &command.args(["sim", "--lessons"]).arg(&own).arg("--grade").arg(&class).output().unwrap(),
    );
    assert!(
        out.lines().any(|row| row.starts_with("dan") && row.ends_with("1 of 1  done")),
        "{out}"
    );
    fs::remove_file(class.join("dan.jsonl")).unwrap();
    let (_, out, _) = grade(&class, true);
    let rows: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["who"], "ada");
    assert_eq!((&rows[0]["complete"], &rows[1]["complete"]), (&true.into(), &false.into()));
    assert_eq!(rows[0]["passed"], serde_json::json!([1, 2, 3, 4]));
    assert_eq!((&rows[2]["seed"], &rows[2]["reason"]), (&9.into(), &serde_json::Value::Null));
}

#[test]
fn hostile_files_get_a_row_and_stop_nothing() {
    let class = folder("hostile");
    let write = |name: &str, text: &[u8]| fs::write(class.join(name), text).unwrap();
    let claim = |typed: &[&str]| record("1-ids.lua", 7, &[1], typed).into_bytes();
    write("a-json.jsonl", b"{\"lesson\": \n\n[[[[\n\xff\xfe\n");
    write("b-empty.jsonl", b"");
    write("c-huge.jsonl", &vec![b'x'; 5 << 20]);
    write("d-deep.jsonl", "[".repeat(1 << 20).as_bytes());
    write("e-loop.jsonl", &claim(&["while true do end", "sha1('apple')"]));
    write(
        "f-memory.jsonl",
        &claim(&[
            "net{nodes = 50000, seed = 1}",
            "m = {} for i = 1, 1e9 do m[i] = ('x'):rep(1e6) .. i end",
        ]),
    );
    write(
        "g-prints.jsonl",
        &claim(&["print(('[1,2,3,4]\\n'):rep(1e5))", "every(0, print, '{\"passed\":[1,2,3,4]}')"]),
    );
    write(
        "g-starts.jsonl",
        &claim(&["cluster(3)", "sha1('apple')", "cluster = nil", "capture('x.pcap')"]),
    );
    write("h-unknown.jsonl", record("../../etc/passwd", 1, &[1], &[]).as_bytes());
    write("i-stuck.jsonl", &claim(&["return (('a'):rep(5e4)):find(('.-'):rep(30) .. 'b')"]));
    write("j-seed.jsonl", b"{\"lesson\":\"1-ids.lua\",\"seed\":18446744073709551615,\"steps\":1,\"passed\":[],\"typed\":[]}\n");
    symlink("/dev/zero", class.join("k-link.jsonl")).unwrap();
    nix::unistd::mkfifo(&class.join("l-pipe.jsonl"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    write("m-\u{1b}[31mred.jsonl", &claim(&["lesson.quit()", "error({})", "sha1("]));
    write(
        "n-sleeps.jsonl",
        &claim(&["sleep(1e9)", "for i = 1, 1e5 do pcall(sleep, 11) end", "sha1('apple')"]),
    );
    write("o-yields.jsonl", &claim(&["coroutine.yield()", "sha1('apple')"]));
    let reaches = [
        "node(8001)",
        "on(8001, tree)",
        "save(1, 'x.txt')",
        "read('x.txt')",
        "dofile('x.lua')",
        "exit(0)",
    ];
    let refused = reaches.map(|call| {
        let problem = format!(
            "assert(select(2, pcall(function() {call} end)):find('simulated networks alone'))"
        );
        format!("{problem} refused = (refused or 0) + 1")
    });
    let counted = "if refused == 6 then return sha1('apple') end";
    let typed: Vec<&str> = refused.iter().map(String::as_str).chain([counted]).collect();
    write("p-reaches.jsonl", &claim(&typed));
    write("z-good.jsonl", &record("1-ids.lua", 7, &[1, 2, 3, 4], &LESSON_1).into_bytes());
    let (status, out, err) = grade(&class, false);
    assert_eq!((status, &*err), (Some(0), ""), "{out}");
    for (who, reason) in [
        ("a-json", "line 1 is no result"),
        ("b-empty", "there is no result in it"),
        ("c-huge", "longer than 4 MB"),
        ("d-deep", "line 1 is no result"),
        ("e-loop", "it computes for longer than 10 s"),
        ("f-memory", "by a replay 0 hold"),
        ("g-prints", "by a replay 0 hold"),
        ("g-starts", "1 of 4"),
        ("h-unknown", "no lesson is called"),
        ("i-stuck", "it computes for longer than 10 s"),
        ("j-seed", "seed: expected"),
        ("k-link", "no plain file"),
        ("l-pipe", "no plain file"),
        ("m-\\x1b[31mred", "by a replay 0 hold"),
        ("n-sleeps", "1 of 4"),
        ("o-yields", "1 of 4"),
        ("p-reaches", "1 of 4"),
        ("z-good", "done"),
    ] {
        let row = out.lines().find(|line| line.starts_with(who));
        assert!(row.is_some_and(|row| row.contains(reason)), "{who}: {out}");
    }
    assert!(!out.contains('\u{1b}'), "{out}");
    let (status, _, err) = grade(&class.join("nowhere"), false);
    assert_eq!(status, Some(1));
    assert!(err.contains("nowhere"), "{err}");
}
