//! `kademlua sim --grade`: what a class has reached, found by replaying what each learner typed.
//!
//! A file says what its owner claims. Only a replay counts, with the checks of the lessons themselves. Each result
//! is replayed in a process of its own, which the system keeps from taking more than its share of time and memory.
//! A program in a file can do what it can do in the simulator: nothing outside of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::shell::{
    Chunk, Format, Options, RESULTS_BYTES_MAX, Record, Shell, ShellOutput, escape, escape_json,
    parse_results, say,
};

/// Processor time of one replay, in seconds; the longest lesson takes less than one.
const CPU_SECONDS: u64 = 10;

/// Address space of one replay: a lesson takes a tenth.
const MEMORY_BYTES: u64 = 1 << 30;

/// A replay that has not ended by then never will: it computes no longer than its processor time, and waits no longer
/// than `lesson.replay` lets it. So much more than both, because other programs may want the processor too.
const WITHIN: Duration = Duration::from_secs(900);

/// The answer of a replay is at most this long.
const VERDICT_BYTES_MAX: u64 = 64 << 10;

/// How often to look whether a replay has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Lessons of one file that are replayed.
const LESSONS_MAX: usize = 100;

/// One row: a result, or why there is none.
#[derive(Debug, Default, Serialize)]
struct GradeRow {
    who: String,
    lesson: Option<String>,
    title: Option<String>,
    seed: Option<u64>,
    /// Steps that the replay has passed.
    passed: Vec<u32>,
    /// Steps that the file says were passed.
    claimed: Vec<u32>,
    steps: Option<u32>,
    /// Whether all steps were passed.
    complete: bool,
    /// What is wrong.
    reason: Option<String>,
}

/// What a replay answers.
#[derive(Debug, Deserialize)]
struct ReplayResult {
    title: String,
    steps: u32,
    passed: Vec<u32>,
}

/// Shows a row for each result in the folder.
pub(super) fn run(folder: &Path, lessons: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let files = files_in(folder).with_context(|| folder.display().to_string())?;
    if files.is_empty() {
        bail!(
            "{}: expected files of results, one for each learner, but it is empty",
            folder.display()
        );
    }
    if !json {
        say(line_of(["who", "lesson", "seed", "steps", ""]))?;
    }
    for (who, file) in files {
        for row in rows_of(&who, &file, lessons) {
            say(if json { escape_json(&serde_json::to_value(&row)?) } else { text_of(&row) })?;
        }
    }
    Ok(())
}

/// The files in a folder and in its folders, by name: some schools give each learner a folder.
fn files_in(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => match fs::read_dir(&path) {
                Ok(inner) => files.extend(inner.flatten().map(|entry| entry.path())),
                Err(_) => files.push(path),
            },
            _ => files.push(path),
        }
    }
    let named = files.into_iter().map(|path| {
        let name = path.strip_prefix(folder).unwrap_or(&path).with_extension("");
        (name.to_string_lossy().into_owned(), path)
    });
    let mut named: Vec<_> = named.filter(|(name, _)| !name.starts_with('.')).collect();
    named.sort();
    Ok(named)
}

fn rows_of(who: &str, file: &Path, lessons: Option<&Path>) -> Vec<GradeRow> {
    let row = |reason: String| GradeRow {
        who: who.to_owned(),
        reason: Some(reason),
        ..GradeRow::default()
    };
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => return vec![row(format!("{error:#}"))],
    };
    let (records, problem) = parse_results(&text);
    let mut rows: Vec<_> = problem.map(row).into_iter().collect();
    let best = best_of(records);
    if best.is_empty() && rows.is_empty() {
        rows.push(row("there is no result in it".to_owned()));
    }
    if best.len() > LESSONS_MAX {
        rows.push(row(format!("more than {LESSONS_MAX} lessons, of which the first are replayed")));
    }
    rows.extend(best.into_iter().take(LESSONS_MAX).map(|record| graded(who, &record, lessons)));
    rows
}

/// The content of a file, unless it is too long for a file of results.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    // Opening a pipe would wait, and a link may lead anywhere.
    if !fs::symlink_metadata(file)?.is_file() {
        bail!("no plain file");
    }
    let mut text = Vec::new();
    File::open(file)?.take(RESULTS_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > RESULTS_BYTES_MAX {
        bail!("longer than {} MB", RESULTS_BYTES_MAX >> 20);
    }
    Ok(text)
}

/// For each lesson the last of the records that claim most, sorted by lesson.
fn best_of(records: Vec<Record>) -> Vec<Record> {
    let mut best = std::collections::BTreeMap::<String, Record>::new();
    for record in records {
        match best.get(&record.lesson) {
            Some(known) if known.passed.len() > record.passed.len() => {}
            _ => drop(best.insert(record.lesson.clone(), record)),
        }
    }
    best.into_values().collect()
}

fn graded(who: &str, record: &Record, lessons: Option<&Path>) -> GradeRow {
    let row = GradeRow {
        who: who.to_owned(),
        lesson: Some(record.lesson.clone()),
        seed: Some(record.seed),
        claimed: record.passed.clone(),
        ..GradeRow::default()
    };
    match verdict_on(record, lessons) {
        Err(error) => GradeRow { reason: Some(format!("{error:#}")), ..row },
        Ok(ReplayResult { title, steps, passed }) => {
            let complete = passed.len() == steps as usize;
            let reason = (passed != record.passed).then(|| {
                format!(
                    "it claims {} of {steps}; by a replay {} hold",
                    record.passed.len(),
                    passed.len()
                )
            });
            GradeRow { title: Some(title), steps: Some(steps), complete, reason, passed, ..row }
        }
    }
}

