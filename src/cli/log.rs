//! The log: which lines it has, and how they look.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{self as formats, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::shell::{escape, escape_json_text, takes_colours};

use super::BadUsage;

/// The variable that names a filter if the command line does not.
const VARIABLE: &str = "RUST_LOG";

/// Starts the log, which goes to standard error, with the filter of `--log`, else of `RUST_LOG`, else the
/// default.
///
/// # Errors
/// If the filter of `--log` cannot be read. The variable may be meant for another program: if its filter cannot
/// be read, the log says so and takes the default.
pub(super) fn start<W>(
    asked: Option<&str>,
    default: &str,
    format: LogFormat,
    writer: W,
) -> Result<(), BadUsage>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let variable = std::env::var_os(VARIABLE).filter(|filter| !filter.is_empty());
    let (wanted, complaint) = match (asked, variable) {
        (Some(asked), _) => (filter(asked)?, None),
        (None, Some(said)) => match filter(&said.to_string_lossy()) {
            Ok(said) => (said, None),
            Err(complaint) => (filter(default)?, Some(complaint)),
        },
        (None, None) => (filter(default)?, None),
    };
    let colours = format == LogFormat::Text && takes_colours(&std::io::stderr());
    let lines = layer()
        .with_writer(writer)
        .with_ansi(colours)
        .event_format(LogLine(format))
        .log_internal_errors(false);
    tracing_subscriber::registry().with(lines).with(wanted).init();
    if let Some(complaint) = complaint {
        tracing::warn!("{VARIABLE} is not heeded, the level is {default}: {complaint}");
    }
    Ok(())
}

/// `LEVEL` or `MODULE=LEVEL`, several with commas between them.
fn filter(text: &str) -> Result<Targets, BadUsage> {
    let expected = "expected error, warn, info, debug, trace or off, or MODULE=LEVEL";
    let complaint = || BadUsage(format!("log filter '{text}': {expected}"));
    // The library would take a bare word for a module whose lines are all wanted.
    let plain = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    if !text.split(',').all(plain) {
        return Err(complaint());
    }
    text.parse().map_err(|_| complaint())
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// For people: time, level, message, fields
    Text,
    /// For programs: a JSON object a line, with timestamp, level, message, target and the fields
    Json,
}

/// Time, level, message and fields in one line. A terminal obeys only the level's colour: message and
/// fields may quote what peers sent.
struct LogLine(LogFormat);

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        if self.0 == LogFormat::Json {
            json().format_event(context, Writer::new(&mut text), event)?;
            return writeln!(out, "{}", escape_json_text(text.trim_end()));
        }
        context.format_fields(Writer::new(&mut text), event)?;
        let level = *event.metadata().level();
        SystemTime.format_time(&mut out)?;
        match out.has_ansi_escapes() {
            true => write!(out, " {}{level:>5}\x1b[0m ", colour(level))?,
            false => write!(out, " {level:>5} ")?,
        }
        writeln!(out, "{}", escape(text.as_bytes(), false))
    }
}

fn json() -> formats::Format<formats::Json> {
    formats::Format::default()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[35m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_filter_names_levels() {
        for good in ["info", "OFF", "warn,kademlua::net=debug"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["nonsense", "info,nonsense", "kademlua=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }

    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const FORGED: &str = "a\x1b[2J\n2026 ERROR b\u{202e}\u{9b}\u{e0001}\r";

    /// What the log makes of text that others wrote: one line without control characters.
    fn logged(format: LogFormat) -> String {
        let buffer = LogBuffer::default();
        let writer = buffer.clone();
        let lines = layer().with_writer(move || writer.clone()).with_ansi(false);
        let lines = lines.event_format(LogLine(format));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::info!(reason = FORGED, shown = %FORGED, forged = ?FORGED, n = 5, "said {FORGED}");
        });
        let line = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(
            !line.trim_end().contains(|c: char| c.is_control() || "\u{202e}\u{e0001}".contains(c))
        );
        line
    }

    #[test]
    fn a_line_of_json_gives_no_orders_either_and_can_be_read() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!((&line["level"], &line["n"]), (&"INFO".into(), &5.into()));
        assert_eq!((&line["reason"], &line["shown"]), (&FORGED.into(), &FORGED.into()));
        assert_eq!(line["message"], format!("said {FORGED}"));
        assert!(line["timestamp"].is_string() && line["target"].is_string());
    }

    #[test]
    fn a_line_gives_no_orders_whatever_is_logged() {
        let line = logged(LogFormat::Text);
        assert!(line.contains(" INFO said a\\x1b[2J\\n2026 ERROR b\\u{202e}"), "{line}");
    }
}
