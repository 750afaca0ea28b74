//! What a process counts of itself, shown in Prometheus' text format 0.0.4 or pushed by OTLP (`crate::otlp`).
//!
//! Recording touches atomics only. Names of metrics and of labels are constants, and so is what labels hold, or it is
//! of a set that is known at the start: no peer decides how much is kept. Names are described in `deploy/metrics.md`.

mod calls;
mod histogram;
pub mod process;
mod tally;
mod text;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub use calls::{Call, Calls};
pub use histogram::{Histogram, Timer};
pub use tally::Tally;

/// All metrics of a process, in the order in which they were added.
#[derive(Default)]
pub struct Registry {
    families: Vec<Family>,
}

/// What kind a metric is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It comes and goes.
    Gauge,
    /// How often it was at most so much.
    Histogram,
}

struct Family {
    description: Description,
    read: Box<dyn Fn(&mut Samples<'_>) + Send + Sync>,
}

/// What is said of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Its name.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// What kind it is.
    pub kind: Kind,
}

/// Takes the samples of one metric.
pub struct Samples<'a> {
    sink: &'a mut dyn Sink,
}

/// Where metrics are written to.
pub(crate) trait Sink {
    /// The samples that follow are of this metric.
    fn begin(&mut self, description: Description);
    /// Takes a sample.
    fn take(&mut self, labels: Labels<'_>, value: Value<'_>);
}

/// What a sample says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Number(u64),
    Float(f64),
    /// How often it took at most so many seconds, and longer than the bound before; the sum of all, in seconds.
    Seconds {
        buckets: &'a [Bucket],
        sum: f64,
    },
}

/// How often something took at most `bound`; the last has no bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub(crate) bound: Option<Bound>,
    pub(crate) count: u64,
}

/// Seconds, as a number and as text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    #[cfg_attr(
        not(feature = "otlp"),
        expect(dead_code, reason = "the text format writes the text")
    )]
    pub(crate) seconds: f64,
    pub(crate) text: &'static str,
}

/// A number that only grows. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

/// A number that comes and goes. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

/// One more in a [`Gauge`], until it is dropped.
#[derive(Debug)]
pub struct Held(Gauge);

/// Labels of a sample: names and what they hold.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Registry {
    /// Adds a metric that `read` is asked for at each look.
    pub fn add(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        read: impl Fn(&mut Samples<'_>) + Send + Sync + 'static,
    ) {
        self.families.push(Family {
            description: Description { name, help, kind },
            read: Box::new(read),
        });
    }

    /// Adds a counter.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::default();
        let shown = counter.clone();
        self.add(Kind::Counter, name, help, move |samples| {
            samples.number(&[], shown.0.load(Ordering::Relaxed));
        });
        counter
    }

    /// Adds a counter for each of `values`, which `label` holds.
    pub fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        let counters = values.map(|_| Counter::default());
        let shown = counters.clone();
        self.add(Kind::Counter, name, help, move |samples| {
            for (value, counter) in values.into_iter().zip(&shown) {
                samples.number(&[(label, value)], counter.0.load(Ordering::Relaxed));
            }
        });
        counters
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let gauge = Gauge::default();
        let shown = gauge.clone();
        self.add(Kind::Gauge, name, help, move |samples| {
            samples.number(&[], shown.0.load(Ordering::Relaxed));
        });
        gauge
    }

    /// Adds a histogram of seconds.
    pub fn seconds(&mut self, name: &'static str, help: &'static str) -> Histogram {
        let histogram = Histogram::default();
        let shown = histogram.clone();
        self.add(Kind::Histogram, name, help, move |samples| {
            shown.show(&[], samples);
        });
        histogram
    }

    /// Adds a counter for each combination of what `labels` hold.
    pub fn tally<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Tally<N> {
        let tally = Tally::default();
        let shown = tally.clone();
        self.add(Kind::Counter, name, help, move |samples| {
            shown.show(labels, samples);
        });
        tally
    }

    /// Everything as of now, in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = text::Text::default();
        self.show(&mut text);
        text.into()
    }

    /// Shows `sink` everything as of now.
    pub(crate) fn show(&self, sink: &mut dyn Sink) {
        for family in &self.families {
            sink.begin(family.description);
            (family.read)(&mut Samples { sink });
        }
    }
}

impl Samples<'_> {
    /// Adds a whole number.
    pub fn number(&mut self, labels: Labels<'_>, value: u64) {
        self.sink.take(labels, Value::Number(value));
    }

    /// Adds a number that may have a fraction.
    pub fn float(&mut self, labels: Labels<'_>, value: f64) {
        self.sink.take(labels, Value::Float(value));
    }

    fn seconds(&mut self, labels: Labels<'_>, buckets: &[Bucket], sum: f64) {
        self.sink.take(labels, Value::Seconds { buckets, sum });
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.families.iter().map(|family| family.description.name))
            .finish()
    }
}

impl Counter {
    /// Adds `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    /// Counts one more until what is returned is dropped.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(self.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