/// Replays a record in a process of its own.
fn verdict_on(record: &Record, lessons: Option<&Path>) -> anyhow::Result<ReplayResult> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sim", "--replay"]);
    if let Some(lessons) = lessons {
        command.args([OsString::from("--lessons"), lessons.into()]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Replay(command.spawn()?);
    // It may end before it has read everything; then the way it ended says why.
    let _ = child.0.stdin.take().expect("it is piped").write_all(&serde_json::to_vec(record)?);
    let stdout = child.0.stdout.take().expect("it is piped");
    let answer = std::thread::spawn(move || {
        let mut answer = Vec::new();
        stdout.take(VERDICT_BYTES_MAX).read_to_end(&mut answer).map(|_| answer)
    });
    let status = child.wait()?;
    let answer = answer.join().map_err(|_| anyhow!("it was not read"))??;
    if !status.success() {
        bail!("{}", ending(status, &answer));
    }
    serde_json::from_slice(&answer).context("it does not replay")
}

/// A process that ends with its owner.
struct Replay(Child);

impl Replay {
    fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            if began.elapsed() > WITHIN {
                bail!("it takes longer than {} s", WITHIN.as_secs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Why a replay has ended without a verdict.
fn ending(status: ExitStatus, answer: &[u8]) -> String {
    #[cfg(unix)]
    match std::os::unix::process::ExitStatusExt::signal(&status) {
        Some(nix::libc::SIGXCPU | nix::libc::SIGKILL) => {
            return format!("it computes for longer than {CPU_SECONDS} s");
        }
        Some(nix::libc::SIGABRT) => {
            return format!("it takes more memory than {} GB", MEMORY_BYTES >> 30);
        }
        _ => {}
    }
    let said = String::from_utf8_lossy(answer);
    match said.trim() {
        "" => format!("it does not replay ({status})"),
        said => format!("it does not replay: {said}"),
    }
}

/// `kademlua sim --replay`: replays the record on standard input, within bounds, and answers on standard output.
pub(super) fn replay(lessons: Option<PathBuf>) -> anyhow::Result<()> {
    bound()?;
    let record: Record = serde_json::from_reader(io::stdin().lock().take(RESULTS_BYTES_MAX))?;
    let options = Options { format: Format::Json, lessons, ..Options::default() };
    let mut shell = Shell::start(None, ShellOutput::new(), options)?;
    let outcome = shell.run(Chunk::program(&chunk_of(&record), "=replay".to_owned()));
    if let Err(error) = &outcome {
        say(error)?;
    }
    Ok(outcome?)
}

/// The call that replays a record.
fn chunk_of(record: &Record) -> Vec<u8> {
    let quoted = |text: &str| {
        let bytes: String = text.bytes().map(|byte| format!("\\{byte:03}")).collect();
        format!("\"{bytes}\"")
    };
    let typed: Vec<_> = record.typed.iter().map(|source| quoted(source)).collect();
    let (lesson, seed) = (quoted(&record.lesson), record.seed);
    format!(
        "return lesson.replay{{lesson = {lesson}, seed = {seed}, typed = {{{}}}}}",
        typed.join(", ")
    )
    .into_bytes()
}

/// Bounds this process.
#[cfg(unix)]
fn bound() -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_CPU, CPU_SECONDS, CPU_SECONDS)?;
    setrlimit(Resource::RLIMIT_AS, MEMORY_BYTES, MEMORY_BYTES)?;
    // Nothing is left behind, and no file is written.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    Ok(())
}

/// On this system only the time is bounded, from outside.
#[cfg(not(unix))]
fn bound() -> anyhow::Result<()> {
    Ok(())
}

fn text_of(row: &GradeRow) -> String {
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let steps =
        row.steps.map_or("-".to_owned(), |steps| format!("{} of {steps}", row.passed.len()));
    let seed = row.seed.map_or("-".to_owned(), |seed| seed.to_string());
    let remark = row.reason.as_deref().unwrap_or(if row.complete { "done" } else { "" });
    line_of([&row.who, &shown(&row.title.clone().or(row.lesson.clone())), &seed, &steps, remark])
}

/// The columns of the table.
fn line_of([who, lesson, seed, steps, remark]: [&str; 5]) -> String {
    // Somebody else chose the names of files and lessons.
    let [who, lesson, remark] = [who, lesson, remark].map(|text| escape(text.as_bytes(), false));
    format!("{who:<20} {lesson:<34} {seed:>6}  {steps:<7} {remark}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(lesson: &str, passed: &[u32]) -> Record {
        let (lesson, passed) = (lesson.to_owned(), passed.to_vec());
        Record { lesson, seed: 1, steps: 3, passed, typed: Vec::new() }
    }

    #[test]
    fn the_record_that_claims_most_is_taken() {
        let records = vec![record("b", &[1]), record("a", &[1, 2]), record("a", &[1])];
        assert_eq!(best_of(records), [record("a", &[1, 2]), record("b", &[1])]);
    }

    #[test]
    fn what_was_typed_is_no_program_of_the_replay() {
        let typed = vec!["\"}} os.exit() --\n".to_owned()];
        let chunk = chunk_of(&Record { typed, ..record("a", &[]) });
        assert!(chunk.is_ascii() && !String::from_utf8(chunk).unwrap().contains("os.exit"));
    }
}
