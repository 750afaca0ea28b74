//! Prometheus' text format 0.0.4.

use std::fmt::{self, Write};

use super::{Description, Kind, Labels, Sink, Value};

/// What was written so far.
#[derive(Default)]
pub(super) struct Text {
    name: &'static str,
    text: String,
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.text
    }
}

impl Sink for Text {
    fn begin(&mut self, Description { name, help, kind }: Description) {
        self.name = name;
        // Writing to a string does not fail.
        let _written = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn take(&mut self, labels: Labels<'_>, value: Value<'_>) {
        match value {
            Value::Number(number) => self.line("", labels, None, &number),
            Value::Float(number) => self.line("", labels, None, &number),
            Value::Seconds { buckets, sum } => {
                let mut count = 0;
                for bucket in buckets {
                    count += bucket.count;
                    let bound = bucket.bound.map_or("+Inf", |bound| bound.text);
                    self.line("_bucket", labels, Some(bound), &count);
                }
                self.line("_sum", labels, None, &sum);
                self.line("_count", labels, None, &count);
            }
        }
    }
}

impl Text {
    fn line(&mut self, suffix: &str, labels: Labels<'_>, le: Option<&str>, value: &dyn fmt::Display) {
        let le = le.map(|le| ("le", le));
        let mut separator = '{';
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (name, value) in labels.iter().copied().chain(le) {
            let _written = write!(self.text, "{separator}{name}=\"{}\"", escaped(value));
            separator = ',';
        }
        let end = if separator == ',' { "}" } else { "" };
        let _written = writeln!(self.text, "{end} {value}");
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}
